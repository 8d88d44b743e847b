"""World coordinates."""

import dataclasses
from typing import Any

from irisdrs.calibrate.algorithms.wcs import tangent_plane
from irisdrs.shared.data.models import ImageModel
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import detector_axis_offset_arcsec
from irisdrs.shared.steps.iris_step import IrisStep


class AssignWcsStep(IrisStep):
    """Give the image a TAN projection from the commanded pointing and the geometry of the detectors."""

    class_alias = "assign_wcs"

    def process(self, source: Any) -> ImageModel:
        image = self.image(source)
        pointing, instrument = image.meta.pointing, image.meta.instrument
        plane = tangent_plane(
            pointing.ra,
            pointing.dec,
            pointing.position_angle,
            instrument.scale,
            detector_axis_offset_arcsec(Detector(instrument.detector), image.shape),
            image.shape,
        )
        wcs = image.meta.wcsinfo
        wcs.wcsaxes, wcs.radesys = 2, "ICRS"
        wcs.ctype1, wcs.ctype2, wcs.cunit1, wcs.cunit2 = "RA---TAN", "DEC--TAN", "deg", "deg"
        for keyword, value in dataclasses.asdict(plane).items():
            setattr(wcs, keyword, value)
        return self.complete(image)
