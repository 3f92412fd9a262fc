"""Times the soups of programs against the authors' program and plain JAX, in CPU time.

python benchmarks/bench_life.py              everything; writes benchmarks/results/
python benchmarks/bench_life.py --quick      one round of each, on a small soup; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import PEERS, Row, keep, measure, show

from lib import life

sys.path.append(str(PEERS))
from soups_task import CHECKED, EPOCHS  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
PROGRAMS, REPLICATORS = 2**17, 2**13  # in the random soup, and in the one with replicators
SEED = 1  # of the random soup
PLANTED, PLANTED_SEED = 32, 0  # copies of the replicator; one alone mostly dies out
FULL = 2.0  # complexity at which replicators rule the soup
DATA = "computed from a seed"


def palindrome() -> np.ndarray:
    """The hand-made replicator of Fig. 4, which copies itself backwards; its halves far apart."""
    half = b"[[{.>]-]"
    return np.frombuffer(half + b" " * (64 - 2 * len(half)) + half[::-1], np.uint8)


def taken_over(n: int) -> life.Soup:
    """A soup after the transition, at an epoch that EPOCHS divides.

    Raises RuntimeError if the replicators do not win.
    """
    soup = life.primordial(PLANTED_SEED, n, tokens=True)
    soup = life.plant(soup, palindrome(), range(0, n, n // PLANTED))
    for _ in range(1024 // EPOCHS):
        soup = life.advance(soup, EPOCHS, seed=PLANTED_SEED)
        if life.complexity(soup.in_order()).high_order > FULL:
            return soup
    raise RuntimeError(f"the replicators have not taken over after {int(soup.epoch)} epochs")


def prepare(folder: Path, name: str, soup: life.Soup, seed: int) -> str:
    """Write the task of peers/soups_task.py; return what the soup is like, in words."""
    soup = life.Soup(*(np.asarray(part) for part in soup))
    by_number = np.argsort(soup.where)
    with jax.enable_x64(True):
        soup = soup._replace(
            programs=jnp.asarray(soup.programs[by_number]),
            tokens=jnp.asarray(soup.tokens[by_number]),
            where=jnp.arange(len(by_number), dtype=jnp.uint32),
        )
    met = life.advance(soup, 1, seed=seed, steps=0)  # paired and mutated, but not run
    np.savez(
        folder / name, programs=soup.programs, tokens=soup.tokens, epoch=soup.epoch, seed=seed,
        tapes=np.reshape(met.programs, (-1, 128)), token_tapes=np.reshape(met.tokens, (-1, 128)),
        order=met.where,
    )  # fmt: skip
    steps = float(np.mean(life.advance(soup, 1, seed=seed).steps))
    return f"{len(by_number):,} programs at epoch {int(soup.epoch)}, {steps:.0f} steps a pair"


def pair_rows(soup: str, n: int) -> list[Row]:
    """Who interprets the tapes, each with its cost in microseconds a pair."""
    pairs, millionth = n // 2, 1e-6
    whole, some, timed = pairs * millionth, CHECKED * millionth, (EPOCHS - 1) * pairs * millionth

    def ours(name, *words, per):
        return Row(name, "book", ("ours_life.py", soup, *words), per=per)

    def plain(name, *words, per):
        return Row(name, "book", ("plain_life.py", soup, *words), per=per, peer=True)

    return [
        ours("This book", "tapes", "bytes", per=whole),
        ours("This book, with tokens", "tapes", "tokens", per=whole),
        ours("This book, whole epochs", "epochs", "bytes", per=timed),
        Row("The authors' cubff, whole epochs", "cubff", ("with_cubff.py", soup), per=timed),
        plain("Plain JAX, tape after tape", "loop", per=whole),
        plain("Plain JAX, side by side (vmap)", "vmap", str(CHECKED), per=some),
    ]


def epoch_rows(soup: str) -> list[Row]:
    """Who does whole epochs, each with its cost in milliseconds."""
    timed = (EPOCHS - 1) * 1e-3
    ours = ("ours_life.py", soup, "epochs")
    return [
        Row("This book", "book", (*ours, "bytes"), per=timed),
        Row("This book, with tokens", "book", (*ours, "tokens"), per=timed),
        Row("The authors' cubff", "cubff", ("with_cubff.py", soup), per=timed),
        Row("Plain JAX", "book", ("plain_life.py", soup, "epoch"), per=1e-3, peer=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small soup, to see that all works")
    quick = parser.parse_args().quick
    n, rounds = (2**13, 1) if quick else (PROGRAMS, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = prepare(folder, "random", life.primordial(SEED, n, tokens=True), SEED)
        full = prepare(folder, "replicators", taken_over(REPLICATORS), PLANTED_SEED)
        plan = [
            ("life_random", f"A pair in a random soup: {random}", "µs of CPU a pair",
             pair_rows("random", n)),
            ("life_replicators", f"A pair in a soup of replicators: {full}", "µs of CPU a pair",
             pair_rows("replicators", REPLICATORS)),
            ("life_epoch", f"An epoch of a random soup, with all its random numbers: {random}",
             "ms of CPU an epoch", epoch_rows("random")),
        ]  # fmt: skip
        for name, description, unit, rows in plan:
            work = folder / name
            work.mkdir()
            for task in folder.glob("*.npz"):
                (work / task.name).hardlink_to(task)
            results = measure(rows, rounds, work, "digest")
            show(description, unit, results)
            if not quick:
                keep(name, description, unit, DATA, rounds, results)


if __name__ == "__main__":
    main()
