"""Dark current."""

from typing import Any, ClassVar

import numpy as np

from irisdrs.calibrate.algorithms.dark import subtract_dark
from irisdrs.calibrate.algorithms.dq_init import total_error
from irisdrs.shared.data.models import DarkModel, ImageModel
from irisdrs.shared.steps.iris_step import IrisStep


class DarkSubStep(IrisStep):
    """Subtract the master dark; its variance joins that of the read noise."""

    class_alias = "dark_sub"
    reference_file_types: ClassVar = ["dark"]

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        dark = self.reference(image, "dark", DarkModel)
        result = subtract_dark(image.data, image.var_rnoise, image.dq, dark.data, np.square(dark.err), dark.dq)
        image.data, image.var_rnoise, image.dq = result
        image.err = total_error(image.var_poisson, image.var_rnoise)
        return self.complete(image)
