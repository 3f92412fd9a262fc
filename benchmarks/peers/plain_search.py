"""The search by NumPy, one partition after the other, with a table for each: FOLDER."""

import numpy as np
from arrays import Mapped
from meter import Meter
from search_task import K, found, probes

task = Mapped()
queries = np.asarray(task.queries)
centroids, books = np.asarray(task.centroids), np.asarray(task.codebooks)
m, _, s = books.shape
order = np.argsort(task.partition, kind="stable")
codes = task.codes[order]
ends = np.cumsum(np.bincount(task.partition, minlength=len(centroids)))
starts = np.concatenate([[0], ends[:-1]])


looked_at = probes(queries, centroids, task.partition)


def nearest(q):
    away = np.square(q - centroids).sum(1)
    distances, rows = [], []
    for p in np.argpartition(away, looked_at)[:looked_at]:
        table = np.square(books - (q - centroids[p]).reshape(m, 1, s)).sum(2)
        own = slice(starts[p], ends[p])
        distances.append(table[np.arange(m), codes[own]].sum(1))
        rows.append(order[own])
    distances, rows = np.concatenate(distances), np.concatenate(rows)
    first = np.argpartition(distances, K)[:K]
    return rows[first[np.argsort(distances[first])]]


def run():
    return np.stack([nearest(q) for q in queries])


meter = Meter("numpy")
while meter.again(lambda: found(run(), task.planted)):
    run()
