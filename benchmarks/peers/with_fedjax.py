"""fedjax's federated averaging: `with_fedjax.py DATA`."""

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
from fedavg_task import BATCH, CLIENTS, LR, Task, choose, flat
from meter import Meter

data = Task()
clients = [
    fedjax.ClientDataset({"x": flat(data.x[k]), "y": data.y[k].astype(np.int32)})
    for k in range(CLIENTS)
]
test_x, test_y = flat(data.test_x), np.array(data.test_y)


def scores(params, x):
    w1, b1, w2, b2, w3, b3 = params
    return jax.nn.relu(jax.nn.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3


def loss(params, batch, rng):
    log_p = jax.nn.log_softmax(scores(params, batch["x"]))
    return -jnp.take_along_axis(log_p, batch["y"][:, None], 1).mean()


def accuracy():
    return (scores(state.params, test_x).argmax(1) == test_y).mean()


algorithm = fedjax.algorithms.fed_avg.federated_averaging(
    jax.grad(loss),
    client_optimizer=fedjax.optimizers.sgd(LR),
    server_optimizer=fedjax.optimizers.sgd(1.0),
    client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH, num_epochs=1),
)
state = algorithm.init([jnp.asarray(w) for w in data.weights("twonn")])
rng, t = np.random.default_rng(0), 0
meter = Meter("fedjax")
while meter.again(accuracy):
    t += 1
    keys = jax.random.split(jax.random.PRNGKey(t), CLIENTS)
    state, _ = algorithm.apply(state, [(k, clients[k], keys[k]) for k in choose(rng)])
    jax.block_until_ready(state.params)
