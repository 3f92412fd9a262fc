"""What every timed process of ActionBert shares: the arrays, and how results are compared.

Runs in each peer's own environment: standard library and NumPy only.
"""

import numpy as np
from arrays import Packed

BATCH, COMPONENTS = 32, 10  # pairs, components of a screen
LENGTH = 5 + 4 * COMPONENTS  # tokens of a pair
WIDTH, LAYERS, HEADS = 64, 2, 4
SIZE = 16  # of crops
RATE = 1e-4


class Task(Packed):
    """What a network, a painter and a cutter of boxes are given."""

    def __init__(self):
        super().__init__("actionbert")


def arrays(seed: int, glyphs: int, boxes: int) -> dict[str, np.ndarray]:
    """The arrays of a task."""
    rng = np.random.default_rng(seed)
    shape = (2 * BATCH, COMPONENTS)
    ends = rng.uniform(-0.1, 0.7, (boxes, 2)) * (180, 320)
    sides = rng.uniform(0.05, 0.3, (boxes, 2)) * (180, 320)
    made = {
        "text": rng.normal(size=(*shape, 64)),
        "vision": rng.normal(size=(*shape, 80)),
        "position": rng.random((*shape, 9)),
        "screenshot": rng.normal(size=(2 * BATCH, 80)),
        "embedded": rng.normal(size=(BATCH, LENGTH, WIDTH)),
        "strokes": rng.uniform(0.1, 0.9, (glyphs, 5, 4)),
        "scale": rng.normal(0.95, 0.08, glyphs),
        "rotation": rng.normal(0, 0.08, glyphs),
        "shift": rng.normal(0, 0.03, (glyphs, 2)),
        "thickness": rng.uniform(0.06, 0.12, glyphs),
        "image": rng.random((320, 180, 3)),
        "boxes": np.concatenate([ends, ends + sides], 1),
    }
    return {name: array.astype(np.float32) for name, array in made.items()}
