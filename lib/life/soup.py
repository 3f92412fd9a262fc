"""The soup: programs meet in pairs, run as one tape, and go their ways (Section 2.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, UInt8, UInt32, UInt64

from lib.life import splitmix
from lib.life.interpret import run_tapes
from lib.life.languages import Language, language
from lib.life.tape import STEPS, WIDTH

MUTATION = 2**18  # in 2^30: 0.024 % of the bytes in each epoch
PAIRINGS = ("shuffle", "fixed", "ring", "grid")


class Soup(NamedTuple):
    """`n` programs, in the order in which they last met: row r is program number `where[r]`.

    `steps` says how long each pair ran in the last epoch, 0 for pairs that did not. `tokens` says
    of each byte where it comes from (Section 2.2): epoch << 32 | place << 8 | byte, where epoch
    and place (counting all bytes of the soup) are those of its creation; None if nobody asked.
    """

    programs: UInt8[Array, "n 64"]
    where: UInt32[Array, " n"]
    epoch: UInt32[Array, ""]
    steps: UInt32[Array, " n/2"]
    tokens: UInt64[Array, "n 64"] | None = None

    def in_order(self) -> UInt8[np.ndarray, "n 64"]:
        """The programs by number."""
        programs = np.empty(self.programs.shape, np.uint8)
        programs[np.asarray(self.where)] = np.asarray(self.programs)
        return programs

    def digest(self) -> str:
        """SHA-256 of the programs by number, to compare soups with."""
        return hashlib.sha256(self.in_order().tobytes()).hexdigest()


def primordial(seed: int, n: int, *, tokens: bool = False) -> Soup:
    """`n` programs of 64 random bytes. Raises ValueError if `n` is odd or below 2."""
    if n < 2 or n % 2:
        raise ValueError(
            f"n={n} must be an even number of programs, at least 2: they meet in pairs"
        )
    with jax.enable_x64(True):
        programs = splitmix.random_programs(jnp.uint64(seed), n)
        names = _new_tokens(jnp.uint64(0), programs) if tokens else None
        return Soup(
            programs, jnp.arange(n, dtype=jnp.uint32), jnp.uint32(0),
            jnp.zeros(n // 2, jnp.uint32), names,
        )  # fmt: skip


def plant(soup: Soup, program: UInt8[np.ndarray, " 64"], numbers: Sequence[int]) -> Soup:
    """The soup with `program` written over the programs of these numbers.

    Raises ValueError for a number that is not in the soup.
    """
    n = len(soup.programs)
    if not all(0 <= k < n for k in numbers):
        raise ValueError(f"numbers={list(numbers)} must lie between 0 and {n - 1}")
    rows = np.flatnonzero(np.isin(np.asarray(soup.where), np.asarray(numbers)))
    with jax.enable_x64(True):
        programs = soup.programs.at[rows].set(jnp.asarray(program, jnp.uint8))
        if soup.tokens is None:
            return soup._replace(programs=programs)
        names = _new_tokens(soup.epoch.astype(jnp.uint64), programs)
        return soup._replace(programs=programs, tokens=soup.tokens.at[rows].set(names[rows]))


def advance(
    soup: Soup,
    epochs: int,
    *,
    seed: int,
    language_name: str = "bff_noheads",
    mutation: int = MUTATION,
    pairing: str = "shuffle",
    shape: tuple[int, int] | None = None,
    steps: int = STEPS,
) -> Soup:
    """The soup after so many more epochs; the same, bit for bit, as that of the reference program.

    `pairing` says who meets whom: "shuffle", all at random; "fixed", a fixed schedule; "ring",
    neighbours on a ring; "grid", programs on a `shape` of (width, height) and a random one at most
    two cells away. `mutation` is in 2^30. A program stops after `steps`.

    Raises ValueError for an unknown language or pairing, or a shape that is not the soup's.
    """
    _check(len(soup.programs), mutation, pairing, shape)
    with jax.enable_x64(True):
        return _advance(
            soup, jnp.uint32(epochs), jnp.uint64(seed), jnp.uint64(mutation),
            language=language(language_name), pairing=pairing, shape=shape, steps=steps,
        )  # fmt: skip


def advance_all(
    soups: Soup,
    epochs: int,
    *,
    seeds: Sequence[int],
    language_name: str = "bff_noheads",
    mutation: int = MUTATION,
    pairing: str = "shuffle",
    shape: tuple[int, int] | None = None,
    steps: int = STEPS,
    mesh: Mesh | None = None,
) -> Soup:
    """As `advance`, for many soups side by side, put together by `stack`, each with its own seed.

    The devices of `mesh` share the soups; what comes out does not depend on how many there are. On
    a CPU each device takes its soups in turn, on a GPU all at once.

    Raises ValueError if there is not one seed for each soup, and what `advance` raises.
    """
    count, n = soups.programs.shape[:2]
    _check(n, mutation, pairing, shape)
    if len(seeds) != count:
        raise ValueError(f"seeds has {len(seeds)} for {count} soups: give one to each")
    with jax.enable_x64(True):
        run = partial(_advance, language=language(language_name), pairing=pairing, shape=shape,
                      steps=steps)  # fmt: skip
        epochs, mutation = jnp.uint32(epochs), jnp.uint64(mutation)
        if mesh is None and jax.default_backend() == "cpu":  # a loop around it would be slow
            soups = [jax.tree.map(lambda x, k=k: x[k], soups) for k in range(count)]
            return stack([
                run(soup, epochs, jnp.uint64(seed), mutation)
                for soup, seed in zip(soups, seeds, strict=True)
            ])  # fmt: skip
        devices = mesh.size if mesh else 1
        turn = jnp.arange(-(-count // devices) * devices) % count  # the same number for each
        own = (jnp.asarray(seeds, jnp.uint64), soups)
        own = jax.tree.map(lambda x: x[turn], own)
        after = _advance_all(epochs, mutation, own, run=run, mesh=mesh)
        return jax.tree.map(lambda x: x[:count], after)


@partial(jax.jit, static_argnames=("run", "mesh"))
def _advance_all(epochs, mutation, own, *, run, mesh):
    def some(epochs, mutation, own):
        def one(own):
            return run(own[1], epochs, own[0], mutation)

        return lax.map(one, own) if jax.default_backend() == "cpu" else jax.vmap(one)(own)

    if mesh is None:
        return some(epochs, mutation, own)
    mine = PartitionSpec(*mesh.axis_names)
    shared = (PartitionSpec(), PartitionSpec(), mine)
    return jax.shard_map(some, mesh=mesh, in_specs=shared, out_specs=mine, check_vma=False)(
        epochs, mutation, own
    )


def stack(soups: Sequence[Soup]) -> Soup:
    """Soups of one size as a single one with a leading axis, for `advance_all`."""
    with jax.enable_x64(True):
        return jax.tree.map(lambda *parts: jnp.stack(parts), *soups)


def _check(n: int, mutation: int, pairing: str, shape: tuple[int, int] | None) -> None:
    """Raise ValueError unless `n` programs can meet in this way."""
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing={pairing!r} is not known: use one of {', '.join(PAIRINGS)}")
    if pairing == "grid" and (shape is None or shape[0] * shape[1] != n):
        raise ValueError(f"shape={shape} must be (width, height) of a grid of {n} programs")
    if pairing == "fixed" and n & (n - 1):
        raise ValueError(f"pairing='fixed' wants a power of two as number of programs, got {n}")
    if not 0 <= mutation <= 2**30:
        raise ValueError(f"mutation={mutation} must lie between 0 and 2^30, which is certainty")


@partial(jax.jit, static_argnames=("language", "pairing", "shape", "steps"))
def _advance(soup, epochs, seed, mutation, *, language: Language, pairing, shape, steps):
    n = len(soup.programs)

    def epoch(_, soup):
        now = soup.epoch.astype(jnp.uint64)
        if pairing == "grid":
            places, meeting = _grid(seed, now, shape)
        else:
            places, meeting = _places(pairing, seed, now, n), jnp.uint32(n // 2)
        rows = places[soup.where]
        where = jnp.zeros(n, jnp.uint32).at[places].set(jnp.arange(n, dtype=jnp.uint32))

        def meet(of):
            return jnp.zeros_like(of).at[rows].set(of).reshape(n // 2, 2 * WIDTH)

        tapes, tokens = meet(soup.programs), soup.tokens
        fresh, replaced = splitmix.mutations(seed, now, n, mutation)
        tapes = jnp.where(replaced, fresh, tapes)
        if tokens is not None:
            names = _new_tokens(now + jnp.uint64(1), tapes)
            tokens = jnp.where(replaced, names, meet(tokens))
        tapes, tokens, taken = run_tapes(tapes, language, count=meeting, tokens=tokens, steps=steps)
        if tokens is not None:
            tokens = tokens.reshape(n, WIDTH)
        return Soup(tapes.reshape(n, WIDTH), where, soup.epoch + jnp.uint32(1), taken, tokens)

    return lax.fori_loop(jnp.uint32(0), epochs, epoch, soup)


def _new_tokens(epoch, programs):
    place = splitmix.counters(programs.size).reshape(programs.shape)
    return epoch << jnp.uint64(32) | place << jnp.uint64(8) | programs.astype(jnp.uint64)


def _places(pairing: str, seed, epoch, n: int) -> UInt32[Array, " n"]:
    """The row of each program among the pairs of this epoch."""
    if pairing == "shuffle":
        return splitmix.shuffled_places(seed, epoch, n)
    row = jnp.arange(n, dtype=jnp.uint32)
    if pairing == "ring":
        program = jnp.where(epoch % jnp.uint64(2) == 1, row, (row + n - 1) % n)
    else:
        turn = (epoch % jnp.uint64(n.bit_length() - 1)).astype(jnp.uint32)
        stride = (jnp.uint32(2) << turn) - 1
        program = ((row * stride) % n) ^ (epoch % jnp.uint64(2)).astype(jnp.uint32)
    return jnp.zeros(n, jnp.uint32).at[program].set(row)


def neighbours(shape: tuple[int, int], reach: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """For each cell the cells at most `reach` away, row by row, and how many there are.

    The grid has edges: a cell in a corner has eight neighbours, one in the middle 24. Places beyond
    the last neighbour of a cell hold 0.
    """
    width, height = shape
    y, x = np.divmod(np.arange(width * height), width)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    dy, dx = (d[(dy != 0) | (dx != 0)] for d in (dy, dx))
    row, column = y[:, None] + dy, x[:, None] + dx
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    first = np.argsort(~inside, axis=1, kind="stable")
    near = np.take_along_axis(np.where(inside, row * width + column, 0), first, axis=1)
    return near.astype(np.uint32), inside.sum(1).astype(np.uint32)


def _grid(seed, epoch, shape):
    """Pairs of neighbours, each program in one at most: rows of all programs, number of pairs.

    In random order each program asks a random neighbour; they meet if both are free. Programs that
    meet nobody stand at the end, in order; they are mutated but not run.
    """
    u, n = jnp.uint64, shape[0] * shape[1]
    near, count = (jnp.asarray(part) for part in neighbours(shape))
    order = jnp.zeros(n, jnp.uint32).at[splitmix.shuffled_places(seed, epoch, n)].set(
        jnp.arange(n, dtype=jnp.uint32)
    )  # fmt: skip
    own = splitmix.subseed(seed, epoch) ^ splitmix.subseed(seed, splitmix.counters(n))
    pick = (splitmix.subseed(seed, own) % count.astype(u)).astype(jnp.uint32)
    asked = near[jnp.arange(n), pick][order]
    free = jnp.uint32(n)  # no row yet

    def at(buffer, k):
        return lax.dynamic_slice(buffer, (k,), (1,))[0]

    def ask(i, carry):  # the writes of a step are done at the top of the next: no copies
        places, rows, *pair, values = carry
        for k, value in zip(pair, values, strict=True):
            places = lax.dynamic_update_slice(places, value[None], (k,))
        one, other = at(order, i), at(asked, i)
        before = at(places, one), at(places, other)
        both = (before[0] == free) & (before[1] == free)
        after = jnp.where(both, rows, before[0]), jnp.where(both, rows + 1, before[1])
        return places, jnp.where(both, rows + 2, rows), one, other, after

    zero = jnp.uint32(0)
    first = (jnp.full(n, free), zero, zero, zero, (free, free))
    places, rows, *pair, values = lax.fori_loop(zero, free, ask, first)
    places = places.at[jnp.stack(pair)].set(jnp.stack(values))
    alone = places == free
    rest = rows + jnp.cumsum(alone, dtype=jnp.uint32) - 1
    return jnp.where(alone, rest, places), rows // 2
