"""The paper's analysis: a logistic curve for each condition, its switch point, how sure both are.

All functions take many conditions at once, along leading axes: levels `x` of shape (L,), and for
each condition and level how often 3 was chosen, `k`, of `n` valid choices, both (..., L). Cells
with n = 0 count for nothing, so the eight-level rows may be padded to ten. All is in float64.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real
from scipy import stats
from scipy.special import expit, gammaln, xlog1py, xlogy

METHODS = ("fieller", "delta", "profile")
CAP = 5.0  # the most by which a Newton step may change a log-odds
TOLERANCE = 1e-9  # a fit has converged if its last step changed no log-odds by more
STEPS = 100  # the paper's fits need 12; some of Firth's, with few responses, 60
CHUNK = 256  # rows that are fitted, or drawn, together: they stay in the processor's cache


class LogitFit(NamedTuple):
    """logit P(3) = b0 + b1 x for each condition, with the covariance of (b0, b1).

    `loglik` is the binomial log-likelihood, its constant included. `separated` says that the data
    have no finite maximum-likelihood curve: all choices are the same, or one level parts them.
    Without a penalty that would make them finite, b0, b1 and the covariance are then NaN.
    """

    b0: Float[np.ndarray, "*c"]
    b1: Float[np.ndarray, "*c"]
    cov00: Float[np.ndarray, "*c"]
    cov01: Float[np.ndarray, "*c"]
    cov11: Float[np.ndarray, "*c"]
    loglik: Float[np.ndarray, "*c"]
    converged: Bool[np.ndarray, "*c"]
    separated: Bool[np.ndarray, "*c"]


class Interval(NamedTuple):
    """A confidence set of the switch point; it need not be an interval.

    `kind` is "interval", all from `low` to `high`; "outside", all but what lies between them;
    "everything", if the data rule out no switch point; "none", if there is no fit. In the last two
    `low` and `high` are NaN.
    """

    low: Float[np.ndarray, "*c"]
    high: Float[np.ndarray, "*c"]
    kind: np.ndarray  # of words, as many as there are conditions

    @property
    def bounded(self) -> Bool[np.ndarray, "*c"]:
        """Which of the sets are intervals."""
        return np.asarray(self.kind == "interval")

    def words(self, digits: int = 2) -> list[str]:
        """Each set in words: "2.69 to 3.03", "outside 0.29 to 7.41", "unbounded" or "none"."""
        rows = zip(*(np.ravel(part) for part in self), strict=True)
        return [_in_words(*row, digits) for row in rows]


class Band(NamedTuple):
    """Lower and upper edge of P(3)."""

    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class ChiSquared(NamedTuple):
    """A statistic that follows chi-squared with `df` degrees of freedom if the hypothesis holds."""

    statistic: Float[np.ndarray, "*c"]
    df: Real[np.ndarray, "*c"]
    p: Float[np.ndarray, "*c"]


def fit_logit(
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
    *,
    firth: bool = False,
    l2: float = 0.0,
    steps: int = STEPS,
) -> LogitFit:
    """Fit the logistic curve of each condition by Newton's method, as the paper did.

    `firth` adds Jeffreys' prior to the likelihood (Firth, 1993), which keeps estimates finite. `l2`
    adds l2/2 b1^2, a ridge on the slope but not on b0; the paper did not do that. (The covariance
    and `loglik` are those of the plain likelihood at the estimate, the ridge counted as
    information.) `steps` is the most that are taken.

    Raises ValueError if the counts are impossible, `l2` is negative or `steps` is not positive.
    """
    x, k, n = checked(x, k, n)
    if not l2 >= 0:
        raise ValueError(f"l2={l2} must not be negative: use 0 for the paper's fit")
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    with jax.enable_x64(True):
        rows = [jnp.asarray(part.reshape(-1, len(x))) for part in (k, n)]
        fit = _fit(jnp.asarray(x), *rows, jnp.float64(l2), firth=firth, steps=steps)
    fit = LogitFit(*(np.asarray(part).reshape(k.shape[:-1]) for part in fit))
    return fit._replace(loglik=np.asarray(fit.loglik + log_binomial(k, n).sum(-1)))


def newton_step(
    b0: Float[Array, ""],
    b1: Float[Array, ""],
    x: Float[Array, " L"],
    k: Float[Array, " L"],
    n: Float[Array, " L"],
    *,
    firth: bool,
    l2: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """By how much Newton's method changes b0 and b1 of one condition.

    The inverse of the 2x2 information is written out, around the weighted mean level.
    """
    p = jax.nn.sigmoid(b0 + b1 * x)
    total, mean, spread = information(p, x, n, l2)
    residual = k - n * p
    if firth:  # the gradient of log det(information) / 2
        leverage = n * p * (1 - p) * (1 / total + (x - mean) ** 2 / spread)
        residual += leverage * (0.5 - p)
    step1 = (jnp.sum(residual * (x - mean)) - l2 * b1) / spread
    return jnp.sum(residual) / total - mean * step1, step1


def information(
    p: Float[Array, " L"], x: Float[Array, " L"], n: Float[Array, " L"], l2: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Fisher's information as (total weight, weighted mean level, spread of the levels)."""
    weight = n * p * (1 - p)
    total = jnp.sum(weight)
    mean = jnp.sum(weight * x) / total
    return total, mean, jnp.sum(weight * (x - mean) ** 2) + l2


def fit_finite(
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
) -> LogitFit:
    """The paper's fit where there is one, and Firth's where the data are separated.

    Raises what `fit_logit` raises.
    """
    plain, finite = fit_logit(x, k, n), fit_logit(x, k, n, firth=True)
    parts = zip(plain, finite, strict=True)
    return LogitFit(*(np.where(plain.separated, f, p) for p, f in parts))


def switch_point(fit: LogitFit) -> Float[np.ndarray, "*c"]:
    """The level at which 3 is chosen half of the time, -b0/b1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-fit.b0 / fit.b1)


def probability(fit: LogitFit, x: Real[np.ndarray, " m"]) -> Float[np.ndarray, "*c m"]:
    """P(3) at levels x, which need not be whole."""
    return expit(fit.b0[..., None] + fit.b1[..., None] * np.asarray(x, float))


def wald_band(fit: LogitFit, x: Real[np.ndarray, " m"], *, level: float = 0.95) -> Band:
    """The band around the curve at levels x: log-odds plus and minus z standard errors, as P(3).

    Raises ValueError if `level` does not lie between 0 and 1.
    """
    z, x = _quantile(level), np.asarray(x, float)
    b0, b1, c00, c01, c11 = (part[..., None] for part in fit[:5])
    half = z * np.sqrt(c00 + 2 * x * c01 + x**2 * c11)
    return Band(expit(b0 + b1 * x - half), expit(b0 + b1 * x + half))


def switch_interval(
    fit: LogitFit,
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
    *,
    method: str = "fieller",
    level: float = 0.95,
) -> Interval:
    """The switch points that the data do not rule out.

    "fieller" (1954) takes every s for which b0 + b1 s is within z standard errors of zero;
    "profile" every s for which a curve through (s, 1/2) has nearly the largest likelihood; "delta"
    the usual plus and minus z standard errors of -b0/b1, which pretends that b1 is never near 0.

    Raises ValueError for another method, a `level` not between 0 and 1, or impossible counts.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known: use one of {', '.join(METHODS)}")
    z, (x, k, n) = _quantile(level), checked(x, k, n)
    known = np.isfinite(fit.b1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "fieller":
            return _interval(*_fieller(fit, z), known)
        if method == "profile":
            return _interval(*_profile(fit, x, k, n, z), known & ~fit.separated)
        s = switch_point(fit)
        half = z * np.sqrt(fit.cov00 + 2 * s * fit.cov01 + s**2 * fit.cov11) / np.abs(fit.b1)
        return _interval(
            s - half, s + half, np.zeros(s.shape, bool), np.zeros(s.shape, bool), known
        )


def deviance(
    fit: LogitFit,
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
) -> ChiSquared:
    """Does a logistic curve describe the counts? Twice the log-likelihood that it falls short.

    Compared with free proportions at each level; degrees of freedom are non-empty cells minus 2.
    Raises ValueError if the counts are impossible.
    """
    x, k, n = checked(x, k, n)
    share = np.divide(k, n, out=np.zeros_like(k), where=n > 0)
    fitted = log_likelihood(k, n, probability(fit, x))
    statistic = 2 * (log_likelihood(k, n, share) - fitted)
    df = np.maximum(np.sum(n > 0, -1) - 2, 0)
    return ChiSquared(
        np.asarray(statistic), np.asarray(df), np.asarray(stats.chi2.sf(statistic, df))
    )


def slope_test(
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
) -> ChiSquared:
    """Likelihood-ratio test of b1 = 0: does intensity matter at all?

    NaN where there are no choices at two levels or more. Raises ValueError if the counts are
    impossible.
    """
    x, k, n = checked(x, k, n)
    chose, valid = k.sum(-1), n.sum(-1)
    with np.errstate(invalid="ignore"):
        pooled = (chose / valid)[..., None]
        flat = log_likelihood(k, n, pooled)
    statistic = np.asarray(np.maximum(2 * (fit_logit(x, k, n).loglik - flat), 0))
    return ChiSquared(statistic, np.ones(statistic.shape), np.asarray(stats.chi2.sf(statistic, 1)))


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """The p-values of several tests, adjusted so that one false alarm among all is rare (Holm).

    Raises ValueError if one is not a probability: leave NaN out, it is no test.
    """
    p = np.asarray(p, float)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p={p} must lie between 0 and 1: leave out conditions without a test")
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)[np.argsort(order)]


def draw_counts(
    key: PRNGKeyArray,
    p: Float[np.ndarray, "*c L"],
    n: Real[np.ndarray, "*c L"],
    *,
    draws: int,
) -> Real[np.ndarray, "draws *c L"]:
    """Binomial counts, `draws` times: what subjects with these probabilities would have chosen.

    Exact, by inversion: one uniform number a cell, compared with the distribution function.

    Raises ValueError if a probability is not one, or `draws` is not positive.
    """
    table = _distribution(p, n, draws)
    with jax.enable_x64(True):
        return np.asarray(_draws(jax.random.split(key, draws), table))


def bootstrap(
    key: PRNGKeyArray,
    x: Real[Array | np.ndarray, " L"],
    k: Real[Array | np.ndarray, "*c L"],
    n: Real[Array | np.ndarray, "*c L"],
    *,
    draws: int,
) -> Float[np.ndarray, "draws *c"]:
    """Switch points of resampled data: counts drawn from the fitted curves, and fitted again.

    The curves are those of `fit_finite`; all resamples have Firth's, since some are separated. NaN
    where there is nothing to fit.

    Raises ValueError if the counts are impossible, or `draws` is not positive.
    """
    x, k, n = checked(x, k, n)
    p = probability(fit_finite(x, k, n), x)
    table = _distribution(np.nan_to_num(p.reshape(-1, len(x))), n.reshape(-1, len(x)), draws)
    with jax.enable_x64(True):
        keys = jax.random.split(key, draws)
        s = _resample(keys, jnp.asarray(x), jnp.asarray(n.reshape(-1, len(x))), table)
        return np.asarray(s).reshape(draws, *k.shape[:-1])


def log_binomial(
    k: Float[np.ndarray, "*c L"], n: Float[np.ndarray, "*c L"]
) -> Float[np.ndarray, "*c L"]:
    """The part of the log-likelihood that no curve changes: in how many ways k of n may fall."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def log_likelihood(
    k: Float[np.ndarray, "*c L"], n: Float[np.ndarray, "*c L"], p: Float[np.ndarray, "*#c #L"]
) -> Float[np.ndarray, "*c"]:
    """Of counts k of n that are drawn with probabilities p, summed over the levels."""
    return np.asarray(np.sum(log_binomial(k, n) + xlogy(k, p) + xlog1py(n - k, -p), -1))


@partial(jax.jit, static_argnames=("firth", "steps"))
def _fit(x, k, n, l2, *, firth: bool, steps: int) -> LogitFit:
    """`fit_logit` of rows, with counts as floats; the constant of `loglik` left out."""

    def one(row):
        return _fit_one(x, *row, l2, firth=firth, steps=steps)

    return _in_chunks(one, (k, n), CHUNK)


def _fit_one(x, k, n, l2, *, firth: bool, steps: int) -> LogitFit:
    def climb(state):
        b0, b1, _, taken = state
        step0, step1 = newton_step(b0, b1, x, k, n, firth=firth, l2=l2)
        change = jnp.max(jnp.where(n > 0, jnp.abs(step0 + step1 * x), 0.0))
        scale = jnp.minimum(1.0, CAP / change)
        return b0 + scale * step0, b1 + scale * step1, change, taken + 1

    def unfinished(state):
        return (state[3] < steps) & (state[2] > TOLERANCE)  # NaN ends it, too

    separated, same = _separated(x, k, n)
    finite = firth | ~separated | ((l2 > 0) & ~same)
    start = jnp.zeros(()), jnp.zeros(()), jnp.where(finite, jnp.inf, 0.0), 0
    b0, b1, change, _ = lax.while_loop(unfinished, climb, start)
    eta = b0 + b1 * x
    # no curve is the best for separated data, but the likelihood rises to that of the shares
    share = k / jnp.maximum(n, 1)
    best = jax.scipy.special.xlogy(k, share) + jax.scipy.special.xlog1py(n - k, -share)
    curve = k * eta - n * jax.nn.softplus(eta)
    loglik = jnp.sum(jnp.where(finite, curve, best))
    total, mean, spread = information(jax.nn.sigmoid(eta), x, n, l2)
    finite &= spread > 0
    b0, b1, cov00, cov01, cov11 = (
        jnp.where(finite, part, jnp.nan)
        for part in (b0, b1, 1 / total + mean**2 / spread, -mean / spread, 1 / spread)
    )
    return LogitFit(b0, b1, cov00, cov01, cov11, loglik, finite & (change <= TOLERANCE), separated)


def _separated(x, k, n):
    """Whether the levels of 3 and those of other choices overlap in at most one; if one is empty.

    Without that overlap the likelihood rises for ever as the curve becomes steeper (or flat).
    """
    three, other = k > 0, k < n
    low3, high3 = (
        jnp.min(x, where=three, initial=jnp.inf),
        jnp.max(x, where=three, initial=-jnp.inf),
    )
    low, high = jnp.min(x, where=other, initial=jnp.inf), jnp.max(x, where=other, initial=-jnp.inf)
    return (high3 <= low) | (high <= low3), ~three.any() | ~other.any()


def _draw(key, table):
    """One count for each cell: how many steps of its distribution function a uniform exceeds."""
    uniform = jax.random.uniform(key, table.shape[1:], jnp.float64)
    return jnp.sum(uniform[None] > table, 0, dtype=jnp.int32)


@jax.jit
def _draws(keys, table):
    return _in_chunks(partial(_draw, table=table), keys, CHUNK)


@jax.jit
def _resample(keys, x, n, table):
    def one(key):
        k = _draw(key, table).astype(jnp.float64)
        fit = _fit(x, k, n, jnp.float64(0), firth=True, steps=STEPS)
        return -fit.b0 / fit.b1

    return _in_chunks(one, keys, max(CHUNK // len(n), 1))


def _in_chunks(one, rows, size: int):
    """`one` of each row, `size` side by side: a slow fit delays only those of its chunk.

    The last chunk is filled up with rows from the start, so that one size is compiled.
    """
    count = len(jax.tree.leaves(rows)[0])
    if count <= size:
        return jax.vmap(one)(rows)
    full = jnp.arange(-(-count // size) * size) % count
    found = lax.map(one, jax.tree.map(lambda part: part[full], rows), batch_size=size)
    return jax.tree.map(lambda part: part[:count], found)


def _distribution(p, n, draws: int):
    """P(count <= j) for j from 0 to the largest n - 1, in front of the axes of p."""
    if draws < 1:
        raise ValueError(f"draws={draws} must be at least 1")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p must hold probabilities, between 0 and 1: leave out rows without a fit")
    counts = np.arange(max(int(np.max(n)), 1)).reshape(-1, *[1] * np.ndim(p))
    table = stats.binom.cdf(counts, np.asarray(n, int), p)
    with jax.enable_x64(True):
        return jnp.asarray(np.where(counts >= n, 2.0, table))


def _fieller(fit: LogitFit, z: float):
    """Edges, and whether the set is outside of them or everything.

    The set is where (b0 + b1 s)^2 <= z^2 var(b0 + b1 s), a quadratic in s.
    """
    a = fit.b1**2 - z**2 * fit.cov11
    b = fit.b0 * fit.b1 - z**2 * fit.cov01
    c = fit.b0**2 - z**2 * fit.cov00
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    edges = np.sort(np.stack([(-b - root) / a, (-b + root) / a]), 0)
    return edges[0], edges[1], a < 0, (a < 0) & (b**2 <= a * c)


def _profile(fit: LogitFit, x, k, n, z: float):
    """As `_fieller`, of the likelihood.

    Curves with one switch point are a line through (0, 0) in the plane of (b0, b1), curves with
    enough likelihood a convex set in it. So the lines that meet the set are all the directions
    between two edges, found by bisection: from the best line to the worst, which is perpendicular
    to the gradient at (0, 0), on either side.
    """
    with jax.enable_x64(True):
        parts = [jnp.asarray(np.ravel(b)) for b in (fit.b0, fit.b1)]
        parts += [jnp.asarray(a.reshape(-1, len(x))) for a in (k, n)]
        low, high, turned, everything = _profiles(jnp.asarray(x), *parts, jnp.float64(z**2))
    return [np.asarray(part).reshape(fit.b0.shape) for part in (low, high, turned, everything)]


@jax.jit
def _profiles(x, b0, b1, k, n, limit):
    middle, unit = jnp.mean(x), jnp.std(x)
    u = (x - middle) / unit

    def one(b0, b1, k, n):
        def loglik(eta):
            return jnp.sum(k * eta - n * jax.nn.softplus(eta))

        def shortfall(angle):
            """Twice the log-likelihood that the best curve of a direction lacks, less the limit."""
            v = jnp.cos(angle) * u + jnp.sin(angle)

            def climb(_, t):
                p = jax.nn.sigmoid(t * v)
                step = jnp.sum((k - n * p) * v) / jnp.sum(n * p * (1 - p) * v**2)
                return t + jnp.clip(step, -CAP, CAP)

            return 2 * (best - loglik(lax.fori_loop(0, 30, climb, 0.0) * v)) - limit

        def edge(good, bad):
            def halve(_, ends):
                good, bad = ends
                middle = (good + bad) / 2
                inside = shortfall(middle) <= 0
                return jnp.where(inside, middle, good), jnp.where(inside, bad, middle)

            return lax.fori_loop(0, 50, halve, (good, bad))[0]

        best = loglik(b0 + b1 * x)
        residual = k - n / 2
        # as (slope, log-odds at the middle) in units of u
        hat = jnp.arctan2(b0 + b1 * middle, b1 * unit)
        worst = jnp.arctan2(-jnp.sum(residual * u), jnp.sum(residual))
        after = hat + jnp.mod(worst - hat, jnp.pi)
        first, last = edge(hat, after - jnp.pi), edge(hat, after)
        # the switch point jumps from one infinity to the other where the slope is zero
        turns = jnp.floor(last / jnp.pi + 0.5) - jnp.floor(first / jnp.pi + 0.5)
        ends = jnp.sort(middle - unit * jnp.tan(jnp.stack([first, last])))
        everything = 2 * (best - loglik(jnp.zeros_like(x))) <= limit
        return ends[0], ends[1], (turns > 0) | everything, everything

    return jax.vmap(one)(b0, b1, k, n)


def _interval(low, high, outside, everything, known) -> Interval:
    kind = np.where(outside, "outside", "interval")
    kind = np.where(everything, "everything", kind)
    kind = np.where(known, kind, "none")
    told = np.isin(kind, ["interval", "outside"])
    return Interval(np.where(told, low, np.nan), np.where(told, high, np.nan), kind)


def _in_words(low: float, high: float, kind: str, digits: int) -> str:
    low, high = (round(float(end), digits) + 0.0 for end in (low, high))  # no "-0.00"
    ends = f"{low:.{digits}f} to {high:.{digits}f}"
    words = {"interval": ends, "outside": f"outside {ends}", "everything": "unbounded"}
    return words.get(str(kind), "none")


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1: 0.95 is usual")
    return float(stats.norm.ppf(0.5 + level / 2))


def checked(x, k, n):
    x, k, n = (np.asarray(part, np.float64) for part in (x, k, n))
    if k.shape != n.shape or k.shape[-1:] != x.shape:
        raise ValueError(
            f"k{k.shape} and n{n.shape} must have one shape that ends with that of x, {x.shape}"
        )
    impossible = ~((k >= 0) & (k <= n))
    if impossible.any():
        at = tuple(int(i) for i in np.argwhere(impossible)[0])
        raise ValueError(f"k={k[at]:g} of n={n[at]:g} at {at} is impossible: 0 <= k <= n is wanted")
    return x, k, n
