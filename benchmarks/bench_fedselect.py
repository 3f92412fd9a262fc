"""Times a round of tag prediction with Federated Select, side by side, in CPU seconds.

python benchmarks/bench_fedselect.py            everything; writes benchmarks/results/
python benchmarks/bench_fedselect.py --quick    one round of each; writes nothing
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import Row, keep, measure, show

from lib.fedselect import tags

ROUNDS = 10  # timed, after a first one that compiles
WORDS, TAGS, DOCUMENTS, AUTHORS = 17_983, 220, 40_000, 1_500
LENGTH = 17  # words of a document that are drawn; fewer different ones
DATA = "computed from a seed: words by Zipf's law, in another order for each tag"

ROWS = [
    Row("This book", "book", ("ours_select.py",)),
    Row("SciPy, slices of the model", "book", ("plain_select.py", "slices"), peer=True),
    Row("SciPy, the whole model for each client", "book", ("plain_select.py", "whole"), peer=True),
]


def corpus(seed: int) -> tuple[np.ndarray, ...]:
    """Authors of few or many documents, each about some of the tags."""
    rng = np.random.default_rng(seed)
    orders = np.argsort(rng.random((TAGS, WORDS)), 1)
    chance = np.cumsum(1 / np.arange(1, WORDS + 1) ** 1.1)
    shares = np.cumsum(1 / np.arange(1, AUTHORS + 1))
    author = np.searchsorted(shares / shares[-1], rng.random(DOCUMENTS))
    topic = (author + rng.integers(0, 3, DOCUMENTS)) % TAGS
    drawn = np.searchsorted(chance / chance[-1], rng.random((DOCUMENTS, LENGTH)))
    words = [np.unique(orders[t, row]) for t, row in zip(topic, drawn, strict=True)]
    ends = np.cumsum([0, *map(len, words)])
    return np.concatenate(words), ends, topic, np.arange(DOCUMENTS + 1), author


def prepare(folder: Path) -> str:
    """Write the documents of all clients; return what they are like, in words."""
    *columns, author = corpus(0)
    train, held_out = tags.split_clients(author, seed=0)
    parts = [np.flatnonzero(np.isin(author, part)) for part in (train, held_out)]
    words = tags.most_frequent(*columns[:2], parts[0], WORDS)
    clients, test = (
        tags.read_documents(*columns, author, part, words=words, n=WORDS, tag_count=TAGS)
        for part in (parts[0], parts[1][:4_000])
    )
    clients = tags.group_clients(clients)
    np.savez(
        folder / "tags.npz", words=clients.words, tags=clients.tags, start=clients.start,
        data=clients.counts.data, indices=clients.counts.indices, indptr=clients.counts.indptr,
        shape=clients.counts.shape, test_words=test.words, test_tags=test.tags,
    )  # fmt: skip
    return f"{len(train)} authors with {len(parts[0]):,} documents"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    quick = parser.parse_args().quick
    rounds = 1 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        described = prepare(folder)
        description = (
            f"One round of tag prediction: 50 of {described}, {WORDS:,} words, {TAGS} tags, at "
            "most 1,000 keys and 128 documents a client"
        )
        results = measure(ROWS, rounds, folder, "accuracy")
        show(description, "CPU seconds", results)
        if not quick:
            keep("fedselect_round", description, "CPU seconds", DATA, rounds, results)


if __name__ == "__main__":
    main()
