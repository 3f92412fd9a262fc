"""Pictures and boxes in NumPy and SciPy: `plain_actionbert.py FOLDER drawing|boxes`."""

import sys

import numpy as np
from actionbert_task import SIZE, Task
from arrays import mean_size
from meter import Meter
from scipy.ndimage import map_coordinates

CHUNK = 2048
task = Task()


def draw():
    """Glyphs by the distance of each pixel from the strokes, and their oriented gradients."""
    every = np.arange(len(task.scale))
    parts = np.split(every, range(CHUNK, len(every), CHUNK))
    return np.concatenate([features(paint(part)) for part in parts])


def paint(which):
    middle = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    pixels = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
    cos, sin = np.cos(task.rotation[which]), np.sin(task.rotation[which])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    ends = task.strokes[which].reshape(-1, 5, 2, 2) - np.float32(0.5)
    ends = np.einsum("nij,nkej->nkei", turn, ends) * task.scale[which][:, None, None, None]
    ends = ends + np.float32(0.5) + task.shift[which][:, None, None, :]
    nearest = np.full((len(which), SIZE * SIZE), 9, np.float32)
    for k in range(5):
        first, along = ends[:, k, None, 0], (ends[:, k, 1] - ends[:, k, 0])[:, None]
        off = pixels[None] - first
        length = np.maximum((along * along).sum(-1), 1e-6)
        share = np.clip((off * along).sum(-1) / length, 0, 1)[..., None]
        off = off - share * along
        nearest = np.minimum(nearest, (off * off).sum(-1))
    ink = np.clip(1.2 - np.sqrt(nearest) / task.thickness[which][:, None], 0, 1)
    return np.round(255 * ink).reshape(-1, SIZE, SIZE)


def features(x):
    dx, dy = np.zeros_like(x), np.zeros_like(x)
    dx[:, :, 1:-1], dy[:, 1:-1] = x[:, :, 2:] - x[:, :, :-2], x[:, 2:] - x[:, :-2]
    length, turn = np.sqrt(dx * dx + dy * dy), np.mod(np.arctan2(dy, dx), np.pi)
    turn = np.minimum((turn / np.pi * 4).astype(int), 3)
    planes = [length * (turn == k) for k in range(4)]
    parts = [p.reshape(-1, 4, 4, 4, 4).sum((2, 4)).reshape(-1, 16) for p in [*planes, x / 16]]
    found = np.sqrt(np.concatenate(parts, 1) / 255)
    found = found - found.mean(1, keepdims=True)
    return found / (found.std(1, keepdims=True) + 1e-3)


def cut():
    """One box at a time."""
    parts = (np.arange(SIZE) + 0.5) / SIZE
    found = []
    for x0, y0, x1, y1 in task.boxes:
        at = np.meshgrid(y0 + (y1 - y0) * parts - 0.5, x0 + (x1 - x0) * parts - 0.5, indexing="ij")
        found.append(
            np.stack(
                [
                    map_coordinates(task.image[..., c], at, order=1, mode="nearest")
                    for c in range(3)
                ],
                -1,
            )
        )
    return np.stack(found)


what = {"drawing": draw, "boxes": cut}[sys.argv[2]]
meter = Meter("scipy")
while meter.again(lambda: mean_size(what())):
    what()
