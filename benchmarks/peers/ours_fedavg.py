"""This book's kernel: `ours_fedavg.py DATA scan|vmap|sharded`."""

import sys

import jax
import numpy as np
from fedavg_task import BATCH, LR, Task, choose
from meter import Meter

from lib import fedavg
from lib.parallel import device_mesh

way = sys.argv[2]
if way == "sharded":
    jax.config.update("jax_num_cpu_devices", 2)
data = Task()
federation = jax.device_put(
    fedavg.Federation(data.x, data.y, np.full(len(data.x), data.x.shape[1], np.int32))
)
test = jax.device_put((np.array(data.test_x), np.array(data.test_y)))
network = fedavg.TwoNN(jax.random.key(0))
network = jax.tree.unflatten(jax.tree.structure(network), data.weights("twonn"))
setting = dict(
    lr=LR,
    epochs=1,
    batch=BATCH,
    clients="vmap" if way == "vmap" else "scan",
    mesh=device_mesh("clients"),
)
rng, key, t = np.random.default_rng(0), jax.random.key(0), 0


def accuracy():
    return fedavg.accuracy(network, *test)


meter = Meter("jax")
while meter.again(accuracy):
    t += 1
    ids = choose(rng)
    network = fedavg.fedavg_round(network, federation, ids, jax.random.fold_in(key, t), **setting)
    network = jax.device_get(network)  # the server holds it
