"""The random numbers of the reference program, so that soups can be compared bit for bit.

Everything is SplitMix64 (Steele, Lea and Flood, 2014) of a counter: no state, and any number can be
computed on its own. 64-bit integers are switched on inside these functions only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, UInt8, UInt32, UInt64

from lib.life.tape import WIDTH


def splitmix64(x: UInt64[Array, "..."]) -> UInt64[Array, "..."]:
    """One output of SplitMix64 for each counter, mod 2^64; needs `jax.enable_x64`."""
    u = jnp.uint64
    z = x + u(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u(30))) * u(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u(27))) * u(0x94D049BB133111EB)
    return z ^ (z >> u(31))


def subseed(seed: UInt64[Array, ""], x: UInt64[Array, "..."]) -> UInt64[Array, "..."]:
    """The seed of purpose `x` in a run with this seed."""
    return splitmix64(splitmix64(seed) ^ splitmix64(x))


def counters(n: int) -> UInt64[Array, " n"]:
    return jnp.arange(n, dtype=jnp.uint64)


def random_programs(seed: UInt64[Array, ""], n: int) -> UInt8[Array, "n 64"]:
    """The soup before the first epoch: each byte uniform."""
    u = jnp.uint64
    first = u(WIDTH * n) * subseed(seed, u(0))
    return splitmix64(first + counters(n * WIDTH)).astype(jnp.uint8).reshape(n, WIDTH)


def shuffled_places(
    seed: UInt64[Array, ""], epoch: UInt64[Array, ""], n: int
) -> UInt32[Array, " n"]:
    """Where each program stands in this epoch's random order: its row's half is its pair.

    The reference program shuffles downwards (Fisher and Yates); going upwards over the same random
    numbers gives the inverse permutation, which is the one that a scatter wants.
    """
    u = jnp.uint64
    index = counters(n)
    draws = splitmix64(subseed(seed, epoch * u(n) + index))
    swap = (draws % (index + u(1))).astype(jnp.uint32)
    in_turn = jax.default_backend() == "cpu"
    return _exchange_in_turn(swap) if in_turn else _exchange_at_once(swap)


def _exchange_in_turn(swap: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """The inverse of "for i from n - 1 down to 0: exchange i and swap[i]", in one native loop."""
    n = len(swap)

    def exchange(i, carry):  # the write of a step is done at the top of the next: no copies
        places, at, value = carry
        places = lax.dynamic_update_slice(places, value[None], (at,))
        j = lax.dynamic_slice(swap, (i,), (1,))[0]
        other = lax.dynamic_slice(places, (j,), (1,))[0]
        places = lax.dynamic_update_slice(places, other[None], (i,))
        return places, j, i.astype(jnp.uint32)

    first = (jnp.zeros(n, jnp.uint32), jnp.uint32(0), jnp.uint32(0))
    places, at, value = lax.fori_loop(jnp.uint32(0), jnp.uint32(n), exchange, first)
    return lax.dynamic_update_slice(places, value[None], (at,))


def _exchange_at_once(swap: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """The same without a loop over the programs, for a GPU.

    Step i puts into i what lies at swap[i]: the program that the step before it which also swapped
    with that place has left there, or the place's own. So the programs travel along chains, each
    link from a step k to the first step after it (downwards: the next larger) that swapped with k.
    """
    n = len(swap)
    index = jnp.arange(n, dtype=jnp.uint32)
    order = jnp.argsort(swap, stable=True)
    by_swap = swap[order]
    same = jnp.append(by_swap[1:] == by_swap[:-1], False)
    following = (
        jnp.zeros(n, jnp.uint32)
        .at[order]
        .set(jnp.where(same, jnp.roll(order, -1).astype(jnp.uint32), n))
    )  # the next larger step that swapped with the same place; n: none
    # the first step above k that swapped with place k, k itself not counted
    first = jnp.searchsorted(by_swap, index, side="left")
    found = (first < n) & (by_swap[jnp.minimum(first, n - 1)] == index)
    head = jnp.where(found, order[jnp.minimum(first, n - 1)].astype(jnp.uint32), n)
    head = jnp.where(head == index, following[index], head)
    link = jnp.where(head < n, head, index)
    for _ in range(max(n.bit_length(), 1)):
        link = link[link]
    own = jnp.where(swap == index, index, jnp.where(following < n, following, n))
    left = jnp.where(own < n, link[jnp.minimum(own, n - 1)], swap)
    return jnp.zeros(n, jnp.uint32).at[left].set(index)


def mutations(
    seed: UInt64[Array, ""], epoch: UInt64[Array, ""], n: int, rate: UInt64[Array, ""]
) -> tuple[UInt8[Array, "pairs 128"], jax.Array]:
    """New bytes for all tapes of an epoch, and where they replace the old: `rate` in 2^30."""
    u = jnp.uint64
    first = u(n) * subseed(seed, epoch) * u(2 * WIDTH)
    r = splitmix64(first + counters(n * WIDTH)).reshape(n // 2, 2 * WIDTH)
    return r.astype(jnp.uint8), (r >> u(8)) & u(2**30 - 1) < rate
