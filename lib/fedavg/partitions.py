"""Dealing examples out to clients: evenly, by label, by author, or by a Dirichlet draw.

The partitions of section 3 of McMahan et al. (2017), and the one of Hsu et al. (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Integer, Shaped

Parts = list[np.ndarray]  # one index array a client


class Federation(NamedTuple):
    """The examples of K clients, padded to the size P of the largest."""

    x: Shaped[Array | np.ndarray, "K P ..."]
    y: Shaped[Array | np.ndarray, "K P ..."]
    n: Integer[Array | np.ndarray, " K"]  # how many are real


def partition_iid(seed: int, n: int, clients: int) -> Parts:
    """Shuffle `n` examples and deal them out; sizes differ by one at most.

    Raises ValueError if there are fewer examples than clients.
    """
    if not 1 <= clients <= n:
        raise ValueError(f"clients={clients} must lie between 1 and the {n} examples")
    return np.array_split(np.random.default_rng(seed).permutation(n), clients)


def partition_shards(
    seed: int, y: Integer[np.ndarray, " n"], clients: int, shards_per_client: int = 2
) -> Parts:
    """Sort by label, cut into equal shards, give each client a few: the pathological split.

    With 60,000 digits, 100 clients and 2 shards each, most clients hold two digits.

    Raises ValueError if the shards do not divide the examples evenly.
    """
    shards = clients * shards_per_client
    if shards < 1 or len(y) % shards:
        raise ValueError(
            f"clients={clients} x shards_per_client={shards_per_client} must divide the {len(y)} "
            "examples: change one of them, or leave some examples out"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))  # so that equal labels are not in the order of the file
    order = order[np.argsort(y[order], kind="stable")].reshape(shards, -1)
    return list(order[rng.permutation(shards)].reshape(clients, -1))


def partition_dirichlet(
    seed: int, y: Integer[np.ndarray, " n"], clients: int, alpha: float
) -> Parts:
    """Deal each label out by shares drawn from Dirichlet(alpha): small alpha, uneven clients.

    Clients differ in size too, and may come out empty. Hsu et al. (2019).

    Raises ValueError if `alpha` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha={alpha} must be positive")
    if clients < 1:
        raise ValueError(f"clients={clients} must be at least 1")
    rng = np.random.default_rng(seed)
    parts = [[] for _ in range(clients)]
    for label in np.unique(y):
        held = rng.permutation(np.flatnonzero(y == label))
        cuts = np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * len(held)
        for part, piece in zip(parts, np.split(held, cuts.astype(int)), strict=True):
            part.append(piece)
    return [rng.permutation(np.concatenate(part)) for part in parts]


def partition_by_group(groups: Integer[np.ndarray, " n"], min_size: int = 2) -> Parts:
    """One client per group, a speaking role or a writer, if it has `min_size` examples or more."""
    _, start = np.unique(np.sort(groups), return_index=True)
    order = np.argsort(groups, kind="stable")
    parts = [part for part in np.split(order, start[1:]) if len(part) >= min_size]
    if not parts:
        raise ValueError(f"no group has min_size={min_size} examples: lower it")
    return parts


def label_histogram(
    y: Integer[np.ndarray, " n"], parts: Sequence[np.ndarray], classes: int
) -> Integer[np.ndarray, "K classes"]:
    """How many examples of each label each client holds."""
    return np.stack([np.bincount(y[part], minlength=classes) for part in parts])


def pack(x: np.ndarray, y: np.ndarray, parts: Sequence[np.ndarray]) -> Federation:
    """Copy each client's examples into one padded array, with the types they have.

    A client may be empty, as a Dirichlet draw can leave it; one at least must not.

    Raises ValueError if `x` and `y` differ in length or if there is no example at all.
    """
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y {len(y)}: they must be as many")
    sizes = np.array([len(part) for part in parts], np.int32)
    if not len(sizes) or not sizes.max():
        raise ValueError("parts hold no examples: give at least one client with one example")
    federation = Federation(
        np.zeros((len(parts), sizes.max(), *x.shape[1:]), x.dtype),
        np.zeros((len(parts), sizes.max(), *y.shape[1:]), y.dtype),
        sizes,
    )
    for k, part in enumerate(parts):
        federation.x[k, : len(part)] = x[part]
        federation.y[k, : len(part)] = y[part]
    return federation
