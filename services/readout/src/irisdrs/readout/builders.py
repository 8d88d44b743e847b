"""Make the frame of an exposure of its reads, which come in index order: of sums in a stream, or of fits of its ramps.

The service and the command line make their frames here, so that they are the same.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Offsets
from irisdrs.readout.backend import Ahead, Backend, RateFrame, thinned
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.coadding import coadd, frame_of
from irisdrs.readout.estimation import Estimation
from irisdrs.readout.fitting import FitSettings, RampFit
from irisdrs.readout.ramp_reference import RampReference
from irisdrs.readout.ring import Ring, Room
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality


class FrameBuilder(Protocol):
    """What the reads of one exposure have come to so far; one thread at a time calls it."""

    def fold(self, ramp: int, read: NDArray[np.uint16], time_s: float) -> None:
        """Take the next read.

        Parameters
        ----------
        ramp : int
            Its ramp; never lower than that of the read before.
        read : uint16 (rows, columns)
            Raw counts, DN.
        time_s : float
            End of the read since the reset; later than that of the read of the ramp before.

        Raises
        ------
        Outage
            If there is no room to keep it. What was taken is lost then: begin anew.
        """
        ...

    def live(self) -> RateFrame:
        """The frame of the reads so far, as finely as a picture needs it; what follows does not notice."""
        ...

    def close(self, flags: Quality = Quality.GOOD) -> RateFrame:
        """The frame, with flags for all its pixels; everything is given up. Errors as those of `fold`."""
        ...


def begin_frame(
    backend: Backend,
    room: Room,
    calibration: Calibration,
    sampling: Sampling,
    estimation: Estimation,
    live_step: int = 0,
) -> FrameBuilder:
    """Begin the frame of an exposure.

    Parameters
    ----------
    backend : Backend
    room : Room
        Where reads wait for their fit.
    calibration : Calibration
        Of the detector, in the window that is read.
    sampling : Sampling
    estimation : Estimation
    live_step : int
        A live frame is of every so many rows and columns; 0 if nobody wants one.

    Raises
    ------
    Fatal
        If the sampling does not go with its mode.
    """
    if estimation.fit is None:
        return SumBuilder(backend, calibration, estimation, live_step)
    return FitBuilder(backend, room, calibration, sampling, estimation, estimation.fit, live_step)


class SumBuilder:
    """The frame is made of the sums of the stream; parameters as those of `begin_frame`.

    Those of MCDS have no rate before the last group of reads begins: its pictures are folded beside it, by least
    squares.
    """

    def __init__(self, backend: Backend, calibration: Calibration, estimation: Estimation, live_step: int) -> None:
        self._backend, self._calibration, self._live_step, self._ramp = backend, calibration, live_step, 0
        self._state = backend.open(calibration, estimation.mode, estimation.full_time_s, estimation.fold)
        self._reference = RampReference(calibration)
        self._live = _Live(backend, calibration, estimation, live_step) if _shows_late(estimation, live_step) else None

    def fold(self, ramp: int, read: NDArray[np.uint16], time_s: float) -> None:
        """Fold the read into the sums."""
        if ramp != self._ramp:
            self._backend.end_ramp(self._state)
            self._reference = RampReference(self._calibration)
        self._ramp = ramp
        self._backend.fold(self._state, read, time_s)
        if self._live is not None:
            found = self._reference.vectors(read)
            self._live.fold(ramp, read, time_s, (found.column_offset, found.row_offset))

    def live(self) -> RateFrame:
        """The frame of the sums so far; of MCDS, that of the reads so far by least squares."""
        if self._live is not None:
            return self._live.frame()
        return self._backend.live(self._state, step=max(self._live_step, 1))

    def close(self, flags: Quality = Quality.GOOD) -> RateFrame:
        """The frame of the sums."""
        self._live = None
        return self._backend.close(self._state, flags)


class FitBuilder:
    """The frame is made of fits of the ramps, each when its last read is there.

    Only what a picture shows is folded beside it. Parameters as those of `begin_frame`; `fit` is that of the
    estimation.
    """

    def __init__(
        self,
        backend: Backend,
        room: Room,
        calibration: Calibration,
        sampling: Sampling,
        estimation: Estimation,
        fit: FitSettings,
        live_step: int,
    ) -> None:
        self._backend, self._room, self._calibration = backend, room, calibration
        self._sampling, self._settings, self._weights = sampling, fit, estimation.ramp_weights
        self._ring: Ring | None = None
        self._ahead: Ahead | None = None
        self._reference = RampReference(calibration)
        self._fits: list[RampFit] = []
        self._ramp = 0
        self._live = _Live(backend, calibration, estimation, live_step) if live_step else None

    def fold(self, ramp: int, read: NDArray[np.uint16], time_s: float) -> None:
        """Keep the read; the first one of a ramp has the ramp before fitted."""
        if ramp != self._ramp:
            self._fits += [self._kept(fit) for fit in self._end_ramp()]
            self._reference = RampReference(self._calibration)
        self._ramp = ramp
        if self._ring is None:
            self._ring = Ring(self._room, self._sampling.reads, read.shape, self._calibration.stripes)
            self._ahead = self._backend.ahead(self._sampling.reads, (read.shape[0], read.shape[1]))
        found = self._reference.vectors(read)
        offsets = found.column_offset, found.row_offset
        self._ring.take(read, time_s, offsets)
        if self._ahead is not None:
            self._ahead.take(read)
        if self._live is not None:
            self._live.fold(ramp, read, time_s, offsets)

    def live(self) -> RateFrame:
        """The frame of the reads so far by least squares, cosmic rays and all."""
        if self._live is None:
            raise RuntimeError("this frame was begun with no live step")
        return self._live.frame()

    def close(self, flags: Quality = Quality.GOOD) -> RateFrame:
        """Fit the last ramp, and add the ramps."""
        self._live = None
        fits = self._fits + self._end_ramp()
        self._fits, self._ring, self._ahead = [], None, None
        if not fits:
            raise RuntimeError("an exposure without a read has no frame")
        # One ramp may be all that came of several: what was planned decides how they are added.
        if self._sampling.ramps == 1:
            return frame_of(fits[0], self._calibration, flags)
        return coadd(fits, self._calibration, self._weights, flags)[0]

    def _end_ramp(self) -> list[RampFit]:
        """The fit of the current ramp, if it has a read."""
        ring = self._ring
        if ring is None or not len(ring.times_s):
            return []
        fit = self._backend.fit(
            ring.reads,
            self._calibration,
            ring.times_s,
            self._settings,
            column_offset=ring.column_offset,
            row_offset=ring.row_offset,
            ahead=self._ahead,
        )
        ring.clear()
        if self._ahead is not None:
            self._ahead.clear()
        return [fit]

    def _kept(self, fit: RampFit) -> RampFit:
        """A fit that waits for other ramps: as far as it is needed, in the room."""
        names = ("rate", "poisson", "var_rnoise", "time_s", "differences", "dq")
        copies = self._room.copies(*(getattr(fit, name) for name in names))
        return replace(fit, chi2=np.empty((0, 0), np.float32), **dict(zip(names, copies, strict=True)))


class _Live:
    """What a picture shows of the reads so far, by least squares: folded beside what becomes the frame."""

    def __init__(self, backend: Backend, calibration: Calibration, estimation: Estimation, step: int) -> None:
        self._backend, self._step, self._ramp = backend, step, 0
        self._state = backend.open(thinned(calibration, step), SamplingMode.UTR, estimation.full_time_s, FoldOptions())

    def fold(self, ramp: int, read: NDArray[np.uint16], time_s: float, offsets: Offsets) -> None:
        if ramp != self._ramp:
            self._backend.end_ramp(self._state)
        self._ramp, step = ramp, self._step
        shown = np.ascontiguousarray(read[::step, ::step])
        self._backend.fold(self._state, shown, time_s, _thinned_offsets(offsets, step))

    def frame(self) -> RateFrame:
        return self._backend.live(self._state)


def _thinned_offsets(offsets: Offsets, step: int) -> Offsets:
    """Offsets of every so many columns and rows; where stripes have their own, every column that is left has."""
    of_columns, of_rows = offsets[0][::step].copy(), offsets[1][::step].copy()
    if of_rows.ndim == 2:
        columns = len(offsets[0])
        of_rows = np.take(of_rows, np.arange(0, columns, step) // (columns // of_rows.shape[1]), axis=1)
    return of_columns, of_rows


def _shows_late(estimation: Estimation, live_step: int) -> bool:
    return live_step > 0 and estimation.mode is SamplingMode.MCDS
