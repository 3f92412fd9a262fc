"""The music detector along a recording: `ours_detector.py FOLDER whole|steps|calls mel|sound`.

"whole" computes layer by layer, "steps" frame by frame in one call, and "calls" frame by frame in
a call for each answer, with what the stream remembers in between, as a phone would.
"""

import sys

import jax
import numpy as np
from detector_task import Task
from meter import Meter

from lib.nowplaying import detector
from lib.nowplaying.mel import DETECTOR

task = Task()
way, given = sys.argv[2:]
network = task.network
recording = jax.device_put(np.asarray(task.sound if given == "sound" else task.frames))
fresh = detector.detector_start(network)
# a piece of sound begins with what the frame before it has looked at, too
step, reach = (detector.HOP, detector.HOP)
if given == "sound":
    step, reach = step * DETECTOR.hop, (step - 1) * DETECTOR.hop + DETECTOR.frame


def heard(x):
    return detector.features(x) if given == "sound" else x


@jax.jit
def whole(x):
    return detector.detector_scan(network, heard(x))


@jax.jit
def steps(stream, x):
    return detector.detector_step(network, stream, heard(x))


def calls():
    pieces = np.asarray(recording)
    stream, said = fresh, []
    for begin in range(0, len(pieces) - reach + 1, step):
        stream, answers = steps(stream, pieces[begin : begin + reach])
        said.append(answers)
    return stream, jax.tree.map(lambda *parts: np.concatenate(parts), *said)


def run():
    if way == "whole":
        return jax.block_until_ready(whole(recording))
    if way == "steps":
        return jax.block_until_ready(steps(fresh, recording))
    return calls()


def tell():
    found = run()
    if way == "whole":
        return task.digest(found)
    logit, ready = map(np.asarray, found[1])
    return task.digest(logit[ready])


meter = Meter("jax")
while meter.again(tell):
    run()
