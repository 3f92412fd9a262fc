"""The task of the benchmark of Federated Select: the same documents and rounds for all."""

import sys
from pathlib import Path

import numpy as np
from scipy import sparse

from lib.fedselect import tags
from lib.fedselect.keys import local_ids

M, SEED, RATE, BATCH = 1_000, 0, 0.3, 16
COHORT, CAP = 50, 128


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
        x, y, count, who = tags.draw_round(clients, SEED, done, cohort=COHORT, cap=CAP)
        rng = np.random.default_rng((SEED, done, 1))
        yield x, y, count, tags.select_words(rng, clients.counts[who], M, None)
        done += 1


def without_unselected(x, keys, n):
    """The documents with n in place of each word that their client did not select."""
    return np.where(local_ids(x, keys, n) < keys.shape[1], x, n).astype(np.int32)


def digest(weights, bias, test) -> str:
    """The logistic loss on the test documents, summed over tags: finer than any count of hits."""
    scores = test.bags @ np.asarray(weights) + np.asarray(bias)
    loss = np.logaddexp(0, np.where(test.tags, -scores, scores)).sum(1).mean(dtype=float)
    return f"{loss:.4g}"
