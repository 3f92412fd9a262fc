"""The same round without this book's kernel: `plain_select.py FOLDER slices|whole`.

"slices": SciPy's sparse matrices, each client with the rows of its keys. "whole": the same, but
each client has, and trains, a copy of the whole model, and masks what it did not select.
"""

import sys

import numpy as np
from meter import Meter
from scipy import sparse
from scipy.special import expit
from select_task import BATCH, RATE, digest, load, rounds

slices = sys.argv[2] == "slices"
clients, test = load()
n, t = test.n, test.tags.shape[1]
weights, bias = np.zeros((n, t), np.float32), np.zeros(t, np.float32)
squares, bias_squares = np.zeros_like(weights), np.zeros_like(bias)
tasks = rounds(clients)


def train(x, y, w, b):
    """One epoch of minibatch SGD over sets of words."""
    rows, at = np.nonzero(x < len(w))
    ones = np.ones(len(rows), np.float32)
    table = sparse.csr_array((ones, (rows, x[rows, at])), (len(x), len(w)))
    for start in range(0, len(x), BATCH):
        part = table[start : start + BATCH]
        slope = (expit(part @ w + b) - y[start : start + BATCH]).astype(np.float32) / part.shape[0]
        w -= part.T @ slope
        b -= slope.sum(0)
    return w, b


def one_round():
    x, y, documents, keys = next(tasks)
    total, bias_total = np.zeros_like(weights), np.zeros_like(bias)
    for words, true, count, own in zip(x, y, documents, keys, strict=True):
        own = own[own < n]
        where = np.full(n + 1, n)
        where[own] = np.arange(len(own)) if slices else own
        w = weights[own] if slices else weights.copy()
        new, b = train(where[words[:count]], true[:count], w, bias.copy())
        if slices:
            total[own] += new - weights[own]
        else:
            total += new - weights
        bias_total += b - bias
    for value, memory, change in ((weights, squares, total), (bias, bias_squares, bias_total)):
        mean = change / len(x)
        memory += mean**2
        value += np.where(memory > 0, RATE * mean / np.sqrt(memory + 1e-7), 0)


meter = Meter("scipy")
while meter.again(lambda: digest(weights, bias, test)):
    one_round()
