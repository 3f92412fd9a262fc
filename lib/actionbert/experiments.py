"""The experiments of the chapter on ActionBert: laboratories, pre-training, reading, fine-tuning.

He et al. (2021), arXiv 2012.12350v2, sections 4 and 5. A laboratory is one world with apps to
pre-train on, others with labels, and others again to test on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Integer

from lib.actionbert import objectives, screens, tasks, training
from lib.actionbert.model import Bag, UniStream, bag, uni_stream, views
from lib.actionbert.objectives import Metrics, Pretrainer, Weights
from lib.actionbert.screens import Apps, Pairs, Rates
from lib.actionbert.world import World, make_world

TRACES, STEPS = 3, 20  # of each app, and screens of a trace
MASK_ALONE = Weights(0.0, 0.0, 0.01)


class Kind(NamedTuple):
    """What a laboratory is like."""

    convention: float = 0.0  # see `world.make_world`
    rates: Rates = Rates()  # of the apps to pre-train on
    labelled: Rates = Rates()  # of those with labels, and of those to test on
    apps: int = 400  # to pre-train on
    others: int = 150  # with labels, and as many to test on


class Laboratory(NamedTuple):
    """A world and its apps."""

    world: World
    apps: Apps  # to pre-train on
    labelled: Apps
    test: Apps
    pairs: Pairs
    shuffled: Pairs  # the control: see `screens.pair_up`


class Pretrained(NamedTuple):
    """An encoder, and what its objective told at each step."""

    model: Pretrainer
    metrics: Metrics


class Reading(NamedTuple):
    """How often a linear classifier names the function of an icon, by the number of screens."""

    screens: Integer[np.ndarray, " budgets"]  # whose icons have labels
    right: Float32[np.ndarray, " budgets"]  # share of the test icons
    poor: Float32[np.ndarray, " budgets"]  # of those without a field that names a function


@lru_cache(2)
def laboratory(kind: Kind, seed: int, shifted: bool = False) -> Laboratory:
    """Draw a laboratory; the same arguments give the same one, in each process once.

    `shifted` apps with labels and to test on look like another collection: see `make_apps`.

    Raises ValueError as `make_world` and `make_apps` do.
    """
    world = make_world(seed, convention=kind.convention)
    first = 1000 * (seed + 1)
    apps = screens.make_apps(world, kind.apps, first, rates=kind.rates)
    labelled, test = (
        screens.make_apps(world, kind.others, first + i, rates=kind.labelled, shifted=shifted)
        for i in (1, 2)
    )
    traces = screens.crawl(apps, TRACES, STEPS, seed)
    pairs, shuffled = (
        screens.pair_up(apps, traces, seed, shuffled=control) for control in (False, True)
    )
    return Laboratory(world, apps, labelled, test, pairs, shuffled)


def fresh(seed: int) -> Pretrainer:
    """An encoder and its heads before any training: "NP" in the paper's tables."""
    key = jax.random.key(seed)
    return objectives.pretrainer(jax.random.fold_in(key, 1), uni_stream(key))


def fresh_bag(seed: int) -> Bag:
    """The baseline of the paper's tables, "ResNet+BERT"."""
    return bag(jax.random.key(seed))


def pretrain(
    name: str, found: Laboratory, *, seed: int, steps: int, shuffled: bool = False
) -> Pretrained:
    """Pre-train by an objective: "mask", or one of `objectives.objective`.

    "paper" and "mask" in batches of 32 pairs, part of which are no clicks, the others in batches of
    64 clicks.

    Raises ValueError for a name that is not known.
    """
    pairs = found.shuffled if shuffled else found.pairs
    paired = name in ("paper", "mask")
    loss = (
        objectives.objective("paper", MASK_ALONE) if name == "mask" else objectives.objective(name)
    )
    plan = training.Plan(steps, batch=32 if paired else 64)
    history = training.train(
        training.start(fresh(seed)),
        loss,
        views(found.apps),
        pairs if paired else screens.clicks_only(pairs),
        plan,
        key=jax.random.key(seed),
    )
    return Pretrained(jax.tree.map(np.asarray, history.state.model), history.metrics)


def read(
    encoder: UniStream | None,
    found: Laboratory,
    budgets: Sequence[int],
    *,
    tests: int = 3000,
) -> Reading:
    """Read functions of icons from a frozen encoder, or from what encoders are given if None.

    A probe gets the labels of the icons on so many screens.

    Raises ValueError if there are fewer screens than that.
    """
    every = len(found.labelled.app)
    if max(budgets) > every:
        raise ValueError(f"budgets={list(budgets)} must not exceed the {every} screens with labels")
    order = np.random.default_rng(0).permutation(every)
    where = [order[:count] for count in budgets]
    seen, test = views(found.labelled), views(found.test)
    known, other = (
        tasks.raw(x) if encoder is None else tasks.components(encoder, x) for x in (seen, test)
    )
    asked = tasks.examples("icon", found.world, found.test, tests, 1)
    poor, right, right_poor = tasks.poor(found.test, asked), [], []
    for some in where:
        a, slot = np.nonzero(found.labelled.icon[some])
        questions = tasks.icons(found.labelled, some[a], slot)
        hit = tasks.probe(known, questions, other, asked, [len(slot)])[len(slot)]
        right.append(hit.mean())
        right_poor.append(hit[poor].mean())
    return Reading(np.array(budgets), np.float32(right), np.float32(right_poor))


def find_links(
    model: Pretrainer, found: Laboratory, *, seed: int, tests: int = 1000
) -> Bool[np.ndarray, " tests"]:
    """Of which clicks in unseen apps LCP finds the component, without any fine-tuning."""
    asked = tasks.examples("link", found.world, found.test, tests, seed)
    key = jax.random.key(seed)
    head = tasks.tuned("link", model.encoder, key, link=model.link)
    return tasks.answer("link", head, views(found.test), asked).right


def tune(
    task: str,
    model: Pretrainer | Bag,
    found: Laboratory,
    *,
    seed: int,
    steps: int,
    labels: int = 1000,
    tests: int = 1000,
    rate: float = 2e-3,
) -> Bool[np.ndarray, " tests"]:
    """Which of `tests` questions a model answers right that was fine-tuned on `labels` others.

    The questions depend on the laboratory, the task and the seed alone, so that models can be
    compared question by question.

    Raises ValueError for a task that is not in `tasks.TASKS`.
    """
    alone = isinstance(model, Bag)
    classes = {
        "icon": len(found.world.vocabulary.functions),
        "type": len(found.world.vocabulary.types),
    }
    head = tasks.tuned(
        task,
        model if alone else model.encoder,
        jax.random.key(100 + seed),
        classes=classes.get(task, 1),
        link=None if alone else model.link,
    )
    asked, test = (
        (views(apps), tasks.examples(task, found.world, apps, count, seed + i))
        for i, (apps, count) in enumerate(((found.labelled, labels), (found.test, tests)))
    )
    plan = training.Plan(steps, rate=rate, warm_up=steps // 10)
    return tasks.fine_tune(task, head, asked, test, plan, key=jax.random.key(seed)).right
