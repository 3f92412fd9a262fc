"""Fingerprints in a dozen bytes: k-means and product quantisation.

Section 4 of Now Playing (Agüera y Arcas et al., 2017, arXiv 1711.10958) stores a fingerprint in
about 1/32 of its floats, quantised for the smallest ``|x - x~|^2``. How is only cited; this is
the product quantiser of Jégou, Douze and Schmid (2011).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, PRNGKeyArray, UInt8

Vectors = Float[Array | np.ndarray, "n d"]
CHUNK = 128  # vectors at a time: their distances to all centroids stay in the cache


class Clusters(NamedTuple):
    """Centroids, and the sum of squared distances from each vector to the nearest of them."""

    centroids: Float[Array, "k d"]
    inertia: Float[Array, ""]


class SongBytes(NamedTuple):
    """What one song takes in the database, in bytes."""

    codes: float
    partitions: float  # which partition each fingerprint is in

    @property
    def total(self) -> float:
        return self.codes + self.partitions


def kmeans(key: PRNGKeyArray, x: Vectors, k: int, *, steps: int = 12) -> Clusters:
    """Find k centroids near which the vectors lie: `steps` of Lloyd from k of the vectors.

    They are drawn without weights: fingerprints have no clear clusters, and the far starts of
    k-means++ end no lower, but take longer to find than Lloyd itself.

    Raises ValueError unless 1 <= k <= n, and as `lloyd` does.
    """
    if not 1 <= k <= len(x):
        raise ValueError(f"k={k} must lie between 1 and {len(x)}, the number of vectors")
    x = jnp.asarray(x)
    return lloyd(x, jax.random.choice(key, x, (k,), replace=False), steps=steps)


def lloyd(x: Vectors, start: Float[Array | np.ndarray, "k d"], *, steps: int) -> Clusters:
    """Move each centroid to the mean of the vectors nearest to it, `steps` times.

    A centroid that has lost all its vectors moves to one of those that lie farthest from theirs.

    Raises ValueError if `steps` < 0, and if there are more centroids than vectors.
    """
    if steps < 0:
        raise ValueError(f"steps={steps} must be at least 0")
    if len(start) > len(x):
        raise ValueError(
            f"start has {len(start)} centroids for {len(x)} vectors: use at most one each"
        )
    return _lloyd(jnp.asarray(x), jnp.asarray(start), steps)


def nearest(x: Vectors, centroids: Float[Array | np.ndarray, "k d"]) -> Integer[Array, " n"]:
    """Which centroid is nearest to each vector."""
    return _nearest(jnp.asarray(x), jnp.asarray(centroids))[0]


def train_codebooks(
    key: PRNGKeyArray, x: Vectors, *, code_bytes: int = 12, levels: int = 256, steps: int = 10
) -> Float[Array, "m k s"]:
    """Learn a product quantiser: cut vectors into m = `code_bytes` parts of s = d/m numbers.

    Each part gets k = `levels` centroids of its own, and is stored as the number of the nearest.

    Raises ValueError unless m divides d, levels is in 2 .. 256, and there are as many vectors.
    """
    if code_bytes < 1 or x.shape[1] % code_bytes:
        raise ValueError(
            f"code_bytes={code_bytes} must divide {x.shape[1]}, the numbers of a vector"
        )
    if not 2 <= levels <= min(256, len(x)):
        raise ValueError(
            f"levels={levels} must lie between 2 and {min(256, len(x))}: one byte holds 256, "
            f"and x has {len(x)} vectors"
        )
    parts = jnp.asarray(x).reshape(len(x), code_bytes, -1)
    keys = jax.random.split(key, code_bytes)
    return jnp.stack(
        [kmeans(keys[m], parts[:, m], levels, steps=steps).centroids for m in range(code_bytes)]
    )


def encode(codebooks: Float[Array | np.ndarray, "m k s"], x: Vectors) -> UInt8[Array, "n m"]:
    """The bytes of each vector: for each of its parts, the number of the nearest centroid.

    Raises ValueError if vectors and codebooks differ in length.
    """
    m, _, s = codebooks.shape
    if x.shape[1] != m * s:
        raise ValueError(
            f"x has vectors of {x.shape[1]} numbers, but the codebooks are for {m * s}"
        )
    return _encode(jnp.asarray(codebooks), jnp.asarray(x))


def decode(
    codebooks: Float[Array | np.ndarray, "m k s"], codes: UInt8[Array | np.ndarray, "*n m"]
) -> Float[Array, "*n d"]:
    """The vectors x~ that the bytes stand for."""
    codebooks, codes = jnp.asarray(codebooks), jnp.asarray(codes)
    parts = codebooks[jnp.arange(len(codebooks)), codes.astype(jnp.int32)]
    return parts.reshape(*codes.shape[:-1], -1)


def song_bytes(
    seconds: float, *, code_bytes: int = 12, partitions: int = 1, per_second: float = 1.0
) -> SongBytes:
    """What a song takes: its codes, and log2(`partitions`) bits a fingerprint, closely packed.

    `per_second` is the rate of fingerprints. Centroids and codebooks are shared by all songs. The
    paper says less than 3 KB, and does not say whether partitions are in it.
    """
    count = seconds * per_second
    return SongBytes(count * code_bytes, count * np.ceil(np.log2(partitions)).item() / 8)


@partial(jax.jit, static_argnames="steps")
def _lloyd(x, centroids, steps):
    k = len(centroids)

    def step(centroids, _):
        label, away = _nearest(x, centroids)
        members = jax.ops.segment_sum(jnp.ones_like(away), label, k)[:, None]
        means = jax.ops.segment_sum(x, label, k) / jnp.maximum(members, 1)
        empty = members == 0
        farthest = x[lax.top_k(away, k)[1]]
        turn = jnp.cumsum(empty.ravel().astype(jnp.int32)) - 1
        return jnp.where(empty, farthest[jnp.maximum(turn, 0)], means), None

    centroids, _ = lax.scan(step, centroids, None, length=steps)
    return Clusters(centroids, _nearest(x, centroids)[1].sum())


@jax.jit
def _nearest(x, centroids):
    """The nearest centroid of each vector, and the squared distance to it."""
    half = jnp.square(centroids).sum(1) / 2

    def some(x):
        # |x - c|^2 without |x|^2, which does not decide which c is nearest
        label = _first_least(half[:, None] - centroids @ x.T)
        return label, jnp.square(x - centroids[label]).sum(1)

    return _in_chunks(some, x)


@jax.jit
def _encode(codebooks, x):
    m, _, s = codebooks.shape
    half = jnp.square(codebooks).sum(2) / 2

    def some(x):
        away = half[..., None] - jnp.einsum("mks,nms->mkn", codebooks, x.reshape(-1, m, s))
        return _first_least(away).astype(jnp.uint8).T

    return _in_chunks(some, x)


def _first_least(x):
    """Where the smallest value is along the last axis but one: argmin, a fifth of its time."""
    place = jnp.arange(x.shape[-2], dtype=jnp.int32)[:, None]
    return jnp.where(x <= x.min(-2, keepdims=True), place, x.shape[-2]).min(-2)


def _in_chunks(f, x):
    """f(x) for a function of rows, CHUNK of them at a time."""
    size = min(CHUNK, len(x))
    filled = jnp.pad(x, ((0, -len(x) % size), (0, 0)))
    out = lax.map(f, filled.reshape(-1, size, x.shape[1]))
    return jax.tree.map(lambda a: a.reshape(len(filled), *a.shape[2:])[: len(x)], out)
