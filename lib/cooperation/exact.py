"""Expectations of policy gradients without sampling: all that can happen, and how likely it is.

The game is the prisoner's dilemma, small enough that all 4^(T M B) batches of play fit in memory.
The true gradient comes from differentiating the sum over them, the expectation of an estimator
from weighting its value on each. Both are exact, so a bias cannot hide in noise.
Theorem 3.1, Eqs. 3, 5 to 7 and Theorem E.1 of Meulemans et al. (2024), arXiv 2410.18636v2.

Everything here is in float64, whatever the rest of the program uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Integer
from scipy.special import gammaln

from lib.cooperation import estimators
from lib.cooperation.dilemma import PAYOFF, swapped

LARGEST = 2**18  # batches that an enumeration may have
PART = 4096  # learners that play at a time

Update = Callable[[Float[Array, "5"], Integer[Array, "T B"]], Float[Array, "5"]]


class Tabular(eqx.Module):
    """A player that sees the last step and how many inner episodes there were."""

    logits: Float[Array | np.ndarray, "M 5"]  # of cooperation in s0, CC, CD, DC, DD

    def log_prob(self, joint: Integer[Array, "M T"]) -> Float[Array, "M T"]:
        """Log probability of the first player's actions in one copy, all inner episodes."""
        logits = jnp.take_along_axis(jnp.asarray(self.logits), _seen(joint), 1)
        return _log_prob(logits, joint // 2)


class Recurrent(eqx.Module):
    """A player with a memory of three numbers that outlives inner episodes."""

    inputs: Float[Array | np.ndarray, "5 3"]
    recurrent: Float[Array | np.ndarray, "3 3"]
    bias: Float[Array | np.ndarray, "3"]
    readout: Float[Array | np.ndarray, "3"]

    def log_prob(self, joint: Integer[Array, "M T"]) -> Float[Array, "M T"]:
        """Log probability of the first player's actions in one copy, all inner episodes."""

        def step(h, symbol):
            h = jnp.tanh(self.inputs[symbol] + h @ self.recurrent + self.bias)
            return h, h @ self.readout

        start = jnp.zeros_like(jnp.asarray(self.bias))
        logits = lax.scan(step, start, _seen(joint).ravel())[1]
        return _log_prob(logits.reshape(joint.shape), joint // 2)


class Reinforce(eqx.Module):
    """A naive learner: one step of REINFORCE on the batch of its last inner episode.

    Its policy are five logits of cooperation. `centred` subtracts the batch's mean return.
    """

    rate: float | Float[Array | np.ndarray, ""]
    centred: bool | Array | np.ndarray = False

    def __call__(
        self, logits: Float[Array, "5"], joint: Integer[Array, "T B"]
    ) -> Float[Array, "5"]:
        rewards = jnp.asarray(PAYOFF, logits.dtype)[swapped(joint + 1) - 1]
        togo = jnp.cumsum(rewards[::-1], 0)[::-1]
        togo = togo - jnp.where(self.centred, togo.mean(), 0.0)
        slope = jax.grad(lambda x: (_learner_log_prob(x, joint.T).T * togo).sum(0).mean())(logits)
        return logits + self.rate * slope


class World(NamedTuple):
    """All batches of play, and the truth about them. N = 4^(T M B), K = 4^(T M), P parameters."""

    copies: Integer[np.ndarray, "N B"]  # which of the K games each copy was
    probability: Float[np.ndarray, " N"]
    rewards: Float[np.ndarray, "L N B"]
    seen: Integer[np.ndarray, "L N B"]
    scores: Float[np.ndarray, "K L P"]  # grad log pi of each action in each of the K games
    value: float  # mean return
    gradient: Float[np.ndarray, " P"]  # of it
    steps: int


class Comparison(NamedTuple):
    """The true gradient, and what estimators are on average: vectors over all parameters."""

    mass: float  # sum of all probabilities
    truth: Float[np.ndarray, " P"]
    coala: Float[np.ndarray, " P"]
    mfos: Float[np.ndarray, " P"]
    unaware: Float[np.ndarray, " P"]
    baseline: Float[np.ndarray, " P"]  # COALA by Algorithm 1, less any function of what is seen
    shortsighted: Float[np.ndarray, " P"]  # the same with lam = 0.9
    centred: Float[np.ndarray, " P"]  # the same with lam = 1, less the batch's mean advantage
    normalised: Float[np.ndarray, " P"]  # and over the batch's deviation
    current: Float[np.ndarray, " P"]  # C: from the returns of the current inner episode
    own_future: Float[np.ndarray, " P"]  # F_own: from later returns of the same copy
    cross_future: Float[np.ndarray, " P"]  # F_cross: from later returns of the other copies


def enumerate_batches(*, steps: int, episodes: int, copies: int) -> Integer[np.ndarray, "N M T B"]:
    """All that T steps, M inner episodes and B copies can come to: 4^(T M B) batches.

    Raises ValueError if a size is below 1 or if there are more than LARGEST.
    """
    _check_sizes(steps, episodes, copies)
    digits = 4 ** np.arange(steps * episodes * copies)
    joint = np.arange(4 * digits[-1])[:, None] // digits % 4
    return joint.reshape(-1, copies, episodes, steps).transpose(0, 2, 3, 1)


def world(
    player: Tabular | Recurrent,
    learner: Float[np.ndarray, "5"],
    update: Update,
    *,
    steps: int,
    episodes: int,
    copies: int,
) -> World:
    """Let a player meet a learner that starts with these logits and learns by `update`.

    Raises ValueError as `enumerate_batches` does, and if `learner` is not five finite numbers.
    """
    if np.shape(learner) != (5,) or not np.isfinite(learner).all():
        raise ValueError(f"learner={learner} must be five finite logits: of s0, CC, CD, DC, DD")
    batches = enumerate_batches(steps=steps, episodes=episodes, copies=copies)
    games = enumerate_batches(steps=steps, episodes=episodes, copies=1)[..., 0]
    place = 4 ** np.arange(steps * episodes)
    which = np.einsum("nmtb,mt->nb", batches, place.reshape(episodes, steps))
    rewards = np.float64(PAYOFF)[batches]
    with jax.enable_x64(True):
        player = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), player)
        found = _truth(
            player, jnp.asarray(learner), update, jnp.asarray(batches), jnp.asarray(games),
            jnp.asarray(which), jnp.asarray(rewards.sum((1, 2)).mean(1)),
        )  # fmt: skip
        probability, scores, value, gradient = jax.tree.map(np.asarray, found)
    time = steps * episodes
    seen = np.asarray(_seen(jnp.asarray(batches.transpose(0, 3, 1, 2)))).transpose(0, 2, 3, 1)
    return World(
        which,
        probability,
        rewards.reshape(-1, time, copies).transpose(1, 0, 2),
        seen.reshape(-1, time, copies).transpose(1, 0, 2),
        scores.reshape(len(games), time, -1),
        float(value),
        gradient,
        steps,
    )


def expected(world: World, weights: Float[Array | np.ndarray, "L N B"]) -> Float[np.ndarray, " P"]:
    """The expectation of ``sum_b sum_l weight_l^b grad log pi(a_l^b | h_l^b)`` over all batches."""
    games, time, _ = world.scores.shape
    likely = world.probability[:, None] * np.asarray(weights)
    total = [
        np.bincount(world.copies.ravel(), likely[step].ravel(), minlength=games)
        for step in range(time)
    ]
    return np.einsum("lk,klp->p", np.stack(total), world.scores)


def compare(world: World, *, seed: int = 0) -> Comparison:
    """The expectations of all estimators in one world.

    The baseline is a random function of the time and of what is seen, drawn with `seed`.
    """
    rewards, steps, copies = world.rewards, world.steps, world.copies.shape[1]
    time = len(rewards)
    table = np.random.default_rng(seed).normal(scale=2, size=(time, 5))
    values = table[np.arange(time)[:, None, None], world.seen]
    coala = estimators.method("coala")
    with jax.enable_x64(True):
        of_method = {
            name: np.asarray(_weights(rewards, estimators.method(name), steps))
            for name in estimators.METHODS
        }
        gae, short = (
            np.asarray(
                estimators.advantages(rewards, values, coala, steps=steps, discount=1.0, lam=lam)
            )
            for lam in (1.0, 0.9)
        )
    # Within a batch: over its steps and copies
    centred = gae - gae.mean((0, 2), keepdims=True)
    spread = gae.std((0, 2), keepdims=True) + 1e-8
    episodes = rewards.reshape(-1, steps, *rewards.shape[1:])
    current = np.cumsum(episodes[:, ::-1], 1)[:, ::-1].reshape(rewards.shape) / copies
    own = of_method["unaware"] - current
    each = of_method | {
        "baseline": gae,
        "shortsighted": short,
        "centred": centred,
        "normalised": centred / spread,
        "current": current,
        "own_future": own,
        "cross_future": of_method["coala"] - current - own,
    }
    expectations = {name: expected(world, weight) for name, weight in each.items()}
    return Comparison(float(world.probability.sum()), world.gradient, **expectations)


def cosine(a: Float[np.ndarray, " P"], b: Float[np.ndarray, " P"]) -> float:
    """Cosine of the angle between two gradients: 1 if they point the same way."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def relative_error(a: Float[np.ndarray, " P"], truth: Float[np.ndarray, " P"]) -> float:
    """Length of the difference, relative to the truth."""
    return float(np.linalg.norm(a - truth) / np.linalg.norm(truth))


# Two inner episodes, more copies ------------------------------------------------------------------


class Lookahead(NamedTuple):
    """Gradients by five logits when a learner takes one step, on a batch of B games, in between."""

    mass: float
    truth: Float[np.ndarray, "5"]  # by differentiating the expected return
    coala: Float[np.ndarray, "5"]
    mfos: Float[np.ndarray, "5"]
    unaware: Float[np.ndarray, "5"]
    current: Float[np.ndarray, "5"]  # C: as if the learner did not learn from what it sees
    lola: Float[np.ndarray, "5"]  # by differentiating through the learner's expected step


def lookahead(
    player: Float[np.ndarray, "5"],
    learner: Float[np.ndarray, "5"],
    *,
    steps: int,
    copies: int,
    rate: float,
) -> Lookahead:
    """Two inner episodes with B copies, exactly: the learner's step depends on a multiset of games.

    Copies are exchangeable, so that there are ``binomial(4^T + B - 1, B)`` cases and not
    4^(T B). What an estimator multiplies each part of the gradient by is asked from
    `estimators.weights`, which is linear in the rewards. `lola` is the gradient that LOLA-DiCE
    estimates (Theorem E.1): it needs the learner's parameters and second derivatives, which the
    others do not.

    Raises ValueError as `enumerate_batches` does (for one game), and if `rate` is not positive.
    """
    _check_sizes(steps, 1, 1)
    if copies < 1:
        raise ValueError(f"copies={copies} must be at least 1: B games that a learner learns from")
    if not rate > 0:
        raise ValueError(f"rate={rate} must be positive: the learner's step")
    games = enumerate_batches(steps=steps, episodes=1, copies=1)[:, 0, :, 0]
    cases = np.array(list(itertools.combinations_with_replacement(range(len(games)), copies)))
    counts = np.zeros((len(cases), len(games)))
    np.add.at(counts, (np.arange(len(cases))[:, None], cases), 1)
    ways = gammaln(copies + 1) - gammaln(counts + 1).sum(1)
    with jax.enable_x64(True):
        given = (player, learner, games, counts, ways, np.float64(rate))
        mass, truth, lola, *parts = map(np.asarray, _lookahead(*map(jnp.asarray, given)))
        means = [_parts_of(name, steps, copies) @ np.stack(parts) for name in estimators.METHODS]
    return Lookahead(float(mass), truth, *means, (parts[0] + parts[1]) / copies, lola)


def _parts_of(name, steps, copies):
    """What an estimator gives to the three parts of the gradient that `_lookahead` finds.

    It is asked for the weight of an action in the first inner episode if that alone pays, in the
    second likewise, and for those of all copies in the first if one copy's second pays.
    """
    last, method = 2 * steps - 1, estimators.method(name)
    rewards = np.zeros((last + 1, 2, copies))
    rewards[steps - 1, 0, 0] = rewards[last, 1, 0] = 1
    weights = np.asarray(_weights(rewards, method, steps))
    return np.array([weights[0, 0, 0], weights[last, 1, 0], weights[0, 1].sum()])


@partial(jax.jit, static_argnames="steps")
def _weights(rewards, method, steps):
    """The weights of an estimator with its outer factor, as one program."""
    factor = estimators.outer_factor(method, rewards.shape[-1])
    return estimators.weights(rewards, method, steps=steps) * factor


@jax.jit
def _lookahead(player, learner, games, counts, ways, rate):
    rewards = jnp.asarray(PAYOFF, player.dtype)[games]
    theirs = jnp.asarray(PAYOFF, player.dtype)[swapped(games + 1) - 1]
    copies = counts[0].sum()

    def acted(player):
        return _log_prob(player[_seen(games)], games // 2)

    def likely(player, learner):
        return acted(player).sum(1) + _learner_log_prob(learner, games).sum(1)

    def value(player, learner):
        return jnp.exp(likely(player, learner)) @ rewards.sum(1)

    def their_value(player, learner):
        return jnp.exp(likely(player, learner)) @ theirs.sum(1)

    def each_learner(function):
        return lax.map(function, stepped, batch_size=PART)

    togo, their_togo = (jnp.cumsum(r[:, ::-1], 1)[:, ::-1] for r in (rewards, theirs))
    step = jax.jacrev(lambda x: (_learner_log_prob(x, games) * their_togo).sum(1))(learner)
    stepped = learner[None] + rate * (counts @ step) / copies  # after each case
    score = jax.jacrev(acted)(player)  # games, steps, 5
    whole, weighted = score.sum(1), (score * togo[..., None]).sum(1)

    def chances(player):
        return jnp.exp(counts @ likely(player, learner) + ways)

    def mean_return(player):
        return value(player, learner) + chances(player) @ each_learner(partial(value, player))

    chance = chances(player)
    later, slope = each_learner(lambda x: jax.value_and_grad(value)(player, x))
    present = chance @ (counts @ weighted)  # sums over copies
    second = copies * (chance @ slope)
    future = chance @ (counts @ whole * later[:, None])
    lola = jax.grad(
        lambda x: (
            value(x, learner) + value(x, learner + rate * jax.grad(their_value, 1)(x, learner))
        )
    )(player)
    truth = jax.grad(mean_return)(player)
    return chance.sum(), truth, lola, present, second, future


@eqx.filter_jit
def _truth(player, learner, update, batches, games, which, returns):
    """Probabilities of all batches, scores in all games, mean return and its gradient."""

    def learned(batch):  # what the learner's part of the log probability is
        def episode(logits, joint):
            return update(logits, joint), _learner_log_prob(logits, joint.T).sum()

        return lax.scan(episode, learner, batch)[1].sum()

    theirs = lax.map(learned, batches, batch_size=PART)
    flat, unravel = ravel_pytree(player)

    def acted(flat, game):
        return unravel(flat).log_prob(game)

    def mean_return(flat):
        ours = jax.vmap(partial(acted, flat))(games).sum((1, 2))
        probability = jnp.exp(ours[which].sum(1) + theirs)
        return probability @ returns, probability

    (value, probability), gradient = jax.value_and_grad(mean_return, has_aux=True)(flat)
    scores = jax.vmap(partial(jax.jacrev(acted), flat))(games)
    return probability, scores, value, gradient


def _seen(joint):
    """What the first player sees before each step; steps are the last axis."""
    return jnp.concatenate([jnp.zeros_like(joint[..., :1]), joint[..., :-1] + 1], -1)


def _log_prob(logits, actions):
    """Log probability of actions (0 cooperates) from logits of cooperation."""
    return jax.nn.log_sigmoid(jnp.where(actions == 0, logits, -logits))


def _learner_log_prob(logits, joint):
    """Log probability of the second player's actions; steps are the last axis."""
    return _log_prob(logits[swapped(_seen(joint))], joint % 2)


def _check_sizes(steps, episodes, copies):
    for name, size in (("steps", steps), ("episodes", episodes), ("copies", copies)):
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")
    if 4 ** (steps * episodes * copies) > LARGEST:
        raise ValueError(
            f"steps={steps}, episodes={episodes}, copies={copies} give "
            f"4^{steps * episodes * copies} batches: at most {LARGEST} can be enumerated"
        )
