"""One entrance to all interpreters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8, UInt32, UInt64

from lib.life import bff, gpu, machines
from lib.life.languages import Bff, Forth, Language
from lib.life.tape import LENGTH, MOST_STEPS, STEPS


def run_tapes(
    tapes: UInt8[Array, "m length"],
    language: Language,
    *,
    count: UInt32[Array, ""] | None = None,
    tokens: UInt64[Array, "m 128"] | None = None,
    steps: int = STEPS,
) -> tuple[UInt8[Array, "m 128"], UInt64[Array, "m 128"] | None, UInt32[Array, " m"]]:
    """Tapes, tokens and numbers of steps after each of the first `count` tapes (all) was executed.

    Raises ValueError if the tapes are not 128 bytes wide, if `steps` is not between 0 and 65,000,
    or if tokens are given to a language that cannot trace them.
    """
    if tapes.ndim != 2 or tapes.shape[1] != LENGTH or tapes.dtype != jnp.uint8:
        raise ValueError(
            f"tapes is {tapes.dtype}{list(tapes.shape)}: wanted uint8[m, 128], two programs a row"
        )
    if not 0 <= steps <= MOST_STEPS:
        raise ValueError(f"steps={steps} must lie between 0 and {MOST_STEPS}")
    count = jnp.uint32(len(tapes)) if count is None else count
    if isinstance(language, Bff):
        if jax.default_backend() != "cpu":
            return gpu.run_bff(tapes, tokens, count, language=language, steps=steps)
        cells = tapes if tokens is None else tokens
        with jax.enable_x64(tokens is not None or jax.config.jax_enable_x64):
            cells, taken = bff.run_bff(cells, count, language=language, steps=steps)
        return cells.astype(jnp.uint8), None if tokens is None else cells, taken
    if tokens is not None:
        raise ValueError(f"tokens can be traced in the Bff family only, not in {language.name}")
    run = machines.run_forth if isinstance(language, Forth) else machines.run_subleq
    tapes, taken = run(tapes, count, language=language, steps=steps)
    return tapes, None, taken
