"""This book's gradient through naive learning: `ours_shaping.py FOLDER`."""

import jax
from shaping_task import EPISODES, GAMMA, RATE, REPEATS, Task, digest
from worker import Meter

from lib.cooperation import ipd

task = Task()
arguments = jax.device_put((task.player, task.learner))


def mean(player, learner):
    return ipd.naive_path(player, learner, gamma=GAMMA, rate=RATE, episodes=EPISODES).own.mean()


gradients = jax.jit(jax.vmap(jax.grad(mean)))
meter = Meter("jax")
while meter.again(lambda: digest(gradients(*arguments))):
    for _ in range(REPEATS):
        jax.block_until_ready(gradients(*arguments))
