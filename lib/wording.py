"""How verdicts, numbers and times read, on a page as on a terminal. The standard library only."""

from __future__ import annotations

import re

NOT_TESTED = "NOT TESTED AT THIS SCALE"
VERDICTS = ("HOLDS", "PARTLY", "FAILS", NOT_TESTED)
SIGNS = dict(zip(VERDICTS, "✓◐✗–", strict=True))

MINUS = re.compile(r"(?<![\w.)-])-(?=[.\d])")
ZERO = re.compile(r"(?<![\w.)])[+−]?(0(?:\.0+)?)(?:e[+-]?\d+)?(?![.\w])")
POWER = re.compile(r"(?<![\w.])(\d(?:\.\d+)?)e\+?(-?)0*(\d+)(?!\w)")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def typeset(text: str) -> str:
    """Numbers that Python wrote as a book has them: −1 for -1, 2×10⁻⁷ for 2e-07, 0 for -0."""
    text = ZERO.sub(r"\1", MINUS.sub("−", text))
    return POWER.sub(lambda of: f"{of[1]}×10{(of[2] + of[3]).translate(RAISED)}", text)


def number(value: float) -> str:
    """A number as readers see it: three significant digits, no more."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return typeset(f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}")
    return typeset(f"{value:.1e}")


def interval(low: float | None, high: float | None) -> str:
    """What is accepted, in words; None leaves a side open."""
    if low is None:
        return f"≤ {_bound(high)}"
    if high is None:
        return f"≥ {_bound(low)}"
    if low == high:
        return f"exactly {_bound(low)}"
    if (text := _bound(low)) != _bound(high):
        return f"{text} to {_bound(high)}"
    return f"{low:.6g} to {high:.6g}"


def accepts(low: float | None, high: float | None, value: float) -> bool:
    """Whether a value is accepted; the bounds are inclusive, None leaves a side open."""
    return (low is None or value >= low) and (high is None or value <= high)


def judged(value: float, low: float | None, high: float | None) -> str:
    """A number as readers see it, with more digits if three would be judged otherwise."""
    rounded = float(f"{value:.3g}")
    same = accepts(low, high, value) == accepts(low, high, rounded)
    return number(value) if same else typeset(f"{value:.5g}")


def clock(seconds: float) -> str:
    """ "1 min 30 s", or "59 s" """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _bound(value: float) -> str:
    """A bound as it was chosen, if that takes five digits at most: 0.9999 must not read 1."""
    chosen = f"{value:.5g}"
    as_is = float(chosen) == value and 1e-3 <= abs(value) < 1000
    return typeset(chosen) if as_is else number(value)
