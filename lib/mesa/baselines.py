"""Predictors of the next state that need no training, or that of a few numbers.

The controls of von Oswald et al., arXiv 2309.05858v2, in closed form: least squares at every time,
gradient descent with a preconditioner (propositions 1 and 2), softmax kernel regression. Each takes
the inputs s_1 .. s_T and gives f, (B, T, n): f_t predicts s_{t+1} from s_1 .. s_t. What is fitted
is fitted to sequences of T + 1 states; score it on others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from lib.mesa.systems import Teacher, previous

Number = float | Float[Array | np.ndarray, ""]
States = Float[Array, "B T n"]
KERNEL_SCALES = tuple(np.geomspace(1e-2, 1e2, 41).tolist())
ORDINARY = 0.99  # the share of the rows, those of small features, that a first fit uses


class Regression(NamedTuple):
    """Least squares at every time, for keys k, values v and queries q."""

    prediction: Float[Array, "B T n"]  # Phi_t q_t
    solved: Float[Array, "B T d"]  # (sum_{i<=t} k_i k_i' + I / lambda)^-1 q_t


def zero(s: States) -> States:
    """Predict nothing: its error is the variance of the states."""
    return jnp.zeros_like(s)


def oracle(s: States, w: Float[Array, "B n n"], teacher: Teacher | None = None) -> States:
    """Know the map of each sequence: W s_t, or W MLP*(s_t). Its error is that of the noise."""
    return jnp.einsum("bij,btj->bti", w, s if teacher is None else teacher(s))


def ridge(s: States, lam: Number, *, features: Float[Array, "B T d"] | None = None) -> States:
    """Least squares on all transitions seen so far, at every t.

    Phi_t minimises ``1/2 sum_{i<t} |s_{i+1} - Phi x_i|^2 + |Phi|^2 / (2 lam)``, f_t = Phi_t x_t,
    where x is s, or `features` of it: a teacher's outputs, or stacked states. `lam` is the variance
    that the entries of Phi have in advance, in units of the noise: for random rotations 1 / n, so
    that the best is 1 / (n sigma_h^2).

    Raises ValueError if `lam` is not positive.
    """
    x = s if features is None else features
    return recursive_least_squares(previous(x), s, x, lam).prediction


def preconditioned(s: States, lam: Number) -> States:
    """(S S' + I / lam)^-1 s_t with S = [s_1 .. s_{t-1}]: the inputs that one step of GD needs.

    Proposition 2 approaches them. Raises ValueError if `lam` is not positive.
    """
    return recursive_least_squares(previous(s), s, s, lam).solved


def recursive_least_squares(
    keys: Float[Array, "B T d"],
    values: Float[Array, "B T n"],
    queries: Float[Array, "B T d"],
    lam: Number,
) -> Regression:
    """Ridge regression of values on keys up to each time, applied to that time's query.

    One rank-one update a step (Sherman and Morrison). Digits get lost once ``lam |k|^2`` passes
    1e4.

    Raises ValueError if `lam` is not positive.
    """
    if not isinstance(lam, jax.core.Tracer) and lam <= 0:
        raise ValueError(f"lam={lam} must be positive: 1 / lam weighs the penalty")
    return _recursive_least_squares(keys, values, queries, jnp.asarray(lam, keys.dtype))


def gradient_step(s: States, eta: Number) -> States:
    """One step of gradient descent from Phi = 0: f_t = eta sum_{i<t} s_{i+1} (s_i . s_t).

    Proposition 1. The best eta is `fit_polynomial(s, 0)`.
    """
    before = previous(s)
    return jnp.asarray(eta, s.dtype) * jnp.tril(s @ before.mT) @ s


def polynomial(
    s: Float[Array | np.ndarray, "B T n"],
    coefficients: Float[np.ndarray, " K1"],
    *,
    mean: bool = False,
) -> Float[np.ndarray, "B T n"]:
    """A step of GD after K steps of preconditioning: a polynomial of degree K in S S'.

    Proposition 2. Whatever the step sizes of its iteration are, Richardson's or Chebyshev's, x^K is
    p(S S') s_t, and f_t = M_t x^K with M_t = sum_{i<t} s_{i+1} s_i' is linear in the coefficients
    of p. With `mean`, all sums over time are means.
    """
    return np.tensordot(coefficients, polynomial_features(s, len(coefficients) - 1, mean=mean), 1)


def polynomial_features(
    s: Float[Array | np.ndarray, "B T n"], degree: int, *, mean: bool = False
) -> Float[np.ndarray, "K1 B T n"]:
    """M_t (S S')^j s_t for j = 0 .. degree, in float64: powers are nearly parallel.

    Raises ValueError if `degree` < 0.
    """
    if degree < 0:
        raise ValueError(f"degree={degree} must be at least 0, the number of preconditioning steps")
    s = np.asarray(s, np.float64)
    before = np.pad(s, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    counts = np.maximum(np.arange(s.shape[1]), 1)[:, None] if mean else 1
    x, features = s, []
    for _ in range(degree + 1):
        looks = np.tril(x @ before.mT) / counts
        features.append(looks @ s)
        x = looks @ before
    return np.stack(features)


def fit_polynomial(
    s: Float[Array | np.ndarray, "B T1 n"],
    degree: int,
    *,
    mean: bool = False,
    clip: float | None = 4.0,
) -> Float[np.ndarray, " K1"]:
    """The best coefficients of Proposition 2, of the GD step if `degree` is 0: no tuning is needed.

    Linear least squares if `clip` is None. But a few sequences have huge features and would rule
    it; so predictions are clipped to [-clip, clip], as the trained network's are, and the error
    of these is minimised by Gauss-Newton steps.

    Raises ValueError if `degree` < 0 or `clip` is not positive.
    """
    if clip is not None and clip <= 0:
        raise ValueError(f"clip={clip} must be positive, or None for plain least squares")
    s = np.asarray(s, np.float64)
    x = polynomial_features(s[:, :-1], degree, mean=mean).reshape(degree + 1, -1).T
    y = s[:, 1:].reshape(-1)
    size = np.sqrt(np.square(x).mean(0))
    if clip is None:
        return np.linalg.lstsq(x / size, y, rcond=None)[0] / size
    largest = np.abs(x / size).max(1)
    # in a basis that is orthonormal on rows of ordinary size, small normal equations are accurate
    ordinary = largest <= np.quantile(largest, ORDINARY)
    basis = np.linalg.inv(np.linalg.qr(x[ordinary], "r"))
    z = x @ basis
    return basis @ _gauss_newton(z, y, _least_squares(z, y, ordinary), clip)


def diagonal_step_size(steps: int, *, fourth: float, sixth: float, mixed: float) -> float:
    """The step c that one linear layer learns on diagonal systems, Zheng et al., 2405.16845.

    x_{t+1} = W x_t, W diagonal with random phases, and the layer predicts c / (t-1) sum_{i<t}
    x_{i+1} (x_i . x_t), for t = 2 .. T-1, T = `steps`. The moments of x_1: `fourth` = E x_j^4,
    `sixth` = E x_j^6, `mixed` = sum_{r != j} E x_j^2 x_r^4. In d dimensions, ones have 1, 1 and
    d - 1; N(0, 1) has 3, 15 and 3 (d - 1).

    Raises ValueError if `steps` < 3.
    """
    if steps < 3:
        raise ValueError(f"steps={steps} must be at least 3: the first prediction is for x_3")
    return fourth / (sixth + mixed * float(np.mean(1 / np.arange(1, steps - 1))))


def kernel_regression(s: States, scale: Number) -> States:
    """Softmax self-attention as a predictor: mean of s_{i+1}, weights exp(scale s_i . s_t), i < t.

    Fig. 5B: what one softmax layer can do with bound tokens. Zero at t = 1, where nothing is known.
    """
    before = previous(s)
    scores = jnp.asarray(scale, s.dtype) * (s @ before.mT)
    seen = jnp.tri(s.shape[1], dtype=bool)
    seen = seen.at[:, 0].set(False)[None]  # no transition ends in s_1
    return jax.nn.softmax(scores, -1, where=seen) @ s


def fit_kernel(s: Float[Array, "B T1 n"], scales: tuple[float, ...] = KERNEL_SCALES) -> float:
    """The scale of the grid with which kernel regression errs least."""
    return min(scales, key=lambda scale: float(_kernel_error(s, scale)))


def mse(
    f: Float[Array | np.ndarray, "B T n"],
    target: Float[Array | np.ndarray, "B T n"],
    *,
    clip: float | None = None,
) -> Float[Array, ""]:
    """Mean squared error per dimension, over all times; of predictions clipped to [-clip, clip]."""
    f = jnp.asarray(f, jnp.float32)
    return jnp.square((f if clip is None else jnp.clip(f, -clip, clip)) - target).mean()


@jax.jit
def _kernel_error(s, scale):
    return mse(kernel_regression(s[:, :-1], scale), s[:, 1:])


@jax.jit
def _recursive_least_squares(keys, values, queries, lam):
    def step(state, now):  # the batch is last
        inverse, phi = state
        k, v, q = now
        rk = (inverse * k[None]).sum(1)
        gain = rk / (1 + (k * rk).sum(0))[None]
        phi = phi + (v - (phi * k[None]).sum(1))[:, None] * gain[None]
        inverse = inverse - gain[:, None] * rk[None]
        return (inverse, phi), ((phi * q[None]).sum(1), (inverse * q[None]).sum(1))

    batch, _, d = keys.shape
    inverse = jnp.broadcast_to((lam * jnp.eye(d, dtype=keys.dtype))[..., None], (d, d, batch))
    phi = jnp.zeros((values.shape[-1], d, batch), keys.dtype)
    times = [x.transpose(1, 2, 0) for x in (keys, values, queries)]
    _, found = lax.scan(step, (inverse, phi), tuple(times))
    return Regression(*(x.transpose(2, 0, 1) for x in found))


def _least_squares(x, y, kept):
    kept = kept.astype(x.dtype)[:, None] * x
    return np.linalg.solve(kept.T @ x, kept.T @ y)


def _clipped_error(f, y, clip):
    return np.square(np.clip(f, -clip, clip) - y).mean()


def _gauss_newton(x, y, fit, clip):
    """Least squares on what is not clipped, again and again, in shorter steps if that is worse."""
    f = x @ fit
    error = _clipped_error(f, y, clip)
    for _ in range(30):
        step = _least_squares(x, y, np.abs(f) < clip) - fit
        along = x @ step
        lengths = 0.5 ** np.arange(6)
        length = next((a for a in lengths if _clipped_error(f + a * along, y, clip) < error), 0)
        f, fit = f + length * along, fit + length * step
        before, error = error, _clipped_error(f, y, clip)
        if before - error < 1e-6 * before:
            break
    return fit
