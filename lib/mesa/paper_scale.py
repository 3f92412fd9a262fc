"""Models trained with the paper's settings (its Tables 1 and 2), one of which comes with the book.

python -m lib.mesa.paper_scale softmax-7      train it, or go on where an earlier run was stopped

Writes the weights to lib/mesa/weights/ and beside them what made them: settings, test error,
versions, hardware, date. It takes minutes on a GPU and hours on a processor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from lib import checkpoints
from lib.checkpoints import Kept, recipe_of
from lib.mesa import systems, training
from lib.mesa.models import constructed, transformer

WEIGHTS = Path(__file__).parent / "weights"
TESTS = 4096  # sequences of the recorded error
BLOCK = 50  # steps between two tests, and what a stopped run loses at most


class Recipe(NamedTuple):
    """How a model is made: its layers, its sequences, its optimiser."""

    kinds: tuple[str, ...]  # of the layers, as in `lib.mesa.models`
    bound: bool  # reads constructed tokens, not the states themselves
    rate: float  # of AdamW: constant for constructed tokens, the peak of a schedule otherwise
    steps: int
    batch: int
    weight_decay: float
    length: int = 50  # states of a sequence
    decay_steps: int | None = None  # of the cosine, from the end of 1000 steps of warm-up on
    n: int = 10  # dimensions of a state
    sigma: float = 0.1  # standard deviation of the noise in each of them, at each step


RECIPES = {
    "LSA-6": Recipe(("linear",) * 6, True, 1e-4, 3500, 256, 0.1),
    "softmax-7": Recipe(("softmax",) * 7, False, 7e-4, 10_000, 256, 0.05, decay_steps=30_000),
    "few-shot": Recipe(("softmax",) * 7, False, 7e-4, 40_000, 128, 0.05, 224, 60_000),
}
UNRECORDED = {"n": 10, "sigma": 0.1}  # what they were before files said so


def load(name: str, folder: Path = WEIGHTS) -> Kept | None:
    """The model that was trained by a recipe; None if nobody has trained it yet.

    Raises ValueError for a name that is not in RECIPES.
    """
    recipe = recipe_of(RECIPES, name)
    kept = checkpoints.load(folder / f"{name}.eqx", _build(recipe, jax.random.key(0)))
    return kept and Kept(kept.model, kept.about | {"made": UNRECORDED | kept.about["made"]})


def fit(name: str, folder: Path = WEIGHTS, *, seed: int = 0, progress: bool = False) -> Kept:
    """Train a model by its recipe and keep it in `folder`; a stopped run goes on there.

    Raises ValueError for a name that is not in RECIPES, and what `lib.checkpoints.train` raises.
    """
    recipe = recipe_of(RECIPES, name)
    optimiser = training.optimiser(_rate(recipe), weight_decay=recipe.weight_decay)
    start = _build(recipe, jax.random.key(seed))
    test = draw(recipe, jax.random.fold_in(jax.random.key(seed), 1), TESTS)

    def advance(state, stop, bar):
        history = training.train(
            state,
            _generator(recipe),
            test,
            key=jax.random.key(seed + 1),
            at=[stop],
            optimiser=optimiser,
            progress=bar,
        )
        mse = round(float(history.mse[-1]), 6)
        return checkpoints.Told(history.state, [stop, mse], {"mse": mse})

    return checkpoints.train(
        training.State(start, optimiser.init(start), 0),
        advance,
        path=folder / f"{name}.eqx",
        made=recipe._asdict() | {"seed": seed},
        steps=recipe.steps,
        block=BLOCK,
        command=f"python -m lib.mesa.paper_scale {name} --seed {seed}",
        progress=progress,
    )


def draw(recipe: Recipe, key: PRNGKeyArray, batch: int) -> Float[np.ndarray, "batch T1 n"]:
    """Test sequences such as a recipe trains on."""
    return np.asarray(_draw(key, recipe, batch))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one model; 0 = done, 1 = it could not be."""
    return checkpoints.main(fit, RECIPES, _say, arguments)


def _say(about):
    return f"mean squared error {about['mse']:.4f}"


@partial(jax.jit, static_argnums=(1, 2))
def _draw(key, recipe, batch):
    return _generate(key, recipe=recipe, batch=batch)


@cache  # the same function for the same recipe, so that a block does not compile anew
def _generator(recipe):
    return partial(_generate, recipe=recipe, batch=recipe.batch)


def _generate(key: PRNGKeyArray, *, recipe: Recipe, batch: int) -> Float[Array, "batch T1 n"]:
    return systems.linear(key, batch, n=recipe.n, steps=recipe.length, sigma_h=recipe.sigma).s


def _build(recipe, key):
    return (constructed if recipe.bound else transformer)(key, recipe.kinds, n=recipe.n)


def _rate(recipe):
    if recipe.decay_steps is None:
        return recipe.rate
    return optax.warmup_cosine_decay_schedule(0.0, recipe.rate, 1000, recipe.decay_steps, 1e-5)


if __name__ == "__main__":
    sys.exit(main())
