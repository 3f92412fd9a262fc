"""This book's gradient through naive learning: `ours_shaping.py FOLDER`."""

import jax
from arrays import mean_size
from meter import Meter
from shaping_task import EPISODES, GAMMA, RATE, REPEATS, Task

from lib.cooperation import ipd

task = Task()
arguments = jax.device_put((task.player, task.learner))


def mean(player, learner):
    return ipd.naive_path(player, learner, gamma=GAMMA, rate=RATE, episodes=EPISODES).own.mean()


gradients = jax.jit(jax.vmap(jax.grad(mean)))
meter = Meter("jax")
while meter.again(lambda: mean_size(gradients(*arguments))):
    for _ in range(REPEATS):
        jax.block_until_ready(gradients(*arguments))
