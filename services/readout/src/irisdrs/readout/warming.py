"""What the first frame would wait for otherwise: compiled kernels are loaded, libraries imported, before any read."""

import tempfile
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np

from irisdrs.readout.backend import Backend
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.calibration import calibrate_for
from irisdrs.readout.estimation import estimation_of
from irisdrs.readout.frame import to_file
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import Detector, ExposureType, ObservingMode, SamplingMode
from irisdrs.shared.observation import Sampling

#: The smallest frame with reference pixels and all 64 output channels.
_SHAPE = (64, 64)

#: As of whole detectors, whose pictures are thinned: a device has kernels for that.
_LIVE_STEP = 2

#: Any time will do: nothing of this is kept.
_TIME = datetime(2030, 1, 1, tzinfo=UTC)


def warm_up(backend: Backend) -> None:
    """Take small ramps all the way, through every kernel, and throw the frames away.

    First as the service does, a ramp alone and two that are added up, then with a jump test in the stream.
    """
    flags = np.zeros(_SHAPE, np.uint32)
    ones = np.ones(_SHAPE, np.float32)
    coefficients = np.zeros((6, *_SHAPE), np.float32)
    coefficients[1] = 1.0
    calibration = calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=50_000.0 * ones,
        saturation_dq=flags,
        gain=ones,
        read_noise=9.0 * ones,
    )
    header = read_header_of(_SHAPE)
    pixels, _ = decode_read(encode_read(np.full(_SHAPE, 5000, np.uint16), header), _SHAPE)
    room = Room(DEFAULT_BYTES, Path(tempfile.gettempdir()))  # in memory: it is 16 kB
    ways = ((SamplingMode.CDS, 2), (SamplingMode.UTR, 2), (SamplingMode.UTR, 0))
    for (mode, exact_reads), ramps in product(ways, (1, 2)):
        sampling = Sampling(mode=mode, reads=2, ramps=ramps, read_time_s=1.0, shape=_SHAPE)
        estimation = estimation_of(sampling, exact_reads)
        builder = begin_frame(backend, room, calibration, sampling, estimation, live_step=_LIVE_STEP)
        for ramp, read in product(range(1, ramps + 1), (1, 2)):
            builder.fold(ramp, pixels, float(read))
        builder.live()
        to_file(builder.close(), header, _TIME, 2 * ramps, {}, estimation=estimation)
    for ramps in (1, 2):
        state = backend.open(calibration, SamplingMode.UTR, 1.0, FoldOptions(jump_sigma=5.0, grow_saturation=True))
        for _ in range(ramps):
            backend.end_ramp(state)
            for read in (1, 2):
                backend.fold(state, pixels, float(read))
        backend.close(state)


def read_header_of(shape: tuple[int, int]) -> ReadHeader:
    """Header of a read that nobody took."""
    return ReadHeader(
        observation="2030A-000-000",
        detector=Detector.IMG1,
        exposure_type=ExposureType.SCI,
        exposure=0,
        night=_TIME.date(),
        ramp=1,
        read=1,
        reads=2,
        ramps=2,
        read_time_s=1.0,
        read_interval_s=1.0,
        sampling_mode=SamplingMode.UTR,
        ended_at=_TIME,
        mode=ObservingMode.IMG,
        filter="H",
        scale_arcsec=0.004,
        grating="",
        ra_deg=0.0,
        dec_deg=0.0,
        position_angle_deg=0.0,
        airmass=1.0,
        shape=shape,
    )
