"""Find the nearest of a million fingerprints, looking at few of them.

Section 4 of Now Playing (Agüera y Arcas et al., 2017): "a hybrid of trees and quantisation", of
which about 2 % are searched. The papers that it cites are not followed in detail: here vectors are
partitioned by k-means, what is left of them is product-quantised, and the distances to a query are
sums of a few table entries (asymmetric distance computation, Jégou et al., 2011).

How a query is answered in a fixed time: each partition is cut into blocks of equal size, and a
query looks at a fixed number of blocks, those of the nearest partitions first.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Integer, PRNGKeyArray, UInt8

from lib.nowplaying import quantisation

Queries = Float[Array | np.ndarray, "q d"]
TOGETHER = 16  # queries that are compared with all fingerprints at a time
PART = 2**17  # fingerprints that are quantised at a time


class Database(NamedTuple):
    """Quantised fingerprints in the order of the songs: all that has to be stored.

    A fingerprint is a centroid plus what its code stands for.
    """

    centroids: Float[Array, "p d"]
    codebooks: Float[Array, "m k s"]
    codes: UInt8[Array, "n m"]
    partition: Integer[Array, " n"]  # the number of the centroid


class Index(eqx.Module):
    """A database laid out for the search: derived from it when the phone starts, not stored."""

    database: Database
    codes: UInt8[Array, "b m rows"]  # b blocks; a partition fills consecutive blocks
    row: Integer[Array, "b rows"]  # of the database; -1 fills up a partition's last block
    bias: Float[Array, "b rows"]  # |y|^2 + 2 c.y, with y what a code stands for
    first: Integer[Array, " p_plus_1"]  # the first block of each partition, and the end
    mesh: Mesh | None = eqx.field(static=True)


class Hits(NamedTuple):
    """The nearest fingerprints to each query that were found, nearest first."""

    distance: Float[Array, "q k"]  # squared; infinite where fewer than k were looked at
    row: Integer[Array, "q k"]  # of the database; -1 there
    touched: Float[Array, " q"]  # share of the database that was looked at


def build(
    key: PRNGKeyArray,
    x: Float[Array | np.ndarray, "n d"],
    *,
    partitions: int,
    code_bytes: int = 12,
    levels: int = 256,
    sample: int = 40_000,
) -> Database:
    """Learn partitions and codes from a sample of the fingerprints, and quantise all of them.

    Raises ValueError if `partitions` or `levels` are more than what is sampled, and as
    `train_codebooks` does.
    """
    keys = jax.random.split(key, 3)
    some = jax.random.choice(keys[0], len(x), (min(sample, len(x)),), replace=False)
    sampled = jnp.asarray(x[np.asarray(some)])
    centroids = quantisation.kmeans(keys[1], sampled, partitions).centroids
    rest = sampled - centroids[quantisation.nearest(sampled, centroids)]
    codebooks = quantisation.train_codebooks(keys[2], rest, code_bytes=code_bytes, levels=levels)
    codes, partition = [], []
    for start in range(0, len(x), PART):  # else a million takes gigabytes
        part = jnp.asarray(x[start : start + PART])
        partition.append(quantisation.nearest(part, centroids))
        codes.append(quantisation.encode(codebooks, part - centroids[partition[-1]]))
    return Database(centroids, codebooks, jnp.concatenate(codes), jnp.concatenate(partition))


def fingerprints(
    source: Database | Float[Array | np.ndarray, "n d"],
    rows: Integer[Array | np.ndarray, "*r"],
) -> Float[Array, "*r d"]:
    """Rows of a database, decoded, or of an array of fingerprints as they are."""
    if not isinstance(source, Database):
        return jnp.asarray(source)[rows]
    rest = quantisation.decode(source.codebooks, source.codes[rows])
    return source.centroids[source.partition[rows]] + rest


def lay_out(database: Database, *, block: int = 128, mesh: Mesh | None = None) -> Index:
    """Sort a database by partition and cut it into blocks, for `search`.

    Blocks of 128 suit partitions of about a thousand. The devices of a one-dimensional `mesh`
    share the rows of every block, so that all have the same work, and the same rows are looked at.

    Raises ValueError if `block` < 1, or if the mesh cannot share it evenly.
    """
    devices = mesh.size if mesh else 1
    if block < 1 or block % devices:
        raise ValueError(f"block={block} must be a positive multiple of the devices, {devices}")
    row, first = _blocks(np.asarray(database.partition), len(database.centroids), block)
    codes, bias = _codes_and_bias(database, row)
    index = Index(Database(*map(jnp.asarray, database)), codes, row, bias, first, mesh)
    if mesh is None:
        return index
    placed = jax.tree.map(partial(NamedSharding, mesh), _specs(index))
    return jax.device_put(index, placed)


def search(index: Index, queries: Queries, *, k: int = 200, touch: float = 0.02) -> Hits:
    """The k nearest fingerprints to each query, among those in the partitions nearest to it.

    At most the share `touch` of the database is looked at, the last partition perhaps in part.
    Distances are those to the decoded fingerprints. With touch=1 the search is exhaustive.

    Raises ValueError if queries have the wrong length, `touch` is not in (0, 1], or it is less
    than one block or fewer than k fingerprints.
    """
    _check(queries, index.database.centroids.shape[1], k)
    size, (count, block) = len(index.database.codes), index.row.shape
    budget = count if touch == 1 else int(touch * size / block)
    if not 0 < touch <= 1 or budget * block < k:
        least = max(block, -(-k // block) * block) / size
        raise ValueError(
            f"touch={touch} must lie between {least:.2g} and 1: blocks of {block} for k={k}"
        )
    return _search(index, jnp.asarray(queries), k, budget)


def search_exact(x: Float[Array | np.ndarray, "n d"], queries: Queries, *, k: int = 200) -> Hits:
    """The k nearest of the fingerprints as they are, looking at all of them.

    Raises ValueError if queries have the wrong length, or k is not in 1 .. n.
    """
    _check(queries, x.shape[1], k)
    if k > len(x):
        raise ValueError(f"k={k} must be at most {len(x)}, the number of fingerprints")
    return _search_exact(jnp.asarray(x), jnp.asarray(queries), k)


@partial(jax.jit, static_argnames=("k", "budget"))
def _search(index, queries, k, budget):
    look = partial(_look, k=k, budget=budget)
    if index.mesh is not None:
        look = jax.shard_map(
            look, mesh=index.mesh, in_specs=(_specs(index), PartitionSpec()),
            out_specs=PartitionSpec(None, *index.mesh.axis_names), check_vma=False,
        )  # fmt: skip
    distance, row, seen = look(index, queries)
    nearest, which = lax.top_k(-distance, k)
    touched = seen.sum(1).astype(jnp.float32) / len(index.database.codes)
    return Hits(-nearest, jnp.take_along_axis(row, which, 1), touched)


def _look(index, queries, *, k, budget):
    """The k nearest of one device's rows, and how many it looked at: (q, k), (q, k), (q, 1)."""
    centroids, codebooks = index.database.centroids, index.database.codebooks
    codes, row, bias, first = index.codes, index.row, index.bias, index.first
    length = first[1:] - first[:-1]
    m, _, s = codebooks.shape
    count = min(len(centroids), budget)  # each has a block at least, or comes last
    k = min(k, budget * row.shape[1])

    def one(q):
        away = jnp.square(q[None] - centroids).sum(1)
        near, chosen = lax.top_k(-jnp.where(length > 0, away, jnp.inf), count)
        end = jnp.cumsum(length[chosen])
        slot = jnp.arange(budget)
        turn = jnp.searchsorted(end, slot, side="right")
        block = first[chosen + 1][turn] - end[turn] + slot
        # |q - c - y|^2 = |q - c|^2 + (|y|^2 + 2 c.y) - 2 q.y: one table serves all partitions
        table = -2 * jnp.einsum("mks,ms->mk", codebooks, q.reshape(m, s))
        picked = codes[block].astype(jnp.int32)
        inner = sum(table[part][picked[:, part]] for part in range(m))
        rows = row[block].ravel()
        nearest, which = lax.top_k((near[turn][:, None] - bias[block] - inner).ravel(), k)
        return -nearest, rows[which], (rows >= 0).sum()[None]

    return lax.map(one, queries)


@partial(jax.jit, static_argnames="k")
def _search_exact(x, queries, k):
    size = jnp.square(x).sum(1)

    def some(q):
        away = jnp.square(q).sum() + size - 2 * x @ q
        nearest, row = lax.top_k(-away, k)
        return -nearest, row

    found = lax.map(some, queries, batch_size=TOGETHER)
    return Hits(*found, jnp.ones(len(queries)))


def _blocks(partition, count, block):
    """Which row of the database is where in the blocks, and the first block of each partition."""
    order = np.argsort(partition, kind="stable")
    members = np.bincount(partition, minlength=count)
    first = np.concatenate([[0], np.cumsum(-(-members // block))])
    place = np.arange(len(order)) + np.repeat(
        first[:-1] * block - np.cumsum(members) + members, members
    )
    row = np.full(first[-1] * block, -1, np.int32)
    row[place] = order
    return jnp.asarray(row.reshape(-1, block)), jnp.asarray(first, jnp.int32)


@jax.jit
def _codes_and_bias(database, row):
    """The codes of each block, and |y|^2 + 2 c.y; infinite where there is no row."""
    codebooks, m = database.codebooks, database.codes.shape[1]
    norm = jnp.square(codebooks).sum(2)

    def one(rows):
        codes = database.codes[jnp.maximum(rows, 0)].T.astype(jnp.int32)
        c = database.centroids[database.partition[rows[0]]].reshape(m, -1)
        table = norm + 2 * jnp.einsum("mks,ms->mk", codebooks, c)
        bias = sum(table[part][codes[part]] for part in range(m))
        return codes.astype(jnp.uint8), jnp.where(rows >= 0, bias, jnp.inf)

    return lax.map(one, row)


def _specs(index):
    """How each array of an index lies on the devices: they share the rows of each block."""
    whole, shared = PartitionSpec(), PartitionSpec(None, *index.mesh.axis_names)
    lies = jax.tree.map(lambda _: whole, index)
    codes = PartitionSpec(None, None, *index.mesh.axis_names)
    return eqx.tree_at(lambda i: (i.codes, i.row, i.bias), lies, (codes, shared, shared))


def _check(queries, d, k):
    if queries.shape[1] != d:
        raise ValueError(f"queries have {queries.shape[1]} numbers each, the fingerprints {d}")
    if k < 1:
        raise ValueError(f"k={k} must be at least 1: how many fingerprints to find")
