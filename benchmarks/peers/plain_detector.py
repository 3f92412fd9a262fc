"""The detector without memory: each answer from its whole window, as one would first write it.

`plain_detector.py FOLDER one|all|frames mel|sound`: window after window, or all side by side, or
window after window at every frame, of which one in 64 is an answer that the others give, too.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from detector_task import Task
from jax import lax
from meter import Meter

from lib.nowplaying import detector
from lib.nowplaying.mel import DETECTOR

task = Task()
way, given = sys.argv[2:]
network = task.network
x = jax.device_put(np.asarray(task.sound if given == "sound" else task.frames))
step, length = detector.HOP, detector.window_frames()
if given == "sound":
    step, length = step * DETECTOR.hop, (length - 1) * DETECTOR.hop + DETECTOR.frame
answers = len(task.answers)
every = detector.HOP if way == "frames" else 1
begins = np.arange((answers - 1) * every + 1) * (step // every)


def answer(windows):
    return detector.detector_window(
        network, detector.features(windows) if given == "sound" else windows
    )


@jax.jit
def run(x):
    def cut(begin):
        return lax.dynamic_slice_in_dim(x, begin, length)

    if way == "all":
        return answer(jax.vmap(cut)(jnp.asarray(begins)))
    return lax.map(lambda begin: answer(cut(begin)[None])[0], jnp.asarray(begins))[::every]


meter = Meter("jax")
while meter.again(lambda: task.digest(run(x))):
    jax.block_until_ready(run(x))
