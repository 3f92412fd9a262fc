"""A softmax chooser who pays points for feelings: what the paper's curve would mean (our theory).

Option i earns i points. Its utility is u_i = a i, less `pain` s for option 3 in a pain game of
intensity s, plus `pleasure` s for option 2 in a pleasure game; options are chosen with probability
proportional to exp(u_i / temperature). In the pain game that is exactly a logistic curve:
logit P(3) = 3a - pain s - log(e^a + e^2a).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy.special import expit, softmax

from lib.tradeoffs.logistic import LogitFit

OPTIONS = np.arange(1.0, 4.0)
STEPS = 100
CAP = 2.0  # the most by which one step changes a parameter
TOLERANCE = 1e-10
NOTHING = 1e-8  # information about some parameter, in responses, that is none


class Utility(NamedTuple):
    """What one point, one unit of pain and one of pleasure are worth, at temperature 1."""

    points: float | Float[np.ndarray, "*c"]
    pain: float | Float[np.ndarray, "*c"] = 0.0
    pleasure: float | Float[np.ndarray, "*c"] = 0.0


def choice_probabilities(
    pain: float | Real[np.ndarray, "*c"],
    pleasure: float | Real[np.ndarray, "*c"],
    theta: Utility,
    *,
    temperature: float = 1.0,
) -> Float[np.ndarray, "*c 3"]:
    """P(1), P(2) and P(3) in games of these intensities; an intensity of 0 is no such feeling.

    Raises ValueError if `temperature` is not positive.
    """
    _check_temperature(temperature)
    pain, pleasure = np.broadcast_arrays(pain, pleasure)
    u = np.asarray(theta.points)[..., None] * OPTIONS
    u = u + np.stack([np.zeros(pain.shape), theta.pleasure * pleasure, -theta.pain * pain], -1)
    return softmax(u / temperature, axis=-1)


def switch_of(points: float, pain: float, *, temperature: float = 1.0) -> float:
    """The pain at which 3 is chosen half of the time: (3a - log(e^a + e^2a)) / pain at T = 1.

    With a falling temperature it tends to points / pain.

    Raises ValueError if `pain` is 0 or `temperature` is not positive.
    """
    _check_temperature(temperature)
    if pain == 0:
        raise ValueError("pain=0 has no switch point: who feels nothing never switches")
    a = points / temperature
    return float((3 * a - np.logaddexp(a, 2 * a)) * temperature / pain)


def from_logit(fit: LogitFit) -> Utility:
    """The utilities behind fitted curves of the pain game, where only 3 or not 3 is known.

    pain = -b1, and `points` solves b0 = 2a - log(1 + e^a), which rises with a. Both are in units of
    the unknown temperature: their ratio is not.
    """
    a = np.asarray(fit.b0, float)
    for _ in range(STEPS):
        a = a - (2 * a - np.logaddexp(0, a) - fit.b0) / (2 - expit(a))
    return Utility(a, np.asarray(-fit.b1))


def fit_utility(
    pain: Real[np.ndarray, " games"],
    pleasure: Real[np.ndarray, " games"],
    chosen: Real[np.ndarray, "games 3"],
) -> tuple[Utility, Utility]:
    """The most likely utilities of one chooser, and their standard errors, from counts of 1, 2, 3.

    Each row is a game with these intensities. Newton's method on the multinomial likelihood, which
    is concave. A feeling that no game has is worth 0, with a standard error of infinity.

    Raises ValueError if counts are negative, or the estimates are not finite (3 is always chosen,
    say).
    """
    pain, pleasure, chosen = (np.asarray(part, float) for part in (pain, pleasure, chosen))
    if (chosen < 0).any():
        raise ValueError(f"chosen has {chosen.min():g}: counts must not be negative")
    zero = np.zeros_like(pain)
    design = np.stack(
        [
            np.stack([zero + 1, zero, zero], -1),
            np.stack([zero + 2, zero, pleasure], -1),
            np.stack([zero + 3, -pain, zero], -1),
        ],
        1,
    )  # games, options, parameters
    there = np.array([True, pain.any(), pleasure.any()])
    design, theta = design[..., there], np.zeros(there.sum())
    total = chosen.sum(1)
    for _ in range(STEPS):
        p = softmax(design @ theta, axis=1)
        mean = np.einsum("gi,gij->gj", p, design)
        gradient = np.einsum("gi,gij->j", chosen, design) - total @ mean
        information = np.einsum("g,gi,gij,gik->jk", total, p, design, design)
        information -= np.einsum("g,gj,gk->jk", total, mean, mean)
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        theta = theta + np.clip(step, -CAP, CAP)
        if np.abs(step).max() < TOLERANCE:
            break
    if np.linalg.eigvalsh(information)[0] < NOTHING:
        raise ValueError("chosen has no finite estimate: some choice never, or always, occurs")
    estimate, error = np.zeros(3), np.full(3, np.inf)
    estimate[there] = theta
    error[there] = np.sqrt(np.diag(np.linalg.inv(information)))
    return Utility(*estimate), Utility(*error)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be positive: the paper uses 1")
