"""The interpreters of the other languages: Forth, and the machines with a single instruction."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from lib.life.languages import Forth, Subleq
from lib.life.splitmix import splitmix64
from lib.life.tape import LENGTH, WIDTH, U, get, put

STACK = 128  # cells
TABOO = 0x13  # of forthtrivial_reset


def _in_turn(interpret, tapes, count):
    """`interpret(tapes, k)` for the first `count` tapes: in one buffer; on a GPU side by side."""
    if jax.default_backend() != "cpu":
        after, steps = jax.vmap(lambda tape: interpret(tape[None], U(0)))(tapes)
        meets = jnp.arange(len(tapes), dtype=U) < count
        return jnp.where(meets[:, None], after[:, 0], tapes), jnp.where(meets, steps, U(0))

    def pair(k, carry):
        tapes, out = carry
        tapes, steps = interpret(tapes, lax.convert_element_type(k, U))
        return tapes, lax.dynamic_update_slice(out, steps[None], (k,))

    return lax.fori_loop(U(0), count, pair, (tapes, jnp.zeros(len(tapes), U)))


@partial(jax.jit, static_argnames=("language", "steps"))
def run_subleq(tapes, count, *, language: Subleq, steps: int):
    """Subtract, and jump if the result is not positive; `steps` includes every instruction."""
    width = 4 if language.relative else 3

    def interpret(tapes, k):
        def running(s):
            return (s[1] <= LENGTH - width) & (s[2] < steps)

        def instruction(s):
            tapes, pc, i, write = s  # the write of the instruction before is done first
            tapes = put(tapes, (write >> 8).astype(jnp.uint8), k, write & 127)
            word = [get(tapes, k, pc + U(n)).astype(U) for n in range(width)]
            base = pc if language.relative else U(0)
            target, *sources = ((base + w) & 127 for w in word[:-1])
            plus, minus = sources if language.relative else (target, *sources)
            value = (get(tapes, k, plus) - get(tapes, k, minus)).astype(U)
            jump = jnp.where(target == pc + (width - 1), value, word[-1])  # read after the write
            if language.relative:
                jump = pc + jump - ((jump >> 7) << 8)  # a signed byte
            leave = ((value & 128) != 0) | (value == 0)
            pc = jnp.where(leave, jump, pc + width)
            return tapes, pc, i + 1, target | value << 8

        first = (tapes, U(0), U(0), get(tapes, k, U(0)).astype(U) << 8)
        tapes, _, i, write = lax.while_loop(running, instruction, first)
        return put(tapes, (write >> 8).astype(jnp.uint8), k, write & 127), i

    return _in_turn(interpret, tapes, count)


# for each word: cells popped, cells pushed
_STACK_EFFECT = {
    "read": (1, 1), "read0": (1, 1), "read1": (1, 1), "write": (2, 0), "write0": (2, 0),
    "write1": (2, 0), "copy": (2, 0), "copy0": (1, 0), "copy1": (1, 0), "xor": (1, 1),
    "dup": (1, 2), "drop": (1, 0), "swap": (2, 2), "if0": (1, 1), "inc": (1, 1), "dec": (1, 1),
    "add": (2, 1), "sub": (2, 1),
}  # fmt: skip


@partial(jax.jit, static_argnames=("language", "steps"))
def run_forth(tapes, count, *, language: Forth, steps: int):
    """A stack of 128 bytes: an empty one gives 0, pushing on a full one ends the program."""
    pops, pushes = (
        jnp.asarray([_STACK_EFFECT[w][side] for w in language.words] + [side, 0], U)
        for side in (0, 1)
    )  # the words; then a constant; then all that leaves the stack alone
    words = len(language.words)
    index = {word: U(n) for n, word in enumerate(language.words)}

    def interpret(tapes, k):
        def running(s):
            goes_on = (s["pc"] < LENGTH) & (s["i"] < steps) & (s["depth"] <= STACK)
            return goes_on | (s["renewal"][0] > 0) if language.reset else goes_on

        def instruction(s):
            # the writes of the instruction before, to the tape and to the stack, are done first
            tapes = put(s["tapes"], (s["write"] >> 8).astype(jnp.uint8), k, s["write"] & 127)
            stack = lax.dynamic_update_slice(s["stack"], s["push"][:1], (s["at"],))
            stack = lax.dynamic_update_slice(stack, s["push"][1:], (s["at"] + 1,))
            byte = get(tapes, k, s["pc"]).astype(U)
            word = jnp.where(byte < words, byte, jnp.where(byte >> 6 == 1, U(words), U(words + 1)))

            def cell(n):  # the n-th from the top, 0 if the stack is not so deep
                at = jnp.where(s["depth"] >= n, s["depth"] - n, U(0))
                value = lax.dynamic_slice(stack, (at,), (1,))[0].astype(U)
                return jnp.where(s["depth"] >= n, value, U(0))

            a, b = cell(1), cell(2)
            choose = partial(_choose, word, index)
            read = choose(a & 127, copy=b & 127, read0=a & 63, copy0=a & 63,
                          read1=a & 63 | 64, copy1=a & 63 | 64)  # fmt: skip
            seen = get(tapes, k, read).astype(U)
            target = choose(U(0), write=b & 127, copy=a & 127, write0=b & 63, copy1=a & 63,
                            write1=b & 63 | 64, copy0=a & 63 | 64)  # fmt: skip
            old = get(tapes, k, target).astype(U)
            value = choose(old, write=a, write0=a, write1=a, copy=seen, copy0=seen, copy1=seen)
            low = choose(a, read=seen, read0=seen, read1=seen, xor=a ^ 64, inc=a + 1, dec=a - 1,
                         add=a + b, sub=a - b)  # fmt: skip
            low = jnp.where(word == words, byte & 63, low)
            high = choose(a, swap=b)
            base = s["depth"] - jnp.minimum(pops[word], s["depth"])
            far = (byte & 63) + 1
            move = jnp.where(byte >= 128, jnp.where((byte & 64) != 0, U(0) - far, far), U(1))
            skip = choose(U(0), if0=(a != 0).astype(U))
            push = jnp.stack([low, high]).astype(jnp.uint8)
            next = dict(
                tapes=tapes, stack=stack, pc=s["pc"] + move + skip, i=s["i"] + 1,
                depth=base + pushes[word], at=base, push=push, write=target | (value & 255) << 8,
            )  # fmt: skip
            if not language.reset:
                return next
            taboo = (old == TABOO) & ((word == index["write1"]) | (word == index["copy0"]))
            next["write"] = jnp.where(taboo, target | old << 8, next["write"])
            next["renewal"] = (taboo.astype(U), jnp.uint64(0), s["pc"])
            return _renew(s, next, tapes, k)

        first = dict(tapes=tapes, stack=jnp.zeros(STACK + 2, jnp.uint8), pc=U(0), i=U(0))
        first |= dict(depth=U(0), at=U(0), push=jnp.zeros(2, jnp.uint8))
        first |= dict(write=get(tapes, k, U(0)).astype(U) << 8)
        if language.reset:
            first |= dict(renewal=(U(0), jnp.uint64(0), U(0)))
        s = lax.while_loop(running, instruction, first)
        tapes = put(s["tapes"], (s["write"] >> 8).astype(jnp.uint8), k, s["write"] & 127)
        return tapes, s["i"]

    return _in_turn(interpret, tapes, count)


def _choose(word, index, default, **cases):
    """The value of the case whose word it is; words that the language lacks are left out."""
    for name, value in cases.items():
        if name in index:
            default = jnp.where(word == index[name], value, default)
    return default


def _renew(s, next, tapes, k):
    """The state after one byte of a renewal, if one is under way; else `next`.

    A renewal first hashes the whole tape, then writes random bytes over the first program. It goes
    byte by byte through the loop of the instructions, since a second write to the buffer would make
    XLA copy it each time.
    """
    u, (stage, hashed, pc) = jnp.uint64, s["renewal"]
    byte = get(tapes, k, (stage - 1) & (LENGTH - 1)).astype(u)
    place = (stage - 1 - LENGTH) & (WIDTH - 1)
    fresh = splitmix64(
        hashed * u(WIDTH * WIDTH) + pc.astype(u) * u(WIDTH) + place.astype(u)
    ).astype(jnp.uint8)
    hashing = stage <= LENGTH
    hashed = jnp.where(hashing, splitmix64(hashed ^ byte), hashed)
    write = jnp.where(hashing, s["write"], place | fresh.astype(U) << 8)
    stage = jnp.where(stage == LENGTH + WIDTH, U(0), stage + 1)
    renewed = s | dict(write=write, renewal=(stage, hashed, pc))
    under_way = s["renewal"][0] > 0
    return {
        key: next[key] if key in ("tapes", "stack")
        else jax.tree.map(partial(jnp.where, under_way), renewed[key], next[key])
        for key in next
    }  # fmt: skip
