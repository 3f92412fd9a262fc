"""What every timed process that plays games shares: the task, the rules' numbers, and the digest.

Runs in each peer's own environment: standard library and NumPy only.
"""

import numpy as np
from arrays import Packed

CHECKED = 64  # games whose totals are compared; a slow row plays no others
PAYOFF = np.float32([1, -1, 2, 0])  # CC, CD, DC, DD, the player's own action first
SWAPPED = np.array([0, 1, 3, 2, 4])  # s0, CC, CD, DC, DD as the other player sees them


class Task(Packed):
    """Random numbers (steps, draws, games), policies as logits, and where games begin."""

    def __init__(self):
        super().__init__("games")


def digest(totals: np.ndarray) -> str:
    """Totals of the first games, of each kind in a row: alike for all who played the same."""
    return " ".join(f"{total:.0f}" for total in np.asarray(totals)[:, :CHECKED].sum(1))
