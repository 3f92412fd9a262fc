"""Times the search through fingerprints against NumPy and faiss, in CPU time.

python benchmarks/bench_nowplaying.py              a million; writes benchmarks/results/
python benchmarks/bench_nowplaying.py --quick      a hundred thousand; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from side_by_side import PEERS, Row, keep, measure, progress, show

from lib.nowplaying import search

sys.path.append(str(PEERS))
from search_task import FEW, TOUCH, K  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
SECONDS = 240  # fingerprints of a song
SONGS, PARTITIONS = 4000, 1024
FEWER, FEWER_PARTITIONS = 420, 256
QUERIES = 240
DIMENSIONS = 96
SEED = 0
DATA = "computed from a seed: random walks on the sphere, and noisy copies of their points"
UNIT = "ms of CPU a query"


def walks(songs: int) -> np.ndarray:
    """Songs (songs * SECONDS, DIMENSIONS): random walks, which prefer about forty dimensions."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((songs, SECONDS, DIMENSIONS), np.float32)
    x *= np.exp(-np.arange(DIMENSIONS) / 40).astype(np.float32)
    for t in range(1, SECONDS):
        x[:, t] = 0.5 * x[:, t - 1] + np.float32(np.sqrt(0.75)) * x[:, t]
    return normalised(x).reshape(-1, DIMENSIONS)


def normalised(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def prepare(folder: Path, songs: int, partitions: int) -> None:
    """The task of peers/search_task.py."""
    rng = np.random.default_rng(SEED + 1)
    progress(f"quantising {songs * SECONDS:,} fingerprints")
    x = walks(songs)
    planted = rng.integers(0, len(x), QUERIES)
    noise = rng.standard_normal((QUERIES, DIMENSIONS), np.float32) / np.float32(12)
    arrays = dict(x=x, planted=planted, queries=normalised(x[planted] + noise))
    arrays |= search.build(jax.random.key(SEED), x, partitions=partitions)._asdict()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def search_rows() -> list[Row]:
    """Who searches, each with its cost in milliseconds a query."""
    all_, some = QUERIES * 1e-3, FEW * 1e-3
    return [
        Row("This book", "book", ("ours_search.py", "blocks"), per=all_),
        Row("NumPy, partition by partition", "book", ("plain_search.py",), per=all_, peer=True),
        Row("faiss, our codes", "faiss", ("with_faiss.py", "ivfpq"), per=all_),
        Row("faiss, codes of 4 bits", "faiss", ("with_faiss.py", "fastscan"), True, all_),
        Row("This book, all, unquantised", "book", ("ours_search.py", "exact"), per=some),
        Row("faiss, all, unquantised", "faiss", ("with_faiss.py", "flat"), per=some),
    ]


def searching(quick: bool) -> None:
    """The search for the neighbours of one fingerprint."""
    songs, partitions = (FEWER, FEWER_PARTITIONS) if quick else (SONGS, PARTITIONS)
    rounds = 1 if quick else ROUNDS
    count = songs * SECONDS
    description = f"The {K} nearest of {count:,} fingerprints, looking at {TOUCH:.0%} of them"
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), songs, partitions)
        rows = measure(search_rows(), rounds, Path(name), "accuracy")
    show(description, UNIT, rows)
    if not quick:
        keep(f"nowplaying_search_{count}", description, UNIT, DATA, rounds, rows)


MEASURED = (searching,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer, to see that all works")
    quick = parser.parse_args().quick
    for compare in MEASURED:
        compare(quick)


if __name__ == "__main__":
    main()
