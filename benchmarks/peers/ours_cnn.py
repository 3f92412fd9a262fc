"""Local steps of this book's convolutional network: `ours_cnn.py DATA BATCH im2col|lax|stepwise`.

"lax" puts XLA's own convolution inside the compiled loop; "stepwise" compiles one step with it
and loops in Python.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from fedavg_task import CNN_STEPS, LR, Task
from meter import Meter

from lib import fedavg

batch, way = int(sys.argv[2]), sys.argv[3]


def lax_loss(network, x, y, mask):
    return fedavg.cross_entropy(network.outside_loops, x, y, mask)


@partial(jax.jit, donate_argnums=0)
def step(network, x, y):
    slope = jax.grad(lax_loss)(network, x, y, jnp.ones(batch))
    return jax.tree.map(lambda w, g: w - LR * g, network, slope)


data = Task()
n = batch * CNN_STEPS
x, y = data.x.reshape(-1, 28, 28), data.y.reshape(-1)
test = jax.device_put((np.array(data.test_x[:500]), np.array(data.test_y[:500])))
network = fedavg.MnistCNN(jax.random.key(0))
network = jax.tree.unflatten(jax.tree.structure(network), data.weights("cnn"))
network = jax.tree.map(jnp.array, network)
loss = fedavg.cross_entropy if way == "im2col" else lax_loss
key, t = jax.random.key(0), 0


def accuracy():
    return fedavg.accuracy(network, *test)


meter = Meter("jax")
while meter.again(accuracy):
    mine = slice(t * n, (t + 1) * n)
    t += 1
    if way == "stepwise":
        for i in range(mine.start, mine.stop, batch):
            network = step(network, x[i : i + batch], y[i : i + batch])
    else:
        network = fedavg.client_update(
            network, x[mine], y[mine], n, key, lr=LR, epochs=1, batch=batch, loss=loss
        )
    jax.block_until_ready(network)
