"""The three scales of a chapter, and the cores that it may use."""

from __future__ import annotations

import os
from typing import TypeVar

SCALES = ("smoke", "laptop", "paper")
T = TypeVar("T")


def check(scale: str) -> str:
    """Return `scale` if it is one of the three; ValueError otherwise."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} is not known: use one of {', '.join(SCALES)}")
    return scale


def pick(scale: str, *, smoke: T, laptop: T, paper: T) -> T:
    """Choose the value that belongs to `scale`.

    Raises ValueError for an unknown scale.
    """
    return dict(zip(SCALES, (smoke, laptop, paper), strict=True))[check(scale)]


def use_all_cores(most: int = 8) -> int:
    """Show every processor core to JAX as a device of its own; return how many there are.

    Call it before the first computation. Where JAX already runs, or on a GPU, nothing changes.
    """
    import jax  # here, since datasets need only the scales and should start at once

    cores = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), most
    )
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # JAX has started: its devices are what they are
        pass
    return jax.local_device_count()
