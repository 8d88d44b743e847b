"""What `iris readout fit` says of a frame that it has made."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import RateFrame
from irisdrs.readout.coadding import SummedFrame
from irisdrs.readout.exposure_reads import ExposureReads
from irisdrs.readout.given_references import Given
from irisdrs.readout.offline import Choices
from irisdrs.readout.offline_frame import reads_used
from irisdrs.shared.quality import Quality


def summary(
    arrays: RateFrame,
    exposure: ExposureReads,
    choices: Choices,
    steps: Mapping[str, str],
    given: Mapping[str, Given],
    output: Path,
) -> dict[str, Any]:
    """What a frame is made of and what came out, for programs: numbers as they are, paths whole."""
    good: NDArray[np.bool_] = (arrays.dq & np.uint32(Quality.DO_NOT_USE)) == 0
    return {
        "exposure": str(exposure.identity) if exposure.identity else None,
        "output": str(output),
        "mode": str(choices.mode),
        "estimator": choices.name,
        "jumps": str(choices.jumps),
        "ramps": len(exposure.ramps),
        "reads_used": reads_used(exposure, choices),
        "reads_expected": exposure.expected,
        "reads_missing": exposure.expected - exposure.number,
        "reads_rejected": exposure.number - exposure.used,
        "intervals_rejected": exposure.rejected_intervals,
        "warnings": list(exposure.warnings),
        **{name: float(np.median(plane[good])) if good.any() else None for name, plane in _planes(arrays).items()},
        "saturated_fraction": arrays.saturated_fraction,
        "usable_fraction": float(good.mean()),
        "steps_done": [step for step, status in steps.items() if status == "COMPLETE"],
        "steps_not_done": [step for step, status in steps.items() if status == "SKIPPED"],
        "references": {kind: str(found) for kind, found in given.items()},
    }


def _planes(arrays: RateFrame) -> dict[str, NDArray[np.float32]]:
    """Planes of which the summary has the median."""
    if isinstance(arrays, SummedFrame):
        return {"median_sum_dn": arrays.data, "median_err_dn": arrays.err, "median_time_s": arrays.time_s}
    return {"median_rate_dn_s": arrays.data, "median_err_dn_s": arrays.err}


def as_text(facts: Mapping[str, Any]) -> str:
    """A summary for people: a line for each fact, numbers rounded; the last line is the path of the frame alone.

    Lines are as long as they are: a terminal breaks them, and a path can be copied whole.
    """
    rows = [
        (_label(name) if first else "", text)
        for name, value in facts.items()
        if name != "output"
        for first, text in _texts(value)
    ]
    width = max(len(label) for label, _ in rows)
    return "\n".join([f"{label:{width}}  {text}" for label, text in rows] + [str(facts["output"])])


def _label(name: str) -> str:
    for suffix, unit in (("_dn_s", "DN/s"), ("_dn", "DN"), ("_s", "s")):
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix).replace('_', ' ')} ({unit})"
    return name.replace("_", " ")


def _texts(value: Any) -> Iterator[tuple[bool, str]]:
    """Lines of a fact, each with whether it is the first; none of what there is not."""
    lines = [f"{kind} {found}" for kind, found in value.items()] if isinstance(value, Mapping) else [value]
    for index, line in enumerate(lines):
        text = ", ".join(line) if isinstance(line, list) else f"{line:.5g}" if isinstance(line, float) else str(line)
        if line is not None and text:
            yield index == 0, text
