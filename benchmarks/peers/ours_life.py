"""This book's soups: `ours_life.py FOLDER SOUP tapes|epochs bytes|tokens`.

"tapes" interprets the tapes of one epoch; "epochs" does whole epochs, with all random numbers.
"""

import sys

import jax
import jax.numpy as jnp
from meter import Meter
from soups_task import EPOCHS, Task, digest

from lib import life

what, tokens = sys.argv[3], sys.argv[4] == "tokens"
task, language = Task(), life.language("bff_noheads")
with jax.enable_x64(True):
    n = len(task.programs)
    soup = life.Soup(
        jnp.asarray(task.programs), jnp.arange(n, dtype=jnp.uint32), jnp.uint32(task.epoch),
        jnp.zeros(n // 2, jnp.uint32), jnp.asarray(task.tokens) if tokens else None,
    )  # fmt: skip
    tapes = jnp.asarray(task.tapes)
    traced = jnp.asarray(task.token_tapes) if tokens else None
    start = life.advance(soup, 2, seed=task.seed)

    def interpret():
        return life.run_tapes(tapes, language, tokens=traced)

    def tell():
        one = life.advance(soup, 1, seed=task.seed).programs
        return digest(one if what == "epochs" else interpret()[0])

    meter = Meter("jax")
    while meter.again(tell):
        epochs = what == "epochs"
        after = life.advance(start, EPOCHS - 1, seed=task.seed) if epochs else interpret()
        jax.block_until_ready(after)
