"""Which keys a client selects: its most frequent features, random ones, or those of all.

Sections 3 and 5 of Charles et al. (2022). Counts say how often each of K features, a word say,
occurs in each client's data. Except by `random_global` and `shared` a client never selects what it
does not have; with fewer than m features it then gets fewer keys: the rest is padding, K.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, PRNGKeyArray
from scipy import sparse

Counts = Integer[np.ndarray, "N K"] | sparse.sparray
Wanted = int | Integer[np.ndarray, " N"]  # m, for all clients or for each


def top_keys(counts: Counts, m: Wanted) -> Integer[np.ndarray, "N m"]:
    """The m most frequent features of each client, most frequent first, then by number.

    "Top" of section 5.1. Raises ValueError if `m` < 1.
    """
    return _first(counts, _wanted(m, counts.shape[0]), lambda table: -table.data)


def random_top(rng: np.random.Generator, counts: Counts, m: Wanted) -> Integer[np.ndarray, "N m"]:
    """m random ones of the 2m most frequent features of each client: "Random Top"."""
    wanted = _wanted(m, counts.shape[0])
    keys = _first(counts, 2 * wanted, lambda table: -table.data)
    draw = np.where(keys < counts.shape[1], rng.random(keys.shape), 2)
    mixed = np.take_along_axis(keys, np.argsort(draw, 1), 1)[:, : wanted.max(initial=1)]
    return _cut(mixed, wanted, counts.shape[1])


def random_local(rng: np.random.Generator, counts: Counts, m: Wanted) -> Integer[np.ndarray, "N m"]:
    """m random ones of the features that a client has: "Random"."""
    return _first(counts, _wanted(m, counts.shape[0]), lambda table: rng.random(table.nnz))


def random_global(
    rng: np.random.Generator, counts: Counts, m: Wanted
) -> Integer[np.ndarray, "N m"]:
    """m random ones of all K features, whether the client has them or not.

    Raises ValueError if `m` does not lie in 1 .. K.
    """
    clients, space = counts.shape
    wanted = _wanted(m, clients)
    _at_most(m, wanted.max(initial=1), space)
    longest = wanted.max(initial=1)
    draws = [rng.choice(space, longest, replace=False) for _ in range(clients)]
    return _cut(np.array(draws, np.int32).reshape(clients, longest), wanted, space)


def shared(rng: np.random.Generator, counts: Counts, m: Wanted) -> Integer[np.ndarray, "N m"]:
    """The same random keys for all clients: needs a broadcast only, Fig. 6 of the paper.

    A client that wants fewer takes the first of them.

    Raises ValueError if `m` does not lie in 1 .. K.
    """
    clients, space = counts.shape
    wanted = _wanted(m, clients)
    _at_most(m, wanted.max(initial=1), space)
    draw = rng.choice(space, wanted.max(initial=1), replace=False).astype(np.int32)
    return _cut(np.tile(draw, (clients, 1)), wanted, space)


def random_keys(
    key: PRNGKeyArray,
    ids: Integer[Array | np.ndarray, " N"],
    space: int,
    m: int | Integer[Array | np.ndarray, " N"],
    *,
    most: int | None = None,
    shared: bool = False,
) -> Integer[Array, "N most"]:
    """m random keys for each of the clients `ids`, under jit; the same for all if `shared`.

    The draw of client k comes from `fold_in(key, k)`, whatever the other clients are. `most` is
    the largest m, and must be given if m is an array.

    Raises ValueError if `most` does not lie in 1 .. K.
    """
    most = m if most is None else most
    _at_most(most, most, space)

    def draw(k):
        own = key if shared else jax.random.fold_in(key, k)
        return jax.random.permutation(own, space)[:most].astype(jnp.int32)

    drawn = jax.vmap(draw)(jnp.asarray(ids))
    rank = jnp.arange(most)[None]
    wanted = jnp.broadcast_to(jnp.asarray(m, jnp.int32), (len(ids),))
    return jnp.where(rank < wanted[:, None], drawn, space)


def local_ids(
    features: Integer[np.ndarray, "N ..."], keys: Integer[np.ndarray, "N m"], space: int
) -> Integer[np.ndarray, "N ..."]:
    """Where each feature stands among its client's keys; m if it was not selected.

    This is how a client reads its data once it holds slices instead of the whole model. `features`
    are 0 .. K - 1, and K where there is none. If keys repeat, the last one counts.
    """
    clients, m = keys.shape
    where = np.full((clients, space + 1), m, np.int32)
    where[np.arange(clients)[:, None], keys] = np.arange(m, dtype=np.int32)
    where[:, space] = m
    base = (np.arange(clients) * (space + 1)).reshape(-1, *[1] * (features.ndim - 1))
    return where.ravel()[features + base]


def distinct(keys: Integer[np.ndarray, "N m"], space: int) -> int:
    """How many different keys all clients together select."""
    chosen = np.zeros(space + 1, bool)
    chosen[keys] = True
    return int(chosen[:space].sum())


def _first(counts, wanted, order):
    """The features of each client that come first in this order, as many as it wants."""
    table = sparse.csr_array(counts)
    table.eliminate_zeros()
    clients, space = table.shape
    owner = np.repeat(np.arange(clients), np.diff(table.indptr))
    by_rank = np.lexsort((table.indices, order(table), owner))
    rank = np.arange(table.nnz) - table.indptr[owner]
    kept = rank < wanted[owner]
    longest = int(np.minimum(wanted, np.diff(table.indptr)).max(initial=1))
    keys = np.full((clients, max(longest, 1)), space, np.int32)
    keys[owner[kept], rank[kept]] = table.indices[by_rank[kept]]
    return keys


def _cut(keys, wanted, space):
    return np.where(np.arange(keys.shape[1]) < wanted[:, None], keys, space).astype(np.int32)


def _wanted(m, clients):
    wanted = np.broadcast_to(np.asarray(m), (clients,))
    if clients and wanted.min() < 1:
        raise ValueError(f"m={m} must be at least 1: the number of keys of a client")
    return wanted


def _at_most(m, longest, space):
    if not 1 <= longest <= space:
        raise ValueError(f"m={m} must lie between 1 and the K = {space} keys there are")
