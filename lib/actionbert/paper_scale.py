"""ActionBert at the paper's sizes, BASE and LARGE, on a larger laboratory; for a GPU.

python -m lib.actionbert.paper_scale base-paper     train it, or go on where a run was stopped

A name says the size and the objective: base (6 layers) or large (12 layers), both 768 wide with 6
heads (section 4.2 of arXiv 2012.12350v2); -paper (LCP, CUI and masked texts), -shuffled (the same
without user actions) or -hidden (B out of sight). The laboratory has 27 types of apps and 77
functions, as many as the paper's classes (Tables 4 and 5), and crops of 32 x 32 pixels.

Writes the weights to lib/actionbert/weights/ and beside them what made them: settings, results,
versions, hardware, date. Several devices share each batch; the result is the same but for rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from lib import checkpoints
from lib.actionbert import objectives, screens, training
from lib.actionbert.model import View, uni_stream, views
from lib.actionbert.objectives import Metrics, Pretrainer, objective, pretrainer
from lib.actionbert.screens import Apps, Pairs
from lib.actionbert.world import World, large_vocabulary, make_world, vocabulary
from lib.checkpoints import Kept, recipe_of
from lib.parallel import device_mesh

WEIGHTS = Path(__file__).parent / "weights"
BLOCK = 200  # steps between two tests, and what a stopped run loses at most
TESTS = 1024  # pairs of apps that were not trained on


class Recipe(NamedTuple):
    """How an encoder is made: its laboratory, its size, its objective, its schedule."""

    objective: str  # of `objectives.objective`
    shuffled: bool
    layers: int
    width: int
    heads: int
    types: int = 27
    functions: int = 77
    ambiguity: int = 7
    convention: float = 0.95
    apps: int = 4000
    traces: int = 3  # of each app
    trace: int = 20  # screens of a trace
    size: int = 32  # of crops
    cells: int = 8
    steps: int = 20_000
    batch: int = 128
    rate: float = 2e-4


class Laboratory(NamedTuple):
    """What a recipe trains on, and the pairs it is tested on."""

    world: World
    apps: Apps
    pairs: Pairs
    test_apps: Apps
    test_pairs: Pairs


SIZES = {"base": (6, 768, 6), "large": (12, 768, 6)}
KINDS = {"paper": ("paper", False), "shuffled": ("paper", True), "hidden": ("hidden B", False)}
RECIPES = {f"{size}-{kind}": Recipe(*KINDS[kind], *SIZES[size]) for size in SIZES for kind in KINDS}


def load(name: str, folder: Path = WEIGHTS) -> Kept | None:
    """The encoder that was trained by a recipe; None if nobody has trained it yet.

    Raises ValueError for a name that is not in RECIPES.
    """
    return checkpoints.load(folder / f"{name}.eqx", _build(recipe_of(RECIPES, name), 0))


def fit(name: str, folder: Path = WEIGHTS, *, seed: int = 0, progress: bool = False) -> Kept:
    """Train an encoder by its recipe and keep it in `folder`; a stopped run goes on there.

    Raises ValueError for a name that is not in RECIPES, and what `lib.checkpoints.train` raises.
    """
    recipe = recipe_of(RECIPES, name)
    found = laboratory(recipe, seed)
    seen, test = views(found.apps), views(found.test_apps)
    plan = training.Plan(recipe.steps, recipe.rate, recipe.batch, warm_up=recipe.steps // 20)

    def advance(state, stop, bar):
        state = training.train(
            state, objective(recipe.objective), seen, found.pairs, plan, until=stop,
            key=jax.random.key(seed + 1), mesh=device_mesh(training.AXIS), progress=bar,
        ).state  # fmt: skip
        told = tested(recipe.objective, state.model, test, found.test_pairs)
        row = {"step": stop} | {k: round(float(x), 5) for k, x in told._asdict().items()}
        return checkpoints.Told(state, row)

    return checkpoints.train(
        training.start(_build(recipe, seed)),
        advance,
        path=folder / f"{name}.eqx",
        made=recipe._asdict() | {"seed": seed},
        steps=recipe.steps,
        block=BLOCK,
        command=f"python -m lib.actionbert.paper_scale {name} --seed {seed}",
        progress=progress,
    )


def laboratory(recipe: Recipe, seed: int) -> Laboratory:
    """The apps and pairs of a recipe; a tenth as many apps more to test on."""
    small = (recipe.types, recipe.functions) == (8, 24)
    words = vocabulary() if small else large_vocabulary(recipe.types, recipe.functions)
    world = make_world(seed, ambiguity=recipe.ambiguity, convention=recipe.convention, words=words)
    found: list[Any] = [world]
    hidden = recipe.objective != "paper"
    for part, count in enumerate((recipe.apps, max(recipe.apps // 10, 1))):
        own = 10 * seed + part
        apps = screens.make_apps(world, count, own, size=recipe.size, cells=recipe.cells)
        traces = screens.crawl(apps, recipe.traces, recipe.trace, own)
        pairs = screens.pair_up(apps, traces, own, shuffled=recipe.shuffled and not part)
        found += [apps, screens.clicks_only(pairs) if hidden else pairs]
    return Laboratory(*found)


def tested(name: str, model: Pretrainer, data: View, pairs: Pairs) -> Metrics:
    """The losses and accuracies of an objective on at most TESTS pairs, in batches of 128."""
    count = min(TESTS, len(pairs.a)) // 128 * 128 or len(pairs.a)
    parts = [
        _test(model, data, jax.tree.map(lambda x, i=i: x[i : i + 128][:count], pairs), name)
        for i in range(0, count, 128)
    ]
    return Metrics(*(np.mean([np.asarray(x) for x in each]) for each in zip(*parts, strict=True)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one encoder; 0 = done, 1 = it could not be."""
    return checkpoints.main(fit, RECIPES, _say, arguments)


def _say(about):
    return f"link accuracy {about['curve'][-1]['link_accuracy']:.3f}"


@eqx.filter_jit
def _test(model, data, pairs, name):
    pairs = jax.tree.map(jax.numpy.asarray, pairs)
    return objectives.objective(name)(model, data, pairs, jax.random.key(0))[1]


def _build(recipe, seed):
    key = jax.random.key(seed)
    encoder = uni_stream(
        key, vision=5 * recipe.cells**2, width=recipe.width, layers=recipe.layers,
        heads=recipe.heads,
    )  # fmt: skip
    return pretrainer(jax.random.fold_in(key, 1), encoder)


if __name__ == "__main__":
    sys.exit(main())
