"""Federated Select: each client asks for the parts of the server's value that it needs.

The primitive of section 2 of Charles et al. (2022), arXiv 2208.09432, and the sparse aggregation
that goes with it. Keys are integers 0 .. K-1; the key K asks for nothing and gives zeros, so that
clients with different numbers of keys fit into one array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PyTree, Shaped

Keys = Integer[Array | np.ndarray, "N m"]
Psi = Callable[[Any, Any], Any]
NORMALISATIONS = ("cohort", "count")


def row(x: PyTree, k: Integer[Array, ""]) -> PyTree:
    """psi(x, k) that indexes: row k of each array of x."""
    return jax.tree.map(lambda leaf: leaf[k], x)


def fed_select(
    x: PyTree[Shaped[Array | np.ndarray, "..."]],
    keys: Keys,
    psi: Psi = row,
    *,
    space: int | None = None,
) -> PyTree[Shaped[Array, "N m ..."]]:
    """Give each of N clients the slices psi(x, k) for its m keys, in the order of the keys.

    Equation (4) of the paper, a federated gather. `psi` may index, as it does unless told
    otherwise, or compute, as to quantise. `space` is K, how many keys there are: the length of x
    if it is not given. The key K gives zeros. A key that a client repeats is served twice.

    Raises ValueError for keys outside 0 .. K. Under jit their values cannot be seen: there they
    give zeros, as K does.
    """
    x = jax.tree.map(jnp.asarray, x)
    space = _length(x) if space is None else space
    keys = inside(keys, space)

    def served(k):
        slices = psi(x, jnp.minimum(k, space - 1))
        return jax.tree.map(lambda y: jnp.where(k < space, y, jnp.zeros_like(y)), slices)

    return jax.vmap(jax.vmap(served))(keys)


def broadcast(
    x: PyTree[Shaped[Array | np.ndarray, "..."]], clients: int
) -> PyTree[Shaped[Array, "N ..."]]:
    """Give each client all of x: the special case psi(x, k) = x with one key for all."""
    slices = fed_select(x, np.zeros((clients, 1), np.int32), lambda x, k: x, space=1)
    return jax.tree.map(lambda y: y[:, 0], slices)


def merge_keys(first: Keys, second: Keys, spaces: tuple[int, int]) -> Integer[Array, "N m"]:
    """One key for two: k1 K2 + k2, with `spaces` = (K1, K2). Padding in either is K1 K2.

    Two selections become one over K1 K2 keys: section 2 of the paper.

    Raises ValueError for keys out of range, and if K1 K2 does not fit into 32 bits.
    """
    if spaces[0] * spaces[1] > np.iinfo(np.int32).max:
        raise ValueError(f"spaces={spaces} have too many pairs for 32 bits: select twice instead")
    first, second = inside(first, spaces[0]), inside(second, spaces[1])
    padding = (first == spaces[0]) | (second == spaces[1])
    return jnp.where(padding, spaces[0] * spaces[1], first * spaces[1] + second)


def merge_psi(first: Psi, second: Psi, second_space: int) -> Psi:
    """The psi of merged keys: ((x, y), k1 K2 + k2) -> (psi1(x, k1), psi2(y, k2))."""

    def both(xy, k):
        return first(xy[0], k // second_space), second(xy[1], k % second_space)

    return both


def pad_keys(
    keys: Sequence[Sequence[int] | Integer[np.ndarray, " _"]], space: int
) -> Integer[np.ndarray, "N m"]:
    """Put lists of keys of different lengths into one array, filled up with K = `space`.

    Raises ValueError for a key outside 0 .. K - 1.
    """
    padded = np.full((len(keys), max(map(len, keys), default=0)), space, np.int32)
    for n, own in enumerate(keys):
        padded[n, : len(own)] = own
        if np.any((padded[n, : len(own)] < 0) | (padded[n, : len(own)] >= space)):
            raise ValueError(f"keys[{n}] has a key outside 0 .. {space - 1}: {list(own)[:5]} ...")
    return padded


def deselect_mean(
    updates: PyTree[Float[Array | np.ndarray, "N m ..."]],
    keys: Keys,
    space: int,
    *,
    normalise: str = "cohort",
    weights: Float[Array | np.ndarray, " N"] | None = None,
) -> PyTree[Float[Array, "K ..."]]:
    """Put the clients' small updates back in their places, zeros elsewhere, and take the mean.

    Equation (5) of the paper: "cohort" divides by N, the number of clients. "count" divides each
    coordinate by the number of clients that selected it, and gives 0 where nobody did; the paper
    does not do that. With `weights`, sums of weights take the place of numbers of clients. What a
    client returns for a key that it repeats is added up; the client counts once.

    Raises ValueError for keys outside 0 .. K (under jit what they bring is dropped), if `updates`
    and `keys` differ in shape, and for an unknown `normalise`.
    """
    keys = inside(keys, space)
    for leaf in jax.tree.leaves(updates):
        if leaf.shape[:2] != keys.shape:
            raise ValueError(
                f"updates have the shape {leaf.shape}, but keys say (N, m) = {keys.shape}: "
                "give one slice for each key"
            )
    weights = jnp.ones(len(keys)) if weights is None else jnp.asarray(weights)

    def total(leaf):
        leaf = jnp.asarray(leaf)
        weighted = leaf * along_first(weights.astype(leaf.dtype), leaf.ndim)
        empty = jnp.zeros((space, *leaf.shape[2:]), leaf.dtype)
        return empty.at[keys].add(weighted, mode="drop")

    below = denominator(keys, space, weights, normalise)
    return jax.tree.map(lambda leaf: divide(total(leaf), below), updates)


def denominator(
    keys: Integer[Array, "N m"], space: int, weights: Float[Array, " N"], normalise: str
) -> Float[Array, "..."]:
    """What a sum of updates is divided by: one number ("cohort"), or one for each key ("count").

    Raises ValueError for an unknown `normalise`.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise={normalise!r}: use one of {', '.join(NORMALISATIONS)}")
    if normalise == "cohort":
        return weights.sum()
    keys = jnp.sort(keys, 1)
    again = jnp.pad(keys[:, 1:] == keys[:, :-1], ((0, 0), (1, 0)))
    once = jnp.where(again, 0, weights[:, None].astype(jnp.float32))
    return jnp.zeros(space).at[keys].add(once, mode="drop")


def divide(total: Float[Array, "K ..."], below: Float[Array, "..."]) -> Float[Array, "K ..."]:
    """total / below, row by row if there is one denominator a row; 0 where it is 0."""
    below = along_first(below.astype(total.dtype), total.ndim) if below.ndim else below
    return jnp.where(below > 0, total / jnp.where(below > 0, below, 1), 0)


def inside(keys: Keys, space: int) -> Integer[Array, "N m"]:
    """The keys, with all that are outside 0 .. K replaced by K.

    Raises ValueError if there are such and their values can be seen, which jit prevents.
    """
    if space < 1:
        raise ValueError(f"space={space} must be at least 1: the number of keys K")
    if not isinstance(keys, jax.core.Tracer):
        seen = np.asarray(keys)
        bad = seen[(seen < 0) | (seen > space)]
        if bad.size:
            raise ValueError(
                f"keys has {bad[0]}, outside 0 .. {space - 1}: keys are indices into the K = "
                f"{space} slices, and {space} is padding"
            )
    keys = jnp.asarray(keys, jnp.int32)
    return jnp.where((keys < 0) | (keys > space), space, keys)


def along_first(a: Shaped[Array, "*first"], ndim: int) -> Shaped[Array, "*first_and_ones"]:
    """An array whose axes are the first ones of `ndim`, so that it can scale or mask others."""
    return jnp.expand_dims(a, range(a.ndim, ndim))


def _length(x) -> int:
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(x)}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            "x has arrays of different lengths, or numbers: say how many keys there are, with space"
        )
    return lengths.pop()
