"""This book's round of tag prediction: `ours_select.py FOLDER`."""

import jax
from select_task import BATCH, RATE, SEED, M, load
from worker import Meter

from lib.fedselect import tags

clients, test = load()
server = tags.fed_adagrad(RATE)
state, done = tags.start_server(test.n, test.tags.shape[1], server), 0
bags = test.bags


def recall():
    return tags.recall_at(tags.tag_scores(state.model, bags), test.tags)


meter = Meter("jax")
while meter.again(recall):
    state, _ = tags.tag_round(state, clients, done, seed=SEED, m=M, batch=BATCH, server=server)
    jax.block_until_ready(state)
    done += 1
