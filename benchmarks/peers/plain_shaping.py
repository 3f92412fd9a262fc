"""The same gradient by differentiating a solver twice, in JAX: `plain_shaping.py FOLDER WAY`.

"inv": the formulation of PAX's infinite matrix game, jnp.linalg.inv; "solve": jnp.linalg.solve;
"eliminate": elimination written out. Each learner's step is jax.grad of its return.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from arrays import mean_size
from games_task import PAYOFF, SWAPPED
from jax import lax
from meter import Meter
from shaping_task import EPISODES, GAMMA, RATE, REPEATS, Task


def eliminate(matrix, wanted):
    """Gauss without exchanging rows: the diagonal of I - gamma P dominates its row."""
    rows = [[matrix[i, j] for j in range(4)] + [wanted[i]] for i in range(4)]
    for k in range(4):
        for i in range(k + 1, 4):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    solution = [None] * 4
    for i in reversed(range(4)):
        known = sum(rows[i][j] * solution[j] for j in range(i + 1, 4))
        solution[i] = (rows[i][4] - known) / rows[i][i]
    return jnp.stack(solution)


WAYS = {
    "inv": lambda matrix, wanted: jnp.linalg.inv(matrix) @ wanted,
    "solve": jnp.linalg.solve,
    "eliminate": eliminate,
}
values = WAYS[sys.argv[2]]
swapped, payoff = np.array(SWAPPED), jnp.asarray(PAYOFF)


def average(own, other):
    """What the first of two players gets."""
    p, q = jax.nn.sigmoid(own), jax.nn.sigmoid(other)[swapped]
    outcomes = jnp.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 1)
    return (1 - GAMMA) * outcomes[0] @ values(jnp.eye(4) - GAMMA * outcomes[1:], payoff)


def mean(player, learner):
    """The player's average over all episodes of the learner."""

    def step(learner, _):
        return learner + RATE * jax.grad(average)(learner, player), average(player, learner)

    return lax.scan(step, learner, None, length=EPISODES + 1)[1].mean()


task = Task()
arguments = jax.device_put((task.player, task.learner))
gradients = jax.jit(jax.vmap(jax.grad(mean)))
meter = Meter("jax")
while meter.again(lambda: mean_size(gradients(*arguments))):
    for _ in range(REPEATS):
        jax.block_until_ready(gradients(*arguments))
