"""How long the readout's heavy work keeps an event loop waiting: it runs in threads, which share the interpreter."""

# ruff: noqa: T201 (a benchmark prints its figures)

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from irisdrs.readout.backend import Processor
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.calibration import calibrate_for
from irisdrs.readout.estimation import EXACT_READS, estimation_of
from irisdrs.readout.frame import to_file
from irisdrs.readout.preview import step_for
from irisdrs.readout.ring import Room
from irisdrs.readout.warming import read_header_of, warm_up
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.instrument import DETECTOR_SIZE, READ_TIME_S
from irisdrs.shared.observation import Sampling

SHAPE = (DETECTOR_SIZE, DETECTOR_SIZE)

#: Nothing may keep the loop waiting for longer, seconds.
GOAL_S = 0.1

#: How often the loop is asked, seconds.
SAMPLE_S = 0.005

_T = TypeVar("_T")


async def in_thread(name: str, work: Callable[[], _T]) -> _T:
    """Do something in a thread; print and check the worst delay of the loop meanwhile."""
    worst_s, start_s = 0.0, time.monotonic()
    task = asyncio.create_task(asyncio.to_thread(work))
    while not task.done():
        asked_s = time.monotonic()
        await asyncio.sleep(SAMPLE_S)
        worst_s = max(worst_s, time.monotonic() - asked_s - SAMPLE_S)
    print(f"{name}: {time.monotonic() - start_s:.2f} s, loop late by {worst_s * 1e3:.0f} ms at most")
    assert worst_s < GOAL_S
    return task.result()


async def test_no_step_of_the_readout_blocks_the_loop(tmp_path: Path) -> None:
    processor = Processor(2)
    warm_up(processor)
    flags = np.zeros(SHAPE, np.uint32)
    ones = np.ones(SHAPE, np.float32)
    coefficients = np.zeros((6, *SHAPE), np.float32)
    coefficients[1] = 1.0
    calibration = await in_thread(
        "references",
        lambda: calibrate_for(
            mask=flags,
            coefficients=coefficients,
            coefficients_dq=flags,
            saturation=50_000 * ones,
            saturation_dq=flags,
            gain=ones,
            read_noise=9 * ones,
        ),
    )
    pixels = np.random.default_rng(1).normal(5000, 9, SHAPE).astype(np.uint16)
    header = read_header_of(SHAPE)
    data = await in_thread("encode", lambda: encode_read(pixels, header))
    await in_thread("decode", lambda: decode_read(data, SHAPE))
    for exact_reads in (EXACT_READS, 0):
        sampling = Sampling(mode=SamplingMode.UTR, reads=2, ramps=2, read_time_s=READ_TIME_S, shape=SHAPE)
        estimation = estimation_of(sampling, exact_reads)
        begin = partial(begin_frame, processor, Room(0, tmp_path), calibration, sampling, estimation, step_for(SHAPE))
        print(estimation.name)
        builder = await in_thread("begin", begin)
        for ramp, read in ((1, 1), (1, 2), (2, 1), (2, 2)):
            await in_thread("read", partial(builder.fold, ramp, pixels, read * READ_TIME_S))
        await in_thread("look", builder.live)
        arrays = await in_thread("close", builder.close)
    await in_thread("FITS", lambda: to_file(arrays, header, header.ended_at, 4, {}))
    processor.shutdown()
