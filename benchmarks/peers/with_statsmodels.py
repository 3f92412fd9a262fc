"""The same curves by statsmodels, one after the other: `with_statsmodels.py FOLDER`.

The first CHECKED of them, with its default settings.
"""

import numpy as np
import statsmodels.api as sm
from logits_task import CHECKED, Task, digest
from meter import Meter

task = Task()
design = sm.add_constant(task.x)


def fit():
    found = []
    for k, n in zip(task.k[:CHECKED], task.n[:CHECKED], strict=True):
        there = n > 0
        both = np.column_stack([k, n - k])[there]
        found.append(sm.GLM(both, design[there], family=sm.families.Binomial()).fit().params)
    return np.transpose(found)


def tell():
    return digest(*fit())


meter = Meter("statsmodels")
while meter.again(tell):
    fit()
