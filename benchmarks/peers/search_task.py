"""What every timed search through fingerprints shares: how much is found, and how it is told.

Runs in each peer's own environment: standard library and NumPy only.
"""

import numpy as np
from worker import Data

K = 200  # neighbours of each query
TOUCH = 0.02  # share of the database that is looked at
FEW = 24  # queries that are compared with all fingerprints as they are


class Task(Data):
    """`x` (n, d), `queries` (q, d), the row that each is a noisy copy of, `planted` (q,).

    Quantised: `centroids` (p, d), `codebooks` (m, k, s), `codes` (n, m), `partition` (n,).
    """

    @property
    def probes(self) -> int:
        """How many partitions are TOUCH of all."""
        return max(1, round(TOUCH * len(self.centroids)))


def found(rows: np.ndarray, planted: np.ndarray) -> float:
    """Share of the queries whose own fingerprint is among the rows (q, k)."""
    rows = np.asarray(rows)
    return (rows == planted[: len(rows), None]).any(1).mean()
