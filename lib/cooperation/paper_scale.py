"""Agents trained with the paper's settings (its Tables 2 to 7), as far as one GPU can.

python -m lib.cooperation.paper_scale shaping-coala     train them, or go on where a run was stopped

A name says what is played and by which gradient. shaping: only with naive learners; pool: three
quarters of the games with naive learners, the others among four agents; cleanup: CleanUp-lite with
naive learners, 64 times fewer games and 5 times fewer inner episodes than in the paper. All players
are Hawk networks of width 32. Several seeds go side by side.

Writes the agents to lib/cooperation/weights/ and beside them what made them: settings, rewards,
versions, hardware, date. It takes minutes to hours on a GPU and days on a processor. Every 20
iterations all is kept, so that a run that was stopped before the first 20 begins anew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from lib import checkpoints
from lib.checkpoints import Kept, recipe_of
from lib.cooperation import cleanup, dilemma, policies, shaping
from lib.cooperation.estimators import METHODS
from lib.parallel import device_mesh

WEIGHTS = Path(__file__).parent / "weights"
BLOCK = 20  # iterations between two looks, and what a stopped run loses at most

GAMES = {"dilemma": dilemma.Game(), "cleanup": cleanup.Game()}


class Recipe(NamedTuple):
    """How agents are made."""

    method: str
    game: str
    sizes: shaping.Sizes
    ppo: shaping.Ppo
    learning: shaping.Learning
    iterations: int = 3000
    seeds: int = 5
    width: int = 32


def _recipes():
    found = {}
    for method in METHODS:
        dilemmas = method, "dilemma"
        pool = shaping.Sizes(learning=96, meeting=32, agents=4)
        river = shaping.Sizes(copies=32, episodes=20, steps=64, learning=8)
        scaled = shaping.Ppo(rate=3e-3 if method == "mfos" else 1e-3, normalise=True)
        found |= {
            f"shaping-{method}": Recipe(
                *dilemmas, shaping.Sizes(), shaping.Ppo(), shaping.Learning()
            ),
            f"pool-{method}": Recipe(*dilemmas, pool, shaping.Ppo(), shaping.Learning()),
            f"cleanup-{method}": Recipe(
                method, "cleanup", river, scaled, shaping.Learning(reward_scale=0.1), 300, 3
            ),
        }
    return found


RECIPES = _recipes()


def load(name: str, folder: Path = WEIGHTS) -> Kept | None:
    """The agents (seeds first) that were trained by a recipe; None if nobody has trained them yet.

    Raises ValueError for a name that is not in RECIPES.
    """
    like = eqx.filter_eval_shape(_begin, recipe_of(RECIPES, name), 0).agents
    return checkpoints.load(folder / f"{name}.eqx", like)


def fit(name: str, folder: Path = WEIGHTS, *, seed: int = 0, progress: bool = False) -> Kept:
    """Train agents by a recipe and keep them in `folder`; a stopped run goes on there.

    Raises ValueError for a name that is not in RECIPES, and what `lib.checkpoints.train` raises.
    """
    recipe = recipe_of(RECIPES, name)
    keys = _keys(recipe, seed)
    method, _ = shaping.side_by_side([recipe.method], keys)

    def advance(state, stop, bar):
        history = shaping.train(
            state, key=keys, method=method, sizes=recipe.sizes, at=[stop], game=GAMES[recipe.game],
            ppo=recipe.ppo, learning=recipe.learning, mesh=device_mesh(shaping.AXIS), progress=bar,
        )  # fmt: skip
        row = {"iterations": stop} | _rewards(history)
        return checkpoints.Told(history.state, row, {"episodes": _by_episode(history)})

    return checkpoints.train(
        _begin(recipe, seed),
        advance,
        path=folder / f"{name}.eqx",
        made=_plain(recipe) | {"seed": seed},
        steps=recipe.iterations,
        block=BLOCK,
        command=f"python -m lib.cooperation.paper_scale {name} --seed {seed}",
        progress=progress,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the agents of one recipe; 0 = done, 1 = it could not be."""
    return checkpoints.main(fit, RECIPES, _say, arguments)


def _say(about):
    return f"rewards {about['curve'][-1]['learning']} with naive learners, each seed's mean"


def _rewards(history):
    """Mean rewards at the last stop, one for each seed."""
    found = {
        "learning": history.learning.reward[-1].mean((1, 2)),
        "others": history.learning.other_reward[-1].mean((1, 2)),
    }
    if history.meeting is not None:
        found["meeting"] = history.meeting.reward[-1].mean((1, 2))
    return {name: _rounded(x) for name, x in found.items()}


def _by_episode(history):
    """What happened in each inner episode at the last stop: seeds, inner episodes, actions."""
    records = {"learning": history.learning, "meeting": history.meeting}
    return {
        name: {key: _rounded(x[-1].mean(1)) for key, x in record._asdict().items()}
        for name, record in records.items()
        if record is not None
    }


def _rounded(x):
    return np.round(np.float64(x), 4).tolist()


def _keys(recipe, seed):
    return jax.random.split(jax.random.key(seed), recipe.seeds)


def _begin(recipe, seed):
    make = _maker(recipe.game, recipe.width)
    return shaping.begin(_keys(recipe, seed), agent=make, learner=make, sizes=recipe.sizes)


@cache  # the same function for the same network, so that nothing is compiled twice
def _maker(game, width):
    game = GAMES[game]
    seen = game.symbols or game.width
    return partial(policies.hawk, seen=seen, actions=game.actions, width=width)


def _plain(recipe):
    """A recipe as plain JSON."""
    return {
        name: value._asdict() if hasattr(value, "_asdict") else value
        for name, value in recipe._asdict().items()
    }


if __name__ == "__main__":
    sys.exit(main())
