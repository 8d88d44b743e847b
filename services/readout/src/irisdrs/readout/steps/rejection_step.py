"""Leave out reads and intervals."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from irisdrs.readout.exposure_reads import Rejection, leave_out
from irisdrs.readout.ramp_models import marked, of_ramp
from irisdrs.readout.steps.ramp_step import RampStep
from irisdrs.shared.data.models import RampModel

_log = logging.getLogger(__name__)  # as stpipe's own steps; `strun` shows it


class RejectionStep(RampStep):
    """Mark the reads, and the intervals between reads, during which telemetry was out of bounds."""

    class_alias = "rejection"

    spec = """
    reads = string(default=None)  # Table of telemetry that rejects reads
    intervals = string(default=None)  # Table of telemetry that rejects intervals, with their photons
    minimum = float(default=None)  # Smallest value to use
    maximum = float(default=None)  # Largest value to use
    """

    def process(self, source: Any) -> RampModel:
        ramp = self.ramp(source)
        rejection = Rejection(
            Path(self.reads) if self.reads else None,
            Path(self.intervals) if self.intervals else None,
            -np.inf if self.minimum is None else self.minimum,
            np.inf if self.maximum is None else self.maximum,
        )
        exposure = leave_out(of_ramp(ramp), rejection)
        for warning in exposure.warnings:
            _log.warning(warning)
        return marked(ramp, exposure)
