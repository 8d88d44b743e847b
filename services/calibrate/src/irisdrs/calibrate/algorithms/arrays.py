"""Types of the arrays that the algorithms take and give."""

import numpy as np
from numpy.typing import NDArray

#: Signals, errors and variances of the pixels of a frame, (ny, nx).
Image = NDArray[np.float32]

#: Data quality flags (`irisdrs.shared.quality.Quality`) of the pixels of a frame, (ny, nx).
Flags = NDArray[np.uint32]

#: True or False for each pixel of a frame, (ny, nx).
Selection = NDArray[np.bool_]
