"""What the chapter's statistics count: when soups come alive, who resembles whom."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Integer, UInt8

from lib import recorded
from lib.life.measures import complexity
from lib.life.soup import advance_all, plant, primordial, stack


def transitions(
    seeds: Sequence[int],
    n: int,
    *,
    until: int,
    every: int = 16,
    threshold: float = 1.0,
    planted: UInt8[np.ndarray, " 64"] | None = None,
    side_by_side: int = 1,
    mesh: Mesh | None = None,
    **setting: Any,
) -> list[int | None]:
    """For each seed the epoch at which a soup of `n` programs comes alive; None if it does not.

    A soup is alive once its high-order entropy, measured every `every` epochs, has reached
    `threshold` (bits a byte; the paper's figures use 1). It is watched for `until` epochs.
    `planted` is written over program 0 before the first. `side_by_side` soups run together, which
    pays on a GPU; `setting` goes to `advance_all`. While a chapter runs, finished groups of seeds
    are kept.

    Raises ValueError if `every` or `side_by_side` is not positive, and what `advance_all` raises.
    """
    if every < 1 or side_by_side < 1:
        raise ValueError(f"every={every} and side_by_side={side_by_side} must be at least 1")

    def group(seeds: Sequence[int]) -> dict:
        soups = [primordial(seed, n) for seed in seeds]
        if planted is not None:
            soups = [plant(soup, planted, [0]) for soup in soups]
        soups, epoch, found = stack(soups), 0, dict.fromkeys(range(len(seeds)))
        while epoch < until and None in found.values():
            steps = min(every, until - epoch)
            soups = advance_all(soups, steps, seeds=seeds, mesh=mesh, **setting)
            epoch += steps
            for k in [k for k, before in found.items() if before is None]:
                one = jax.tree.map(lambda part, k=k: part[k], soups)
                if complexity(one.in_order()).high_order >= threshold:
                    found[k] = epoch
        return {"epochs": list(found.values())}

    which = (n, until, every, threshold, sorted(setting.items()))
    digest = hashlib.sha256(repr(which).encode())
    digest.update(b"" if planted is None else np.asarray(planted).tobytes())
    epochs: list[int | None] = []
    for start in range(0, len(seeds), side_by_side):
        mine = [int(seed) for seed in seeds[start : start + side_by_side]]
        name = f"transitions-{mine[0]}-{mine[-1]}-{digest.hexdigest()[:12]}"
        epochs += recorded.resumable(name, lambda mine=mine: group(mine))["epochs"]
    return epochs


def resemblance(
    programs: UInt8[np.ndarray, "n 64"], program: UInt8[np.ndarray, " 64"]
) -> Integer[np.ndarray, " n"]:
    """How many bytes of each program are those of `program` or of its mirror image, 0 to 64."""
    programs, program = np.asarray(programs), np.asarray(program)
    same, mirrored = ((programs == way).sum(1) for way in (program, program[::-1]))
    return np.maximum(same, mirrored)
