"""Three policy gradients for a player whose co-player learns from a batch of games.

B copies of a game are played with one learning co-player, M inner episodes of T steps each. After
each inner episode the learner takes a step on the batch of B. With C_l^b what copy b still earns
in the inner episode of step l, and F_l^b what it earns in all later ones, the gradient of the
mean return is the expectation of ``sum_b sum_l weight_l^b grad log pi(a_l^b | h_l^b)`` with

    ``COALA-PG (Theorem 3.1):  weight = C_l^b / B + mean_b' F_l^b'``

The other two are biased: "mfos" (Eq. 7) has C_l^b + mean_b' F_l^b', "unaware" (Eq. 6)
(C_l^b + F_l^b) / B. Meulemans et al. (2024), arXiv 2410.18636v2.

Times come first, copies last: arrays are (L, N, B) for L = M T steps, N learners, B copies each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

METHODS = ("coala", "mfos", "unaware")

PerStep = Float[Array | np.ndarray, "L N B"]
Number = float | Float[Array | np.ndarray, ""]
Flag = bool | Bool[Array | np.ndarray, "*runs"]


class Method(NamedTuple):
    """What distinguishes the three, as arrays: one compiled program serves them all."""

    average_future: Flag  # AF of Algorithm 1
    normalise_current: Flag  # NC of Algorithm 1
    mean_over_copies: Flag  # the outer sum over b is a mean


def method(name: str) -> Method:
    """The flags of "coala", "mfos" or "unaware". Raises ValueError for another name."""
    if name not in METHODS:
        raise ValueError(f"method={name!r} is not known: use one of {', '.join(METHODS)}")
    flags = {
        "coala": (True, True, False),
        "mfos": (True, False, False),
        "unaware": (False, False, True),
    }[name]
    return Method(*map(np.asarray, flags))


def outer_factor(method: Method, copies: int) -> Float[Array, "*runs"]:
    """What the sum over copies is multiplied by: 1, or 1 / B where it is a mean."""
    return jnp.where(jnp.asarray(method.mean_over_copies), 1 / copies, 1.0)


def weights(rewards: PerStep, method: Method, *, steps: int) -> Float[Array, "L N B"]:
    """What each grad log pi is multiplied by, straight from Eqs. 3, 6 and 7.

    The outer factor is left out, as in Algorithm 1. Without baseline, and without discount.
    `steps` is T, the length of an inner episode.

    Raises ValueError as `batch_lambda_returns` does.
    """
    _check("rewards", rewards, steps)
    rewards = jnp.asarray(rewards)
    time, n, copies = rewards.shape
    episodes = rewards.reshape(-1, steps, n, copies)
    current = jnp.cumsum(episodes[:, ::-1], 1)[:, ::-1]
    total = episodes.sum(1)
    future = jnp.cumsum(total[::-1], 0)[::-1] - total
    mean = jnp.broadcast_to(future.mean(2, keepdims=True), future.shape)
    future = jnp.where(jnp.asarray(method.average_future), mean, future)
    current = current * _share(method.normalise_current, current)
    return (current + future[:, None]).reshape(time, n, copies)


def batch_lambda_returns(
    x: PerStep,
    values: PerStep,
    bootstrap: Float[Array | np.ndarray, "N B"],
    *,
    steps: int,
    discount: Number,
    lam: Number,
    average_future: Flag,
    normalise_current: Flag,
) -> Float[Array, "L N B"]:
    """Returns that look ahead to the end of one's own inner episode, then to the batch's mean.

    Algorithm 1 of App. A. `values` stand one step later than `x`: values[l] is that of the state
    after step l. `bootstrap` is what the sums begin with at the end: the value there for returns,
    0 for advantages. `steps` is T. Ends of inner episodes are no ends of the return.

    Raises ValueError if shapes do not fit, if B = 0, if T does not divide L, if `discount` or `lam`
    is outside [0, 1], and if there is a NaN, unless jit hides the values.
    """
    _check("x", x, steps)
    if np.shape(values) != np.shape(x) or np.shape(bootstrap) != np.shape(x)[1:]:
        raise ValueError(
            f"values has shape {np.shape(values)}, bootstrap {np.shape(bootstrap)}: x has "
            f"{np.shape(x)}, so they must have that and {np.shape(x)[1:]}"
        )
    _check_share("discount", discount)
    _check_share("lam", lam)
    x, values, bootstrap = map(jnp.asarray, (x, values, bootstrap))
    discount, lam = (jnp.asarray(a, x.dtype) for a in (discount, lam))
    share = _share(normalise_current, x)
    ends = jnp.arange(len(x)) % steps == steps - 1

    def back(sums, now):
        own, shared = sums
        x, value, end = now
        own = jnp.where(end & jnp.asarray(average_future), shared, own)
        own = x * share + discount * ((1 - lam) * value + lam * own)
        shared = _mean(x + discount * ((1 - lam) * value + lam * shared))
        return (own, shared), own

    return lax.scan(back, (bootstrap, _mean(bootstrap)), (x, values, ends), reverse=True)[1]


def advantages(
    rewards: PerStep,
    values: PerStep,
    method: Method,
    *,
    steps: int,
    discount: Number,
    lam: Number,
) -> Float[Array, "L N B"]:
    """How much better than expected each action turned out: Algorithm 1 on errors of the value.

    Generalised advantage estimation (App. A): x is the error r_l + discount V_{l+1} - V_l, and
    the discount is discount * lam. With both 1, any value is an unbiased baseline for COALA-PG.
    values[l] is that of the state before step l; after the last step it is 0.

    Raises ValueError as `batch_lambda_returns` does.
    """
    _check("rewards", rewards, steps)
    _check_share("discount", discount)
    _check_share("lam", lam)
    rewards, values = jnp.asarray(rewards), jnp.asarray(values)
    discount, lam = (jnp.asarray(a, rewards.dtype) for a in (discount, lam))
    later = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])
    return batch_lambda_returns(
        rewards + discount * later - values,
        jnp.zeros_like(values),
        jnp.zeros_like(values[0]),
        steps=steps,
        discount=discount * lam,
        lam=1.0,
        average_future=method.average_future,
        normalise_current=method.normalise_current,
    )


def value_targets(
    rewards: PerStep, values: PerStep, *, steps: int, discount: Number, lam: Number
) -> Float[Array, "L N B"]:
    """What a value should have been: the TD(lambda) return of one's own copy, Eq. 10.

    It is the same for all three methods. values[l] is that of the state before step l.

    Raises ValueError as `batch_lambda_returns` does.
    """
    values = jnp.asarray(values)
    return batch_lambda_returns(
        rewards,
        jnp.concatenate([values[1:], jnp.zeros_like(values[:1])]),
        jnp.zeros_like(values[0]),
        steps=steps,
        discount=discount,
        lam=lam,
        average_future=False,
        normalise_current=False,
    )


def _share(normalise_current, x):
    """1 / B where the current inner episode is normalised, else 1."""
    return jnp.where(jnp.asarray(normalise_current), 1 / x.shape[-1], 1.0).astype(x.dtype)


def _mean(x):
    """The mean over copies, at each of them."""
    return jnp.broadcast_to(x.mean(-1, keepdims=True), x.shape)


def _check(name, x, steps):
    """Raise ValueError if x is no (L, N, B), or T does not divide L, or a NaN is seen."""
    shape = np.shape(x)
    if len(shape) != 3:
        raise ValueError(f"{name} has shape {shape}: it must be (L, N, B), time first, copies last")
    if 0 in shape:
        raise ValueError(f"{name} has shape {shape}: there must be a step, a learner and a copy")
    if steps < 1 or shape[0] % steps:
        raise ValueError(
            f"steps={steps} must divide L={shape[0]}, the first axis of {name} with shape {shape}: "
            "time first, whole inner episodes"
        )
    if not isinstance(x, jax.core.Tracer) and np.isnan(np.asarray(x)).any():
        at = tuple(int(i) for i in np.argwhere(np.isnan(np.asarray(x)))[0])
        raise ValueError(f"{name} is NaN at {at} of (L, N, B): look at the game or the values")


def _check_share(name, x):
    """Raise ValueError if a number is seen to be outside [0, 1]."""
    if not isinstance(x, jax.core.Tracer) and not 0 <= float(x) <= 1:
        raise ValueError(f"{name}={float(x):g} must lie in [0, 1]")
