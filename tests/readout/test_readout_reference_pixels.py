"""Offsets from reference pixels: known offsets in, the same out, and nothing left in the science."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import sigmaclip

from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling.reference_pixels import reference_offsets
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

SHAPE, WIDTH, BORDER = (16, 128), 64, 4


def usable(columns: int = SHAPE[1]) -> NDArray[np.bool_]:
    return np.ones((2, BORDER, columns), np.bool_)


def test_every_channel_and_parity_has_an_offset_of_its_own() -> None:
    pattern = np.empty(SHAPE[1])
    pattern[:64:2], pattern[1:64:2], pattern[64::2], pattern[65::2] = 10, 20, 30, 40
    read = np.broadcast_to(1000 + pattern, SHAPE).astype(np.uint16)
    offset, missing = reference_offsets(read, usable(), WIDTH)
    np.testing.assert_array_equal(offset, 1000 + pattern)
    assert not missing.any()


def test_the_two_edges_count_alike_and_one_is_enough() -> None:
    read = np.full(SHAPE, 100, np.uint16)
    read[-BORDER:] = 300
    assert (reference_offsets(read, usable(), WIDTH)[0] == 200).all()
    only_bottom = usable()
    only_bottom[1] = False
    offset, missing = reference_offsets(read, only_bottom, WIDTH)
    assert (offset == 100).all()
    assert not missing.any()


def test_a_channel_without_reference_pixels_stays_as_it_is_and_says_so() -> None:
    good = usable()
    good[:, :, 1:64:2] = False
    offset, missing = reference_offsets(np.full(SHAPE, 500, np.uint16), good, WIDTH)
    assert np.flatnonzero(missing).tolist() == list(range(1, 64, 2))
    assert (offset[missing] == 0).all()
    assert (offset[~missing] == 500).all()


def test_outliers_are_clipped_as_scipy_does() -> None:
    rng = np.random.default_rng(11)
    read = rng.normal(1000, 8, SHAPE).round().astype(np.uint16)
    hit = rng.integers(0, SHAPE[1], 6)
    read[rng.integers(0, BORDER, 6), hit] = 20000
    offset, _ = reference_offsets(read, usable(), WIDTH)
    for channel in range(2):
        for parity in range(2):
            columns = slice(channel * WIDTH + parity, (channel + 1) * WIDTH, 2)
            edges = [sigmaclip(rows[:, columns].astype(float), 3, 3)[0].mean() for rows in (read[:4], read[-4:])]
            np.testing.assert_allclose(offset[columns], np.mean(edges), rtol=1e-7)


def test_a_frame_may_end_within_a_channel_or_be_narrower_than_one() -> None:
    for columns in (32, 100):
        read = np.broadcast_to(np.where(np.arange(columns) < 64, 700, 900), (16, columns)).astype(np.uint16)
        offset, missing = reference_offsets(read, usable(columns), min(columns, WIDTH))
        np.testing.assert_array_equal(offset, read[0])
        assert not missing.any()


def test_clipping_and_edges_are_those_of_a_loop_in_double_precision() -> None:
    rng = np.random.default_rng(12)
    shape = (16, 200)  # the last channel is cut
    read = rng.normal(20000, 9, shape).round().astype(np.uint16)
    read[rng.integers(0, 16, 60), rng.integers(0, 200, 60)] = rng.integers(0, 65536, 60)
    good = rng.random((2, BORDER, 200)) > 0.1
    good[1, :, 64:128:2] = False
    for first_column in (0, 7, 64, 130):
        found, _ = reference_offsets(read, good, WIDTH, first_column)
        for x in range(200):
            place = x + first_column
            same = [
                k
                for k in range(200)
                if (k + first_column) // WIDTH == place // WIDTH and (k + first_column) % 2 == place % 2
            ]
            edges = [read[:BORDER][:, same][good[0][:, same]], read[-BORDER:][:, same][good[1][:, same]]]
            means = [sigmaclip(edge.astype(float), 3, 3)[0].mean() for edge in edges if edge.size]
            assert found[x] == pytest.approx(np.mean(means), rel=1e-7)


def test_a_read_of_some_columns_has_the_offsets_that_they_have_in_the_whole() -> None:
    read = np.random.default_rng(13).integers(4000, 4100, (16, 256)).astype(np.uint16)
    whole, _ = reference_offsets(read, usable(256), WIDTH)
    part, _ = reference_offsets(read[:, 64:192], usable(128), WIDTH, 64)
    np.testing.assert_array_equal(part, whole[64:192])


def test_offsets_that_change_from_read_to_read_leave_the_science_unchanged() -> None:
    rng = np.random.default_rng(5)
    plain = [np.full(SHAPE, 1000, np.uint16) for _ in range(4)]
    for k, read in enumerate(plain):
        read[BORDER:-BORDER, BORDER:-BORDER] += np.uint16(50 * k)
    steps = rng.integers(0, 300, (4, 2, 2)).repeat(32, axis=1).reshape(4, SHAPE[1])
    shifted = [read + step.astype(np.uint16) for read, step in zip(plain, steps, strict=True)]
    processor = Processor(2)
    frames = []
    for ramp in (plain, shifted):
        state = processor.open(_perfect(np.zeros(SHAPE, np.uint32)), SamplingMode.UTR, 3.0)
        for k, read in enumerate(ramp):
            processor.fold(state, read, float(k))
        frames.append(processor.close(state))
    processor.shutdown()
    np.testing.assert_array_equal(frames[0].data, frames[1].data)
    science = frames[0].dq == 0
    assert science.sum() == 8 * 120
    np.testing.assert_allclose(frames[1].data[science], 50, rtol=1e-6)
    np.testing.assert_array_equal(frames[1].data[~science], 0)
    assert (frames[1].dq[~science] == Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE).all()


def test_bad_reference_pixels_are_not_used_and_named_ones_are() -> None:
    mask = np.zeros(SHAPE, np.uint32)
    mask[:BORDER] = Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE
    mask[0] |= np.uint32(Quality.BAD_REF_PIXEL)
    mask[-1] = Quality.DO_NOT_USE
    calibration = _perfect(mask)
    assert not calibration.usable[0, 0].any()
    assert calibration.usable[0, 1:].all()
    assert not calibration.usable[1, -1].any()
    assert not (calibration.dq & Quality.UNRELIABLE_BIAS).any()
    mask[:] = Quality.BAD_REF_PIXEL
    assert (_perfect(mask).dq & Quality.UNRELIABLE_BIAS).all()


def _perfect(mask: NDArray[np.uint32]) -> Calibration:
    coefficients = np.zeros((6, *SHAPE), np.float32)
    coefficients[1] = 1
    nothing = np.zeros(SHAPE, np.uint32)
    return calibrate_for(
        mask=mask,
        coefficients=coefficients,
        coefficients_dq=nothing,
        saturation=np.full(SHAPE, 60000, np.float32),
        saturation_dq=nothing,
        gain=np.ones(SHAPE, np.float32),
        read_noise=np.full(SHAPE, 9, np.float32),
    )
