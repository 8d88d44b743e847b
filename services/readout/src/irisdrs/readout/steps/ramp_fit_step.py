"""From the reads of an exposure to its frame."""

from pathlib import Path
from typing import Any, ClassVar

from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import KERNELS_TYPE, REFERENCE_TYPES
from irisdrs.readout.coadding import RampWeights
from irisdrs.readout.exposure_reads import ExposureReads
from irisdrs.readout.fitting import JumpTest
from irisdrs.readout.given_references import Given, border_of, calibration_of, types_for
from irisdrs.readout.offline import Choices, UtrEstimator, sample, settle
from irisdrs.readout.offline_frame import frame_model, steps_done
from irisdrs.readout.ramp_models import of_ramp
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.readout.steps.ramp_step import RampStep
from irisdrs.shared.data.models import IrisModel, RampModel, RawFrameModel
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.identifiers import SamplingMode


class RampFitStep(RampStep):
    """Fit the rate of every pixel, and add the ramps: saturation, reference pixels, linearity, jumps and fit in one.

    References of our ramps come from CRDS unless they are overridden; of the ramp of another program what is not
    overridden is not done, and gain and read noise may be numbers.
    """

    class_alias = "ramp_fit"
    reference_file_types: ClassVar = [*REFERENCE_TYPES, KERNELS_TYPE]

    spec = """
    mode = option('SINGLE', 'CDS', 'MCDS', 'UTR', default=None)  # Sampling mode; the reads' own
    group_reads = integer(min=1, default=None)  # MCDS: reads of each of the two groups
    estimator = option('likelihood', 'least-squares', 'fixsen', 'optimal', default=None)  # UTR
    jumps = option('none', 'likelihood', 'two-point', default=None)  # How cosmic rays are found
    jump_threshold = float(min=0.1, default=None)  # Limit of the jump test, sigma
    coadd = option('variance', 'time', 'sum', default=None)  # How ramps are added; sum gives DN
    grow_saturation = boolean(default=False)  # Neighbours of a saturated pixel are saturated too
    gain = float(default=None)  # Electrons per DN, instead of a reference
    readnoise = float(default=None)  # Noise of one read, DN, instead of a reference
    reference_pixels = integer(min=0, default=None)  # On each edge; 4, of foreign ramps 0
    reference_algorithm = option('mean', 'sirs', default='mean')  # How they are used; sirs needs kernels (refpix)
    """

    def process(self, source: Any) -> RawFrameModel:
        ramp = self.ramp(source)
        exposure = of_ramp(ramp)
        choices = settle(self._choices(exposure), exposure)
        border = border_of(exposure, self.reference_pixels)
        given = self._references(ramp, exposure)
        processor = Processor()
        arrays = sample(processor, exposure, calibration_of(given, exposure, border), choices)
        processor.shutdown()
        frame = frame_model(arrays, exposure, choices, steps_done(exposure, choices, given, border))
        for kind, found in given.items():
            if isinstance(found, float):
                getattr(frame.meta.ref_file, kind).name = str(found)
        return frame

    def _choices(self, exposure: ExposureReads) -> Choices:
        return Choices(
            SamplingMode(self.mode) if self.mode else exposure.mode,
            UtrEstimator(self.estimator) if self.estimator else None,
            self.group_reads,
            JumpTest(self.jumps) if self.jumps else None,
            self.jump_threshold,
            RampWeights(self.coadd) if self.coadd else None,
            self.grow_saturation,
            ReferenceAlgorithm(self.reference_algorithm),
        )

    def _references(self, ramp: RampModel, exposure: ExposureReads) -> dict[str, Given]:
        """References by type.

        Raises
        ------
        MissingReference
            If one is needed that is neither given nor in CRDS.
        """
        numbers = {"gain": self.gain, "readnoise": self.readnoise}
        given: dict[str, Given] = {kind: number for kind, number in numbers.items() if number is not None}
        by_hand = [kind for kind in self.reference_file_types if self.get_ref_override(kind) is not None]
        for kind in types_for(ReferenceAlgorithm(self.reference_algorithm), by_hand, exposure):
            if kind in given or (exposure.foreign and self.get_ref_override(kind) is None):
                continue
            found = self.get_reference_file(ramp, kind)
            if not isinstance(found, IrisModel) and found in ("N/A", ""):
                raise MissingReference(
                    f"CRDS knows no {kind} reference for this configuration: {ramp.get_crds_parameters()}.",
                    remedy=f"Deliver one, or give a file with --steps.{self.name}.override_{kind}.",
                )
            given[kind] = found if isinstance(found, IrisModel) else Path(found)
        return given
