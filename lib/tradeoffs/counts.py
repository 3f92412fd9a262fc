"""How often 3, the points-maximising number, was chosen: the paper's counts, or a reader's own."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.stats import norm

from lib.tradeoffs.game import LABELS

LEVELS = np.arange(1.0, 11.0)  # the qualitative scale has the first eight
MODELS = (
    "Claude 3.5 Sonnet", "Claude 3 Opus", "Command R+", "GPT-4o", "GPT-4o mini", "Gemini 1.5 Pro",
    "Llama 3.1 405b", "Llama 3.1 8b", "PaLM 2",
)  # fmt: skip
PANELS = tuple(LABELS)  # (experiment, scale), as in the paper's two figures
N = 50  # responses to each prompt in the paper


class Condition(NamedTuple):
    """One model in one experiment on one scale: the unit of the paper's analysis."""

    model: str
    experiment: str
    scale: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The intensities, in order."""
        return LABELS[self.experiment, self.scale]


class Counts(NamedTuple):
    """For each condition and level how often 3 was chosen, and of how many valid choices.

    Refusals are not valid choices. Levels that a condition does not have hold 0 of 0.
    """

    conditions: tuple[Condition, ...]
    chose: Integer[np.ndarray, "c 10"]
    valid: Integer[np.ndarray, "c 10"]

    def only(
        self, *, model: str | None = None, experiment: str | None = None, scale: str | None = None
    ) -> Counts:
        """The conditions of this model, experiment and scale; None takes all.

        Raises ValueError if there is none.
        """
        wanted = Condition(model, experiment, scale)
        keep = [
            i
            for i, condition in enumerate(self.conditions)
            if all(w in (None, has) for w, has in zip(wanted, condition, strict=True))
        ]
        if not keep:
            raise ValueError(
                f"no condition has model={model!r}, experiment={experiment!r}, scale={scale!r}: "
                "look at `conditions`"
            )
        return Counts(tuple(self.conditions[i] for i in keep), self.chose[keep], self.valid[keep])

    @property
    def varies(self) -> Bool[np.ndarray, " c"]:
        """Which conditions have both 3 and another choice, so that a curve can be fitted."""
        total = self.chose.sum(1)
        return (total > 0) & (total < self.valid.sum(1))


def tabulate(rows: Iterable[tuple[Condition, int, int, int]]) -> Counts:
    """Counts from rows of (condition, level from 1, times 3 was chosen, valid choices).

    Rows of the same condition and level are added up; conditions stand in order of appearance.

    Raises ValueError if a level is not on the scale of its condition, or the counts of a row are
    impossible.
    """
    table: dict[Condition, np.ndarray] = {}
    for condition, level, chose, valid in rows:
        condition = Condition(*condition)
        highest = len(condition.labels)
        if not 1 <= level <= highest:
            raise ValueError(
                f"level={level} of {' '.join(condition)} must lie between 1 and {highest}"
            )
        if not 0 <= chose <= valid:
            raise ValueError(f"chose={chose} of valid={valid} is impossible: {condition}")
        table.setdefault(condition, np.zeros((2, 10), np.int64))[:, level - 1] += chose, valid
    both = np.stack(list(table.values()))
    return Counts(tuple(table), both[:, 0], both[:, 1])


def wilson(
    chose: Integer[np.ndarray, "..."], valid: Integer[np.ndarray, "..."], *, level: float = 0.95
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Wilson's interval of each share: its lower and upper ends; 0 and 1 where nothing is valid."""
    z2 = norm.ppf(0.5 + level / 2) ** 2
    weight = valid + z2
    middle = (chose + z2 / 2) / weight
    half = np.sqrt(z2 * (chose * (valid - chose) / np.maximum(valid, 1) + z2 / 4)) / weight
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def paper_counts() -> Counts:
    """The 36 conditions of the paper, read off its Figures 1 and 2; one has no valid choice.

    Measured by us on the published pictures, to the single response (see the chapter on how). Nine
    models, 50 responses to each prompt; where a marker shows that some were left out, fewer.
    """
    text = resources.files("lib.tradeoffs").joinpath("keeling2024_counts.csv").read_text("utf-8")
    return tabulate(
        (
            Condition(row["model"], row["experiment"], row["scale"]),
            int(row["level"]),
            int(row["points_max"]),
            int(row["valid"]),
        )
        for row in csv.DictReader(text.splitlines())
    )
