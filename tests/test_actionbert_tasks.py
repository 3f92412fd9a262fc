"""The tasks of ActionBert: questions, chance, oracles, rules of thumb, fine-tuning, probes."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lib.actionbert import model, objectives, screens, tasks, training, world
from lib.actionbert.tasks import TASKS

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def made():
    return world.make_world()


@pytest.fixture(scope="module")
def apps(made):
    return screens.make_apps(made, 60, 1)


@pytest.fixture(scope="module")
def seen(apps):
    return model.views(apps)


@pytest.fixture(scope="module")
def questions(made, apps):
    return {task: tasks.examples(task, made, apps, 300, 2) for task in TASKS}


@pytest.fixture(scope="module")
def encoders():
    return {"bag": model.bag(KEY), "uni-stream": model.uni_stream(KEY, width=32, layers=1)}


# Questions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_who_knows_all_functions_is_always_right(task, apps, questions):
    asked = questions[task]
    assert len(asked.label) == 300
    assert tasks.oracle(task, apps, asked) == 1
    low, high = {"icon": (0.1, 0.25), "type": (0.125, 0.35)}.get(task, (0.2, 0.3))
    assert low < tasks.chance(task, apps, asked) < high
    if task not in ("icon", "type"):  # and one that does not know is not
        wrong = asked._replace(label=(asked.label + 1) % screens.SLOTS)
        assert tasks.oracle(task, apps, wrong) < 0.2


def test_questions_are_what_they_say(apps, questions):
    icon = questions["icon"]
    np.testing.assert_array_equal(icon.label, apps.function[icon.a, icon.slot])
    assert len(set(zip(icon.a, icon.slot, strict=True))) == 300, "none is asked twice"
    similar = questions["similar"]
    assert np.all(apps.app[similar.a] != apps.app[similar.b])
    function = apps.function[similar.b, similar.label]
    np.testing.assert_array_equal(function, apps.function[similar.a, similar.slot])
    link = questions["link"]
    np.testing.assert_array_equal(apps.destination[link.a, link.label], link.b)
    said = questions["expression"]
    np.testing.assert_array_equal(said.a, said.b)
    np.testing.assert_array_equal(said.slot, said.label)
    assert not questions["type"].expression.any() and said.expression.any(1).all()


def test_an_expression_has_a_verb_the_function_and_a_place(made, apps, questions):
    said, words = questions["expression"], made.vocabulary
    rng = np.random.default_rng(0)
    numbers = tasks.expressions(rng, made, apps, said.a, said.slot)
    own = words.of_function[apps.function[said.a, said.slot]]
    assert np.isin(numbers[:, 0], words.verbs).all()
    assert (own == numbers[:, 1:2]).any(1).all()
    for column, rate in ((2, 0.5), (3, 0.3)):
        assert (numbers[:, column] > 0).mean() == pytest.approx(rate, abs=0.1)
    y = apps.position[said.a, said.slot, 5]
    for name, low, high in (("top", 0, 0.2), ("middle", 0.2, 0.8), ("bottom", 0.8, 1.2)):
        told = numbers[:, 3] == words.words.index(name)
        assert told.any() and np.all((y[told] >= low) & (y[told] <= high))


def test_chance_counts_candidates(apps, questions):
    link, similar, icon = (questions[task] for task in ("link", "similar", "icon"))
    expected = np.mean([1 / apps.live[a].sum() for a in link.a])
    assert tasks.chance("link", apps, link) == pytest.approx(expected)
    expected = np.mean([1 / apps.icon[b].sum() for b in similar.b])
    assert tasks.chance("similar", apps, similar) == pytest.approx(expected)
    most = Counter(icon.label.tolist()).most_common(1)[0][1]
    assert tasks.chance("icon", apps, icon) == pytest.approx(most / 300)


def test_a_table_rule_says_the_most_frequent_label():
    train = (np.array([0, 0, 0, 1, 1]), np.array([5, 5, 5, 5, 6]))
    labels = np.array([2, 3, 3, 7, 8])
    found = tasks.table_rule(train, labels, (np.array([0, 1, 1, 2]), np.array([5, 5, 6, 5])))
    np.testing.assert_array_equal(found, [3, 7, 8, -1])


@pytest.mark.computes
def test_glyph_type_and_slot_tell_so_much_of_an_icons_function(made):
    """A9: rules that use no text, from 600 apps, on unseen ones."""
    known, new = screens.make_apps(made, 600, 1), screens.make_apps(made, 150, 7001)
    train = tasks.examples("icon", made, known, 10**6, 1)
    test = tasks.examples("icon", made, new, 10**6, 2)

    def share(names, apps, of):
        features = {"glyph": of.a * 0 + apps.family[of.a, of.slot], "type": apps.type[of.a]}
        return tuple((features | {"slot": of.slot})[name] for name in names.split())

    found = {}
    for names in ("glyph", "glyph type", "glyph slot", "glyph type slot"):
        rule = share(names, known, train), train.label, share(names, new, test)
        found[names] = (tasks.table_rule(*rule) == test.label).mean()
    expected = {"glyph": 0.523, "glyph type": 0.574, "glyph slot": 0.600, "glyph type slot": 0.676}
    assert found == pytest.approx(expected, abs=0.03)


def test_by_convention_glyph_and_type_tell_an_icons_function():
    known = world.make_world(convention=0.95)
    apps, new = screens.make_apps(known, 300, 1), screens.make_apps(known, 100, 2)
    train = tasks.examples("icon", known, apps, 10**6, 1)
    test = tasks.examples("icon", known, new, 10**6, 2)
    glyphs = apps.family[train.a, train.slot], new.family[test.a, test.slot]
    alone = tasks.table_rule(glyphs[:1], train.label, glyphs[1:])
    both = tasks.table_rule(
        (glyphs[0], apps.type[train.a]), train.label, (glyphs[1], new.type[test.a])
    )
    assert (alone == test.label).mean() < 0.65 < 0.85 < (both == test.label).mean()


def test_poor_icons_have_no_field_that_names_a_function(made, apps, questions):
    asked = questions["icon"]
    poor = tasks.poor(apps, asked)
    named = np.isin(apps.words[asked.a, asked.slot][:, :2], made.vocabulary.of_function).any(1)
    np.testing.assert_array_equal(poor, ~named)


# Fine-tuning -------------------------------------------------------------------------------------

CLASSES = {"icon": 24, "type": 8}


@pytest.mark.parametrize(
    "task, kind",
    [
        ("icon", "uni-stream"),
        ("expression", "uni-stream"),
        ("link", "bag"),
        ("type", "bag"),
        ("similar", "bag"),
    ],
)
def test_a_few_questions_can_be_learned_by_heart(task, kind, encoders, seen, questions):
    few = tasks.Examples(*(x[:16] for x in questions[task]))
    start = tasks.tuned(task, encoders[kind], KEY, classes=CLASSES.get(task, 1))
    plan = training.Plan(60, rate=4e-3, batch=16, warm_up=5)
    before = tasks.answer(task, start, seen, few)
    after = tasks.fine_tune(task, start, (seen, few), (seen, few), plan, key=KEY)
    assert after.accuracy > 0.85 and after.accuracy > before.accuracy
    np.testing.assert_array_equal(after.right, after.answer == few.label)
    again = tasks.answer(task, after.model, seen, few)
    np.testing.assert_array_equal(again.answer, after.answer)


def test_answers_do_not_depend_on_how_many_are_asked_at_once(encoders, seen, questions):
    start = tasks.tuned("icon", encoders["uni-stream"], KEY, classes=24)
    asked = questions["icon"]
    every = tasks.answer("icon", start, seen, asked).answer
    part = tasks.answer("icon", start, seen, tasks.Examples(*(x[250:] for x in asked))).answer
    np.testing.assert_array_equal(every[250:], part)


def test_link_goes_on_with_the_head_of_lcp(encoders, seen, questions):
    learner = objectives.pretrainer(KEY, encoders["uni-stream"])
    start = tasks.tuned("link", learner.encoder, KEY, link=learner.link)
    assert start.head is learner.link
    few = tasks.Examples(*(jnp.asarray(x[:8]) for x in questions["link"]))
    a, b = seen.take(few.a), seen.take(few.b)

    @jax.jit
    def both(learner, start):
        found = learner.encoder(a, b)
        lcp = objectives.link_log_probabilities(learner.link, found, a, b)
        return lcp, tasks.logits("link", start, seen, few)

    np.testing.assert_allclose(*both(learner, start), atol=1e-5)


def test_similarity_is_a_dot_product(encoders, seen, questions):
    """Section 5.1: of component embeddings; here after a head that both share."""
    start = tasks.tuned("similar", encoders["bag"], KEY)
    few = tasks.Examples(*(jnp.asarray(x[:8]) for x in questions["similar"]))

    @jax.jit
    def parts(start):
        every = [start.head(start.encoder(seen.take(i)).a) for i in (few.a, few.b)]
        return *every, tasks.logits("similar", start, seen, few)

    a, b, found = map(np.asarray, parts(start))
    expected = (a[np.arange(8), few.slot][:, None] * b).sum(-1) / 8
    there = np.asarray(seen.present)[np.asarray(few.b)]
    np.testing.assert_allclose(found[there], expected[there], rtol=1e-3, atol=1e-4)
    assert np.all(found[~there] < -1e8)


# Probes ------------------------------------------------------------------------------------------


def test_a_probe_is_a_logistic_regression_on_components(encoders, apps, seen, questions):
    features = tasks.components(encoders["uni-stream"], seen)
    assert features.shape == (len(apps.app), screens.SLOTS, 64)
    some = jnp.arange(5)
    alone = jax.jit(lambda e: e(seen.take(some)).a)(encoders["uni-stream"])
    np.testing.assert_allclose(features[:5], alone, atol=1e-4)
    asked = questions["icon"]
    train = tasks.Examples(*(x[:200] for x in asked))
    test = tasks.Examples(*(x[200:] for x in asked))
    found = tasks.probe(features, train, features, test, [50, 200])
    reader = LogisticRegression(C=0.3, max_iter=2000)
    reader.fit(features[train.a, train.slot], train.label)
    expected = reader.score(features[test.a, test.slot], test.label)
    assert found[200].mean() == pytest.approx(expected, abs=0.03)
    assert found[50].shape == (100,) and found[200].mean() > 0.25
    noise = np.random.default_rng(0).normal(size=features.shape).astype(np.float32)
    assert tasks.probe(noise, train, noise, test, [200])[200].mean() < 0.2


def test_raw_features_are_text_vision_and_position(seen):
    found = tasks.raw(seen)
    assert found.shape[2] == 64 + 80 + 9
    np.testing.assert_array_equal(found[..., 64:144], seen.vision)
    np.testing.assert_array_equal(found[..., 144:], seen.position)


# Bad input ---------------------------------------------------------------------------------------


def test_bad_arguments_are_named(made, apps, encoders, questions):
    asked, features = questions["icon"], np.zeros((len(apps.app), 10, 2), np.float32)
    for call, says in (
        (lambda: tasks.examples("icons", made, apps, 5, 0), "task='icons' is not known: use one"),
        (lambda: tasks.examples("icon", made, apps, 0, 0), "count=0 must be at least 1"),
        (lambda: tasks.chance("", apps, asked), "task='' is not known"),
        (lambda: tasks.oracle("x", apps, asked), "task='x' is not known"),
        (lambda: tasks.tuned("x", encoders["bag"], KEY), "task='x' is not known"),
        (lambda: tasks.task_loss("x"), "task='x' is not known"),
        (lambda: tasks.probe(features, asked, features, asked, [9, 301]),
         "asks for more than the 300 questions"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            call()
