"""What every timed music detector shares: a recording, a network, and the answers expected.

The arrays: `sound` (n,), 8 kHz, floats; `frames` (t, 32), its log-mel frames; `answers`, logits
that `detector_scan` gives for it. The network is in `detector.eqx`.
"""

import sys

import equinox as eqx
import jax
import numpy as np
from arrays import Mapped

from lib.nowplaying import detector, training

CLOSE = 1e-3  # logits that differ by less are the same answer


class Task(Mapped):
    """The arrays, the network, and what it says."""

    def __init__(self):
        super().__init__(sys.argv[1])
        model = detector.Detector(jax.random.key(0))
        like = detector.fold(model, training.fresh_statistics(model.scale))
        self.network = eqx.tree_deserialise_leaves(self.folder / "detector.eqx", like)

    def digest(self, logits: np.ndarray) -> str:
        """How many answers, if they are those expected."""
        logits, wanted = np.asarray(logits), np.asarray(self.answers)
        if logits.shape != wanted.shape:
            return f"{len(logits)} answers, not {len(wanted)}"
        off = float(np.abs(logits - wanted).max())
        return f"{len(wanted)} answers" if off < CLOSE else f"others, by {off:.2g}"
