"""Iteratively reweighted least squares as in a textbook: `plain_logits.py FOLDER solve|inv`.

The 2x2 systems go to the solver for matrices of any size, side by side (vmap).
"""

import sys

import jax
import jax.numpy as jnp
from logits_task import Task, digest
from meter import Meter

STEPS = 15  # enough for all fits here

solver = {"solve": jnp.linalg.solve, "inv": lambda a, b: jnp.linalg.inv(a) @ b}[sys.argv[2]]


def one(design, k, n):
    def step(_, b):
        eta = design @ b
        p = jax.nn.sigmoid(eta)
        weight = n * p * (1 - p)
        return b + solver(design.T @ (design * weight[:, None]), design.T @ (k - n * p))

    # the first step as in the textbook, from the shares themselves
    p = (k + 0.5) / (n + 1)
    weight, eta = n * p * (1 - p), jnp.log(p / (1 - p))
    start = solver(design.T @ (design * weight[:, None]), design.T @ (weight * eta))
    return jax.lax.fori_loop(0, STEPS, step, start)


with jax.enable_x64(True):
    task = Task()
    k, n = jnp.asarray(task.k, jnp.float64), jnp.asarray(task.n, jnp.float64)
    design = jnp.stack([jnp.ones(len(task.x)), jnp.asarray(task.x)], 1)
    fit = jax.jit(jax.vmap(one, (None, 0, 0)))

    def tell():
        return digest(*fit(design, k, n).T)

    meter = Meter("jax")
    while meter.again(tell):
        fit(design, k, n).block_until_ready()
