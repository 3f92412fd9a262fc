"""The experiments of the chapter on policy gradients, at the size that one asks for.

Meulemans et al. (2024), arXiv 2410.18636v2: Theorem 3.1 and E.1 by enumeration, Fig. 5 and Fig. 12
by training. What differs from the paper's settings: learners are tables of the last step and take
larger steps (a rate of 0.3), and there are M = 10 inner episodes, so that seconds are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from lib.cooperation import dilemma, exact, policies, shaping
from lib.cooperation.estimators import METHODS

ENUMERATED = ((1, 2, 2), (2, 2, 1), (2, 2, 2), (1, 2, 3), (1, 3, 2))  # T, M, B
STOPS = 10  # points of a learning curve; the last one is the result
EPISODES = 10  # M
LEARNER = shaping.Learning(rate=0.3)

table = partial(policies.tabular, symbols=len(dilemma.STATES))
hawk = partial(policies.hawk, seen=len(dilemma.STATES), actions=2, width=16)


class Setting(NamedTuple):
    """How agents are trained."""

    agent: shaping.Make
    rate: float
    epochs: int
    normalise: bool = False


SHAPING = {"table": Setting(table, 0.02, 4), "hawk": Setting(hawk, 5e-3, 2)}
POOL = Setting(table, 0.04, 2, normalise=True)


class Row(NamedTuple):
    """One world that was enumerated, and the expectation of each estimator in it."""

    steps: int
    episodes: int
    copies: int
    player: str
    centred: bool  # whether the learner subtracts its batch's mean return
    comparison: exact.Comparison


class Growing(NamedTuple):
    """How estimators change with the number B of copies, exactly, for pairs of players."""

    copies: Integer[np.ndarray, " sizes"]
    coala_error: Float[np.ndarray, "pairs sizes"]  # largest difference to the true gradient
    mfos_cosine: Float[np.ndarray, "pairs sizes"]  # with the true gradient
    unaware_cosine: Float[np.ndarray, "pairs sizes"]
    lola_distance: Float[np.ndarray, "pairs sizes"]  # of COALA's to LOLA's, relative


class Shaped(NamedTuple):
    """Agents after training with naive learners only."""

    methods: tuple[str, ...]
    iterations: Integer[np.ndarray, " stops"]
    curve: Float[np.ndarray, "methods seeds stops"]  # the agent's reward for a step
    reward: Float[np.ndarray, "methods seeds"]  # at the end
    other_reward: Float[np.ndarray, "methods seeds"]  # the learner's
    defection: Float[np.ndarray, "methods seeds M"]  # the agent's, by inner episode
    other_defection: Float[np.ndarray, "methods seeds M"]
    cooperation: Float[np.ndarray, "methods seeds 5"] | None  # of a table: in s0, CC, CD, DC, DD


class Pooled(NamedTuple):
    """Agents after training with naive learners and with each other."""

    methods: tuple[str, ...]
    iterations: Integer[np.ndarray, " stops"]
    curve: Float[np.ndarray, "methods seeds stops"]  # reward for a step where agents meet
    meeting: Float[np.ndarray, "methods seeds"]  # at the end
    learning: Float[np.ndarray, "methods seeds"]  # with naive learners


def unbiasedness(
    sizes: Sequence[tuple[int, int, int]] = ENUMERATED,
    *,
    players: Sequence[str] = ("table", "recurrent"),
    rate: float = 8.0,
    seed: int = 0,
) -> list[Row]:
    """Compare estimators with the true gradient in a world of each size (T, M, B) and player.

    Learners take steps of `rate`; those who meet a recurrent player centre their returns.

    Raises ValueError as `exact.world` does, and for an unknown player.
    """
    rows = []
    for steps, episodes, copies in sizes:
        for kind in players:
            rng = np.random.default_rng(seed)
            player = _player(kind, rng, episodes)
            centred = kind == "recurrent"
            update = exact.Reinforce(np.asarray(rate), np.asarray(centred))
            world = exact.world(
                player, rng.normal(size=5), update, steps=steps, episodes=episodes, copies=copies
            )
            rows.append(
                Row(steps, episodes, copies, kind, centred, exact.compare(world, seed=seed))
            )
    return rows


def growing_batches(
    copies: Sequence[int] = (1, 2, 3, 4, 6),
    *,
    rate: float,
    seed: int,
    steps: int = 2,
    pairs: int = 16,
) -> Growing:
    """The exact gradients of random pairs of players for each number of copies.

    Both have normal logits; the learner takes a step of `rate` between two games of `steps`.

    Raises ValueError for `pairs` < 1, and as `exact.lookahead` does.
    """
    if pairs < 1:
        raise ValueError(f"pairs={pairs} must be at least 1")
    logits = np.random.default_rng(seed).normal(size=(pairs, 2, 5))
    found = [
        [exact.lookahead(*pair, steps=steps, copies=size, rate=rate) for size in copies]
        for pair in logits
    ]

    def each(statistic):
        return np.array([[statistic(gradients) for gradients in pair] for pair in found])

    return Growing(
        np.asarray(copies),
        each(lambda g: np.abs(g.coala - g.truth).max()),
        each(lambda g: exact.cosine(g.mfos, g.truth)),
        each(lambda g: exact.cosine(g.unaware, g.truth)),
        each(lambda g: exact.relative_error(g.coala, g.lola)),
    )


def shape_learners(
    key: PRNGKeyArray,
    *,
    methods: Sequence[str] = METHODS,
    seeds: int = 5,
    policy: str = "table",
    iterations: int = 300,
    copies: int = 16,
    trajectories: int = 128,
) -> Shaped:
    """Train agents that meet nobody but naive learners, by each method and with each seed.

    `trajectories` are played in an iteration, `copies` of them with each learner.

    Raises ValueError if sizes do not fit, and for an unknown method or policy.
    """
    if policy not in SHAPING:
        raise ValueError(f"policy={policy!r} is not known: use one of {', '.join(SHAPING)}")
    if copies < 1 or trajectories % copies:
        raise ValueError(f"copies={copies} must divide trajectories={trajectories}")
    sizes = shaping.Sizes(copies, EPISODES, learning=trajectories // copies)
    history = _train(key, methods, seeds, SHAPING[policy], sizes, iterations)
    reward, other, defection, other_defection = (
        _by_method(x, seeds)
        for x in (
            history.learning.reward[:, :, 0],
            history.learning.other_reward[:, :, 0],
            history.learning.actions[:, :, 0, :, 1],
            history.learning.other_actions[:, :, 0, :, 1],
        )
    )
    cooperation = None
    if policy == "table":
        logits = history.state.agents.logits[:, 0].reshape(len(methods), seeds, -1)
        cooperation = np.asarray(jax.nn.sigmoid(logits))
    return Shaped(
        tuple(methods),
        history.iterations,
        reward.mean(-1).transpose(1, 2, 0),
        reward[-1].mean(-1),
        other[-1].mean(-1),
        defection[-1],
        other_defection[-1],
        cooperation,
    )


def mix_pool(
    key: PRNGKeyArray,
    *,
    methods: Sequence[str] = ("coala", "mfos"),
    seeds: int = 5,
    iterations: int = 400,
    meta_batch: int = 32,
    copies: int = 8,
    share: float = 0.875,
) -> Pooled:
    """Train two tables that meet naive learners in a `share` of all games, else each other.

    Advantages are normalised, those against learners and those against the other agent apart.

    Raises ValueError if sizes do not fit, and for an unknown method.
    """
    learning = round(share * meta_batch)
    if not 0 < learning < meta_batch:
        raise ValueError(f"share={share} of meta_batch={meta_batch} must leave games of both kinds")
    sizes = shaping.Sizes(
        copies, EPISODES, learning=learning, meeting=meta_batch - learning, agents=2
    )
    history = _train(key, methods, seeds, POOL, sizes, iterations)
    meeting, alone = (
        _by_method(record.reward.mean((-2, -1)), seeds)
        for record in (history.meeting, history.learning)
    )
    return Pooled(
        tuple(methods), history.iterations, meeting.transpose(1, 2, 0), meeting[-1], alone[-1]
    )


def _train(key, methods, seeds, setting, sizes, iterations):
    """Train by all methods with all seeds, looking at them STOPS times."""
    if seeds < 1 or iterations < STOPS:
        raise ValueError(
            f"seeds={seeds} and iterations={iterations} must be at least 1 and {STOPS}"
        )
    sizes = sizes._replace(epochs=setting.epochs)
    method, keys = shaping.side_by_side(methods, jax.random.split(key, seeds))
    state = shaping.begin(keys, agent=setting.agent, learner=table, sizes=sizes)

    def train(runs):
        arrays, some_keys, flags = jax.tree.map(lambda x: x[runs], (state[:3], keys, method))
        return shaping.train(
            shaping.State(*arrays, 0),
            key=some_keys,
            method=flags,
            sizes=sizes,
            at=[iterations * (stop + 1) // STOPS for stop in range(STOPS)],
            ppo=shaping.Ppo(rate=setting.rate, normalise=setting.normalise),
            learning=LEARNER,
        )

    if setting.agent is table:
        return train(slice(None))
    # one after the other: networks keep a processor busy, and any number of runs is one program
    runs = [train(slice(run, run + 1)) for run in range(len(keys))]
    learning = jax.tree.map(lambda *x: np.concatenate(x, 1), *(run.learning for run in runs))
    return runs[0]._replace(learning=learning)


def _by_method(x: Float[Array | np.ndarray, "stops runs *rest"], seeds: int):
    """Runs as methods and seeds."""
    return np.asarray(x).reshape(len(x), -1, seeds, *x.shape[2:])


def _player(kind, rng, episodes):
    if kind == "table":
        return exact.Tabular(rng.normal(size=(episodes, 5)))
    if kind == "recurrent":
        shapes = ((5, 3), 1.0), ((3, 3), 0.7), ((3,), 0.3), ((3,), 1.0)
        return exact.Recurrent(*(rng.normal(scale=scale, size=shape) for shape, scale in shapes))
    raise ValueError(f"player={kind!r} is not known: use table or recurrent")
