"""Times a round of tag prediction, selecting against sending everything, in CPU seconds.

python benchmarks/bench_fedselect.py            everything; writes benchmarks/results/
python benchmarks/bench_fedselect.py --quick    one round of each; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
from side_by_side import PEERS, Row, keep, measure, show

from lib.fedselect import tags
from lib.fedselect.keys import distinct
from lib.fedselect.ledger import ledger

sys.path.append(str(PEERS))
from select_task import CAP, COHORT, M, rounds  # noqa: E402

ROUNDS = {1_000: 10, 10_000: 10, 100_000: 3}  # words: rounds timed, after one that compiles
TAGS, DOCUMENTS, AUTHORS = 220, 40_000, 1_500
LENGTH = 17  # words of a document that are drawn; fewer different ones
DATA = "computed from a seed: words by Zipf's law, in another order for each tag"

ROWS = [
    Row("This book, selecting", "book", ("ours_select.py", "select")),
    Row("This book, broadcast", "book", ("ours_select.py", "broadcast")),
    Row("Plain JAX, broadcast", "book", ("plain_jax_select.py",), peer=True),
    Row("SciPy, slices of the model", "book", ("plain_select.py", "slices"), peer=True),
    Row("SciPy, the whole model for each client", "book", ("plain_select.py", "whole"), peer=True),
]


def corpus(seed: int, vocabulary: int) -> tuple[np.ndarray, ...]:
    """Authors of few or many documents, each about some of the tags; the same for any size."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(1 / np.arange(1, AUTHORS + 1))
    author = np.searchsorted(shares / shares[-1], rng.random(DOCUMENTS))
    topic = (author + rng.integers(0, 3, DOCUMENTS)) % TAGS
    chance = np.cumsum(1 / np.arange(1, vocabulary + 1) ** 1.1)
    drawn = np.searchsorted(chance / chance[-1], rng.random((DOCUMENTS, LENGTH)))
    orders = np.stack([rng.permutation(vocabulary) for _ in range(TAGS)])
    words = [np.unique(orders[t, row]) for t, row in zip(topic, drawn, strict=True)]
    ends = np.cumsum([0, *map(len, words)])
    return np.concatenate(words), ends, topic, np.arange(DOCUMENTS + 1), author


def prepare(folder: Path, n: int) -> tuple[tags.Clients, str]:
    """Write the documents of all clients; return them, and what they are like, in words."""
    *columns, author = corpus(0, n)
    held_out = author % 5 == 4
    trained = ~held_out & (np.bincount(author)[author] >= 5)
    parts = [np.flatnonzero(trained), np.flatnonzero(held_out)[:4_000]]
    words = tags.most_frequent(*columns[:2], parts[0], n)
    clients, test = (
        tags.read_documents(*columns, author, part, words=words, n=n, tag_count=TAGS)
        for part in parts
    )
    clients = tags.group_clients(clients)
    np.savez(
        folder / "tags.npz", words=clients.words, tags=clients.tags, start=clients.start,
        data=clients.counts.data, indices=clients.counts.indices, indptr=clients.counts.indptr,
        shape=clients.counts.shape, test_words=test.words, test_tags=test.tags,
    )  # fmt: skip
    return clients, f"{len(clients.start) - 1} authors with {len(parts[0]):,} documents"


def megabytes_down(clients: tags.Clients, many: int) -> list[str]:
    """What goes down to all clients in the mean of the first rounds, by selection, by broadcast."""
    n, row = clients.counts.shape[1], 4 * TAGS
    selected = [keys for *_, keys in islice(rounds(clients), many)]
    mean = [
        np.mean([
            ledger(
                way, (keys < n).sum(1), space=n, distinct=distinct(keys, n), slice_bytes=row,
                shared_bytes=row,
            ).bytes_down
            for keys in selected
        ])
        for way in ("on_demand", "broadcast")
    ]  # fmt: skip
    return [f"{size / 1e6:,.1f} MB" for size in mean]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    quick = parser.parse_args().quick
    for n, timed in ROUNDS.items():
        many = 1 if quick else timed
        with tempfile.TemporaryDirectory() as name:
            clients, described = prepare(Path(name), n)
            selected, everything = megabytes_down(clients, 1 + many)
            description = (
                f"One round of tag prediction with {n:,} words: {selected} go to the clients if "
                f"they select, {everything} if all words are broadcast; {COHORT} of {described}, "
                f"{TAGS} tags, at most {M:,} keys and {CAP} documents a client, the cheapest of "
                f"{many} rounds"
            )
            results = measure(ROWS, many, Path(name), "digest")
            show(description, "CPU seconds", results)
            if not quick:
                keep(f"fedselect_n{n}", description, "CPU seconds", DATA, many, results)


if __name__ == "__main__":
    main()
