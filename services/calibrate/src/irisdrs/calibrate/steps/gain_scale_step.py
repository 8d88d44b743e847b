"""Data numbers to electrons."""

from typing import Any, ClassVar

import numpy as np

from irisdrs.calibrate.algorithms.dq_init import total_error
from irisdrs.calibrate.algorithms.units import to_electrons
from irisdrs.shared.data.models import GainModel, ImageModel
from irisdrs.shared.steps.iris_step import IrisStep


class GainScaleStep(IrisStep):
    """Multiply by the gain: from DN/s to electron/s."""

    class_alias = "gain_scale"
    reference_file_types: ClassVar = ["gain"]

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        gain = self.reference(image, "gain", GainModel)
        var_flat = image.var_flat if image.hasattr("var_flat") else None
        result = to_electrons(
            image.data,
            image.var_poisson,
            image.var_rnoise,
            var_flat,
            image.dq,
            gain.data,
            np.zeros((), dtype=np.uint32),
        )
        image.data, image.var_poisson, image.var_rnoise, image.dq = (
            result.signal,
            result.var_poisson,
            result.var_rnoise,
            result.dq,
        )
        variances = [result.var_poisson, result.var_rnoise]
        if result.var_flat is not None:
            image.var_flat = result.var_flat
            variances.append(result.var_flat)
        image.err = total_error(*variances)
        image.meta.bunit_data = "electron/s"
        return self.complete(image)
