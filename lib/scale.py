"""The scale of a chapter, and the numbers among its other parameters."""

from __future__ import annotations

from typing import Any, TypeVar

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


def within(low: float, high: float, **parameter: Any) -> float:
    """The value of a parameter, given by its name, if it is a number from `low` to `high`.

    A whole one, if `low` is whole, as in `within(1, 1000, cohort=cohort)`. Raises ValueError else.
    """
    ((name, value),) = parameter.items()
    kinds = int if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "whole number" if kinds is int else "number"
        raise ValueError(f"{name}={value!r} must be a {kind} from {low:,} to {high:,}")
    return value
