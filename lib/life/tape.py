"""Tapes: two programs of 64 bytes in a row, on which all interpreters work."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

WIDTH = 64  # bytes of a program
LENGTH = 2 * WIDTH  # of a tape
STEPS = 8192  # after which a program is stopped
MOST_STEPS = 65_000  # that the interpreters can count
U = jnp.uint32


def get(buffer, k, at):
    """`buffer[k, at]` without a check of the bounds."""
    return lax.dynamic_slice(buffer, (k, at), (1, 1))[0, 0]


def put(buffer, value, k, at):
    """`buffer` with `value` at `[k, at]`, in place where XLA can."""
    return lax.dynamic_update_slice(buffer, value[None, None], (k, at))
