"""The same round in plain JAX, without selection: `plain_jax_select.py FOLDER`.

A client starts from the whole model and trains the rows of its words in place: no keys, no gather.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from meter import Meter
from select_task import BATCH, CAP, COHORT, RATE, digest, load, rounds, without_unselected

clients, test = load()
n, t = test.n, test.tags.shape[1]
model = jnp.zeros((n, t)), jnp.zeros(t)
memory = jax.tree.map(jnp.zeros_like, model)


def train(model, client):
    """One epoch of minibatch SGD over sets of words."""
    x, y, documents = client

    def step(i, own):
        w, b = own
        words = lax.dynamic_slice_in_dim(x, i * BATCH, BATCH)
        true = lax.dynamic_slice_in_dim(y, i * BATCH, BATCH)
        real = i * BATCH + jnp.arange(BATCH) < documents
        scores = w.at[words].get(mode="fill", fill_value=0).sum(1) + b
        slope = (jax.nn.sigmoid(scores) - true) * real[:, None] / jnp.maximum(real.sum(), 1)
        return w.at[words].add(-slope[:, None], mode="drop"), b - slope.sum(0)

    return lax.fori_loop(0, (documents + BATCH - 1) // BATCH, step, model)


@partial(jax.jit, donate_argnums=(0, 1))
def one_round(model, memory, x, y, documents):
    def one(total, client):
        new = train(model, client)
        return jax.tree.map(lambda s, a, b: s + (a - b), total, new, model), None

    total, _ = lax.scan(one, jax.tree.map(jnp.zeros_like, model), (x, y, documents))
    mean = jax.tree.map(lambda change: change / COHORT, total)
    memory = jax.tree.map(lambda squares, change: squares + change**2, memory, mean)
    model = jax.tree.map(
        lambda value, squares, change: value + RATE * change * lax.rsqrt(squares + 1e-7),
        model, memory, mean,
    )  # fmt: skip
    return model, memory


assert CAP % BATCH == 0  # the slices above must not run over the end
tasks = rounds(clients)


def told():
    return digest(*model, test)


meter = Meter("jax")
while meter.again(told):
    x, y, documents, keys = next(tasks)
    model, memory = one_round(model, memory, without_unselected(x, keys, n), y, documents)
    jax.block_until_ready(model)
