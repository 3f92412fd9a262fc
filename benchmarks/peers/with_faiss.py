"""The search by faiss: `with_faiss.py FOLDER ivfpq|fastscan|flat`.

"ivfpq" has our centroids, codebooks and codes. "fastscan" has our centroids, and codes of its own,
as many bytes: 24 of 4 bits, whose tables fit into registers. "flat" compares all floats.
"""

import sys

import faiss
import numpy as np
from arrays import Mapped
from meter import Meter
from search_task import FEW, K, found, probes

LEARNT_FROM = 40_000

task = Mapped()
kind = sys.argv[2]
queries = np.asarray(task.queries)[: FEW if kind == "flat" else None]
d = queries.shape[1]
quantiser = faiss.IndexFlatL2(d)
quantiser.add(np.asarray(task.centroids))
partitions = quantiser.ntotal

if kind == "flat":
    index = faiss.IndexFlatL2(d)
    index.add(np.asarray(task.x))
elif kind == "fastscan":
    index = faiss.IndexIVFPQFastScan(quantiser, d, partitions, 2 * len(task.codebooks), 4)
    index.train(np.asarray(task.x[:: max(1, len(task.x) // LEARNT_FROM)]))
    index.add(np.asarray(task.x))
    index.nprobe = probes(queries, task.centroids, task.partition)
else:
    m, levels, _ = task.codebooks.shape
    index = faiss.IndexIVFPQ(quantiser, d, partitions, m, int(np.log2(levels)))
    faiss.copy_array_to_vector(task.codebooks.ravel(), index.pq.centroids)
    index.is_trained = True
    index.precompute_table()
    for p in range(partitions):
        rows = np.flatnonzero(task.partition == p)
        codes = np.ascontiguousarray(task.codes[rows])
        pointers = faiss.swig_ptr(rows), faiss.swig_ptr(codes)
        index.invlists.add_entries(p, len(rows), *pointers)
    index.ntotal = len(task.codes)
    index.nprobe = probes(queries, task.centroids, task.partition)


def run():
    return index.search(queries, K)[1]


meter = Meter("faiss-cpu")
while meter.again(lambda: found(run(), task.planted)):
    run()
