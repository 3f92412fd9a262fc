"""The three scales of a chapter."""

from __future__ import annotations

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
