"""Crops of boxes out of a screenshot or a feature map, in JAX.

Components of He et al. (2021), arXiv 2012.12350v2, are crops of their boxes, scaled to one size.
A box is x and y of its top left, then of its bottom right corner, in pixels: pixel (i, j) covers
i..i+1 down and j..j+1 to the right.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

Image = Shaped[Array | np.ndarray, "height width channels"]
Boxes = Float[Array | np.ndarray, "k 4"]


def crop_and_resize(
    image: Image, boxes: Boxes, *, size: int
) -> Float[Array, "k size size channels"]:
    """The pixel that each of size x size equal parts of a box has at its centre.

    Between pixels interpolation is linear; beyond the image its border goes on.

    Raises ValueError if shapes do not fit, or a box or `size` has no extent.
    """
    return roi_align(image, boxes, size=size, samples=1)


def roi_align(
    image: Image, boxes: Boxes, *, size: int, samples: int = 2
) -> Float[Array, "k size size channels"]:
    """RoIAlign of He et al. (2017): the mean of samples x samples points of each part of a box.

    As torchvision's `roi_align(..., aligned=True, sampling_ratio=samples)` for boxes inside the
    image; beyond it the border goes on.

    Raises ValueError if shapes do not fit, or a box, `size` or `samples` has no extent.
    """
    if np.ndim(image) != 3 or np.ndim(boxes) != 2 or np.shape(boxes)[1] != 4:
        raise ValueError(
            f"image has shape {np.shape(image)}, boxes {np.shape(boxes)}: wanted (height, width, "
            "channels) and (k, 4)"
        )
    if size < 1 or samples < 1:
        raise ValueError(f"size={size} and samples={samples} must be at least 1")
    if not isinstance(boxes, jax.core.Tracer):
        known = np.asarray(boxes)
        flat = ~((known[:, 2] > known[:, 0]) & (known[:, 3] > known[:, 1]))
        if flat.any():
            raise ValueError(
                f"boxes[{int(flat.argmax())}]={known[flat.argmax()].tolist()} has no extent: give "
                "x and y of its top left, then of its bottom right corner"
            )
    return _aligned(jnp.asarray(image), jnp.asarray(boxes), size=size, samples=samples)


@partial(jax.jit, static_argnames=("size", "samples"))
def _aligned(image, boxes, *, size, samples):
    image, boxes = image.astype(jnp.float32), boxes.astype(jnp.float32)
    parts = (np.arange(size * samples, dtype=np.float32) + 0.5) / (size * samples)

    def along(low, high, limit):
        """Two neighbours of each point on one axis, and the weight of the second."""
        at = low[:, None] + (high - low)[:, None] * parts[None] - 0.5
        at = jnp.clip(at, 0.0, float(limit - 1))
        first = jnp.floor(at)
        left = first.astype(jnp.int32)
        return left, jnp.minimum(left + 1, limit - 1), at - first

    def one(top, bottom, down, left, right, across):
        across = across[None, :, None]
        upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
        lower = image[bottom][:, left] * (1 - across) + image[bottom][:, right] * across
        down = down[:, None, None]
        points = upper * (1 - down) + lower * down
        return points.reshape(size, samples, size, samples, -1).mean((1, 3))

    height, width, _ = image.shape
    rows = along(boxes[:, 1], boxes[:, 3], height)
    columns = along(boxes[:, 0], boxes[:, 2], width)
    return jax.vmap(one)(*rows, *columns)
