"""Our search through fingerprints: `ours_search.py FOLDER blocks|exact`."""

import sys

import jax
from arrays import Mapped
from meter import Meter
from search_task import FEW, TOUCH, K, found

from lib.nowplaying import search

task = Mapped()
if sys.argv[2] == "blocks":
    database = search.Database(task.centroids, task.codebooks, task.codes, task.partition)
    index = search.lay_out(database)
    queries = jax.device_put(task.queries)

    def run():
        return jax.block_until_ready(search.search(index, queries, k=K, touch=TOUCH))
else:
    x, queries = jax.device_put((task.x, task.queries[:FEW]))

    def run():
        return jax.block_until_ready(search.search_exact(x, queries, k=K))


meter = Meter("jax")
while meter.again(lambda: found(run().row, task.planted)):
    run()
