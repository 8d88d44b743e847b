"""From the order in which the output channels give samples to the image.

At every tick of the clock all C outputs give one sample: `stream[y, c, ch]` is the sample of channel `ch` at tick `c`
of row `y`. A channel is a stripe of w columns that is read from left to right, or, if it is mirrored, from right to
left: `image[y, ch * w + c]` or `image[y, ch * w + (w - 1 - c)]`. Which channels are mirrored is a fact of the
instrument (`shared.instrument.CHANNEL_MIRRORED`), never a rule of this code. It is a permutation of the samples.

`sample_of_column` and `column_of_sample` are plain scalar functions, to be compiled into kernels of any device.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def column_of_sample(tick: int, channel: int, width: int, mirrored: bool) -> int:
    """Column of the image in which a sample lies.

    Parameters
    ----------
    tick : int
        Of the clock in the row, from 0.
    channel : int
        Output channel, from 0.
    width : int
        Columns of a channel.
    mirrored : bool
        Whether the channel is read from right to left.
    """
    return channel * width + (width - 1 - tick if mirrored else tick)


def sample_of_column(column: int, width: int, channels: int, mirrored: bool) -> int:
    """Place of a column's sample among the `width * channels` samples of its row: tick * channels + channel.

    Parameters
    ----------
    column : int
        Of the image, from 0.
    width, channels : int
        Columns of a channel, channels.
    mirrored : bool
        Whether the column's channel (`column // width`) is read from right to left.
    """
    channel, place = column // width, column % width
    return (width - 1 - place if mirrored else place) * channels + channel


def deinterlace(stream: NDArray[np.uint16], mirrored: Sequence[bool], *, xp: Any = np) -> NDArray[np.uint16]:
    """The image of a stream of samples.

    Parameters
    ----------
    stream : uint16 (rows, ticks, channels)
        Raw counts in the order of time, DN.
    mirrored : sequence of bool
        Of every channel, whether it is read from right to left.
    xp : module
        NumPy, or another library with its functions on whose arrays to work.

    Returns
    -------
    uint16 (rows, ticks * channels)

    Raises
    ------
    ValueError
        If there is not one direction for each channel.
    """
    rows, width, channels = stream.shape
    if len(mirrored) != channels:
        raise ValueError(f"{len(mirrored)} directions for {channels} channels")
    columns = range(width * channels)
    order = xp.asarray([sample_of_column(x, width, channels, bool(mirrored[x // width])) for x in columns])
    image: NDArray[np.uint16] = xp.take(xp.reshape(stream, (rows, width * channels)), order, axis=1)
    return image
