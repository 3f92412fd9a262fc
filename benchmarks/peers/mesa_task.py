"""What every timed process of the mesa-layer shares: the arrays, and how results are compared.

Runs in each peer's own environment: standard library and NumPy only.
"""

import sys
from pathlib import Path

import numpy as np


class Task:
    """Queries and keys (N, T, d), values and a direction for gradients alike, lam (N,)."""

    def __init__(self):
        with np.load(Path(sys.argv[1]) / "mesa.npz") as arrays:
            vars(self).update(arrays)


def digest(dk: np.ndarray) -> str:
    """The size of the gradient of the keys, to three digits: alike for all who did the same."""
    return f"{float(np.abs(np.asarray(dk)).mean()):.2e}"
