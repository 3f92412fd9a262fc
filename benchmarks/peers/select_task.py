"""The task of the benchmark of Federated Select: the same documents and rounds for all."""

import sys
from pathlib import Path

import numpy as np
from scipy import sparse

from lib.fedselect import tags

M, SEED, RATE, BATCH = 1_000, 0, 0.3, 16


def load() -> tuple[tags.Clients, tags.Documents]:
    """The clients and the test documents that the benchmark wrote."""
    with np.load(Path(sys.argv[1]) / "tags.npz") as file:
        counts = sparse.csr_array(
            (file["data"], file["indices"], file["indptr"]), shape=tuple(file["shape"])
        )
        clients = tags.Clients(file["words"], file["tags"], file["start"], counts)
        n = counts.shape[1]
        owner = np.zeros(len(file["test_words"]), np.int32)
        return clients, tags.Documents(file["test_words"], file["test_tags"], owner, n)


def rounds(clients):
    """Documents and keys of one round after the other, as this book draws them."""
    done = 0
    while True:
        x, y, count, who = tags.draw_round(clients, SEED, done, cohort=50, cap=128)
        rng = np.random.default_rng((SEED, done, 1))
        yield x, y, count, tags.select_words(rng, clients.counts[who], M, None)
        done += 1
