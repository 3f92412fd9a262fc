"""What timed processes are given: arrays in the folder that the benchmark names first.

Runs in each peer's own environment: standard library and NumPy only.
"""

import sys
from pathlib import Path

import numpy as np


class Mapped:
    """Arrays in files of their own, read when they are asked for: `.x` is that of x.npy."""

    def __init__(self, folder: str | None = None):
        self.folder = Path(folder or sys.argv[1])

    def __getattr__(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="c")


class Packed:
    """Arrays in one file, all read at once: `.x` is x in NAME.npz."""

    def __init__(self, name: str):
        with np.load(Path(sys.argv[1]) / f"{name}.npz") as arrays:
            vars(self).update(arrays)


def mean_size(x: np.ndarray) -> str:
    """The mean size of numbers, to three digits: alike for all who did the same."""
    return f"{float(np.abs(np.asarray(x, np.float64)).mean()):.2e}"
