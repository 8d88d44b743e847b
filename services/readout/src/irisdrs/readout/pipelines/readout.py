"""Level 1: from the reads of an exposure to its raw science frame."""

from typing import Any, ClassVar

from irisdrs.readout.ramp_models import timed
from irisdrs.readout.steps.ramp_fit_step import RampFitStep
from irisdrs.readout.steps.ramp_step import RampStep
from irisdrs.readout.steps.rejection_step import RejectionStep
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.steps.iris_step import IrisPipeline


class IrisReadout(RampStep, IrisPipeline):
    """Reads of an exposure, as one ramp of ours or of another program (DN), to its raw science frame (DN/s)."""

    class_alias = "iris_readout"
    step_defs: ClassVar = {"rejection": RejectionStep, "ramp_fit": RampFitStep}

    spec = """
    read_time = float(default=None)  # Seconds from one read to the next, if the file does not say
    reset_time = string_list(default=None)  # Reset (UTC) of each ramp, if the file does not say
    """

    def process(self, source: Any) -> RawFrameModel:
        ramp = timed(self.ramp(source), self.read_time, self.reset_time or ())
        ramp = self.rejection.run(ramp)
        frame: RawFrameModel = self.ramp_fit.run(ramp)
        return frame

    def default_suffix(self) -> str:
        """Level and kind, as in the product's id."""
        return "L1-raw"
