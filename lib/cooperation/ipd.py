"""The infinitely iterated prisoner's dilemma in closed form: returns, learning, extortion.

App. C of Meulemans et al. (2024), arXiv 2410.18636v2. A policy remembers one step. It is five
logits: of the probability to cooperate in the beginning and after CC, CD, DC and DD, its own action
first. Nothing is sampled here: the discounted return is the solution of four linear equations. To
play step by step, see `lib.cooperation.dilemma`.

Returns are averages, (1 - gamma) sum gamma^t r_t, and learners take steps along the slope of
these; with `normalise=False` both are sums, as Eq. 16 has it. The paper's step size of 5 goes with
averages.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from lib.cooperation.dilemma import PAYOFF, SWAPPED

Logits = Float[Array | np.ndarray, "5"]
Probabilities = Float[Array | np.ndarray, "5"]
Number = float | Float[Array | np.ndarray, ""]
Payoff = Float[Array | np.ndarray, "4"]  # of the player whose action comes first: CC, CD, DC, DD


class Returns(NamedTuple):
    """What two players get."""

    first: Float[Array, ""]
    second: Float[Array, ""]


class Slope(NamedTuple):
    """What two players get, and how the second one would change its logits."""

    first: Float[Array, ""]
    second: Float[Array, ""]
    gradient: Float[Array, "5"]


class Path(NamedTuple):
    """A naive learner on its way: before the first step, after each, and where it ended."""

    own: Float[Array, " episodes"]  # the return of the player that stays as it is
    other: Float[Array, " episodes"]  # the learner's
    policy: Float[Array, "episodes 5"]  # the learner's logits


class Extortion(NamedTuple):
    """The zero-determinant policy nearest to some policy."""

    loss: Float[np.ndarray, "..."]  # squared distance of the four probabilities
    factor: Float[np.ndarray, "..."]  # chi: how much more than the other the player gains
    scale: Float[np.ndarray, "..."]  # f


def payoff(temptation: float, reward: float, punishment: float, sucker: float) -> Payoff:
    """The payoffs of a prisoner's dilemma, in the order CC, CD, DC, DD.

    Raises ValueError unless temptation > reward > punishment > sucker, and mutual cooperation pays
    more than taking turns, 2 reward > temptation + sucker.
    """
    falls = temptation > reward > punishment > sucker
    if not falls or not 2 * reward > temptation + sucker:
        raise ValueError(
            f"temptation={temptation}, reward={reward}, punishment={punishment}, sucker={sucker} "
            "are no prisoner's dilemma: they must fall, and 2 reward > temptation + sucker"
        )
    return np.float32([reward, sucker, temptation, punishment])


def returns(
    first: Logits, second: Logits, *, gamma: Number, normalise: bool = True, pays: Payoff = PAYOFF
) -> Returns:
    """What two policies get against each other: Eq. 16.

    Raises ValueError if `gamma` is not in 0 .. 1, below 1, for logits that are not five finite
    numbers, and payoffs that are not four: use `jax.vmap` for many policies.
    """
    _check(gamma=gamma, pays=pays, first=first, second=second)
    return returns_of(
        jax.nn.sigmoid(jnp.asarray(first)), jax.nn.sigmoid(jnp.asarray(second)),
        gamma=gamma, normalise=normalise, pays=pays,
    )  # fmt: skip


def returns_of(
    first: Probabilities,
    second: Probabilities,
    *,
    gamma: Number,
    normalise: bool = True,
    pays: Payoff = PAYOFF,
) -> Returns:
    """As `returns`, for probabilities to cooperate: 0 and 1 are allowed.

    Raises ValueError for numbers that are no probabilities, and as `returns` does.
    """
    _check(gamma=gamma, pays=pays, first=first, second=second)
    for name, policy in (("first", first), ("second", second)):
        if not isinstance(policy, jax.core.Tracer):
            low, high = float(np.min(policy)), float(np.max(policy))
            if low < 0 or high > 1:
                raise ValueError(
                    f"{name} has {low:g} .. {high:g}, wanted probabilities 0 .. 1: `returns` takes "
                    "logits"
                )
    p, q = jnp.asarray(first), jnp.asarray(second)[SWAPPED]
    visits = _visits(p, q, gamma)
    scale = 1 - gamma if normalise else 1.0
    own, other = (scale * _dot(visits, r) for r in _both(jnp.asarray(pays, p.dtype)))
    return Returns(own, other)


def naive_slope(
    first: Logits, second: Logits, *, gamma: Number, normalise: bool = True, pays: Payoff = PAYOFF
) -> Slope:
    """What two policies get, and the gradient of the second's return in its own logits.

    With X = (I - gamma P)^-1, visits d = s_0 X and values v = X r_2, the slope in the probability
    q_s is w_s (p_s (v_CC - v_CD) + (1 - p_s) (v_DC - v_DD)), w = 1 in the beginning and gamma d_s
    later. So nothing is differentiated here, and the gradient of a path of learning needs no second
    derivatives of a solver.

    Raises ValueError as `returns` does.
    """
    _check(gamma=gamma, pays=pays, first=first, second=second)
    p, q = jax.nn.sigmoid(jnp.asarray(first)), jax.nn.sigmoid(jnp.asarray(second))[SWAPPED]
    own, other, gradient = _slope(_parts(p), _parts(q), gamma, normalise, pays)
    return Slope(own, other, jnp.stack(gradient)[SWAPPED])


def naive_path(
    player: Logits,
    learner: Logits,
    *,
    gamma: Number,
    rate: Number,
    episodes: int,
    normalise: bool = True,
    pays: Payoff = PAYOFF,
) -> Path:
    """A naive learner takes `episodes` steps of gradient ascent against a player that stays.

    Raises ValueError for `rate` <= 0, `episodes` < 0, and as `returns` does.
    """
    _check(gamma=gamma, pays=pays, rate=rate, player=player, learner=learner)
    if episodes < 0:
        raise ValueError(f"episodes={episodes} must be 0 or more: how many steps to take")

    p = _parts(jax.nn.sigmoid(jnp.asarray(player)))

    # numbers, not vectors, and nothing kept but the logits: the way back is ten times faster
    @partial(jax.checkpoint, prevent_cse=False)
    def step(logits, _):
        q = [jax.nn.sigmoid(x) for x in logits]
        own, other, gradient = _slope(p, q, gamma, normalise, pays)
        moved = [x + rate * slope for x, slope in zip(logits, gradient, strict=True)]
        return moved, (own, other, logits)

    start = _parts(jnp.asarray(learner)[SWAPPED])
    own, other, logits = lax.scan(step, start, None, length=episodes + 1)[1]
    return Path(own, other, jnp.stack(logits, 1)[:, SWAPPED])


def shaping_objective(
    player: Logits,
    learners: Float[Array | np.ndarray, "many 5"],
    *,
    gamma: Number,
    rate: Number,
    episodes: int,
    normalise: bool = True,
) -> Float[Array, ""]:
    """The player's average return while naive learners learn: all their episodes count the same.

    A mean over episodes, where the paper has a sum, so that it can be mixed with the return of a
    single episode. Always an average per step, also where learners follow sums.

    Raises ValueError as `naive_path` does.
    """
    options = dict(gamma=gamma, rate=rate, episodes=episodes, normalise=normalise)
    own = jax.vmap(lambda learner: naive_path(player, learner, **options).own)(learners)
    return own.mean() * (1.0 if normalise else 1 - gamma)


def lola_objective(
    player: Logits,
    opponent: Logits,
    *,
    gamma: Number,
    rate: Number,
    lookaheads: int,
    normalise: bool = True,
) -> Float[Array, ""]:
    """The player's return after the opponent has taken so many naive steps: LOLA.

    Foerster et al. (2018), with several steps as in Fig. 4 of the paper. Only the end counts.

    Raises ValueError for `lookaheads` < 0, and as `naive_path` does.
    """
    if lookaheads < 0:
        raise ValueError(f"lookaheads={lookaheads} must be 0 or more: how many steps to expect")
    options = dict(gamma=gamma, rate=rate, episodes=lookaheads, normalise=normalise)
    return naive_path(player, opponent, **options).own[-1] * (1.0 if normalise else 1 - gamma)


# Extortion ---------------------------------------------------------------------------------------


def zero_determinant(factor: float, scale: float) -> Float[np.ndarray, "4"]:
    """Probabilities to cooperate after CC, CD, DC, DD that enforce own = factor x other.

    Eq. 18, Press and Dyson (2012), for payoffs 2, 1, 0, -1 and without discounting: whatever the
    other does, the player's average is `factor` times as far above mutual defection, 0.

    Raises ValueError if `factor` < 1, or `scale` is not in 0 .. 1 / (1 + 2 factor).
    """
    if factor < 1 or not 0 < scale <= 1 / (1 + 2 * factor) + 1e-12:
        raise ValueError(
            f"factor={factor} must be at least 1 and scale={scale} lie in 0 .. 1 / (1 + 2 factor)"
        )
    return np.array([1, 1, 0, 0]) + scale * _direction(np.asarray(factor))


def fit_zero_determinant(
    probabilities: Float[np.ndarray, "*many 4"], *, largest: float = 40.0
) -> Extortion:
    """The zero-determinant policy that is nearest to each of some policies: Fig. 8.

    For a factor the best scale has a closed form; factors are tried on a grid from 1 to `largest`.
    """
    factors = np.linspace(1, largest, 2000)
    direction = _direction(factors)
    away = np.asarray(probabilities)[..., None, :] - np.array([1, 1, 0, 0])
    scale = (away * direction).sum(-1) / np.square(direction).sum(-1)
    scale = np.clip(scale, 1e-3, 1 / (1 + 2 * factors))
    loss = np.square(away - scale[..., None] * direction).sum(-1)
    best = loss.argmin(-1)[..., None]
    loss, scale = (np.take_along_axis(x, best, -1)[..., 0] for x in (loss, scale))
    return Extortion(loss, factors[best[..., 0]], scale)


def reactive(after_cooperation: Number, after_defection: Number = 0.0) -> Float[Array, "5"]:
    """Probabilities to cooperate of a policy that looks at the other's last action alone.

    In the beginning it acts as after cooperation. (1, 0) is tit-for-tat, (0, 0) always defects.
    """
    c, d = jnp.asarray(after_cooperation), jnp.asarray(after_defection)
    return jnp.stack([c, c, d, c, d])


def escape_slope(gamma: float, forgiving: float) -> float:
    """How an extorter's return changes if it cooperates a little at the start, against its like.

    Two players with p_CD = p_DD = 0 and p_DC = `forgiving`, who never cooperate first: the slope in
    p_0 is (2 gamma q - 1) / (1 - gamma^2 q^2). They leave mutual defection if q > 1 / (2 gamma).
    Not in the paper.
    """
    q = forgiving
    return (2 * gamma * q - 1) / (1 - gamma**2 * q**2)


# Helpers -----------------------------------------------------------------------------------------


def _direction(factors):
    """Where probabilities go as the scale grows, from tit-for-tat's 1, 1, 0, 0."""
    return np.stack([1 - factors, -(1 + 2 * factors), factors + 2, 0 * factors], -1)


def _slope(p, q, gamma, normalise, pays):
    """What `naive_slope` finds, from lists of numbers; states are those of the first player."""
    r1, r2 = _both(jnp.asarray(pays, p[0].dtype))
    start, inverse = _outcomes(p[0], q[0]), _inverse(p, q, gamma)
    visits = [_dot(start, column) for column in zip(*inverse, strict=True)]
    cc, cd, dc, dd = (_dot(row, r2) for row in inverse)
    scale = 1 - gamma if normalise else 1.0
    reach = [scale, *(scale * gamma * d for d in visits)]
    gradient = [
        w * (x * (cc - cd) + (1 - x) * (dc - dd)) * y * (1 - y)
        for w, x, y in zip(reach, p, q, strict=True)
    ]
    return scale * _dot(visits, r1), scale * _dot(visits, r2), gradient


def _parts(x):
    """The numbers of a vector."""
    return [x[i] for i in range(len(x))]


def _dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def _both(pays):
    """The payoffs of both, as lists."""
    return _parts(pays), [pays[k] for k in (0, 2, 1, 3)]


def _outcomes(p, q):
    return p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)


def _visits(p, q, gamma):
    """Discounted visits of CC, CD, DC, DD."""
    start, inverse = _outcomes(p[0], q[0]), _inverse(p, q, gamma)
    return [_dot(start, column) for column in zip(*inverse, strict=True)]


def _inverse(p, q, gamma):
    """(I - gamma P)^-1 by blocks of two, written out: no solver, so gradients are cheap.

    Rows of I - gamma P sum to 1 - gamma, which stands for the diagonal: nothing is subtracted, and
    no digits are lost near gamma = 1 (elimination by Grassmann, Taksar and Heyman, 1985).
    """
    rest = 1 - gamma
    rows = [[gamma * x for x in _outcomes(p[s], q[s])] for s in range(1, 5)]
    a, b = [r[:2] for r in rows[:2]], [r[2:] for r in rows[:2]]
    c, d = [r[:2] for r in rows[2:]], [r[2:] for r in rows[2:]]
    ai = _inverse2(a, [rest + sum(r) for r in b])
    aib, cai = _times(ai, b), _times(c, ai)
    s = _inverse2(_plus(d, _times(c, aib)), [rest + rest * sum(r) for r in cai])
    right, low = _times(aib, s), _times(s, cai)
    top = _plus(ai, _times(right, cai))
    return [[*left, *right] for left, right in zip([*top, *low], [*right, *s], strict=True)]


def _inverse2(m, sums):
    """Of the matrix with these sums of rows, and off its diagonal -m."""
    (_, x), (y, _) = m
    u, v = sums
    one = 1 / (u * v + u * y + v * x)
    return [[(v + y) * one, x * one], [y * one, (u + x) * one]]


def _times(x, y):
    return [[x[i][0] * y[0][j] + x[i][1] * y[1][j] for j in range(2)] for i in range(2)]


def _plus(x, y):
    return [[x[i][j] + y[i][j] for j in range(2)] for i in range(2)]


def _check(*, gamma, pays, rate=None, **policies):
    if not isinstance(gamma, jax.core.Tracer) and not 0 <= float(gamma) < 1:
        raise ValueError(
            f"gamma={gamma} must be at least 0 and below 1: without a discount sums are infinite"
        )
    if rate is not None and not isinstance(rate, jax.core.Tracer) and not float(rate) > 0:
        raise ValueError(f"rate={rate} must be positive: the learner's step size")
    if np.shape(pays) != (4,):
        raise ValueError(f"pays has shape {np.shape(pays)}, wanted (4,): after CC, CD, DC, DD")
    for name, policy in policies.items():
        if np.shape(policy) != (5,):
            raise ValueError(
                f"{name} has shape {np.shape(policy)}, wanted (5,): in the beginning and after "
                "CC, CD, DC, DD; for many policies use jax.vmap"
            )
        if not isinstance(policy, jax.core.Tracer) and not np.isfinite(policy).all():
            raise ValueError(f"{name} has numbers that are not finite: {np.asarray(policy)}")
