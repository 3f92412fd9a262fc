"""The interpreters of the other languages: Forth, and the machines with a single instruction.

Cycles are detected as in `bff`: at a jump back the state is compared with a snapshot. If it has
come back and no byte of the tape has changed meanwhile, the program runs to its limit of steps. In
Forth the state is the pointer and the stack. Two short cuts make this cheap and find more, exactly:

*Snapshots of the stack are not copied.* A cell holds its value, its value at the last snapshot, and
the number of the snapshot for which that is true; a write to the cell keeps the three up to date.

*Addresses see only the low 6 or 7 bits of a cell.* Only `if0` and `write` look at the others. If
none of them ran since the snapshot, it is enough that those low bits have come back: then all that
follows repeats up to the others. A counter that addresses 64 cells so has a period of 64, not 256.
"""

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
_STATE = U(0xFFFF)  # pointer (8 bits), depth of the stack (8)
_STRICT = U(1 << 16)  # in a snapshot: since then all bits of the stack have mattered


def _in_turn(interpret, tapes, count, *stack):
    """`interpret(tapes, k)` for the first `count` tapes: in one buffer; on a GPU side by side.

    A `stack` is handed on from one to the next as it is.
    """
    if jax.default_backend() != "cpu":
        after, steps, *_ = jax.vmap(lambda tape: interpret(tape[None], U(0), *stack))(tapes)
        meets = jnp.arange(len(tapes), dtype=U) < count
        return jnp.where(meets[:, None], after[:, 0], tapes), jnp.where(meets, steps, U(0))

    def pair(k, carry):
        tapes, out, *stack = carry
        tapes, steps, *stack = interpret(tapes, lax.convert_element_type(k, U), *stack)
        return tapes, lax.dynamic_update_slice(out, steps[None], (k,)), *stack

    return lax.fori_loop(U(0), count, pair, (tapes, jnp.zeros(len(tapes), U), *stack))[:2]


@partial(jax.jit, static_argnames=("language", "steps"))
def run_subleq(tapes, count, *, language: Subleq, steps: int):
    """Subtract, and jump if the result is not positive; `steps` includes every instruction."""
    width = 4 if language.relative else 3

    def interpret(tapes, k):
        def running(s):
            return (s[1] <= LENGTH - width) & (s[2] < steps)

        def instruction(s):
            tapes, pc, i, write, seen = s  # the write of the instruction before is done first
            tapes = put(tapes, (write >> 8).astype(jnp.uint8), k, write & 127)
            word = [get(tapes, k, pc + U(n)).astype(U) for n in range(width)]
            base = pc if language.relative else U(0)
            target, *sources = ((base + w) & 127 for w in word[:-1])
            plus, minus = sources if language.relative else (target, *sources)
            value = (get(tapes, k, plus) - get(tapes, k, minus)).astype(U)
            seen = jnp.where(value != get(tapes, k, target).astype(U), seen | _STATE, seen)
            jump = jnp.where(target == pc + (width - 1), value, word[-1])  # read after the write
            if language.relative:
                jump = pc + jump - ((jump >> 7) << 8)  # a signed byte
            leave = ((value & 128) != 0) | (value == 0)
            next, i = jnp.where(leave, jump, pc + width), i + 1
            back = next <= pc
            cycle = back & (next == (seen & _STATE))
            seen = jnp.where(back, _remember(next, i, seen), seen)
            return tapes, next, jnp.where(cycle, U(steps), i), target | value << 8, seen

        first = (tapes, U(0), U(0), get(tapes, k, U(0)).astype(U) << 8, _STATE)
        tapes, _, i, write, _ = lax.while_loop(running, instruction, first)
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
    residue = U(LENGTH - 1 if "read" in index else WIDTH - 1)

    def interpret(tapes, k, stack):
        def running(s):
            inside = ((s["state"] & 128) == 0) & ((s["state"] >> 8 & 255) <= STACK)
            goes_on = inside & (s["i"] < steps)
            return goes_on | (s["renewal"][0] > 0) if language.reset else goes_on

        def instruction(s):
            # the writes of the instruction before, to the tape and to the stack, are done first
            tapes = put(s["tapes"], (s["write"] >> 8).astype(jnp.uint8), k, s["write"] & 127)
            pc, depth, at = (s["state"] >> n & 255 for n in (0, 8, 16))
            stack = lax.dynamic_update_slice(s["stack"], s["push"][:1], (at,))
            stack = lax.dynamic_update_slice(stack, s["push"][1:], (at + 1,))
            power = s["seen"] >> 24
            byte = get(tapes, k, pc).astype(U)
            word = jnp.where(byte < words, byte, jnp.where(byte >> 6 == 1, U(words), U(words + 1)))

            def peek(at):
                return lax.dynamic_slice(stack, (at,), (1,))[0]

            def cell(n):  # the n-th from the top, 0 if the stack is not so deep
                at = jnp.where(depth >= n, depth - n, U(0))
                return jnp.where(depth >= n, peek(at) & 255, U(0))

            a, b = cell(1), cell(2)
            choose = partial(_choose, word, index)
            read = choose(a & 127, copy=b & 127, read0=a & 63, copy0=a & 63,
                          read1=a & 63 | 64, copy1=a & 63 | 64)  # fmt: skip
            found = get(tapes, k, read).astype(U)
            target = choose(U(0), write=b & 127, copy=a & 127, write0=b & 63, copy1=a & 63,
                            write1=b & 63 | 64, copy0=a & 63 | 64)  # fmt: skip
            old = get(tapes, k, target).astype(U)
            value = choose(old, write=a, write0=a, write1=a, copy=found, copy0=found, copy1=found)
            low = choose(a, read=found, read0=found, read1=found, xor=a ^ 64, inc=a + 1,
                         dec=a - 1, add=a + b, sub=a - b)  # fmt: skip
            low = jnp.where(word == words, byte & 63, low)
            high = choose(a, swap=b)
            base = depth - jnp.minimum(pops[word], depth)
            far = (byte & 63) + 1
            move = jnp.where(byte >= 128, jnp.where((byte & 64) != 0, U(0) - far, far), U(1))
            skip = choose(U(0), if0=(a != 0).astype(U))
            push = jnp.stack([_over(peek(base), low, power), _over(peek(base + 1), high, power)])
            taboo = jnp.bool(False)
            if language.reset:
                taboo = (old == TABOO) & ((word == index["write1"]) | (word == index["copy0"]))
            strict = choose(U(0), if0=_STRICT, write=_STRICT, write0=_STRICT, write1=_STRICT)
            seen = s["seen"] | strict | jnp.where((value != old) | taboo, _STATE, U(0))
            i, state = s["i"] + 1, (pc + move + skip & 255) | base + pushes[word] << 8 | base << 16
            i, seen = lax.cond(
                byte >= 192,
                partial(_back, residue=residue, steps=steps),
                lambda stack, state, i, seen: (i, seen),
                stack, state, i, seen,
            )  # fmt: skip
            next = dict(
                tapes=tapes, stack=stack, state=state, i=i, push=push, seen=seen,
                write=target | value << 8,
            )  # fmt: skip
            if not language.reset:
                return next
            next["write"] = jnp.where(taboo, target | old << 8, next["write"])
            next["renewal"] = (taboo.astype(U), jnp.uint64(0), pc)
            return _renew(s, next, tapes, k)

        first = dict(tapes=tapes, stack=stack, state=U(0), i=U(0))
        first |= dict(push=jnp.zeros(2, U), seen=_STATE)
        first |= dict(write=get(tapes, k, U(0)).astype(U) << 8)
        if language.reset:
            first |= dict(renewal=(U(0), jnp.uint64(0), U(0)))
        s = lax.while_loop(running, instruction, first)
        tapes = put(s["tapes"], (s["write"] >> 8).astype(jnp.uint8), k, s["write"] & 127)
        return tapes, s["i"], s["stack"]

    return _in_turn(interpret, tapes, count, jnp.zeros(STACK + 2, U))


def _choose(word, index, default, **cases):
    """The value of the case whose word it is; words that the language lacks are left out."""
    for name, value in cases.items():
        if name in index:
            default = jnp.where(word == index[name], value, default)
    return default


def _remember(state, i, seen):
    """A snapshot of the state if one is due, after 1, 8, 64, ... steps; else the one we have."""
    power = seen >> 24
    return jnp.where((i >> power) != 0, state | (power + 3) << 24, seen)


def _over(cell, value, power):
    """A cell of the stack with a new value; which it had at the snapshot, it goes on to know."""
    known = jnp.where(cell >> 16 == power, cell & 0xFF00, (cell & 255) << 8)
    return (value & 255) | known | power << 16


def _back(stack, state, i, seen, *, residue, steps):
    """A jump back: the number of steps, all of them if we have been here before; the snapshot."""
    state, depth = state & _STATE, state >> 8 & 255
    mask = jnp.where((seen & _STRICT) != 0, U(255), residue)

    def same(above):  # as at the snapshot
        cell = lax.dynamic_slice(stack, (above - 1,), (1,))[0]
        return (cell >> 16 != seen >> 24) | (((cell >> 8 ^ cell) & mask) == 0)

    here = state == (seen & _STATE)
    differ = lax.while_loop(
        lambda above: (above > 0) & same(above), lambda above: above - 1,
        jnp.where(here, depth, U(0)),
    )  # fmt: skip
    cycle = here & (differ == 0)
    return jnp.where(cycle, U(steps), i), _remember(state, i, seen)


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
