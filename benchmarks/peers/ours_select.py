"""This book's round of tag prediction: `ours_select.py FOLDER select|broadcast`.

"broadcast": the same kernel, but the keys of each client are all n words. It trains those that it
would have selected, so that both learn the same.
"""

import sys
from functools import partial

import jax
import numpy as np
import optax
from meter import Meter
from select_task import (
    BATCH,
    CAP,
    COHORT,
    RATE,
    SEED,
    M,
    digest,
    load,
    rounds,
    without_unselected,
)

from lib.fedselect import tags

clients, test = load()
server = tags.fed_adagrad(RATE)
n, t = test.n, test.tags.shape[1]


def select():
    state = tags.start_server(n, t, server)
    done = 0
    while True:
        state, _ = tags.tag_round(
            state, clients, done, seed=SEED, m=M, cohort=COHORT, cap=CAP, batch=BATCH, server=server
        )
        yield state.model
        done += 1


@partial(jax.jit, donate_argnums=(0, 1))
def whole_step(model, memory, change):
    slope = tags.Tagger(-change.weights[:n] / COHORT, -change.bias / COHORT)
    step, memory = server.update(slope, memory, model)
    return optax.apply_updates(model, step), memory


def broadcast():
    model = tags.start_server(n, t, server).model
    memory = server.init(model)
    everything = np.tile(np.arange(n, dtype=np.int32), (COHORT, 1))
    for x, y, documents, keys in rounds(clients):
        x = without_unselected(x, keys, n)
        work = tags.pack_round(x, y, documents, everything, n=n, sizes=(n,), trim=False)
        change = tags.client_changes(model, work, 1.0, sizes=(n,), batch=BATCH)
        model, memory = whole_step(model, memory, change)
        yield model


learned = {"select": select, "broadcast": broadcast}[sys.argv[2]]()
model = None


def told():
    return digest(*model, test)


meter = Meter("jax")
while meter.again(told):
    model = jax.block_until_ready(next(learned))
