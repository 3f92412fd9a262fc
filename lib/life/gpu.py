"""The Brainfuck family on a GPU: the short cuts of `bff`, 32 tapes to a warp."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from lib.life.bff import instruction_mask
from lib.life.languages import CLOSE, FROM_HEAD1, OPEN, TO_HEAD1, Bff
from lib.life.tape import LENGTH, U

LANES = 32  # tapes side by side: a warp
_STATE, _HEADS, _NO_CACHE = 0xFFFFFF, 0x7F7F00, 255  # as in `bff`


@partial(jax.jit, static_argnames=("language", "steps", "interpret"))
def run_bff(tapes, tokens, count, *, language: Bff, steps: int, interpret: bool = False):
    """As `bff.run_bff`, with the same bits; `interpret` runs the kernel without a GPU, slowly.

    The tapes stay in global memory, where a warp's 4 KB lie in the first cache; the masks of
    instructions and the states of the machines stay in registers.
    """
    m = len(tapes)
    extra = -m % LANES
    block = pl.BlockSpec((LANES, LENGTH), lambda i: (i, 0))
    whole = pl.BlockSpec((256,), lambda i: (0,))
    one = pl.BlockSpec((1,), lambda i: (0,))
    state = [jnp.pad(tapes, ((0, extra), (0, 0)))]
    if tokens is not None:
        state.append(jnp.pad(tokens, ((0, extra), (0, 0))))
    masks = instruction_mask(state[0], language)
    effects = jnp.asarray(language.effects, U)
    inputs = [effects, jnp.reshape(count, (1,)).astype(U), masks, *state]
    specs = [whole, one, pl.BlockSpec((LANES, 4), lambda i: (i, 0)), *[block] * len(state)]
    shapes = [jax.ShapeDtypeStruct(part.shape, part.dtype) for part in state]
    shapes.append(jax.ShapeDtypeStruct((m + extra,), U))
    options = {} if interpret else dict(compiler_params=triton.CompilerParams(num_warps=1))
    *state, taken = pl.pallas_call(
        partial(_warp, language=language, limit=steps, track=tokens is not None),
        grid=((m + extra) // LANES,),
        in_specs=specs,
        out_specs=[*[block] * len(state), pl.BlockSpec((LANES,), lambda i: (i,))],
        out_shape=shapes,
        input_output_aliases={3 + n: n for n in range(len(state))},
        interpret=interpret,
        **options,
    )(*inputs)
    return state[0][:m], state[1][:m] if len(state) > 1 else None, taken[:m]


def _warp(effects, count, masks, *refs, language: Bff, limit: int, track: bool):
    """32 tapes in step: a lane that is done waits for the others."""
    tape, tokens = refs[1 + track], refs[-2] if track else None
    lanes = jnp.arange(LANES, dtype=jnp.int32)
    zero = jnp.zeros(LANES, U)

    def at(index):
        return lanes, index.astype(jnp.int32)

    def effect_of(byte):
        return effects[byte.astype(jnp.int32)]

    def alive(state, i):
        return ((state & 128) == 0) & (i < limit)

    def instruction(s):
        _, state, i, cache, seen, *words = s
        live = alive(state, i)
        pc, head0, head1 = (state >> n & 127 for n in (0, 8, 16))
        word = words[3]
        for n in (2, 1, 0):
            word = jnp.where(pc >> 5 == n, words[n], word)
        ahead = (word >> (pc & 31)) << (pc & 31)
        here = (pc & 96) + jnp.minimum(U(31) - lax.clz(ahead & (U(0) - ahead)), U(31))
        ended = i + (here - pc) + 1
        runs = live & (ended <= limit)
        effect = jnp.where(runs, effect_of(tape[at(here)]), U(0))
        source = jnp.where((effect & FROM_HEAD1) != 0, head1, head0)
        target = jnp.where((effect & TO_HEAD1) != 0, head1, head0)
        null = (tape[at(head0)].astype(U) & language.null) == 0
        old = tape[at(target)]
        new = (tape[at(source)].astype(U) + (effect >> 24)).astype(jnp.uint8)
        changed = moved = runs & (new != old)
        if track:
            before = tokens[at(target)]
            token = tokens[at(source)] >> 8 << 8 | new.astype(jnp.uint64)
            token = jnp.where(runs, token, before)
            tokens[at(target)] = token
            moved = changed | (token != before)
        tape[at(target)] = jnp.where(changed, new, old)
        bit = jnp.where(changed, U(1) << (target & 31), U(0))
        words = [w | jnp.where(target >> 5 == n, bit, U(0)) for n, w in enumerate(words)]
        touched = (effect_of(new) | effect_of(old)) & (OPEN | CLOSE)
        cache = jnp.where(changed & (touched != 0), U(_NO_CACHE), cache)
        seen = jnp.where(moved, seen | _STATE, seen)
        jumps = (effect & jnp.where(null, U(OPEN), U(CLOSE))) != 0
        forward = (effect & OPEN) != 0
        stride = jnp.where(forward, U(1), U(0xFFFFFFFF))
        if language.jump is None:
            known = (cache & 255) == here
            place = _match(tape, effect_of, at, here, forward, stride, jumps & ~known)
            landing = jnp.where(known, cache >> 8, jnp.minimum(place, U(LENGTH)))
            cache = jnp.where(jumps, here | landing << 8, cache)
        else:
            landing = jnp.minimum(here + stride * U(language.jump), U(LENGTH))
        next = jnp.minimum(jnp.where(jumps, landing, here) + 1, U(LENGTH))
        next = next | (((state & _HEADS) + (effect & _HEADS)) & _HEADS)
        back = jumps & ~forward
        cycle = back & (next == (seen & _STATE))
        power = seen >> 24
        remember = back & ((ended >> power) != 0)
        seen = jnp.where(remember, next | (power + 1) << 24, seen)
        ended = jnp.where(cycle | ~runs, U(limit), ended)
        state, i = jnp.where(runs, next, state), jnp.where(live, ended, i)
        return _any(alive(state, i)), state, i, cache, seen, *words

    rows = pl.program_id(0).astype(U) * LANES + lanes.astype(U)
    wanted = rows < count[0]
    state = zero
    if language.heads_on_tape:
        first, second = (tape[at(zero + n)].astype(U) & 127 for n in (0, 1))
        state = U(2) | first << 8 | second << 16
    state = jnp.where(wanted, state, U(LENGTH))
    words = [masks[:, n] for n in range(4)]
    start = (_any(wanted), state, zero, zero + _NO_CACHE, zero + _STATE, *words)
    done = lax.while_loop(lambda s: s[0], instruction, start)
    refs[-1][...] = done[2]


def _match(tape, effect_of, at, here, forward, stride, search):
    """The matching bracket of the lanes that search for one; beyond the tape if there is none."""

    def searching(s):
        return (s[1] > 0) & (s[0] < LENGTH)

    def look(s):
        place, depth = s
        active = searching(s)
        met = effect_of(tape[at(place & 127)])
        deeper = ((met >> 2) & 1) - ((met >> 3) & 1)
        depth = jnp.where(active, depth + jnp.where(forward, deeper, U(0) - deeper), depth)
        return jnp.where(active & (depth > 0), place + stride, place), depth

    first = (here + stride, search.astype(U))
    return lax.while_loop(lambda s: _any(searching(s)), look, first)[0]


def _any(lanes):
    return jnp.max(lanes.astype(U)) > 0
