"""What the steps of the readout share: they take ramps, also those of other programs."""

from pathlib import Path
from typing import Any

from irisdrs.shared.data.fits import open_ramp
from irisdrs.shared.data.models import RampModel
from irisdrs.shared.errors import Fatal
from irisdrs.shared.steps.iris_step import IrisStep


class RampStep(IrisStep):
    """A step that takes a ramp."""

    prefetch_references = False  # a ramp is not opened twice, and CRDS has nothing for those of other programs

    def ramp(self, source: Any) -> RampModel:
        """The ramp that the step is given, as a file or a model.

        Raises
        ------
        CorruptObject
            If it cannot be read.
        Fatal
            If it is no ramp.
        """
        if isinstance(source, str | Path):
            return open_ramp(Path(self.make_input_path(source)))
        if not isinstance(source, RampModel):
            raise Fatal(f"A {type(source).__name__} is no ramp.", remedy="Give the reads: `iris readout pack`.")
        return source
