"""What the chapter's figures and statistics are made of: births, kinship, colonies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Integer, UInt8, UInt64

from lib import recorded
from lib.life import z80
from lib.life.languages import Bff
from lib.life.measures import complexity, different_tokens, self_replication
from lib.life.soup import Soup, advance_all, plant, primordial, stack
from lib.life.tape import STEPS
from lib.life.watch import watch


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


KINDS = ("no-op", "heads", "arithmetic", "copies", "loops")


def kinds(programs: UInt8[np.ndarray, "*n 64"], language: Bff) -> Integer[np.ndarray, "*n 64"]:
    """What each byte is in a language of the Bff family, as an index of `KINDS`."""
    groups = ("", "<>{}", "+-", ".,⊲", "[]")
    kind = [next(k for k, g in enumerate(groups) if s in g) if s else 0 for s in language.symbols]
    return np.asarray(kind, np.uint8)[np.asarray(programs)]


def portrait(soup: Soup, language: Bff) -> dict[str, Any]:
    """What the paper's Figs. 1 and 2 show of a soup with tokens, and its first 96 programs.

    Shares of all: different tokens, pairs that ran to the limit of steps, zeros, and each kind.
    """
    programs = soup.in_order()
    counted = np.bincount(kinds(programs, language).ravel(), minlength=len(KINDS))
    return {
        "high_order": complexity(programs).high_order,
        "tokens": different_tokens(soup.tokens) / programs.size,
        "limit": (np.asarray(soup.steps) == STEPS).mean(),
        "zeros": (programs == 0).mean(),
        "kinds": counted / programs.size,
        "sample": programs[:96],
    }


def relatives(
    soup: Soup, tokens: UInt64[np.ndarray, " 64"], language_name: str, *, most: int = 128
) -> dict[str, Any]:
    """Programs that carry at least 16 of these tokens, and which of them can replicate.

    Of the `most` nearest: how many score 48 and more of 64 in `self_replication`, and the best.
    """
    carried = np.isin(np.asarray(soup.tokens), tokens).sum(1)
    nearest = np.argsort(-carried, kind="stable")[:most]
    kin = carried[nearest] >= 16
    candidates = np.where(kin[:, None], np.asarray(soup.programs)[nearest], 0).astype(np.uint8)
    score = np.where(kin, self_replication(candidates, language_name=language_name), 0)
    return {
        "kin": (carried >= 16).sum(),
        "able": (score >= 48).sum(),
        "best": candidates[score.argmax()],
    }


def colony(
    shape: tuple[int, int],
    seed: int,
    planted: UInt8[np.ndarray, " 64"],
    *,
    until: int,
    pairing: str = "grid",
) -> dict[str, np.ndarray]:
    """How nine copies of a replicator in the middle of a grid of (width, height) fare.

    Returns what was seen every 10 epochs (2 when well mixed, `pairing="shuffle"`): "epoch", and
    "like", the `resemblance` of each program with the planted one. A program is a copy if that is
    32 or more. It ends when half of all are copies, when none is, or at epoch `until`.
    """
    (width, height), near = shape, (-1, 0, 1)
    middle = width * (height // 2) + width // 2
    soup = primordial(seed, width * height)
    soup = plant(soup, planted, [middle + width * y + x for y in near for x in near])
    _, seen = watch(
        soup,
        until,
        every=10 if pairing == "grid" else 2,
        look=lambda soup: {"like": resemblance(soup.in_order(), planted)},
        stop=lambda last: not 0 < (last["like"] >= 32).mean() < 0.5,
        name=f"colony-{width}-{seed}-{pairing}",
        seed=seed,
        pairing=pairing,
        shape=shape if pairing == "grid" else None,
    )
    return seen


Z80_MUTATION = 256  # in 1024 meetings


class Succession(NamedTuple):
    """A soup of Z80 programs, seen every 100 batches."""

    pushes: list[float]  # share of the bytes that are a PUSH
    blocks: list[float]  # share of the programs that hold an LDIR or LDDR
    leader: list[bytes]  # the most frequent program
    count: list[int]  # how often it occurs


def z80_succession(seed: int, shape: tuple[int, int], *, noise: int, later: int) -> Succession:
    """A soup of Z80 programs from noise, and after twenty block copiers were planted (Fig. 12).

    `noise` and `later` are hundreds of batches.
    """
    soup, n, seen = z80.primordial(seed, shape), shape[0] * shape[1], Succession([], [], [], [])
    for hundred in range(noise + later):
        if hundred == noise:
            places = range(n // 40, n, max(n // 20, 1))
            soup = z80.plant(soup, z80.REPLICATORS["ldir"], places)
        soup = z80.advance(soup, 100, seed=seed, shape=shape, mutation=Z80_MUTATION)
        programs = np.asarray(soup.programs)
        block = (programs[:, :-1] == 0xED) & np.isin(programs[:, 1:], [0xB0, 0xB8])
        different, times = np.unique(programs, axis=0, return_counts=True)
        seen.pushes.append(float(np.isin(programs, [0xC5, 0xD5, 0xE5, 0xF5]).mean()))
        seen.blocks.append(float(block.any(1).mean()))
        seen.leader.append(different[times.argmax()].tobytes())
        seen.count.append(int(times.max()))
    return seen
