"""Times the gradient through learning, games and the recurrence against other ways, in CPU time.

python benchmarks/bench_cooperation.py              everything; writes benchmarks/results/
python benchmarks/bench_cooperation.py --quick      one round of each, small; writes nothing

A name of what is to be measured, such as "dilemma", leaves out the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from side_by_side import PEERS, Row, keep, measure, shortened, show

from lib.cooperation import cleanup

sys.path.append(str(PEERS))
from games_task import CHECKED  # noqa: E402
from shaping_task import EPISODES, REPEATS  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
SEED = 0
PAIRS = (512, 16)  # policies and learners at once
GAMES, STEPS, CLEANING = 2048, 200, 64  # games at once; steps of a dilemma, and of CleanUp-lite
JUDGED = 256  # games of STEPS that a network judges at once
LOGITS = "computed from a seed: normal logits of players and learners, discount 0.95"
NUMBERS = "computed from a seed: policies, random numbers, and where games begin"
SPEED = "million steps a second"


class Task(NamedTuple):
    """One table."""

    name: str
    description: str
    unit: str
    data: str
    arrays: dict[str, np.ndarray]
    file: str
    rows: list[Row]


def shaping(pairs: int) -> Task:
    """Who differentiates through the learning, in microseconds a pair."""
    per = pairs * REPEATS * 1e-6

    def plain(name, way):
        return Row(name, "book", ("plain_shaping.py", way), per=per, peer=True)

    rows = [
        Row("This book: blocks, the slope in closed form", "book", ("ours_shaping.py",), per=per),
        plain("PAX's way: linalg.inv, grad of grad", "inv"),
        plain("linalg.solve, grad of grad", "solve"),
        plain("Elimination written out, grad of grad", "eliminate"),
        Row("PyTorch, autograd of autograd", "torch", ("plain_torch_shaping.py",), per=per),
    ]
    logits = np.random.default_rng(SEED).normal(size=(2, pairs, 5)).astype(np.float32)
    text = f"The gradient through {EPISODES} steps of a naive learner, {pairs} at once"
    arrays = dict(player=logits[0], learner=logits[1])
    return Task(f"shaping_{pairs}", text, "µs of CPU a pair", LOGITS, arrays, "shaping", rows)


def dilemma(games: int) -> Task:
    """Who plays the prisoner's dilemma, in nanoseconds a step of one game."""
    rng = np.random.default_rng(SEED)
    uniform = rng.random((STEPS, 2, games), np.float32)
    arrays = dict(uniform=uniform, players=rng.normal(size=(2, 5)).astype(np.float32))
    text = f"{games:,} prisoner's dilemmas of {STEPS} steps, two tables of the last step"
    rows = [
        Row("This book, all games at once", "book", ("ours_games.py", "dilemma")),
        played("NumPy, all games at once", "dilemma", "numpy"),
        played("Python, game after game", "dilemma", "python"),
    ]
    return Task(
        "dilemma", text, "ns of CPU a step", NUMBERS, arrays, "games", by_step(rows, games, STEPS)
    )


def cleaning(games: int) -> Task:
    """Who plays CleanUp-lite, in nanoseconds a step of one game."""
    uniform = np.random.default_rng(SEED).random((CLEANING, 8, games), np.float32)
    start = cleanup.reset(jax.random.key(SEED), games)
    arrays = dict(uniform=uniform) | {k: np.asarray(v) for k, v in start._asdict().items()}
    text = f"{games:,} games of CleanUp-lite of {CLEANING} steps, random actions"
    rows = [
        Row("This book, all games at once", "book", ("ours_games.py", "cleanup")),
        Row("This book, with what players see", "book", ("ours_games.py", "seen")),
        played("NumPy, all games at once", "cleanup", "numpy"),
        played("NumPy, with what players see", "seen", "numpy"),
        played("Python, game after game", "cleanup", "python"),
    ]
    return Task(
        "cleanup",
        text,
        "ns of CPU a step",
        NUMBERS,
        arrays,
        "games",
        by_step(rows, games, CLEANING),
    )


def recurrence(kind: str, games: int) -> Task:
    """Who differentiates the recurrent policy on whole games, in nanoseconds a step of one game."""
    rng = np.random.default_rng(SEED)
    arrays = dict(
        symbols=rng.integers(0, 5, (STEPS, games)).astype(np.int32),
        vectors=rng.integers(0, 2, (STEPS, games, cleanup.WIDTH)).astype(np.float32),
        action=rng.integers(0, 6, (STEPS, games)).astype(np.int32),
    )
    program = ("ours_recurrence.py", kind)
    rows = [
        Row("This book: step after step (scan)", "book", (*program, "scan")),
        Row("A tree of products (associative_scan)", "book", (*program, "associative"), peer=True),
    ]
    seen = "five symbols" if kind == "symbols" else f"vectors of {cleanup.WIDTH} numbers"
    text = f"A gradient of the recurrent policy of width 32 that sees {seen}, {games} games"
    rows = by_step(rows, games, STEPS)
    unit = "ns of CPU a step"
    return Task(f"recurrence_{kind}", text, unit, NUMBERS, arrays, "games", rows)


def played(name: str, game: str, way: str) -> Row:
    """A peer that plays games; one that plays game after game plays CHECKED of them."""
    return Row(name, "book", ("plain_games.py", game, way), peer=True)


def by_step(rows: list[Row], games: int, steps: int) -> list[Row]:
    """The rows, with their cost by steps of one game in nanoseconds."""
    counts = [CHECKED if row.program[-1] == "python" else games for row in rows]
    return [row._replace(per=n * steps * 1e-9) for row, n in zip(rows, counts, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="what to measure; everything if none is named")
    parser.add_argument("--quick", action="store_true", help="few games, to see that all works")
    given = parser.parse_args()
    rounds, games = (1, CHECKED) if given.quick else (ROUNDS, GAMES)
    tasks = [shaping(pairs) for pairs in (PAIRS[-1:] if given.quick else PAIRS)]
    tasks += [dilemma(games), cleaning(games)]
    tasks += [recurrence(kind, min(JUDGED, games)) for kind in ("symbols", "vectors")]
    known = {task.name.split("_")[0] for task in tasks}
    if unknown := set(given.names) - known:
        parser.error(f"{', '.join(sorted(unknown))}: use some of {', '.join(sorted(known))}")
    for task in tasks:
        if given.names and task.name.split("_")[0] not in given.names:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(folder / f"{task.file}.npz", **task.arrays)
            results = measure(task.rows, rounds, folder, "digest")
        for row in results:
            if row["value"] and task.file == "games":
                row["more"] = {SPEED: shortened(1e3 / row["value"])}
        show(task.description, task.unit, results)
        if not given.quick:
            name = f"cooperation_{task.name}"
            keep(name, task.description, task.unit, task.data, rounds, results)


if __name__ == "__main__":
    main()
