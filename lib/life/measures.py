"""What is measured of a soup: its complexity, its tokens, and who can copy itself."""

from __future__ import annotations

from typing import NamedTuple

import brotli
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, UInt8, UInt64
from scipy.stats import entropy

from lib.life.interpret import run_tapes
from lib.life.languages import language
from lib.life.splitmix import counters, splitmix64
from lib.life.tape import STEPS, WIDTH

BRANCHES, GENERATIONS = 13, 5  # of the test for self-replication
OLDEST_BROTLI = (1, 1)


class Complexity(NamedTuple):
    """High-order entropy (Section 2.1), in bits a byte, and what it is made of."""

    compressed: int  # bytes
    order0: float  # Shannon entropy of single bytes
    high_order: float


def complexity(programs: UInt8[np.ndarray, "n 64"]) -> Complexity:
    """Entropy of the bytes minus compressed size: how much of the order is in their *sequence*.

    Random bytes give 0; many copies of one string give its entropy. The compressor is brotli at
    quality 2, as in the paper, on the programs in order of their number.

    Raises RuntimeError if brotli is older than 1.1, which compresses otherwise.
    """
    version = tuple(int(part) for part in brotli.__version__.split(".")[:2])
    if version < OLDEST_BROTLI:
        raise RuntimeError(f"brotli {brotli.__version__} is too old: install brotli>=1.1")
    data = np.ascontiguousarray(programs)
    compressed = len(brotli.compress(data.tobytes(), quality=2, lgwin=24))
    order0 = float(entropy(np.bincount(data.ravel(), minlength=256), base=2))
    return Complexity(compressed, order0, order0 - 8 * compressed / data.size)


def different_tokens(tokens: UInt64[Array | np.ndarray, "n 64"]) -> int:
    """How many different tokens a soup has: each byte its own at first, few after a takeover."""
    ordered = np.sort(np.asarray(tokens), axis=None)  # faster than np.unique's hashing
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def self_replication(
    programs: UInt8[np.ndarray, "n 64"],
    *,
    language_name: str = "bff_noheads",
    seed: int = 0,
) -> Integer[np.ndarray, " n"]:
    """How many bytes of each program come through five generations, 0 to 64.

    Each program meets random food in 13 branches. In each, what stands beside it afterwards is
    brought before the same food again, four times. A byte of the first half counts if at least
    four branches agree on it and on the program; one of the second half if four agree. The score is
    the lesser of the two counts. Five and more is called a replicator.
    """
    programs = np.asarray(programs, np.uint8)
    n, u = len(programs), jnp.uint64
    with jax.enable_x64(True):
        own = splitmix64(u(n * seed) + counters(n))
        places = splitmix64(counters((BRANCHES + 1) * WIDTH))[WIDTH:]
        food = splitmix64(own[:, None] ^ places[None]).astype(jnp.uint8).reshape(-1, WIDTH)
        parents = jnp.repeat(jnp.asarray(programs), BRANCHES, axis=0)
        for _ in range(GENERATIONS):
            tapes = jnp.concatenate([parents, food], axis=1)
            tapes, _, _ = run_tapes(tapes, language(language_name), steps=STEPS)
            parents = tapes[:, WIDTH:]
        tapes = np.asarray(tapes).reshape(n, BRANCHES, 2, WIDTH)
    least = BRANCHES // 4 + 1
    kept = (tapes[:, :, 0] == programs[:, None]).sum(1) >= least
    agree = (tapes[:, :, None, 1] == tapes[:, None, :, 1]).sum(2).max(1) >= least
    return np.minimum(kept.sum(1), agree.sum(1))
