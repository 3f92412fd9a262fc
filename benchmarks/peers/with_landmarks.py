"""Landmarks name songs: `with_landmarks.py FOLDER DENSITY FAN all|peaks`.

"peaks" finds a clip's peaks as often as a query does, and no more.
"""

import sys

import numpy as np
from meter import Meter
from recognition_task import Task

from lib.nowplaying import landmarks

task = Task()
density, fan = float(sys.argv[2]), int(sys.argv[3])
table = landmarks.build(list(task.songs), density=density, fan=fan)


def name(clips):
    return np.array([landmarks.recognise(table, clip).song for clip in clips])


def find_peaks(clips):
    for clip in clips:
        for i in range(landmarks.SHIFTS):
            begun = clip[landmarks.HOP * i // landmarks.SHIFTS :]
            landmarks.peaks(begun, density=density)


def tell():
    return task.told(name, landmarks.HASH_BYTES * len(table.hash), 0)


run = name if sys.argv[4] == "all" else find_peaks
clips = task.timed()
meter = Meter("numpy")
while meter.again(tell):
    run(clips)
