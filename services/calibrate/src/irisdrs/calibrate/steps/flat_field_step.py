"""Pixel response."""

from typing import Any, ClassVar

from irisdrs.calibrate.algorithms.dq_init import total_error
from irisdrs.calibrate.algorithms.flat import divide_flat
from irisdrs.shared.data.models import FlatModel, ImageModel
from irisdrs.shared.steps.iris_step import IrisStep


class FlatFieldStep(IrisStep):
    """Divide by the flat; a flat that has errors adds VAR_FLAT."""

    class_alias = "flat_field"
    reference_file_types: ClassVar = ["flat"]

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        flat = self.reference(image, "flat", FlatModel)
        error = flat.err if flat.hasattr("err") and flat.err.any() else None
        result = divide_flat(image.data, image.var_poisson, image.var_rnoise, image.dq, flat.data, error, flat.dq)
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
        return self.complete(image)
