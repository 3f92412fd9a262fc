"""Local steps of this book's convolutional network: `ours_cnn.py DATA BATCH im2col|lax|stepwise`.

"lax" puts XLA's own convolution inside the compiled loop; "stepwise" compiles one step with it
and loops in Python.
"""

import sys
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from worker import CNN_STEPS, LR, Data, Meter

from lib import fedavg
from lib.fedavg.networks import Conv

batch, way = int(sys.argv[2]), sys.argv[3]


class LaxConv(Conv):
    """The convolution of the network, as XLA does it."""

    def __init__(self, own):
        self.weight, self.bias = own.weight, own.bias

    def __call__(self, x):
        kernel = self.weight.reshape(5, 5, x.shape[-1], -1)
        layout = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
        return y + self.bias


@partial(jax.jit, donate_argnums=0)
def step(network, x, y):
    slope = jax.grad(fedavg.cross_entropy)(network, x, y, jnp.ones(batch))
    return jax.tree.map(lambda w, g: w - LR * g, network, slope)


data = Data()
n = batch * CNN_STEPS
x, y = data.x.reshape(-1, 28, 28), data.y.reshape(-1)
test = jax.device_put((np.array(data.test_x[:500]), np.array(data.test_y[:500])))
network = fedavg.MnistCNN(jax.random.key(0))
network = jax.tree.unflatten(jax.tree.structure(network), data.weights("cnn"))
if way != "im2col":
    network = eqx.tree_at(
        lambda n: n.convolutions, network, tuple(map(LaxConv, network.convolutions))
    )
network = jax.tree.map(jnp.array, network)
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
            network, x[mine], y[mine], n, key, lr=LR, epochs=1, batch=batch
        )
    jax.block_until_ready(network)
