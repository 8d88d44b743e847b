"""Fit the reads of a whole ramp on a device: one thread fits one pixel, with the functions of the processor."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irisdrs.readout.cuda import kernels
from irisdrs.readout.cuda.device import Device, DeviceArray
from irisdrs.readout.cuda.references import References
from irisdrs.readout.fitting import FitSettings, RampFit
from irisdrs.readout.sampling.differences import Detector, Ramp
from irisdrs.readout.sampling.ramp_fit import PIXEL_LINES, SUMS, TILE_PLANES, Planes, common_weights

#: Pixels that are fitted at a time: a device has some hundred thousand threads. With 100 reads their scratch takes
#: 1.2 GB.
PIXELS_AT_A_TIME = 2**18


def fit_on(
    device: Device,
    references: References,
    ramp: Ramp,
    settings: FitSettings,
    reads_there: DeviceArray | None = None,
) -> RampFit:
    """Fit a ramp; everything may raise the device's errors.

    Parameters
    ----------
    device : Device
    references : References
        Of the ramp's calibration.
    ramp : Ramp
        On the host, from `prepared_ramp`; of two used reads or more.
    settings : FitSettings
    reads_there : uint16 (reads, rows, columns), optional
        The ramp's reads on the device, if they are there already.

    Raises
    ------
    ValueError
        If Fowler groups do not fit.
    """
    used, (rows, columns) = len(ramp.used), ramp.reads.shape[1:]
    method = settings.method(used)
    stream = device.stream()

    def sent(values: NDArray[Any]) -> DeviceArray:
        return device.plain(device.holding(values, stream))

    def room(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> DeviceArray:
        return device.plain(device.empty(shape, dtype))

    as_they_are = len(ramp.used) == len(ramp.reads) and not settings.grow_saturation
    if reads_there is not None and as_they_are:
        there = reads_there
    else:
        there = _reads_on(device, stream, references, ramp, settings.grow_saturation)
    sent_ramp = ramp._replace(
        reads=device.plain(there),
        column_offset=sent(ramp.column_offset[ramp.used]),
        column_step=sent(ramp.column_step),
        row_offset=sent(ramp.row_offset[ramp.used]),
        used=sent(np.arange(used)),
        interval=sent(ramp.interval),
        usable=sent(ramp.usable),
    )
    detector = Detector(
        device.plain(references.threshold),
        tuple(device.plain(term) for term in references.terms),
        device.plain(references.gain),
        device.plain(references.read_noise),
        device.plain(references.dq),
    )
    at_once = min(max(PIXELS_AT_A_TIME // columns, 1), rows)
    pixels = at_once * columns
    scratch = (
        room((TILE_PLANES, used, pixels)),
        room((SUMS, pixels)),
        room((pixels,), np.uint8),
        room((PIXEL_LINES, used, pixels)),
        sent(np.arange(1, used)),
        sent(common_weights(ramp.interval, method)),
    )
    kinds = (np.float32,) * 5 + (np.uint16, np.uint32)
    planes = [device.empty((rows, columns), kind) for kind in kinds]
    found = Planes(*(device.plain(plane) for plane in planes))
    limits = method._replace(chi2_limit=sent(method.chi2_limit))
    for first in range(0, rows, at_once):
        last = min(first + at_once, rows)
        arguments = sent_ramp, detector, limits, found, scratch, first, last
        device.launch(kernels.fit, (last - first, columns), stream, *arguments)
    copies = [device.pinned.array((rows, columns), kind) for kind in kinds]
    for plane, copy in zip(planes, copies, strict=True):
        plane.copy_to_host(copy, stream=stream)
    stream.synchronize()
    return RampFit(*copies)


def _reads_on(device: Device, stream: Any, references: References, ramp: Ramp, grow_saturation: bool) -> DeviceArray:
    """The used reads on the device; one that shall be grown passes through a plane of its own."""
    used, shape = len(ramp.used), ramp.reads.shape[1:]
    there = device.empty((used, *shape), np.uint16)
    raw = device.empty(shape, np.uint16) if grow_saturation else None
    for at, read in enumerate(ramp.used):
        if raw is None:
            there[at].copy_to_device(ramp.reads[read], stream=stream)
        else:
            raw.copy_to_device(ramp.reads[read], stream=stream)
            device.launch(kernels.grow, (shape[0], shape[1]), stream, raw, references.threshold, there[at])
    return there
