"""From clock order to the image: a permutation, with known places, whichever way a channel is read."""

from itertools import product

import numpy as np
import pytest
from numba import njit

from irisdrs.readout.sampling.deinterlace import column_of_sample, deinterlace, sample_of_column
from irisdrs.shared.instrument import CHANNEL_COLUMNS, CHANNEL_MIRRORED, CHANNELS, DETECTOR_SIZE

#: Rows, columns of a channel, channels: no two alike.
ROWS, WIDTH, COUNT = 3, 5, 4
MIRRORED = (True, False, False, True)


def test_every_sample_lands_where_its_channel_reads() -> None:
    stream = np.arange(ROWS * WIDTH * COUNT, dtype=np.uint16).reshape(ROWS, WIDTH, COUNT)
    image = deinterlace(stream, MIRRORED)
    for y, c, channel in product(range(ROWS), range(WIDTH), range(COUNT)):
        x = channel * WIDTH + (WIDTH - 1 - c if MIRRORED[channel] else c)
        assert image[y, x] == stream[y, c, channel]
    # By hand: the first tick of the first row gives the last column of channel 0 and the first of channel 1.
    assert image[0, 4] == stream[0, 0, 0] == 0
    assert image[0, 5] == stream[0, 0, 1] == 1
    assert image[2, 0] == stream[2, 4, 0] == 56
    assert image[2, 19] == stream[2, 0, 3] == 43


def test_it_loses_and_doubles_nothing() -> None:
    width, channels, rows = CHANNEL_COLUMNS, CHANNELS, 16  # 65536 samples: each has a number of its own
    stream = np.arange(rows * width * channels, dtype=np.uint32).astype(np.uint16).reshape(rows, width, channels)
    for mirrored in (CHANNEL_MIRRORED, (False,) * channels, (True,) * channels):
        image = deinterlace(stream, mirrored)
        assert image.shape == (rows, DETECTOR_SIZE)
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(np.sort(image, axis=None), np.arange(65536))
        back = image.reshape(rows, channels, width)
        undone = np.stack([back[:, ch, ::-1] if mirrored[ch] else back[:, ch] for ch in range(channels)], axis=2)
        np.testing.assert_array_equal(undone, stream)


@pytest.mark.parametrize("mirrored", [MIRRORED, (False, True, False, True), (False,) * COUNT])
def test_the_functions_of_one_pixel_agree_with_the_image(mirrored: tuple[bool, ...]) -> None:
    samples = np.arange(WIDTH * COUNT, dtype=np.uint16)
    image = deinterlace(samples.reshape(1, WIDTH, COUNT), mirrored)[0]
    in_kernel = njit()(sample_of_column)
    for x in range(WIDTH * COUNT):
        place = sample_of_column(x, WIDTH, COUNT, mirrored[x // WIDTH])
        assert in_kernel(x, WIDTH, COUNT, mirrored[x // WIDTH]) == place
        assert image[x] == samples[place]
        assert column_of_sample(place // COUNT, place % COUNT, WIDTH, mirrored[place % COUNT]) == x


def test_the_instrument_gives_a_direction_for_every_channel() -> None:
    assert len(CHANNEL_MIRRORED) == CHANNELS
    with pytest.raises(ValueError, match="4 directions for 64 channels"):
        deinterlace(np.zeros((1, 2, CHANNELS), np.uint16), MIRRORED)
