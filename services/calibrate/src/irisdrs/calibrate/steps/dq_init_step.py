"""Known bad pixels, and an error where the frame has none."""

from typing import Any, ClassVar

from irisdrs.calibrate.algorithms.dq_init import combine_flags, total_error
from irisdrs.shared.data.models import ImageModel, MaskModel
from irisdrs.shared.steps.iris_step import IrisStep


class DqInitStep(IrisStep):
    """Add the flags of the bad pixel mask; make ERR of the variances where it is absent."""

    class_alias = "dq_init"
    reference_file_types: ClassVar = ["mask"]

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        image.dq = combine_flags(image.dq, self.reference(image, "mask", MaskModel).dq)
        if not image.hasattr("err"):
            image.err = total_error(image.var_poisson, image.var_rnoise)
        return self.complete(image)
