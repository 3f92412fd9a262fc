"""What every timed process of the mesa-layer shares: the arrays, and how results are compared.

Runs in each peer's own environment: standard library and NumPy only.
"""

from arrays import Packed


class Task(Packed):
    """Queries and keys (N, T, d), values and a direction for gradients alike, lam (N,)."""

    def __init__(self):
        super().__init__("mesa")
