"""The five tasks of ActionBert on which encoders are compared, probes, chance and oracles.

He et al. (2021), arXiv 2012.12350v2, section 5: similar components (Table 2), referring expressions
(Table 3), icons (Table 4), types of apps (Table 5), and the component that links two screens
(Table 6). All parameters are fine-tuned. `probe` reads a frozen encoder instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float32, Integer, PRNGKeyArray
from sklearn.linear_model import LogisticRegression

from lib.actionbert import screens, training
from lib.actionbert.encoders import sentences
from lib.actionbert.model import Bag, Perceptron, UniStream, View, perceptron
from lib.actionbert.objectives import link_log_probabilities
from lib.actionbert.screens import Apps
from lib.actionbert.world import World

TASKS = ("similar", "expression", "icon", "type", "link")  # Tables 2 to 6
TOP, BOTTOM = 0.2, 0.8  # what an expression calls the top and the bottom of a screen
WIDTH = 64  # of what components are compared by


class Examples(NamedTuple):
    """Questions of one task, n of them; what a task does not ask for is 0."""

    a: Integer[np.ndarray, " n"]  # screens
    slot: Integer[np.ndarray, " n"]  # the component in question
    b: Integer[np.ndarray, " n"]  # screens with the candidates
    expression: Float32[np.ndarray, "n 64"]
    label: Integer[np.ndarray, " n"]  # a class, or the number of the right component


class Tuned(eqx.Module):
    """An encoder with the heads of a task."""

    encoder: UniStream | Bag
    head: Perceptron
    query: Perceptron | None = None  # of the expression


class Scores(NamedTuple):
    """What a fine-tuned model answered to the test questions."""

    answer: Integer[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    model: Tuned

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right.mean())


def examples(task: str, world: World, apps: Apps, count: int, seed: int) -> Examples:
    """Draw questions, `count` or as many as there are.

    "icon": the function of an icon. "type": that of the screen's app. "similar": the component of a
    screen B that does what an icon of A does, in another app. "expression": the component meant by
    "tap search top" or alike. "link": the component of A that leads to B.

    Raises ValueError for a task that is not in TASKS, and for `count` < 1.
    """
    _check(task)
    if count < 1:
        raise ValueError(f"count={count} must be at least 1: how many questions to draw")
    rng = np.random.default_rng(seed)
    if task == "type":
        a = rng.permutation(len(apps.app))[:count]
        return _examples(a=a, label=apps.type[a])
    if task == "link":
        pairs = screens.clicks_only(screens.pair_up(apps, screens.crawl(apps, 3, 15, seed), seed))
        a, b, slot = pairs.a[:count], pairs.b[:count], pairs.clicked[:count]
        return _examples(a=a, b=b, label=slot, slot=slot)
    a, slot = np.nonzero(apps.icon)
    if task == "similar":
        b, other = _partners(rng, apps, a, slot)
        order = rng.permutation(np.nonzero(b >= 0)[0])[:count]
        return _examples(a=a[order], slot=slot[order], b=b[order], label=other[order])
    order = rng.permutation(len(a))[:count]
    a, slot = a[order], slot[order]
    if task == "icon":
        return icons(apps, a, slot)
    numbers = expressions(rng, world, apps, a, slot)
    told = sentences(world.vocabulary.vectors, numbers)
    return _examples(a=a, b=a, slot=slot, label=slot, expression=told)


def icons(
    apps: Apps, screen: Integer[np.ndarray, " n"], slot: Integer[np.ndarray, " n"]
) -> Examples:
    """Questions "icon" about given icons."""
    return _examples(a=screen, slot=slot, label=apps.function[screen, slot])


def expressions(
    rng: np.random.Generator,
    world: World,
    apps: Apps,
    screen: Integer[np.ndarray, " n"],
    slot: Integer[np.ndarray, " n"],
) -> Integer[np.ndarray, "n 4"]:
    """Numbers of the words "tap search find top": a verb, one or two for the function, a place."""
    words, n = world.vocabulary, len(screen)
    own = words.of_function[apps.function[screen, slot]]
    named = np.take_along_axis(own, rng.integers(0, own.shape[1], (n, 2)), 1)
    y = apps.position[screen, slot, 5]
    place = words.places[np.where(y < TOP, 0, np.where(y > BOTTOM, 2, 1))]
    verb = words.verbs[rng.integers(0, len(words.verbs), n)]
    again, tells = rng.random(n) < 0.5, rng.random(n) < 0.3
    rest = (np.where(again, named[:, 1], 0), np.where(tells, place, 0))
    return np.stack([verb, named[:, 0], *rest], 1)


def chance(task: str, apps: Apps, questions: Examples) -> float:
    """What guessing gets: the largest class, or one among the icons (live ones for "link").

    Raises ValueError for a task that is not in TASKS.
    """
    _check(task)
    if task in ("icon", "type"):
        return float(np.bincount(questions.label).max() / len(questions.label))
    among = apps.live[questions.a] if task == "link" else apps.icon[questions.b]
    return float((1 / among.sum(1)).mean())


def oracle(task: str, apps: Apps, questions: Examples) -> float:
    """What one gets who knows every component's function and where it leads.

    Raises ValueError for a task that is not in TASKS.
    """
    _check(task)
    if task == "icon":
        return float((apps.function[questions.a, questions.slot] == questions.label).mean())
    if task == "type":
        return float((apps.type[questions.a] == questions.label).mean())
    if task == "link":
        right = apps.destination[questions.a] == questions.b[:, None]
    else:
        wanted = apps.function[questions.a, questions.slot]
        right = apps.function[questions.b] == wanted[:, None]
    hit = np.take_along_axis(right, questions.label[:, None], 1)[:, 0]
    return float((hit / np.maximum(right.sum(1), 1)).mean())


def table_rule(
    train: tuple[np.ndarray, ...],
    labels: Integer[np.ndarray, " n"],
    test: tuple[np.ndarray, ...],
) -> Integer[np.ndarray, " m"]:
    """The most frequent label in training of those that agree in all of some integer features.

    -1 where none agrees. What a rule without any network gets from the glyph's family, say.
    """
    seen: dict[tuple, dict[int, int]] = {}
    for *where, label in zip(*(a.tolist() for a in train), labels.tolist(), strict=True):
        counts = seen.setdefault(tuple(where), {})
        counts[label] = counts.get(label, 0) + 1
    best = {where: max(counts, key=counts.__getitem__) for where, counts in seen.items()}
    return np.array(
        [best.get(where, -1) for where in zip(*(a.tolist() for a in test), strict=True)]
    )


def poor(apps: Apps, questions: Examples) -> Bool[np.ndarray, " n"]:
    """Which questions are about an icon without a field that names a function."""
    return ~apps.informative[questions.a, questions.slot]


# Fine-tuning -------------------------------------------------------------------------------------


def tuned(
    task: str,
    encoder: UniStream | Bag,
    key: PRNGKeyArray,
    *,
    classes: int = 1,
    link: Perceptron | None = None,
) -> Tuned:
    """An encoder with fresh heads; `classes` of "icon" or "type".

    "link" goes on with the head of LCP, `link`, if there is one and the encoder is a `UniStream`.

    Raises ValueError for a task that is not in TASKS.
    """
    _check(task)
    alone = isinstance(encoder, Bag)
    width = len((encoder.norms[0] if alone else encoder.last).scale)
    first, second = jax.random.split(key)
    if task == "link":
        fresh = link is None or alone
        inputs = 3 * width if alone else width
        return Tuned(encoder, perceptron(first, inputs, width, 1) if fresh else link)
    if task in ("icon", "type"):
        inputs = 2 * width if task == "icon" else width
        return Tuned(encoder, perceptron(first, inputs, width, classes))
    head = perceptron(first, 2 * width, width, WIDTH)
    query = perceptron(second, 2 * width, width, WIDTH) if task == "expression" else None
    return Tuned(encoder, head, query)


def fine_tune(
    task: str,
    model: Tuned,
    data: tuple[View, Examples],
    test: tuple[View, Examples],
    plan: training.Plan,
    *,
    key: PRNGKeyArray,
) -> Scores:
    """Train all parameters on the questions of `data`, then answer those of `test`.

    Raises ValueError for a task that is not in TASKS.
    """
    loss = task_loss(task)
    ready = training.start(model)
    state = training.train(ready, loss, data[0], data[1], plan, key=key).state
    return answer(task, state.model, *test)


def answer(task: str, model: Tuned, data: View, questions: Examples) -> Scores:
    """Answer questions about the screens of `data`.

    Raises ValueError for a task that is not in TASKS.
    """
    _check(task)
    data = View(*map(jnp.asarray, data))

    def some(numbers):
        return _answers(model, data, Examples(*(x[numbers] for x in questions)), task)

    found = training.in_batches(some, len(questions.label))
    return Scores(found, found == questions.label, model)


@cache
def task_loss(task: str) -> training.Loss:
    """Cross-entropy of a task; one function for each, so that it is compiled once.

    Raises ValueError for a task that is not in TASKS.
    """
    _check(task)
    return partial(_loss, task=task)


def logits(task: str, model: Tuned, data: View, questions: Examples) -> Float[Array, "n answers"]:
    """Scores of all answers: classes, or components of B (of A and B for "link")."""
    a = data.take(questions.a)
    if task == "type":
        return model.head(model.encoder(a).cls)
    if task == "icon":
        return model.head(_component(model.encoder(a), questions.slot))
    b = data.take(questions.b)
    if task == "link":
        return _link_logits(model, a, b)
    if task == "similar":
        asked = model.head(_component(model.encoder(a), questions.slot))
        offered = model.head(model.encoder(b).a)
    else:  # the expression is the only component of a screen A that looks like B
        n, alone = len(questions.label), isinstance(model.encoder, Bag)
        whole = b.screenshot * (0.0 if alone else 1.0)
        place = jnp.broadcast_to(jnp.array(screens.WHOLE)[None, None], (n, 1, 9))
        said = View(
            questions.expression[:, None], whole[:, None], place, jnp.ones((n, 1), bool), whole
        )
        found = model.encoder(said, b)
        asked, offered = model.query(found.a[:, 0]), model.head(found.b)
    scores = jnp.einsum("bd,bnd->bn", asked, offered) * np.float32(WIDTH**-0.5)
    return jnp.where(b.present, scores, -1e9)


def _loss(model, data, questions, key, *, task):
    scores = logits(task, model, data, questions)
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, questions.label).mean()
    return loss, loss


@partial(jax.jit, static_argnames="task")
def _answers(model, data, questions, task):
    questions = Examples(*map(jnp.asarray, questions))
    return logits(task, model, data, questions).argmax(-1)


def _component(found, slot):
    return jnp.take_along_axis(found.a, slot[:, None, None], 1)[:, 0]


def _link_logits(model, a, b):
    found = model.encoder(a, b)
    if found.cls_b is None:
        return link_log_probabilities(model.head, found, a, b)
    whole = jnp.broadcast_to(found.cls_b[:, None], (*found.a.shape[:2], found.cls_b.shape[1]))
    scores = model.head(jnp.concatenate([found.a, whole], -1))[..., 0]
    return jnp.where(a.present, scores, -1e9)


# Frozen encoders ---------------------------------------------------------------------------------


def components(encoder: UniStream | Bag, data: View) -> Float32[np.ndarray, "M slots width"]:
    """What an encoder makes of the components of single screens."""
    data = View(*map(jnp.asarray, data))
    return training.in_batches(lambda numbers: _components(encoder, data, numbers), len(data.text))


def raw(data: View) -> Float32[np.ndarray, "M slots features"]:
    """What encoders are given of each component: its text, vision and position side by side."""
    return np.concatenate([np.asarray(x) for x in (data.text, data.vision, data.position)], -1)


def probe(
    features: Float[np.ndarray, "M slots d"],
    questions: Examples,
    test_features: Float[np.ndarray, "N slots d"],
    test: Examples,
    labels: Sequence[int],
    *,
    strength: float = 0.3,
) -> dict[int, Bool[np.ndarray, " n"]]:
    """How well a linear classifier reads the labels of icons from features of a frozen encoder.

    For each number in `labels`: a multinomial logistic regression on so many of `questions`
    (`strength` is scikit-learn's C), and which of the `test` questions it answers right.

    Raises ValueError if there are fewer questions than that.
    """
    if max(labels) > len(questions.label):
        raise ValueError(
            f"labels={list(labels)} asks for more than the {len(questions.label)} questions"
        )
    x, z = features[questions.a, questions.slot], test_features[test.a, test.slot]
    found = {}
    for count in labels:
        reader = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
        reader.fit(x[:count], questions.label[:count])
        found[count] = reader.predict(z) == test.label
    return found


@jax.jit
def _components(encoder, data, numbers):
    return encoder(data.take(jnp.asarray(numbers))).a


# Drawing questions -------------------------------------------------------------------------------


def _examples(a, label, **others):
    none = np.zeros(len(a), int)
    return Examples(
        a,
        others.get("slot", none),
        others.get("b", none),
        others.get("expression", np.zeros((len(a), 64), np.float32)),
        label,
    )


def _partners(rng, apps, a, slot):
    """For each icon an icon of the same function in another app: screen and slot, -1 if none."""
    function, app = apps.function[a, slot], apps.app[a]
    screen, where = np.full(len(a), -1), np.full(len(a), -1)
    for one in np.unique(function):
        own = np.nonzero(function == one)[0]
        for _ in range(5):  # a few tries to find another app
            missing = own[screen[own] < 0]
            pick = own[rng.integers(0, len(own), len(missing))]
            fits = app[pick] != app[missing]
            screen[missing[fits]], where[missing[fits]] = a[pick[fits]], slot[pick[fits]]
    return screen, where


def _check(task):
    if task not in TASKS:
        raise ValueError(f"task={task!r} is not known: use one of {', '.join(TASKS)}")
