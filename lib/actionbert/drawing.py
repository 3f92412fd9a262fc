"""Pictures of the laboratory of ActionBert: glyphs as crops of a screenshot, and whole screens."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, PRNGKeyArray, UInt8

from lib.actionbert.encoders import hog
from lib.actionbert.world import STROKES

CHUNK = 2048  # glyphs drawn at a time


class Pose(NamedTuple):
    """How a glyph is drawn, in units of the picture's side."""

    scale: Float[np.ndarray, " k"]
    rotation: Float[np.ndarray, " k"]  # radians
    shift: Float[np.ndarray, "k 2"]  # to the right and down
    thickness: Float[np.ndarray, " k"]  # of strokes
    inverted: Bool[np.ndarray, " k"]  # light on dark


class Drawn(NamedTuple):
    """Pictures, grey from 0 to 255 (ink), and what the fixed vision encoder sees in them."""

    crops: UInt8[np.ndarray, "k size size"]
    vision: Float32[np.ndarray, "k features"]


def draw(
    strokes: Float[np.ndarray, "k 5 4"],
    pose: Pose,
    key: PRNGKeyArray,
    *,
    noise: float | Float[np.ndarray, ""] = 0.08,
    size: int = 16,
    cells: int = 4,
) -> Drawn:
    """Draw glyphs, in grey that falls off with the distance from the strokes, on size^2 pixels.

    `noise` is the standard deviation of each pixel, of 1. `cells` are of `encoders.hog`.

    Raises ValueError if `cells` do not divide the picture.
    """
    if cells < 1 or size % cells:
        raise ValueError(f"cells={cells} must divide the size={size} of pictures")
    parts = []
    arrays = [np.asarray(a, np.float32) for a in (strokes, *pose)]
    for start in range(0, len(strokes), CHUNK):
        some = [a[start : start + CHUNK] for a in arrays]
        count = len(some[0])
        some = [np.concatenate([a, np.repeat(a[-1:], CHUNK - count, 0)]) for a in some]
        found = _draw(some, key, np.int32(start), np.float32(noise), size=size, cells=cells)
        parts.append([np.asarray(a)[:count] for a in found])
    return Drawn(*(np.concatenate(a) for a in zip(*parts, strict=True)))


def picture(
    crops: UInt8[np.ndarray, "n size size"],
    position: Float[np.ndarray, "n 9"],
    present: Bool[np.ndarray, " n"],
    *,
    width: int = 180,
    height: int = 320,
) -> UInt8[np.ndarray, "height width"]:
    """A whole screen: each component's crop, stretched to its box."""
    screen = np.zeros((height, width), np.uint8)
    for crop, box in zip(crops[present], position[present], strict=True):
        sides = np.clip(box[:4], 0, 1) * (width, height, width, height)
        x0, y0, x1, y1 = np.round(sides).astype(int)
        if x1 > x0 and y1 > y0:
            rows = np.arange(y1 - y0) * len(crop) // (y1 - y0)
            columns = np.arange(x1 - x0) * len(crop) // (x1 - x0)
            screen[y0:y1, x0:x1] = crop[rows[:, None], columns]
    return screen


@partial(jax.jit, static_argnames=("size", "cells"))
def _draw(arrays, key, start, noise, *, size, cells):
    strokes, scale, rotation, shift, thickness, inverted = arrays
    cos, sin = jnp.cos(rotation) * scale, jnp.sin(rotation) * scale
    ends = strokes.reshape(-1, STROKES, 2, 2) - 0.5
    cos, sin = cos[:, None, None], sin[:, None, None]
    x = ends[..., 0] * cos - ends[..., 1] * sin + 0.5 + shift[:, 0, None, None]
    y = ends[..., 0] * sin + ends[..., 1] * cos + 0.5 + shift[:, 1, None, None]
    middle = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    across, down = middle[None, None, :], middle[None, :, None]
    nearest = jnp.full((len(scale), size, size), 9.0)
    for i in range(STROKES):
        x0, y0 = x[:, i, 0, None, None], y[:, i, 0, None, None]
        dx, dy = x[:, i, 1, None, None] - x0, y[:, i, 1, None, None] - y0
        along = ((across - x0) * dx + (down - y0) * dy) / jnp.maximum(dx * dx + dy * dy, 1e-6)
        along = jnp.clip(along, 0.0, 1.0)
        off_x, off_y = across - x0 - along * dx, down - y0 - along * dy
        nearest = jnp.minimum(nearest, off_x * off_x + off_y * off_y)
    ink = jnp.clip(1.2 - jnp.sqrt(nearest) / thickness[:, None, None], 0.0, 1.0)
    ink = jnp.where(inverted[:, None, None] > 0, 1 - ink, ink)
    ink = ink + noise * jax.random.normal(jax.random.fold_in(key, start), ink.shape)
    crops = jnp.round(jnp.clip(ink, 0.0, 1.0) * 255).astype(jnp.uint8)
    return crops, hog(crops, cells=cells)
