"""The interpreter of the Brainfuck family: exact, and fast by two short cuts that change nothing.

*No-ops are skipped.* A tape carries a mask with one bit a byte, set where there may be an
instruction; the next one is found by counting zeros, and the step counter jumps by the distance.

*Cycles are detected* (Brent's way). At a backward jump the state (pointer and heads) is compared
with one remembered before. If it has come back and no byte of the tape has changed meanwhile, then
nothing can ever change: the program runs to its limit of steps, and we can stop here.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Integer, UInt32

from lib.life.languages import CLOSE, FROM_HEAD1, OPEN, TO_HEAD1, Bff
from lib.life.tape import LENGTH, U, get, put

_STATE = U(0xFFFFFF)  # pointer (8 bits), head 0 (8), head 1 (8)
_HEADS = U(0x7F7F00)
_STEP = U(0xFFFF)  # steps so far (16 bits), bracket that jumped last (8), its target (8)
_NO_CACHE = U(0xFF0000)


def instruction_mask(tapes: Integer[Array, "n 128"], language: Bff) -> UInt32[Array, "n 4"]:
    """One bit a byte, set where the byte is an instruction."""
    bits = jnp.asarray(language.effects, U)[tapes] != 0
    weights = (U(1) << jnp.arange(32, dtype=U))[None, None]
    return jnp.sum(jnp.where(bits.reshape(-1, 4, 32), weights, U(0)), axis=-1, dtype=U)


@partial(jax.jit, static_argnames=("language", "steps"))
def run_bff(cells, count, *, language: Bff, steps: int):
    """Interpret the first `count` tapes, one after the other.

    A cell is a byte, or a 64-bit token whose lowest byte is the byte: the same program then carries
    the tokens along. A cycle is one only if the tokens are unchanged, too.

    XLA compiles the nest of loops to one native loop as long as an iteration touches little memory.
    Hence the form: one buffer for all tapes, never a slice of a row; the write of an instruction is
    carried to the *top* of the next iteration, so that no buffer is written after it was read; few
    and packed scalars; and the rare, heavy part (jumps) behind a `cond`.
    """
    effects, bracket, limit = jnp.asarray(language.effects, U), U(OPEN | CLOSE), U(steps)

    def pair(k, carry):
        cells, masks, out = carry
        k = lax.convert_element_type(k, U)

        def running(s):
            return ((s["state"] & 128) == 0) & ((s["time"] & _STEP) < limit)

        def instruction(s):
            at = s["at"]  # the write of the instruction before
            cells = put(s["cells"], s["write"], k, at)
            masks = put(s["masks"], s["mask"], k, at >> 5)
            pc, head0, head1 = (s["state"] >> n & 127 for n in (0, 8, 16))
            ahead = (get(masks, k, pc >> 5) >> (pc & 31)) << (pc & 31)
            here = (pc & 96) + jnp.minimum(U(31) - lax.clz(ahead & (U(0) - ahead)), U(31))
            i = (s["time"] & _STEP) + (here - pc) + 1
            effect = effects[byte(get(cells, k, here))]
            source = jnp.where((effect & FROM_HEAD1) != 0, head1, head0)
            target = jnp.where((effect & TO_HEAD1) != 0, head1, head0)
            null = (byte(get(cells, k, head0)) & language.null) == 0
            old = get(cells, k, target)
            new = plus(get(cells, k, source), effect >> 24)
            new = jnp.where(i <= limit, new, old)  # an instruction beyond the limit is not done
            changed = new != old
            mask = get(masks, k, target >> 5) | (changed.astype(U) << (target & 31))
            state = (here + 1) | (((s["state"] & _HEADS) + (effect & _HEADS)) & _HEADS)
            jumps = (effect & jnp.where(null, U(OPEN), U(CLOSE))) != 0
            touched = ((effects[byte(new)] | effects[byte(old)]) & bracket) != 0
            forgotten = jnp.where(touched & changed, _NO_CACHE, U(0))
            time = i | s["time"] & ~_STEP | forgotten
            seen = _forget(s["seen"], changed)
            state, time, seen = lax.cond(
                jumps,
                partial(_jump, k=k, language=language, effects=effects, steps=steps),
                lambda cells, state, time, seen, effect: (state, time, seen),
                cells, state, time, seen, effect,
            )  # fmt: skip
            return dict(
                cells=cells, masks=masks, mask=mask, at=target, write=new,
                state=state, time=time, seen=seen,
            )  # fmt: skip

        state = U(0)
        if language.heads_on_tape:
            first, second = (byte(get(cells, k, U(n))) & 127 for n in (0, 1))
            state = U(2) | first << 8 | second << 16
        start = dict(cells=cells, masks=masks, mask=get(masks, k, U(0)), at=U(0), state=state)
        start |= dict(write=get(cells, k, U(0)), time=_NO_CACHE, seen=_STATE)
        s = lax.while_loop(running, instruction, start)
        out = lax.dynamic_update_slice(out, jnp.minimum(s["time"] & _STEP, limit)[None], (k,))
        return put(s["cells"], s["write"], k, s["at"]), s["masks"], out

    masks, out = instruction_mask(byte(cells), language), jnp.zeros(len(cells), U)
    cells, _, out = lax.fori_loop(U(0), count, pair, (cells, masks, out))
    return cells, out


def byte(cell: Array) -> Array:
    """The byte of a cell, as u32."""
    return cell.astype(U) & 255


def plus(cell: Array, value: Array) -> Array:
    """The cell with `value` (u32) added to its byte; what else it carries stays."""
    if cell.dtype == jnp.uint8:
        return cell + value.astype(jnp.uint8)
    return (cell >> 8 << 8) | (byte(cell) + value & 255).astype(cell.dtype)


def _forget(seen, changed):
    """The remembered state, unless a byte has changed: what returns to it is no cycle then."""
    return jnp.where(changed, seen | _STATE, seen)


def _jump(cells, state, time, seen, effect, *, k, language, effects, steps):
    """A taken jump: where to, and whether we have been there before."""
    here, forward = (state & 255) - 1, (effect & OPEN) != 0
    i, cache = time & _STEP, time & ~_STEP
    stride = jnp.where(forward, U(1), U(0xFFFFFFFF))
    if language.jump is None:
        known = (cache >> 16 & 255) == here

        def searching(s):
            return (s[1] > 0) & (s[0] < LENGTH)

        def look(s):
            place, depth = s
            met = effects[byte(get(cells, k, place))]
            deeper = ((met >> 2) & 1) - ((met >> 3) & 1)  # +1 at [, −1 at ]
            depth = depth + jnp.where(forward, deeper, U(0) - deeper)
            return jnp.where(depth > 0, place + stride, place), depth

        place, _ = lax.while_loop(searching, look, (here + stride, (~known).astype(U)))
        target = jnp.where(known, cache >> 24, jnp.minimum(place, U(LENGTH)))
        cache = here << 16 | target << 24
    else:
        target = here + stride * U(language.jump)
    state = (state & _HEADS) | jnp.minimum(jnp.minimum(target, U(LENGTH)) + 1, U(LENGTH))
    cycle = ~forward & (state == (seen & _STATE))
    power = seen >> 24
    remember = ~forward & ((i >> power) != 0)
    seen = jnp.where(remember, state | (power + 1) << 24, seen)
    return state, jnp.where(cycle, U(steps), i) | cache, seen
