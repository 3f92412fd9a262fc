"""Soups as one would write them first: `plain_life.py FOLDER SOUP loop|vmap|epoch [PAIRS]`.

One byte a step, no-ops included, until the program ends or its steps are used up. Compiler and bits
are this book's; what is missing are the short cuts and the care about what a loop is compiled to.
"loop" takes one tape after the other, "vmap" all side by side, the first PAIRS if that is said;
"epoch" also pairs and mutates.
"""

import sys

import jax
import jax.numpy as jnp
from jax import lax
from meter import Meter
from soups_task import Task, digest

LENGTH, STEPS, RATE = 128, 8192, 2**18
DECREMENT0, INCREMENT0, DECREMENT1, INCREMENT1, MINUS, PLUS, COPY, BACK, OPEN, CLOSE = b"<>{}-+.,[]"


def interpret(tape):
    """One tape of 128 bytes after its program has run on it."""

    def running(state):
        _, pc, _, _, steps = state
        return (pc >= 0) & (pc < LENGTH) & (steps < STEPS)

    def step(state):
        tape, pc, head0, head1, steps = state
        byte, here = tape[pc], tape[head0]
        value = jnp.where(byte == BACK, tape[head1], here)
        value = value + (byte == PLUS).astype(jnp.uint8) - (byte == MINUS).astype(jnp.uint8)
        way = ((byte == OPEN) & (here == 0)).astype(jnp.int32)
        way = way - ((byte == CLOSE) & (here != 0)).astype(jnp.int32)
        pc = following(tape, pc, way)
        tape = tape.at[jnp.where(byte == COPY, head1, head0)].set(value)
        head0 = (head0 + (byte == INCREMENT0) - (byte == DECREMENT0)) % LENGTH
        head1 = (head1 + (byte == INCREMENT1) - (byte == DECREMENT1)) % LENGTH
        return tape, pc, head0, head1, steps + 1

    zero = jnp.int32(0)
    return lax.while_loop(running, step, (tape, zero, zero, zero, zero))[0]


def following(tape, pc, way):
    """Where to go on: after the matching bracket ahead (1) or behind (−1), or at the next byte."""

    def searching(state):
        place, depth = state
        return (depth != 0) & (place >= 0) & (place < LENGTH)

    def look(state):
        place, depth = state
        depth = depth + (tape[place] == OPEN) - (tape[place] == CLOSE)
        return jnp.where(depth == 0, place, place + way), depth

    place, depth = lax.while_loop(searching, look, (pc + way, way))
    return jnp.where(depth == 0, place + 1, -1)


def splitmix64(x):
    z = x + jnp.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> 30)) * jnp.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27)) * jnp.uint64(0x94D049BB133111EB)
    return z ^ (z >> 31)


def epoch(programs, seed, epoch):
    """Programs by number after an epoch, and the tapes that they formed in it."""
    n = len(programs)

    def own(x):
        return splitmix64(splitmix64(seed) ^ splitmix64(x))

    def exchange(k, order):
        i = n - 1 - k
        draw = splitmix64(own(epoch * n + i.astype(jnp.uint64)))
        j = draw % (i + 1).astype(jnp.uint64)
        return order.at[i].set(order[j]).at[j].set(order[i])

    order = lax.fori_loop(0, n, exchange, jnp.arange(n))
    tapes = programs[order].reshape(n // 2, LENGTH)
    place = jnp.arange(tapes.size, dtype=jnp.uint64).reshape(tapes.shape)
    draws = splitmix64(n * own(epoch) * LENGTH + place)
    tapes = jnp.where((draws >> 8) % 2**30 < RATE, draws.astype(jnp.uint8), tapes)
    tapes = lax.map(interpret, tapes)
    return programs.at[order].set(tapes.reshape(programs.shape)), tapes


task, way = Task(), sys.argv[3]
pairs = int(sys.argv[4]) if len(sys.argv) > 4 else len(task.tapes)
with jax.enable_x64(way == "epoch"):
    if way == "epoch":
        run = jax.jit(epoch)
        given = jnp.asarray(task.programs), jnp.uint64(task.seed), jnp.uint64(task.epoch)
    else:
        run = jax.jit(jax.vmap(interpret) if way == "vmap" else lambda t: lax.map(interpret, t))
        given = (jnp.asarray(task.tapes[:pairs]),)
    meter, after = Meter("jax"), None

    def tell():
        return digest(after[1] if way == "epoch" else after)

    while meter.again(tell):
        after = jax.block_until_ready(run(*given))
