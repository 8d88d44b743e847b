"""Files that hold the reads of an exposure: our reads, folders of them, or a ramp of ours or of another program."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.exposure_reads import ExposureReads, RampReads
from irisdrs.readout.named_errors import about
from irisdrs.readout.ramp_models import facts_of, of_ramp, timed
from irisdrs.shared.data.exposure_metadata import apply_read_header
from irisdrs.shared.data.fits import decode_read, image_shape, open_ramp, read_header
from irisdrs.shared.data.models import RampModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import Fatal, ReadConflict
from irisdrs.shared.identifiers import SamplingMode

#: What a ramp is.
_RAMP = "an image of (integrations,) reads, rows, columns"


def open_exposure(files: Sequence[Path], read_time_s: float | None = None, resets: Sequence[str] = ()) -> ExposureReads:
    """The reads of an exposure.

    Parameters
    ----------
    files : sequence of Path
        Reads of ours and folders that hold them; or one ramp file, see `open_ramp`.
    read_time_s : float, optional
        For a ramp whose file has no times: from one read to the next, s; the first read ends so long after the reset.
    resets : sequence of str
        For a ramp whose file has no time of its resets: that of each ramp (UTC), ISO 8601.

    Raises
    ------
    Fatal
        If there is no read, reads are not of one exposure and window, one is there twice, times do not increase, or a
        ramp's times are not known.
    CorruptObject
        If a file cannot be read.
    """
    if len(files) == 1 and files[0].is_file() and _is_ramp(files[0]):
        return of_ramp(timed(open_ramp(files[0]), read_time_s, resets))
    if read_time_s is not None or resets:
        raise Fatal(
            f"Times are for one ramp alone, {_RAMP}; reads of IRIS know theirs.",
            remedy="Give one such file, or leave out --read-time and --reset-time.",
        )
    return _of_reads(files)


def _is_ramp(path: Path) -> bool:
    with about(path):
        return len(image_shape(path)) in (3, 4)


@dataclass(frozen=True, slots=True)
class _Read:
    path: Path
    header: ReadHeader


@dataclass(frozen=True, slots=True)
class _ReadFiles:
    """Reads that are decoded when they are asked for."""

    reads: Sequence[_Read]

    def __getitem__(self, index: int, /) -> NDArray[np.uint16]:
        read = self.reads[index]
        with about(read.path):
            return decode_read(read.path.read_bytes(), read.header.shape)[0]


def _of_reads(files: Sequence[Path]) -> ExposureReads:
    reads = sorted(_headers(files), key=lambda read: (read.header.ramp, read.header.read))
    _check_identity(reads)
    first = reads[0].header
    ramps = []
    for number in sorted({read.header.ramp for read in reads}):
        of_one = [read for read in reads if read.header.ramp == number]
        times = np.array([read.header.read_time_s for read in of_one])
        reset_s = (of_one[0].header.started_at - first.started_at).total_seconds()
        ramps.append(RampReads.whole(_ReadFiles(of_one), times, reset_s))
    with RampModel() as model:
        apply_read_header(model, first)
        model.meta.exposure.photons_end = reads[-1].header.ended_at.isoformat()
        facts = facts_of(model)
    exposure = ExposureReads(
        ramps=tuple(ramps),
        shape=first.shape,
        facts=facts,
        crds_parameters=first.crds_parameters(),
        expected=first.reads * first.ramps,
        mode=first.sampling_mode,
        group_reads=first.group_reads if first.sampling_mode is SamplingMode.MCDS else None,
        reset=first.started_at,
        window=first.window,
        guide_windows=first.guide_windows,
    )
    exposure.check_times()
    return exposure


def _headers(files: Sequence[Path]) -> list[_Read]:
    paths = [path for file in files for path in (sorted(file.rglob("*.fits")) if file.is_dir() else [file])]
    if not paths:
        raise Fatal("There is no FITS file in what you gave.", remedy="Name reads, or a folder that holds them.")
    found = []
    for path in paths:
        with about(path, f"Give reads of IRIS, or one ramp alone, {_RAMP}."):
            found.append(_Read(path, read_header(path)))
    return found


def _exposure_of(header: ReadHeader) -> tuple[object, ...]:
    """What all reads of an exposure have in common."""
    sampling = header.sampling_mode, header.group_reads, header.reads, header.ramps, header.read_interval_s
    return header.exposure_id, header.shape, header.window, sampling


def _check_identity(reads: Sequence[_Read]) -> None:
    first = reads[0].header
    seen: dict[object, Path] = {}
    for read in reads:
        header = read.header
        if _exposure_of(header) != _exposure_of(first):
            raise Fatal(
                f"{read.path} is of {header.exposure_id}, {reads[0].path} of {first.exposure_id}, "
                "or one is of another window or sampling than the other.",
                remedy="Give the reads of one exposure of one detector, in one window.",
            )
        if header.read > header.reads or header.ramp > header.ramps:
            raise Fatal(
                f"{read.path} is read {header.read} of {header.reads}, ramp {header.ramp} of {header.ramps}.",
                remedy="Look at READ_NO, NUMREADS and their like in its header.",
            )
        if header.read_id in seen:
            other = seen[header.read_id]
            if other.read_bytes() != read.path.read_bytes():
                raise ReadConflict(
                    f"{read.path} and {other} are both {header.read_id}, with different content.",
                    remedy="Find out which is right, and give that one alone.",
                )
            raise Fatal(f"{read.path} is {header.read_id}, and another file is too.", remedy="Give each read once.")
        seen[header.read_id] = read.path
