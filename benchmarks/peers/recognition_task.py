"""What every timed recogniser shares: the clips, and what it tells about itself.

The arrays: `songs` (n, samples), 8 kHz, int16, which are on file; `clips` (levels, q, samples),
int16, as a phone hears them at SNRS; `truth` (q,), the songs that they are from.
Runs in each peer's own environment: standard library and NumPy only.
"""

import sys
from collections.abc import Callable

import numpy as np
from arrays import Mapped

SNRS = (-6, 0, 6, 12)  # dB
TIMED = 10  # clips of each level that a round asks about
RATE = 8000  # samples a second
CLIP = 8  # s, how long clips are


class Task(Mapped):
    """The arrays, and what comes of them."""

    def __init__(self):
        super().__init__(sys.argv[1])

    def timed(self) -> list[np.ndarray]:
        """The clips of a round."""
        return list(np.concatenate(self.clips[:, :TIMED]))

    def told(
        self, name: Callable[[list[np.ndarray]], np.ndarray], per_songs: float, besides: float
    ) -> dict[str, float]:
        """How many songs are named rightly, and bytes: of the songs on file, and what they need."""
        right = [100 * np.mean(name(list(clips)) == self.truth) for clips in self.clips]
        seconds = self.songs.size / RATE
        return {f"% named at {snr:+d} dB": float(x) for snr, x in zip(SNRS, right, strict=True)} | {
            "bytes a second of music": per_songs / seconds,
            "kB of these songs": per_songs / 1000,
            "kB besides": besides / 1000,
        }
