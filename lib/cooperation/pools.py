"""Agents that see learners learn, and each other: training with exact gradients.

Meulemans et al. (2024), arXiv 2410.18636v2, App. C, Figs. 3, 4, 8 and 9. Two agents in each pool.
Their loss is a mixture: with weight `share` (p_naive) the return while naive learners learn, whom
each agent meets alone, otherwise the return of a game with the other agent, who is taken to stay as
it is. AdamW as in optax. Nothing is sampled but the learners' first policies.

The paper prints the step sizes of Fig. 4; for Figs. 3, 8 and 9 numbers of steps, learners and their
step sizes are ours.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from lib.cooperation import ipd

STARTS = ("normal", "defection")
DEFECTION = np.float32(np.log(0.01))  # every logit of an agent that hardly ever cooperates
POINTS = 25  # of a learning curve


class Setting(NamedTuple):
    """What a pool is like; numbers, or arrays with one for each pool."""

    share: float | Float[np.ndarray, " pools"]  # p_naive: of the return that comes from learners
    gamma: float = 0.95
    rate: float = 5.0  # of the learners, along the slope of averages
    step: float = 0.005  # of the agents


class Pool(NamedTuple):
    """Two agents after training, and what they got on the way."""

    policy: Float[np.ndarray, "pools seeds 2 5"]  # logits
    steps: Float[np.ndarray, " points"]
    meeting: Float[np.ndarray, "pools seeds points"]  # both agents' average in their game
    shaping: Float[np.ndarray, "pools seeds points"]  # both agents' average while learners learn


class Lesson(NamedTuple):
    """A fresh naive learner against a policy that stays: averages of the last episode."""

    own: Float[np.ndarray, "..."]
    other: Float[np.ndarray, "..."]


def train_pool(
    key: Key[Array, ""],
    setting: Setting,
    *,
    seeds: int,
    steps: int,
    learners: int = 16,
    episodes: int = 20,
    start: str = "normal",
    shaping_first: int = 0,
) -> Pool:
    """Train pools that differ in their `setting`, each with so many seeds, side by side.

    In each step an agent meets `learners` with normal logits, for `episodes` + 1 episodes. For the
    first `shaping_first` steps there are only learners. `start` is "normal" or "defection".

    Raises ValueError for sizes below 1, a share outside 0 .. 1, a gamma outside 0 .. 1, steps or
    rates that are not positive, and an unknown `start`.
    """
    setting = _checked(setting, seeds=seeds, steps=steps, learners=learners, episodes=episodes)
    if start not in STARTS:
        raise ValueError(f"start={start!r} is not known: use one of {', '.join(STARTS)}")
    keys = jax.random.split(key, seeds)
    sizes = dict(steps=steps, learners=learners, episodes=episodes, defecting=start == STARTS[1])
    found = _train_pool(keys, setting, jnp.asarray(shaping_first), **sizes)
    return _pool(*found, steps)


def train_lola(
    key: Key[Array, ""], setting: Setting, *, lookaheads: int, seeds: int, steps: int
) -> Pool:
    """Train two agents that each expect the other to take so many naive steps: Fig. 4.

    With weight `share` the return after these steps, otherwise the one without; no learners.

    Raises ValueError for `lookaheads` < 0, and as `train_pool` does.
    """
    setting = _checked(setting, seeds=seeds, steps=steps)
    if lookaheads < 0:
        raise ValueError(f"lookaheads={lookaheads} must be 0 or more")
    keys = jax.random.split(key, seeds)
    return _pool(*_train_lola(keys, setting, steps=steps, lookaheads=lookaheads), steps)


def teach(
    key: Key[Array, ""],
    policy: Float[Array | np.ndarray, "*agents 5"],
    *,
    gamma: float = 0.95,
    rate: float = 5.0,
    episodes: int = 20,
    learners: int = 64,
) -> Lesson:
    """Let fresh naive learners learn against policies, and look at their last episode.

    Raises ValueError for policies that are not five finite logits each, a gamma outside 0 .. 1, a
    rate that is not positive, `episodes` < 0 and `learners` < 1.
    """
    if np.ndim(policy) < 1 or policy.shape[-1] != 5:
        raise ValueError(f"policy has shape {np.shape(policy)}, wanted (..., 5): logits last")
    if not np.isfinite(policy).all():
        raise ValueError("policy has numbers that are not finite: has its training diverged?")
    _checked(Setting(0.0, gamma=gamma, rate=rate), learners=learners)
    flat = jnp.asarray(policy).reshape(-1, 5)
    start = jax.random.normal(key, (learners, 5))
    own, other = _teach(flat, start, gamma, rate, episodes=episodes)
    return Lesson(*(np.asarray(x).reshape(policy.shape[:-1]) for x in (own, other)))


@partial(jax.jit, static_argnames=("steps", "learners", "episodes", "defecting"))
def _train_pool(keys, setting, shaping_first, *, steps, learners, episodes, defecting):
    def one(setting, key):
        first, rest = jax.random.split(key)
        agents = jax.random.normal(first, (2, 5))
        agents = jnp.full((2, 5), DEFECTION) if defecting else agents
        options = dict(gamma=setting.gamma, rate=setting.rate, episodes=episodes)

        def returns(agents, at):
            drawn = jax.random.normal(jax.random.fold_in(rest, at), (2, learners, 5))
            alone = jax.vmap(partial(ipd.shaping_objective, **options))
            share = jnp.where(at < shaping_first, 1.0, setting.share)
            shaped, by_learners = _with_slope(lambda a: alone(a, drawn), agents)
            met, by_agent = _meeting(agents, setting.gamma)
            return met.mean(), shaped.mean(), share * by_learners + (1 - share) * by_agent

        return _ascend(returns, agents, setting.step, steps)

    seeds = jax.vmap(one, (None, 0))
    return jax.vmap(seeds, (0, None))(setting, keys)


@partial(jax.jit, static_argnames=("steps", "lookaheads"))
def _train_lola(keys, setting, *, steps, lookaheads):
    def one(setting, key):
        options = dict(gamma=setting.gamma, rate=setting.rate, lookaheads=lookaheads)

        def returns(agents, at):
            del at  # nothing is drawn
            ahead = jax.vmap(partial(ipd.lola_objective, **options))
            value, by_lookahead = _with_slope(lambda a: ahead(a, agents[::-1]), agents)
            met, by_agent = _meeting(agents, setting.gamma)
            slope = setting.share * by_lookahead + (1 - setting.share) * by_agent
            return met.mean(), value.mean(), slope

        return _ascend(returns, jax.random.normal(key, (2, 5)), setting.step, steps)

    seeds = jax.vmap(one, (None, 0))
    return jax.vmap(seeds, (0, None))(setting, keys)


@partial(jax.jit, static_argnames="episodes")
def _teach(policies, learners, gamma, rate, *, episodes):
    def lesson(policy, learner):
        path = ipd.naive_path(policy, learner, gamma=gamma, rate=rate, episodes=episodes)
        return path.own[-1], path.other[-1]

    own, other = jax.vmap(jax.vmap(lesson, (None, 0)), (0, None))(policies, learners)
    return own.mean(1), other.mean(1)


def _ascend(returns, agents, step, steps):
    """AdamW on both agents; what was got is averaged over each of POINTS parts of the steps."""
    optimiser = optax.adamw(step)

    def advance(state, at):
        agents, memory = state
        met, shaped, slope = returns(agents, at)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
            change, memory = optimiser.update(-slope, memory, agents)
        return (agents + change, memory), (met, shaped)

    start = agents, optimiser.init(agents)
    (agents, _), got = lax.scan(advance, start, jnp.arange(steps))
    part = steps // POINTS
    first = steps - part * (POINTS - 1)  # the first part takes what does not divide

    def curve(x):
        later = x[first:].reshape(POINTS - 1, part).mean(1)
        return jnp.concatenate([x[:first].mean()[None], later])

    return agents, *map(curve, got)


def _meeting(agents, gamma):
    """Returns of the agents' game, and the slope of each in its own policy alone."""

    def own(agent, other):
        return ipd.returns(agent, other, gamma=gamma).first

    return jax.vmap(jax.value_and_grad(own))(agents, agents[::-1])


def _with_slope(objective, agents):
    """One objective for each agent, each of its own policy alone, and their slopes."""
    value, pull = jax.vjp(objective, agents)
    return value, pull(jnp.ones_like(value))[0]


def _pool(policy, meeting, shaping, steps):
    part = steps // POINTS
    ends = steps - part * np.arange(POINTS - 1, -1, -1)
    return Pool(*map(np.asarray, (policy, ends, meeting, shaping)))


def _checked(setting, **sizes):
    for name, size in sizes.items():
        least = POINTS if name == "steps" else 1
        if size < least:
            raise ValueError(f"{name}={size} must be at least {least}")
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.float32(x)) for x in setting))
    share, gamma, rate, step = arrays
    if not ((share >= 0) & (share <= 1)).all():
        raise ValueError(f"share={setting.share} must lie in 0 .. 1")
    if not ((gamma >= 0) & (gamma < 1)).all():
        raise ValueError(f"gamma={setting.gamma} must lie in 0 .. 1, below 1")
    if not ((rate > 0) & (step > 0)).all():
        raise ValueError(f"rate={setting.rate} and step={setting.step} must be positive")
    return Setting(*map(jnp.asarray, arrays))
