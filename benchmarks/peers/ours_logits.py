"""This book's logistic curves: `ours_logits.py FOLDER`."""

from logits_task import Task, digest
from meter import Meter

from lib.tradeoffs.logistic import fit_logit

task = Task()


def fit():
    return fit_logit(task.x, task.k, task.n)  # as arrays of NumPy: nothing is left to wait for


def tell():
    return digest(*fit()[:2])


meter = Meter("jax")
while meter.again(tell):
    fit()
