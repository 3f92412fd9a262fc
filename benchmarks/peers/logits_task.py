"""What every timed process of the logistic curves shares: the counts, and how fits are compared."""

import hashlib

import numpy as np
from arrays import Packed

CHECKED = 256  # fits that are compared, and all that a slow row does


class Task(Packed):
    """Levels `x` (L,), and for each fit the counts `k` of `n`, both (fits, L)."""

    def __init__(self):
        super().__init__("counts")


def digest(b0: np.ndarray, b1: np.ndarray) -> str:
    """A short name of the first fits to two decimals: the same for all who did the same work."""
    both = np.stack([np.asarray(b, float)[:CHECKED] for b in (b0, b1)])
    return hashlib.sha256((np.round(both, 2) + 0.0).tobytes()).hexdigest()[:16]
