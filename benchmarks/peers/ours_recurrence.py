"""A gradient of the recurrent policy on whole games: `ours_recurrence.py FOLDER SEEN WAY`.

SEEN is "symbols" or "vectors"; WAY "scan" is this book's policy, "associative" the same with the
recurrence as jax.lax.associative_scan, as is usual on GPUs.
"""

import sys

import jax
import numpy as np
from games_task import Task
from jax import lax
from meter import Meter

from lib.cooperation import policies


class InParallel(policies.Hawk):
    """Memories of all steps by a tree of products."""

    def judge(self, seen, action):
        gates = self._look_up(self.prepare(), seen)

        def join(early, late):
            return early[0] * late[0], late[0] * early[1] + late[1]

        memory = lax.associative_scan(join, (gates.decay, gates.drive))[1]
        logits, value = self._heads(memory, gates)
        return policies.Judgement(policies._chosen(logits, action), value)


task, (kind, way) = Task(), sys.argv[2:]
seen = getattr(task, kind)
sizes = dict(seen=5 if kind == "symbols" else seen.shape[-1], actions=6, width=32)
policy = policies.hawk(jax.random.key(0), **sizes)
keys = jax.random.split(jax.random.key(1))  # heads that are not zero, so that there is a gradient
policy = policies.Hawk(
    **vars(policy)
    | {"policy": jax.random.normal(keys[0], (32, 6)), "value": jax.random.normal(keys[1], (32,))}
)
if way == "associative":
    policy = InParallel(**vars(policy))


def total(policy, seen, action):
    judged = policy.judge(seen, action)
    return (judged.log_prob + judged.value).mean()


arguments = jax.device_put((policy, seen, task.action))
slope = jax.jit(jax.grad(total))


def digest():
    """Sizes of the gradients, to three digits."""
    found = slope(*arguments)
    return " ".join(f"{float(np.abs(x).mean()):.2e}" for x in (found.branch, found.decay))


meter = Meter("jax")
while meter.again(digest):
    jax.block_until_ready(slope(*arguments))
