"""What the first frame would wait for otherwise: compiled kernels are loaded, libraries imported, before any read."""

from datetime import UTC, datetime

import numpy as np

from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import calibrate_for
from irisdrs.readout.frame import to_file
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import Detector, ExposureType, ObservingMode, SamplingMode

#: The smallest frame with reference pixels and all 64 output channels.
_SHAPE = (64, 64)

#: Any time will do: nothing of this is kept.
_TIME = datetime(2030, 1, 1, tzinfo=UTC)


def warm_up(processor: Processor) -> None:
    """Take two small ramps all the way, through every kernel, and throw the frames away."""
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
    jumps, optimum = FoldOptions(jump_sigma=5.0, grow_saturation=True), FoldOptions(Weighting.OPTIMAL, (0.0, 1.0))
    for mode, options in ((SamplingMode.CDS, FoldOptions()), (SamplingMode.UTR, jumps), (SamplingMode.UTR, optimum)):
        state = processor.open(calibration, mode, 1.0, options)
        for ramp in range(2):
            if ramp:
                processor.end_ramp(state)
            for read in range(2):
                processor.fold(state, pixels, float(read))
        to_file(processor.close(state), header, _TIME, 4, {})


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
