"""The soup of Z80 programs on a grid, bit for bit the authors' (Section 3.3 and its supplement).

The supplement draws its random numbers one after the other from a single generator, SplitMix64.
The n-th is a function of the seed and n, so a soup is its programs and how many were drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt8, UInt32, UInt64

from lib.life.splitmix import counters, splitmix64
from lib.life.tape import U
from lib.life.z80.processor import LENGTH, STEPS, WIDTH, run_z80

MUTATION = 64  # bytes replaced in 1024 meetings
MEETINGS = 8192  # of one batch at most
PATIENCE = 16  # unsuccessful proposals in a row, after which a batch is complete

REPLICATORS = {
    # LD BC,01C5h; PUSH BC: what it pushes are its own two bytes
    "push": bytes.fromhex("01C5" * 8),
    # the refresh register counts instructions: in the first half it is small here, in the second
    # most often not, and so the program knows which half to copy (LDIR) to which
    "ldir": bytes.fromhex("ED5F E608 87 6F EE10 5F 0E10 EDB0 000000"),
}  # hand-written; LD A,R; AND 08h; ADD A,A; LD L,A; XOR 10h; LD E,A; LD C,10h; LDIR


class Z80Soup(NamedTuple):
    """Programs on a grid, row by row.

    `draws` says how many random numbers have been drawn; `met` who met in the last batch, as (first
    program, second program), and `steps` how long it took them; what is beyond `meetings` is stale.
    """

    programs: UInt8[Array, "n 16"]
    draws: UInt64[Array, ""]
    met: UInt32[Array, "most 2"]
    meetings: UInt32[Array, ""]
    steps: UInt32[Array, " most"]


def primordial(seed: int, shape: tuple[int, int]) -> Z80Soup:
    """Random programs on a grid of (width, height). Raises ValueError if a side is below 2."""
    n, most = _size(shape), min(MEETINGS, _size(shape) // 2)
    with jax.enable_x64(True):
        programs = _draw(jnp.uint64(seed), counters(n * WIDTH)).astype(jnp.uint8)
        return Z80Soup(
            programs.reshape(n, WIDTH), jnp.uint64(n * WIDTH), jnp.zeros((most, 2), U),
            jnp.uint32(0), jnp.zeros(most, U),
        )  # fmt: skip


def plant(soup: Z80Soup, program: bytes, places: Sequence[int]) -> Z80Soup:
    """The soup with a program, padded with zeros, at these places of the grid.

    Raises ValueError for a program longer than 16 bytes and for a place outside the grid.
    """
    n = len(soup.programs)
    if len(program) > WIDTH:
        raise ValueError(f"program has {len(program)} bytes: {WIDTH} is the most")
    if not all(0 <= place < n for place in places):
        raise ValueError(f"places={list(places)} must lie between 0 and {n - 1}")
    row = jnp.asarray(np.frombuffer(program.ljust(WIDTH, b"\0"), np.uint8))
    return soup._replace(programs=soup.programs.at[jnp.asarray(places)].set(row))


def advance(
    soup: Z80Soup,
    batches: int,
    *,
    seed: int,
    shape: tuple[int, int],
    mutation: int = MUTATION,
    steps: int = STEPS,
) -> Z80Soup:
    """The soup after so many more batches, in each of which a program meets one other at most.

    A cell of the grid of (width, height) and one of its four neighbours are proposed at random,
    the first as the first half of the tape; they meet if neither has met in this batch, which ends
    after 16 proposals in vain, or 8192 meetings. Then `mutation` random bytes for 1024 meetings are
    put at random places. The authors' supplement has 200 x 200 programs and 128 steps.

    Raises ValueError for a shape that is not the soup's, or a negative mutation.
    """
    if _size(shape) != len(soup.programs):
        raise ValueError(f"shape={shape} is not that of a soup of {len(soup.programs)} programs")
    if not 0 <= mutation <= 1024 * WIDTH:
        raise ValueError(f"mutation={mutation} must lie between 0 and {1024 * WIDTH}")
    with jax.enable_x64(True):
        return _advance(soup, U(batches), jnp.uint64(seed), jnp.uint64(mutation), shape=shape,
                        steps=steps)  # fmt: skip


def _size(shape: tuple[int, int]) -> int:
    width, height = shape
    if min(width, height) < 2:
        raise ValueError(f"shape={shape} must be (width, height), each 2 or more: pairs meet")
    return width * height


def _draw(seed, number):
    """The random number drawn as the `number`-th: SplitMix64 adds a constant each time."""
    return splitmix64(seed + number * jnp.uint64(0x9E3779B97F4A7C15))


@partial(jax.jit, static_argnames=("shape", "steps"))
def _advance(soup, batches, seed, mutation, *, shape, steps):
    n = len(soup.programs)

    def batch(_, soup):
        met, meetings, draws = _meetings(seed, soup.draws, shape, len(soup.met))
        tapes, taken = run_z80(
            soup.programs[jnp.minimum(met, n - 1)].reshape(-1, LENGTH), meetings, steps=steps
        )
        programs = soup.programs.at[met.reshape(-1)].set(tapes.reshape(-1, WIDTH), mode="drop")
        count = meetings.astype(jnp.uint64) * mutation >> jnp.uint64(10)

        def mutate(k, programs):
            random = _draw(seed, draws + k)
            place = ((random >> jnp.uint64(8)) % jnp.uint64(n * WIDTH)).astype(U)
            value = random.astype(jnp.uint8)
            return lax.dynamic_update_slice(
                programs, value[None, None], (place // WIDTH, place % WIDTH)
            )

        programs = lax.fori_loop(jnp.uint64(0), count, mutate, programs)
        return Z80Soup(programs, draws + count, met, meetings, taken)

    return lax.fori_loop(U(0), batches, batch, soup)


def _meetings(seed, draws, shape, most):
    """Who meets in a batch; how many meetings, the rest is beyond the grid; the draws after it."""
    (width, height), one = shape, jnp.uint64(1)
    n = width * height

    def looking(s):
        return (s["meetings"] < MEETINGS) & (s["vain"] < PATIENCE)

    def propose(s):
        # the notes of the proposal before are made first; in vain, they go beyond the end
        free, met = s["free"], s["met"]
        for side in (0, 1):
            free = lax.dynamic_update_slice(free, jnp.zeros(1, U), (s["pair"][side],))
            met = lax.dynamic_update_slice(met, s["pair"][side][None, None], (s["row"], U(side)))
        random = _draw(seed, s["draws"])
        ahead, level = (random & one).astype(U), (random >> one & one).astype(U)
        cell = ((random >> jnp.uint64(2)) % jnp.uint64(n)).astype(U)
        along = jnp.where(level == 1, cell % width, cell // width)
        end = jnp.where(level == 1, U(width - 1), U(height - 1))
        ahead = jnp.where(along == 0, U(1), jnp.where(along == end, U(0), ahead))
        stride = jnp.where(level == 1, U(1), U(width))
        other = jnp.where(ahead == 1, cell + stride, cell - stride)
        meets = (free[cell] & free[other]) == 1
        return dict(
            free=free, met=met, draws=s["draws"] + one,
            pair=tuple(jnp.where(meets, place, U(n)) for place in (cell, other)),
            row=jnp.where(meets, s["meetings"], U(most)),
            meetings=s["meetings"] + meets.astype(U), vain=jnp.where(meets, U(0), s["vain"] + 1),
        )  # fmt: skip

    start = dict(free=jnp.ones(n + 1, U), met=jnp.full((most + 1, 2), n, U), draws=draws)
    start |= dict(pair=(U(n), U(n)), row=U(most), meetings=U(0), vain=U(0))
    s = lax.while_loop(looking, propose, start)
    met = s["met"].at[s["row"]].set(jnp.stack(s["pair"]))
    return met[:most], s["meetings"], s["draws"]
