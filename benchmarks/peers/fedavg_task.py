"""What every timed federation shares: its size, its data, and who takes part in a round.

The arrays: `x` (K, 600, ...), images of bytes, with labels `y`; `test_x` and `test_y`. The weights
that all start from are in `twonn.npz` and `cnn.npz`.
Runs in each peer's own environment: standard library and NumPy only.
"""

import numpy as np
from arrays import Mapped

CLIENTS = 100  # K
CHOSEN = 10  # C K
BATCH = 10  # B
LR = 0.1  # eta
CNN_STEPS = 4  # local steps of the convolutional network that are timed together


class Task(Mapped):
    """The federation, a test set, and the weights."""

    def weights(self, network: str) -> list[np.ndarray]:
        """Weights and biases of "twonn" or "cnn", layer by layer, weights as (inputs, outputs)."""
        with np.load(self.folder / f"{network}.npz") as arrays:
            return [arrays[name] for name in arrays.files]


def flat(x: np.ndarray) -> np.ndarray:
    """Images of bytes as rows of floats in 0..1."""
    return (x.reshape(-1, 784) / 255).astype(np.float32)


def choose(rng: np.random.Generator) -> np.ndarray:
    """The clients of a round."""
    return rng.choice(CLIENTS, CHOSEN, replace=False)
