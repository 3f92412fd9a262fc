"""What every timed process of the soups shares: the soup, and how its results are compared."""

import hashlib
import sys

import numpy as np
from arrays import Packed

CHECKED = 256  # pairs whose bytes are compared, however many a row runs
EPOCHS = 16  # of which the first two are not timed


class Task(Packed):
    """A soup at the start of an epoch, and the tapes of that epoch, paired and mutated.

    `programs` and `tokens` are ordered by program number; `order` says which number each half of a
    row of `tapes` and `token_tapes` has.
    """

    def __init__(self):
        super().__init__(sys.argv[2])
        self.epoch, self.seed = int(self.epoch), int(self.seed)


def digest(tapes: np.ndarray) -> str:
    """A short name of the first tapes after they ran: the same for all who did the same work."""
    tapes = np.ascontiguousarray(np.asarray(tapes).reshape(-1, 128)[:CHECKED])
    return hashlib.sha256(tapes.tobytes()).hexdigest()[:16]
