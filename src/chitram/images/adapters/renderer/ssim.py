"""How much alike two pictures look.

The structural similarity index of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from
error visibility to structural similarity", IEEE Transactions on Image Processing 13 (2004), equation
13, over windows of 8 x 8 pixels, as in their section III.B, that lie four pixels apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]

_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2
STEP = 4
_WINDOW = 2 * STEP


def ssim(one: Plane, other: Plane) -> Map:
    """Return the index, up to 1 for equal, of every window of two planes of the same shape.

    Planes smaller than a window are continued at their edges; what does not fill a step is left out.
    """
    missing = [(0, max(0, _WINDOW - side)) for side in one.shape]
    if any(after for _, after in missing):
        one, other = np.pad(one, missing, "edge"), np.pad(other, missing, "edge")
    a, b = one.astype(np.float32), other.astype(np.float32)
    mean_a, mean_b = _windows(a), _windows(b)
    square, product = mean_a**2 + mean_b**2, mean_a * mean_b
    # Variances together, for they are only needed so.
    variance = _windows(a * a + b * b) - square
    covariance = _windows(a * b) - product
    likeness = (2 * product + _C1) * (2 * covariance + _C2)
    return (likeness / ((square + _C1) * (variance + _C2))).astype(np.float32)


def _windows(plane: Map) -> Map:
    """Return the mean of every window."""
    rows, columns = (side // STEP for side in plane.shape)
    blocks = plane[: rows * STEP, : columns * STEP].reshape(rows, STEP, columns, STEP).mean((1, 3))
    means: Map = (blocks[1:, 1:] + blocks[:-1, 1:] + blocks[1:, :-1] + blocks[:-1, :-1]) / 4
    return means
