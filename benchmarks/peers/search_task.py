"""What every timed search through fingerprints shares: how much is looked at, and what is found.

The arrays: `x` (n, d), `queries` (q, d), the row that each is a noisy copy of, `planted` (q,);
quantised, `centroids` (p, d), `codebooks` (m, k, s), `codes` (n, m), `partition` (n,).
Runs in each peer's own environment: standard library and NumPy only.
"""

import numpy as np

K = 200  # neighbours of each query
TOUCH = 0.02  # share of the database that is looked at
FEW = 24  # queries that are compared with all fingerprints as they are


def probes(queries: np.ndarray, centroids: np.ndarray, partition: np.ndarray) -> int:
    """How many of the nearest partitions are TOUCH of the database, for the average query."""
    members = np.bincount(partition, minlength=len(centroids))
    near = np.argsort(np.square(centroids).sum(1) - 2 * queries @ centroids.T)
    share = members[near].cumsum(1).mean(0) / len(partition)
    return int(np.abs(share - TOUCH).argmin()) + 1


def found(rows: np.ndarray, planted: np.ndarray) -> float:
    """Share of the queries whose own fingerprint is among the rows (q, k)."""
    rows = np.asarray(rows)
    return (rows == planted[: len(rows), None]).any(1).mean()
