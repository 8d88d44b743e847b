"""Level 2 of the imager: from a raw science frame to a reduced image."""

from typing import Any, ClassVar

from irisdrs.calibrate.steps.assign_wcs_step import AssignWcsStep
from irisdrs.calibrate.steps.dark_sub_step import DarkSubStep
from irisdrs.calibrate.steps.dq_init_step import DqInitStep
from irisdrs.calibrate.steps.flat_field_step import FlatFieldStep
from irisdrs.calibrate.steps.gain_scale_step import GainScaleStep
from irisdrs.calibrate.steps.sky_sub_step import SkySubStep
from irisdrs.shared.data.models import ImageModel
from irisdrs.shared.identifiers import ProductId
from irisdrs.shared.steps.iris_step import IrisPipeline


class Image2Pipeline(IrisPipeline):
    """Raw science frame (DN/s) to reduced image (electron/s), calibrated on the sky."""

    class_alias = "iris_image2"
    step_defs: ClassVar = {
        "dq_init": DqInitStep,
        "dark_sub": DarkSubStep,
        "flat_field": FlatFieldStep,
        "gain_scale": GainScaleStep,
        "sky_sub": SkySubStep,
        "assign_wcs": AssignWcsStep,
    }

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        image = self.dq_init.run(image)
        image = self.dark_sub.run(image)
        image = self.flat_field.run(image)
        image = self.gain_scale.run(image)
        image = self.sky_sub.run(image)
        image = self.assign_wcs.run(image)
        return self.as_product(image)

    def as_product(self, image: ImageModel) -> ImageModel:
        """Name the image as a product of its exposure, made of the raw frame."""
        raw = ProductId.parse(image.meta.product.id)
        product = ProductId(raw.exposure, 2, "image")
        image.meta.product = {"id": str(product), "level": product.level, "kind": product.kind}
        image.meta.provenance = {"input_ids": str(raw)}
        return image

    def default_suffix(self) -> str:
        """Level and kind, as in the product's id."""
        return "L2-image"
