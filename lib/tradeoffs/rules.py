"""What counts as a trade-off: three definitions that lead to different lists of models.

The abstract says that "the majority of responses switched ... after a critical threshold". How that
was decided is not known to us. Each rule takes counts and the fitted curves of the same conditions
and says of each condition whether it is a trade-off. (For separated data of your own, fit with
`logistic.fit_finite`.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from lib.tradeoffs.counts import LEVELS, Condition, Counts
from lib.tradeoffs.logistic import LogitFit, slope_test, switch_point

SIGNIFICANT = 0.05


def reconstructed(counts: Counts, fits: LogitFit) -> Bool[np.ndarray, " c"]:
    """Our reconstruction of the abstract's list, which it reproduces exactly.

    The slope is negative (likelihood-ratio test, p < .05), the switch point is on the scale, and 3
    is not what the majority still chooses at the strongest level.
    """
    p = slope_test(LEVELS, counts.chose, counts.valid).p
    strongest = np.array([len(condition.labels) - 1 for condition in counts.conditions])
    at_most = _shares(counts)[np.arange(len(strongest)), strongest]
    falls = (p < SIGNIFICANT) & (fits.b1 < 0)
    return falls & in_range(counts, fits) & ~(at_most > 0.5)


def in_range(counts: Counts, fits: LogitFit) -> Bool[np.ndarray, " c"]:
    """The switch point -b0/b1 is on the scale, between its first and its last level."""
    last = np.array([len(condition.labels) for condition in counts.conditions])
    s = switch_point(fits)
    return np.asarray((s >= 1) & (s <= last))


def majority_crossing(counts: Counts, fits: LogitFit) -> Bool[np.ndarray, " c"]:
    """The majority chooses 3 up to some level and never after it; no curve is asked."""
    shares = _shares(counts)
    return np.array([_crosses_once(row[~np.isnan(row)] > 0.5) for row in shares], bool)


RULES: dict[str, Callable[[Counts, LogitFit], Bool[np.ndarray, " c"]]] = {
    "reconstructed": reconstructed,
    "switch point in range": in_range,
    "one majority crossing": majority_crossing,
}


def models(counts: Counts, which: Bool[np.ndarray, " c"]) -> list[str]:
    """The models that have at least one of these conditions, in order of appearance."""
    chosen = zip(counts.conditions, which, strict=True)
    return list(dict.fromkeys(condition.model for condition, yes in chosen if yes))


def switch_word(condition: Condition, point: float) -> str:
    """How the paper names a switch point on the qualitative scale: the nearest level's label.

    Raises ValueError if the switch point is not on the scale.
    """
    labels = condition.labels
    level = int(np.floor(point + 0.5)) if np.isfinite(point) else 0
    if not 1 <= level <= len(labels):
        raise ValueError(
            f"point={point} is not on the scale of {' '.join(condition)}: it must be between 1 "
            f"and {len(labels)}"
        )
    return label_of(labels, level)


def label_of(labels: tuple[str, ...], level: int) -> str:
    """The label of a level; the first level is 1."""
    return labels[level - 1]


def _shares(counts: Counts) -> Float[np.ndarray, "c 10"]:
    """How often 3 was chosen of valid choices, NaN where there are none."""
    with np.errstate(invalid="ignore"):
        return counts.chose / counts.valid


def _crosses_once(majority: Bool[np.ndarray, " levels"]) -> bool:
    changes = np.flatnonzero(majority[1:] != majority[:-1])
    return len(changes) == 1 and bool(majority[0])
