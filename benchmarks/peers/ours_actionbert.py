"""ActionBert in JAX: `ours_actionbert.py FOLDER step|drawing|boxes`."""

import sys

import jax
import numpy as np
from actionbert_task import BATCH, COMPONENTS, RATE, SIZE, Task
from arrays import mean_size
from meter import Meter

from lib.actionbert import boxes, drawing, model, objectives, training
from lib.actionbert.screens import Pairs

task, key = Task(), jax.random.key(0)
steps = 0


def step():
    """Ten steps of training on all three of the paper's objectives."""
    global state, steps
    steps += 10
    plan = training.Plan(10_000, rate=RATE, batch=BATCH, warm_up=0)
    loss = objectives.objective("paper")
    state = training.train(state, loss, seen, pairs, plan, key=key, until=steps).state
    return jax.block_until_ready(state.model)


def draw():
    pose = drawing.Pose(
        task.scale, task.rotation, task.shift, task.thickness, np.zeros(len(task.scale), bool)
    )
    return drawing.draw(task.strokes, pose, key, noise=0.0, size=SIZE).vision


def cut():
    return np.asarray(boxes.crop_and_resize(task.image, task.boxes, size=SIZE))


if __name__ == "__main__":
    what = {"step": step, "drawing": draw, "boxes": cut}[sys.argv[2]]
    present = np.ones((2 * BATCH, COMPONENTS), bool)
    seen = model.View(task.text, task.vision, task.position, present, task.screenshot)
    seen = model.View(*jax.device_put(tuple(seen)))
    number = np.arange(BATCH)
    pairs = Pairs(number, number + BATCH, number % COMPONENTS, number % 2 == 0)
    state = training.start(objectives.pretrainer(key, model.uni_stream(key)))
    meter = Meter("jax")
    while meter.again(lambda: mean_size(what())):
        what()
