"""Train the kernels of the reference pixels on darks, read by read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.exposure_reads import ExposureReads, RampReads
from irisdrs.readout.sampling.kernel_training import MIN_READS, CrossSpectra, stripe_signals
from irisdrs.readout.sampling.reference_kernels import HALF_WIDTH, ReferenceKernels, side_signals
from irisdrs.readout.sampling.saturation import ADC_MAX
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import ExposureType
from irisdrs.shared.quality import Quality

#: Part of the pixels of a dark that may be saturated: hot ones are, and few.
_SATURATED_PART = 0.01

#: Kernels whose taps are all smaller are those of side columns without a signal.
_NOTHING = 1e-5

_DARKS = (ExposureType.DRK, ExposureType.MDK, ExposureType.BIA)


@dataclass(frozen=True, slots=True)
class Dark:
    """A dark exposure, and what people call it."""

    name: str
    exposure: ExposureReads


@dataclass(frozen=True, slots=True)
class Training:
    """Kernels, and the reads that they were trained on."""

    kernels: ReferenceKernels
    reads: int


def check_darks(darks: Sequence[Dark]) -> None:
    """Check that exposures are darks of one detector, all of it, read at one pace, and enough of them, each once.

    Raises
    ------
    Fatal
        If they are not.
    """
    first, seen = darks[0], set[object]()
    for dark in darks:
        identity = dark.exposure.identity or Path(dark.name).resolve()
        if identity in seen:
            raise Fatal(f"{dark.name} is given twice.", remedy="Give each dark once.")
        seen.add(identity)
        exposure, kind = dark.exposure, _said(dark, "exposure", "type")
        if kind is not None and kind not in _DARKS:
            raise Fatal(f"{dark.name} is of type {kind}, and no dark.", remedy="Give darks alone.")
        if exposure.window is not None or exposure.guide_windows:
            raise Fatal(f"{dark.name} is of a window, or was guided on.", remedy="Give darks of the whole detector.")
        if exposure.shape != first.exposure.shape:
            raise Fatal(
                f"{dark.name} is of {exposure.shape[0]} x {exposure.shape[1]} pixels, {first.name} of "
                f"{first.exposure.shape[0]} x {first.exposure.shape[1]}.",
                remedy="Give darks of one detector.",
            )
        for group, name, what in (
            ("instrument", "detector", "detector"),
            ("exposure", "read_interval", "time to read it"),
        ):
            if _said(dark, group, name) != _said(first, group, name):
                raise Fatal(
                    f"The {what} of {dark.name} is {_said(dark, group, name)}, that of {first.name} "
                    f"{_said(first, group, name)}.",
                    remedy="Give darks of one detector, read at one pace.",
                )
    reads = sum(len(ramp.times_s) - 1 for dark in darks for ramp in dark.exposure.ramps)
    if reads < MIN_READS:
        raise Fatal(
            f"{reads} reads beside the first ones of their ramps are too few to train on.",
            remedy=f"Give darks with at least {MIN_READS}; some tens are better.",
        )


def train(
    darks: Sequence[Dark],
    calibration: Calibration,
    samples: int = 1,
    half_width: int | None = None,
    on_read: Callable[[], object] = lambda: None,
) -> Training:
    """Train kernels on the reads of darks; one is in memory at a time, and the first of its ramp.

    Parameters
    ----------
    darks : sequence of Dark
        That `check_darks` has nothing against.
    calibration : Calibration
        Bad pixels and reference pixels of the detector.
    samples : int
        Stripes of an output channel with a kernel of their own.
    half_width : int, optional
        Rows that kernels reach to either side [default: `HALF_WIDTH`, at most a quarter of the rows].
    on_read : callable
        Called after each read.

    Raises
    ------
    Fatal
        If a dark is saturated, or kernels of that kind are not possible.
    """
    rows, columns = calibration.gain.shape
    channel = calibration.channel_columns
    reach = half_width or min(HALF_WIDTH, rows // 4)
    _check_possible(calibration, samples, reach)
    spectra = CrossSpectra.of_nothing(rows, columns // channel * samples)
    usable = _science(calibration)
    for dark in darks:
        for ramp in dark.exposure.ramps:
            _add_ramp(spectra, dark.name, ramp, calibration, usable, samples, on_read)
    kernels = spectra.kernels(channel // samples, reach)
    if np.abs(kernels.taps).max() < _NOTHING:
        raise Fatal(
            "The side columns of the darks say nothing of the noise of any output.",
            remedy="Look at the first and last columns of the darks: are they reference pixels, and do they work?",
        )
    return Training(kernels, spectra.reads)


def _check_possible(calibration: Calibration, samples: int, reach: int) -> None:
    (rows, columns), channel = calibration.gain.shape, calibration.channel_columns
    if columns % channel:
        raise Fatal(
            f"{columns} columns are no whole number of output channels of {channel} columns.",
            remedy="Give darks of the whole detector.",
        )
    if channel % samples:
        raise Fatal(
            f"An output channel of {channel} columns has no {samples} parts of whole columns.",
            remedy="Give a divisor with --samples.",
        )
    if 2 * reach + 1 > rows:
        raise Fatal(
            f"Kernels of {reach} rows to either side are longer than the {rows} rows of the darks.",
            remedy="Give fewer with --half-width.",
        )
    if not calibration.usable_sides.any():
        raise Fatal(
            "No pixel of the side columns may be used.", remedy="Look at the first and last columns of the --mask."
        )


def _add_ramp(
    spectra: CrossSpectra,
    name: str,
    ramp: RampReads,
    calibration: Calibration,
    usable: NDArray[np.bool_],
    samples: int,
    on_read: Callable[[], object],
) -> None:
    first: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    for k in range(len(ramp.times_s)):
        read = ramp.reads[k]
        if np.count_nonzero(read >= ADC_MAX) > _SATURATED_PART * read.size:
            raise Fatal(
                f"{name} is saturated: read {k + 1} of a ramp is at the largest count of the converter.",
                remedy="Was it taken in the dark? Leave it out.",
            )
        offset = calibration.reference_vectors(read).column_offset
        values, sides = read.astype(np.float32) - offset, calibration.side_counts(read, offset)
        if first is None:
            first = values, sides
        else:
            stripes = stripe_signals(values - first[0], usable, calibration.channel_columns, samples)
            spectra.add(side_signals(sides - first[1]), stripes)
        on_read()
    spectra.end_ramp()


def _science(calibration: Calibration) -> NDArray[np.bool_]:
    """Pixels that feel the noise of their output and are not side columns: the others would teach their own noise."""
    good: NDArray[np.bool_] = (calibration.dq & np.uint32(Quality.DO_NOT_USE)) == 0
    columns = np.zeros(good.shape[1], np.bool_)
    columns[calibration.science[1]] = True
    return good & columns


def _said(dark: Dark, group: str, name: str) -> object:
    return dark.exposure.facts.get(group, {}).get(name)
