"""This book's games, all at once in a compiled loop: `ours_games.py FOLDER GAME`.

"dilemma": two tables of the last step; "cleanup": random actions; "seen": the same, with what both
players see in each step.
"""

import sys

import jax
import jax.numpy as jnp
from games_task import Task, digest
from jax import lax
from meter import Meter

from lib.cooperation import cleanup, dilemma
from lib.cooperation.policies import Tabular


def play_dilemma(task):
    """What both got, for each game."""
    game, n = dilemma.Game(), task["uniform"].shape[2]
    tables = [Tabular(logits, jnp.zeros(5)) for logits in task["players"]]
    prepared = [table.prepare() for table in tables]

    def step(carry, uniform):
        state, total = carry
        actions = [
            table.act(ready, table.start(n), seen, one).action
            for table, ready, seen, one in zip(
                tables, prepared, game.observe(state), uniform, strict=True
            )
        ]
        after = game.step(state, *actions, uniform[:0])
        return (after.state, total + after.rewards), None

    start = game.reset(jax.random.key(0), n), jnp.zeros((2, n))
    return lax.scan(step, start, task["uniform"])[0][1]


def play_cleanup(task, *, seen):
    """Apples, cleaned patches, zaps and dirt, for each game; and what was seen last."""

    def look(state):
        return cleanup.observe(state) if seen else ()

    def step(carry, uniform):
        state, total, _ = carry
        actions = cleanup.random_actions(state, uniform[6:])
        after = cleanup.step(state, *actions, uniform[:6])
        counted = after.rewards, after.cleaned, after.hit, after.state.dirt
        total += jnp.stack([x.sum(0, dtype=jnp.float32) for x in counted])
        return (after.state, total, look(after.state)), None

    state = cleanup.State(*(task[name] for name in cleanup.State._fields))
    start = state, jnp.zeros((4, state.row.shape[1])), look(state)
    return lax.scan(step, start, task["uniform"])[0][1:]


task = jax.device_put(vars(Task()))
if sys.argv[2] == "dilemma":
    play = jax.jit(lambda task: (play_dilemma(task), ()))
else:
    play = jax.jit(lambda task: play_cleanup(task, seen=sys.argv[2] == "seen"))
meter = Meter("jax")
while meter.again(lambda: digest(play(task)[0])):
    jax.block_until_ready(play(task))
