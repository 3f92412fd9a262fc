"""Models trained with the paper's settings (its Tables 1 and 2), whose weights come with the book.

python -m lib.mesa.paper_scale softmax-7      train it, or go on where an earlier run was stopped

Writes the weights to lib/mesa/weights/ and beside them what made them: settings, test error,
versions, hardware, date. It takes minutes on a GPU and hours on a processor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from tqdm import tqdm

from lib import checkpoints, recorded
from lib.mesa import systems, training
from lib.mesa.models import ConstructedTransformer, Transformer, constructed, transformer

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


class Kept(NamedTuple):
    """A trained model and what is known about its training."""

    model: ConstructedTransformer | Transformer
    about: dict[str, Any]


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
    recipe, path = _recipe(name), folder / f"{name}.eqx"
    if not path.exists():
        return None
    model = eqx.tree_deserialise_leaves(path, _build(recipe, jax.random.key(0)))
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Kept(model, about | {"made": UNRECORDED | about["made"]})


def fit(name: str, folder: Path = WEIGHTS, *, seed: int = 0, progress: bool = False) -> Kept:
    """Train a model by its recipe and keep it in `folder`; a stopped run goes on there.

    Raises ValueError for a name that is not in RECIPES, for a model that is in `folder` already,
    for a run that was begun with another recipe or seed, and for one whose file is damaged. None
    of these changes a file.
    """
    recipe = _recipe(name)
    made = {**recipe._asdict(), "kinds": list(recipe.kinds), "seed": seed}
    unfinished = folder / f"{name}.unfinished.eqx"
    if (folder / f"{name}.eqx").exists() and not unfinished.exists():
        raise ValueError(
            f"{folder} has {name} already: name another folder, or remove it to train it anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = training.optimiser(_rate(recipe), weight_decay=recipe.weight_decay)
    start = _build(recipe, jax.random.key(seed))
    start = training.State(start, optimiser.init(start), 0)
    curve, seconds = [], 0.0
    if unfinished.exists():
        before, arrays = checkpoints.resume(unfinished, made, (start.model, start.memory))
        curve, seconds = before["curve"], before["seconds"]
        start = training.State(*arrays, curve[-1][0])
    test = draw(recipe, jax.random.fold_in(jax.random.key(seed), 1), TESTS)
    stops = [*range(start.done + BLOCK, recipe.steps, BLOCK)]
    stops += [recipe.steps] * (start.done < recipe.steps)  # else it was stopped at the very end
    bar = tqdm(total=recipe.steps, initial=start.done, desc=name) if progress else None
    for stop in stops:
        began = time.process_time()
        history = training.train(
            start,
            partial(_generate, recipe=recipe, batch=recipe.batch),
            test,
            key=jax.random.key(seed + 1),
            at=[stop],
            optimiser=optimiser,
            progress=bar,
        )
        start = history.state
        curve.append([stop, round(float(history.mse[-1]), 6)])
        seconds += time.process_time() - began
        head = {"made": made, "curve": curve, "seconds": seconds}
        checkpoints.write(unfinished, head, (start.model, start.memory))
    about = {
        "made": made,
        "command": f"python -m lib.mesa.paper_scale {name} --seed {seed}",
        "mse": curve[-1][1],
        "curve": curve,
        "cpu_seconds": round(seconds),
        **recorded.provenance(),
    }
    kept = folder / f"{name}.eqx"
    kept.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    checkpoints.write(kept, None, start.model)
    unfinished.unlink()
    return Kept(start.model, about)


def draw(recipe: Recipe, key: PRNGKeyArray, batch: int) -> Float[np.ndarray, "batch T1 n"]:
    """Test sequences such as a recipe trains on."""
    return np.asarray(_draw(key, recipe, batch))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one model; 0 = done, 1 = it could not be."""
    parser = argparse.ArgumentParser(prog="python -m lib.mesa.paper_scale", description=__doc__)
    parser.add_argument("name", choices=RECIPES, help="which model")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (%(default)s)")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where to keep it")
    options = parser.parse_args(arguments)
    try:
        kept = fit(options.name, options.folder, seed=options.seed, progress=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last test", file=sys.stderr)
        return 1
    print(f"{options.name}: mean squared error {kept.about['mse']:.4f}")
    return 0


@partial(jax.jit, static_argnums=(1, 2))
def _draw(key, recipe, batch):
    return _generate(key, recipe=recipe, batch=batch)


def _generate(key: PRNGKeyArray, *, recipe: Recipe, batch: int) -> Float[Array, "batch T1 n"]:
    return systems.linear(key, batch, n=recipe.n, steps=recipe.length, sigma_h=recipe.sigma).s


def _build(recipe, key):
    return (constructed if recipe.bound else transformer)(key, recipe.kinds, n=recipe.n)


def _rate(recipe):
    if recipe.decay_steps is None:
        return recipe.rate
    return optax.warmup_cosine_decay_schedule(0.0, recipe.rate, 1000, recipe.decay_steps, 1e-5)


def _recipe(name):
    if name not in RECIPES:
        raise ValueError(f"name={name!r} is not known: use one of {', '.join(RECIPES)}")
    return RECIPES[name]


if __name__ == "__main__":
    sys.exit(main())
