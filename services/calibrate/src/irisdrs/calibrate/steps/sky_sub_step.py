"""Sky background, from the frame itself."""

from typing import Any

from irisdrs.calibrate.algorithms.dq_init import bad_fraction
from irisdrs.calibrate.algorithms.sky import measure_sky, subtract_sky
from irisdrs.shared.data.models import ImageModel
from irisdrs.shared.steps.iris_step import IrisStep


class SkySubStep(IrisStep):
    """Subtract the median of the pixels without sources; write down level, noise and the fraction of bad pixels."""

    class_alias = "sky_sub"

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        quality = image.meta.quality
        quality.bad_fraction = bad_fraction(image.dq)
        sky = measure_sky(image.data, image.dq)
        if sky is None:
            image.meta.cal_step.sky_sub = "SKIPPED"  # no pixel is good: there is nothing to subtract
            return image
        image.data = subtract_sky(image.data, sky)
        quality.sky_level, quality.sky_noise, quality.sky_method = sky.level, sky.noise, "MEDIAN"
        return self.complete(image)
