"""Other models of the same counts: a posterior on a grid, curves with lapses, any falling curve."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, Real
from scipy.optimize import isotonic_regression

from lib.tradeoffs.logistic import (
    Interval,
    checked,
    fit_finite,
    fit_logit,
    log_binomial,
    log_likelihood,
)

MODELS = ("logistic", "logistic with lapses", "isotonic", "saturated")
ZOOMS = (200.0, 60.0, 20.0)  # log-densities below the highest that the next grid still covers
STEEPEST = 20.0  # slope of a curve with lapses; at that, it is a step
MOST = 0.5  # of either lapse rate
STARTS = ((0.02, 0.02), (0.02, 0.3), (0.3, 0.02), (0.2, 0.2))  # lapse rates
ITERATIONS = 100


class Prior(NamedTuple):
    """Standard deviations of independent normals around 0.

    `middle` is for the log-odds of 3 in the middle of the scale, `slope` for b1 a level. The
    defaults say nearly nothing, except that P(3) is not closer to 0 or 1 than 1e-9, and that a
    level does not change the log-odds by more than ten or so.
    """

    middle: float = 10.0
    slope: float = 5.0


class Posterior(NamedTuple):
    """What is known of each condition: equal-tailed credible intervals, probabilities of events."""

    switch: Interval
    slope_low: Float[np.ndarray, "*c"]
    slope_high: Float[np.ndarray, "*c"]
    falls: Float[np.ndarray, "*c"]  # P(b1 < 0)
    in_range: Float[np.ndarray, "*c"]  # P(switch point between the first and last level with data)


class Psychometric(NamedTuple):
    """P(3) = lower + (1 - lower - upper) / (1 + exp(-b0 - b1 x)), fitted to each condition."""

    b0: Float[np.ndarray, "*c"]
    b1: Float[np.ndarray, "*c"]
    lower: Float[np.ndarray, "*c"]
    upper: Float[np.ndarray, "*c"]
    loglik: Float[np.ndarray, "*c"]
    aic: Float[np.ndarray, "*c"]


class Isotonic(NamedTuple):
    """The most likely curve that never rises (or never falls), with its number of steps."""

    p: Float[np.ndarray, "*c L"]  # NaN in empty cells
    blocks: Integer[np.ndarray, "*c"]
    loglik: Float[np.ndarray, "*c"]


class Criteria(NamedTuple):
    """Four models of each condition in the order of `models`; the lowest AIC predicts best."""

    models: tuple[str, ...]
    parameters: Float[np.ndarray, "*c 4"]
    loglik: Float[np.ndarray, "*c 4"]
    aic: Float[np.ndarray, "*c 4"]


def posterior_grid(
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
    *,
    size: int = 200,
    prior: Prior = Prior(),  # noqa: B008 (a NamedTuple does not change)
    level: float = 0.95,
) -> Posterior:
    """The posterior of the logistic curve, on a grid of `size` x `size` points; no sampling.

    The grid is laid over the prior, then thrice over what of it has any density. NaN where there
    are no choices at all.

    Raises ValueError if `size` is below 50, a scale of the prior or `level` makes no sense, or the
    counts are impossible.
    """
    x, k, n = checked(x, k, n)
    if size < 50:
        raise ValueError(f"size={size} is too coarse a grid: use 50 or more")
    if not min(prior) > 0:
        raise ValueError(f"prior={prior} must have positive standard deviations")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1: 0.95 is usual")
    with jax.enable_x64(True):
        rows = [jnp.asarray(part.reshape(-1, len(x))) for part in (k, n)]
        scales = jnp.asarray(prior, jnp.float64)
        tails = jnp.asarray([(1 - level) / 2, (1 + level) / 2], jnp.float64)
        found = _posteriors(jnp.asarray(x), *rows, scales, tails, size=size)
    shape, known = k.shape[:-1], n.sum(-1) > 0
    low, high, slope_low, slope_high, falls, inside = (
        np.where(known, np.asarray(part).reshape(shape), np.nan) for part in found
    )
    switch = Interval(low, high, np.where(known, "interval", "none"))
    return Posterior(switch, slope_low, slope_high, falls, inside)


def psychometric(
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
) -> Psychometric:
    """A logistic curve that does not reach 0 and 1: some answers do not look at the intensity.

    Maximum likelihood by damped Fisher scoring from several starts; each lapse rate is at most
    one half. Where no lapses are likelier than any, it is the curve of `fit_finite`.

    Raises ValueError if the counts are impossible.
    """
    x, k, n = checked(x, k, n)
    plain, shape = fit_finite(x, k, n), k.shape[:-1]
    with jax.enable_x64(True):
        rows = [jnp.asarray(part.reshape(-1, len(x))) for part in (k, n)]
        ends = [jnp.asarray(np.nan_to_num(part.reshape(-1))) for part in (plain.b0, plain.b1)]
        best, loglik = (np.asarray(part) for part in _with_lapses(jnp.asarray(x), *rows, *ends))
    parts = [part.reshape(shape) for part in best.T]
    loglik = loglik.reshape(shape) + log_binomial(k, n).sum(-1)
    nested = ~(loglik > plain.loglik)  # also if there is no fit
    edge = (plain.b0, plain.b1, np.zeros(shape), np.zeros(shape))
    parts = [np.where(nested, e, part) for e, part in zip(edge, parts, strict=True)]
    loglik = np.where(nested, plain.loglik, loglik)
    return Psychometric(*parts, loglik, np.asarray(2 * 4 - 2 * loglik))


def isotonic(
    k: Real[np.ndarray, "*c L"], n: Real[np.ndarray, "*c L"], *, increasing: bool = False
) -> Isotonic:
    """The likeliest P(3) that never rises with the level, by pooling adjacent violators (scipy).

    Raises ValueError if the counts are impossible.
    """
    _, k, n = checked(np.arange(np.shape(k)[-1]), k, n)
    p, blocks = np.full(k.shape, np.nan), np.zeros(k.shape[:-1], np.int64)
    for row in np.ndindex(blocks.shape):
        there = n[row] > 0
        if there.any():
            share, weight = k[row][there] / n[row][there], n[row][there]
            found = isotonic_regression(share, weights=weight, increasing=increasing)
            p[row][there], blocks[row] = found.x, len(found.blocks) - 1
    return Isotonic(p, blocks, log_likelihood(k, n, np.nan_to_num(p)))


def criteria(
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
) -> Criteria:
    """Which model predicts each condition best, by Akaike's criterion 2 parameters - 2 loglik.

    Logistic: 2 parameters; with lapses: 4; isotonic: its steps; saturated: non-empty cells. For the
    second and third that is a rule of thumb, since their parameters are bounded.

    Raises ValueError if the counts are impossible.
    """
    x, k, n = checked(x, k, n)
    share = np.divide(k, n, out=np.zeros_like(k), where=n > 0)
    steps = isotonic(k, n)
    two = np.full(k.shape[:-1], 2)
    parameters = np.stack([two, 2 * two, steps.blocks, np.sum(n > 0, -1)], -1).astype(float)
    parts = [fit_logit(x, k, n).loglik, psychometric(x, k, n).loglik, steps.loglik]
    loglik = np.stack([*parts, log_likelihood(k, n, share)], -1)
    return Criteria(MODELS, parameters, loglik, 2 * parameters - 2 * loglik)


@partial(jax.jit, static_argnames="size")
def _posteriors(x, k, n, scales, tails, *, size: int):
    def log_density(at, slope, k, n, middle):
        """Up to a constant, on all pairs of log-odds in the middle and slope."""
        at, slope = at[:, None], slope[None]
        log_p = -((at / scales[0]) ** 2) / 2 - (slope / scales[1]) ** 2 / 2

        def add(log_p, cell):
            x, k, n = cell
            eta = at + slope * (x - middle)
            return log_p + k * eta - n * jax.nn.softplus(eta), None

        return lax.scan(add, log_p, (x, k, n))[0]

    def axes(box):
        return [jnp.linspace(low, high, size) for low, high in box]

    def one(row):
        k, n = row
        some = jnp.where(n > 0, x, jnp.nan)
        first, last = jnp.nanmin(some), jnp.nanmax(some)
        middle = (first + last) / 2
        box = 6 * jnp.stack([-scales, scales], 1)
        for depth in ZOOMS:
            both = axes(box)
            log_p = log_density(*both, k, n, middle)
            covered = log_p > jnp.max(log_p) - depth
            box = jnp.stack([_reach(covered.any(1 - i), both[i]) for i in (0, 1)])
        at, slope = axes(box)
        log_p = log_density(at, slope, k, n, middle)
        weight = jnp.exp(log_p - jnp.max(log_p))
        weight /= jnp.sum(weight)
        switch = middle - at[:, None] / slope[None]
        inside = (switch >= first) & (switch <= last)
        falls = jnp.sum(weight, where=slope[None] < 0)
        slopes = _quantiles(slope, jnp.sum(weight, 0), tails)
        points = _quantiles(switch.ravel(), weight.ravel(), tails)
        return *points, *slopes, falls, jnp.sum(weight, where=inside)

    return lax.map(one, (k, n))


def _reach(covered, axis):
    """First and last covered point of an axis, and one more on either side."""
    step = axis[1] - axis[0]
    low = jnp.min(axis, where=covered, initial=jnp.inf) - step
    return jnp.stack([low, jnp.max(axis, where=covered, initial=-jnp.inf) + step])


def _quantiles(values, weight, tails):
    order = jnp.argsort(values)
    below = jnp.cumsum(weight[order]) - weight[order] / 2
    return jnp.interp(tails, below, values[order])


@jax.jit
def _with_lapses(x, k, n, b0, b1):
    """Best parameters (b0, b1, lower, upper) of rows, and their log-likelihood less its constant.

    Free are the log-odds in the middle of the scale, and three numbers that tanh or a sigmoid take
    to a bounded slope and to bounded lapse rates.
    """
    middle = (x[0] + x[-1]) / 2

    def unpack(free):
        slope = STEEPEST * jnp.tanh(free[1] / STEEPEST)
        lower, upper = MOST * jax.nn.sigmoid(free[2]), MOST * jax.nn.sigmoid(free[3])
        return jnp.stack([free[0] - slope * middle, slope, lower, upper])

    def curve(free):
        b0, b1, lower, upper = unpack(free)
        return lower + (1 - lower - upper) * jax.nn.sigmoid(b0 + b1 * x)

    def one(k, n, b0, b1):
        def loglik(free):
            p = curve(free)
            return jnp.sum(jax.scipy.special.xlogy(k, p) + jax.scipy.special.xlog1py(n - k, -p))

        def climb(state, _):
            free, damping = state
            p, slope = curve(free), jax.jacfwd(curve)(free)
            variance = jnp.maximum(p * (1 - p), 1e-12)
            scaled = slope * (n / variance)[:, None]
            gradient = slope.T @ ((k - n * p) / variance)
            step = jnp.linalg.solve(slope.T @ scaled + damping * jnp.eye(4), gradient)
            better = loglik(free + step) > loglik(free)
            damping = jnp.clip(jnp.where(better, damping / 3, damping * 4), 1e-9, 1e9)
            return (jnp.where(better, free + step, free), damping), None

        def run(lapses):
            free = jnp.concatenate(
                [jnp.stack([b0 + b1 * middle, b1]), jax.scipy.special.logit(lapses / MOST)]
            )
            (free, _), _ = lax.scan(climb, (free, jnp.ones(())), length=ITERATIONS)
            return unpack(free), loglik(free)

        found, logliks = jax.vmap(run)(jnp.asarray(STARTS))
        best = jnp.argmax(logliks)
        return found[best], logliks[best]

    return jax.vmap(one)(k, n, b0, b1)
