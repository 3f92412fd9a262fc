"""ActionBert's encoder, objectives and training, against definitions and Equinox's own layers."""

import json
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import check_going_on
from jax.flatten_util import ravel_pytree
from scipy.special import log_softmax

from lib.actionbert import encoders, model, objectives, paper_scale, screens, training, world
from lib.actionbert.model import View
from lib.actionbert.objectives import Weights, objective
from lib.actionbert.screens import SLOTS, Pairs
from lib.parallel import device_mesh

KEY = jax.random.key(0)
PAPER = objective("paper")


@pytest.fixture(scope="module")
def apps():
    return screens.make_apps(world.make_world(), 80, 1)


@pytest.fixture(scope="module")
def pairs(apps):
    return screens.pair_up(apps, screens.crawl(apps, 2, 12, 3), 4)


@pytest.fixture(scope="module")
def seen(apps):
    return model.views(apps)


@pytest.fixture(scope="module")
def encoder():
    return model.uni_stream(KEY)


@pytest.fixture(scope="module")
def learner(encoder):
    return objectives.pretrainer(jax.random.key(1), encoder)


def first(pairs, count=8):
    return jax.tree.map(lambda x: jnp.asarray(x[:count]), pairs)


@eqx.filter_jit
def encode(encoder, a, b=None, mask_a=None, mask_b=None, attention=False):
    return encoder(a, b, mask_a=mask_a, mask_b=mask_b, attention=attention)


@pytest.fixture(scope="module")
def ab(seen, pairs):
    some = first(pairs)
    return seen.take(some.a), seen.take(some.b)


# The encoder -------------------------------------------------------------------------------------


def test_a_token_is_the_sum_of_four_normalised_embeddings(encoder, ab):
    """Fig. 5, written out for one pair; then Equinox's attention in each layer."""
    a, b = (View(*(np.asarray(x[0]) for x in view)) for view in ab)

    def ln(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    text, vision, place = (e.weight for e in encoder.embeddings)
    segment, special = ln(encoder.segments), ln(encoder.special @ text)
    whole = ln(np.array(screens.WHOLE, np.float32) @ place)

    def tokens(texts, pictures, places, number):
        return texts + ln(pictures @ vision) + places + segment[number]

    def one(which, view, number):
        return tokens(special[which], view.screenshot[None], whole, number)

    def words(view, number):
        return tokens(ln(view.text @ text), view.screenshot, ln(view.position @ place), number)

    def crops(view, number):
        return tokens(special[model.IMG], view.vision, ln(view.position @ place), number)

    x = np.concatenate(
        [
            one(model.CLS, a, 0), words(a, 0), one(model.SEP, a, 0), words(b, 1),
            one(model.SEP, b, 1), crops(a, 2), one(model.SEP, a, 2), crops(b, 3),
            one(model.END, a, 3),
        ]
    )  # fmt: skip
    assert len(x) == 45
    one = np.ones(1, bool)
    there = np.concatenate([one, a.present, one, b.present, one, a.present, one, b.present, one])
    x = jnp.asarray(x)
    for layer in encoder.layers:
        attention = eqx.nn.MultiheadAttention(4, 64, use_query_bias=True, use_key_bias=True,
            use_value_bias=True, use_output_bias=True, key=KEY)  # fmt: skip
        q, k, v = jnp.split(layer.to_qkv.weight, 3, 1)
        attention = eqx.tree_at(
            lambda m: [p.weight for p in (m.query_proj, m.key_proj, m.value_proj, m.output_proj)],
            attention, [q.T, k.T, v.T, layer.output.weight.T],
        )  # fmt: skip
        zero = jnp.zeros(64)
        attention = eqx.tree_at(
            lambda m: [p.bias for p in (m.query_proj, m.key_proj, m.value_proj, m.output_proj)],
            attention, [zero] * 4,
        )  # fmt: skip
        norm = jnp.asarray(ln(np.asarray(x)))
        seen = jnp.broadcast_to(there[None], (45, 45))
        x = x + attention(norm, norm, norm, mask=seen)
        hidden = jax.nn.gelu(jnp.asarray(ln(np.asarray(x))) @ layer.inside.first.weight)
        x = x + hidden @ layer.inside.second.weight
    x = ln(np.asarray(x))
    found = encode(encoder, *ab)
    np.testing.assert_allclose(found.cls[0], x[0], atol=2e-4)
    np.testing.assert_allclose(found.a[0], np.concatenate([x[1:11], x[23:33]], 1), atol=2e-4)
    np.testing.assert_allclose(found.b[0], np.concatenate([x[12:22], x[34:44]], 1), atol=2e-4)


def test_components_that_are_not_there_change_nothing(encoder, ab):
    """A4"""
    a, b = ab
    noise = jax.random.normal(KEY, a.text.shape)
    gone = ~a.present[..., None]
    assert gone.any()
    other = a._replace(
        text=jnp.where(gone, noise, a.text),
        vision=jnp.where(gone, 3.0, a.vision),
        position=jnp.where(gone, -2.0, a.position),
    )
    found, same = encode(encoder, a, b), encode(encoder, other, b)
    there = np.asarray(a.present)
    for x, y in ((found.cls, same.cls), (found.a[there], same.a[there]), (found.b, same.b)):
        np.testing.assert_allclose(x, y, atol=1e-5)
    changed = encode(encoder, a._replace(text=jnp.where(gone, a.text, noise)), b)
    assert np.abs(changed.b - found.b).max() > 0.1, "every token sees all others"


def test_a_screen_alone_is_a_pair_with_an_empty_one(encoder, ab):
    a, b = ab
    empty = b._replace(present=jnp.zeros_like(b.present))
    alone, padded = encode(encoder, a), encode(encoder, a, empty)
    assert alone.b is None
    there = np.asarray(a.present)
    np.testing.assert_allclose(alone.cls, padded.cls, atol=1e-5)
    np.testing.assert_allclose(alone.a[there], padded.a[there], atol=1e-5)
    assert np.abs(encode(encoder, a, b).cls - alone.cls).max() > 0.1


def test_attention_is_a_distribution_over_what_is_there(encoder, ab):
    a, b = ab
    found = encode(encoder, a, b, attention=True)
    assert [x.shape for x in found.attention] == [(8, 4, 45, 45)] * 2
    for weights in found.attention:
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        at = weights[..., 1:11]  # A's texts
        assert not np.any(np.where(np.asarray(a.present)[:, None, None], 0, at))
        assert np.all(np.where(np.asarray(a.present)[:, None, None], at, 1) > 0)
    assert not encode(encoder, a, b).attention


def test_initial_weights_are_glorots():
    made = model.uni_stream(KEY, width=96, layers=3, heads=6, vision=30)
    assert len(made.layers) == 3 and made.embeddings[1].weight.shape == (30, 96)
    for w in (made.layers[2].to_qkv.weight, made.layers[0].inside.first.weight):
        assert w.std() == pytest.approx((2 / sum(w.shape)) ** 0.5, rel=0.02)
    assert not made.layers[1].inside.second.bias.any() and made.segments.std() > 0.7


def test_the_baseline_sees_one_component_at_a_time(ab):
    a, b = ab
    plain = model.bag(KEY)
    found = encode_bag(plain, a, b)
    other = encode_bag(plain, a._replace(text=a.text.at[:, 1:].set(0.0)), b)
    np.testing.assert_array_equal(found.a[:, 0], other.a[:, 0])
    assert np.abs(found.a[:, 1:] - other.a[:, 1:]).max() > 0.1
    moved = encode_bag(plain, a._replace(position=a.position * 0), b)
    np.testing.assert_array_equal(found.a, moved.a)
    np.testing.assert_allclose(encode_bag(plain, b).cls, found.cls_b, atol=1e-6)
    whole = eqx.filter_jit(plain.whole)(found.a)
    there = np.asarray(a.present)[..., None]
    mean = np.where(there, whole, 0).sum(1) / there.sum(1)
    np.testing.assert_allclose(found.cls, mean, atol=1e-5)


encode_bag = eqx.filter_jit(lambda plain, a, b=None: plain(a, b))


def test_pictures_may_go_through_an_encoder_that_learns(apps, ab):
    patches = encoders.patch_encoder(KEY, size=16, features=20)
    pixels = model.views(apps, pixels=True)
    assert pixels.vision.shape == (*apps.present.shape, 256)
    np.testing.assert_array_equal(pixels.vision[3, 0], apps.crops[3, 0].ravel() / np.float32(255))
    made = model.uni_stream(KEY, vision=20, patches=patches)
    few = pixels.take(jnp.arange(6))

    @jax.jit
    @jax.grad
    def slope(made):
        return jnp.square(made(few).a).mean() + made(few).cls[:, 0].sum()

    assert np.abs(slope(made).patches.patches).max() > 0
    x = np.random.default_rng(0).random((2, 256)).astype(np.float32)
    parts = (x - 0.5).reshape(2, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4).reshape(2, 16, 16)
    hidden = np.asarray(jax.nn.gelu(parts @ patches.patches)).reshape(2, -1)
    np.testing.assert_allclose(eqx.filter_jit(patches)(x), hidden @ patches.joined, atol=1e-4)


def test_a_view_may_lack_texts_or_pictures(apps):
    blind, mute = model.views(apps, vision=False), model.views(apps, text=False)
    assert not blind.vision.any() and not blind.screenshot.any() and blind.text.any()
    assert not mute.text.any() and mute.vision.any()


# Objectives --------------------------------------------------------------------------------------


@eqx.filter_jit
def loss_of(learner, seen, pairs, name="paper", weights=Weights(), key=KEY):  # noqa: B008
    return objective(name, weights)(learner, seen, pairs, key)


@eqx.filter_jit
def log_p(learner, a, b):
    found = learner.encoder(a, b)
    return objectives.link_log_probabilities(learner.link, found, a, b)


def permuted(view, order):
    return View(*(x if x.ndim == 2 and x is view.screenshot else x[:, order] for x in view))


def test_link_probabilities_sum_to_one_and_follow_their_components(learner, ab):
    """A5"""
    a, b = ab
    found = log_p(learner, a, b)
    assert found.shape == (8, 2 * SLOTS)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-5)
    there = np.concatenate([a.present, b.present], 1)
    assert np.all(found[~there] < -1e8)
    order = np.random.default_rng(0).permutation(SLOTS)
    moved = log_p(learner, permuted(a, order), b)
    np.testing.assert_allclose(moved[:, :SLOTS], found[:, order], atol=1e-4)
    np.testing.assert_allclose(moved[:, SLOTS:], found[:, SLOTS:], atol=1e-4)


def test_the_losses_are_those_of_section_3_2(learner, seen, pairs):
    some = first(pairs, 32)
    a, b = seen.take(some.a), seen.take(some.b)
    no_mask = Weights(1.0, 0.1, 0.0)
    loss, told = loss_of(learner, seen, some, weights=no_mask)
    clicked = np.asarray(some.clicked)
    hit = np.nonzero(np.asarray(some.consecutive) & (clicked >= 0))[0]
    assert 8 < len(hit) < 28
    found = np.asarray(log_p(learner, a, b))
    assert told.link == pytest.approx(-found[hit, clicked[hit]].mean(), rel=1e-4)
    right = found.argmax(1)[hit] == clicked[hit]
    assert told.link_accuracy == pytest.approx(right.mean(), abs=1e-6)
    # the same probabilities from a softmax over all 40 tokens
    tokens = encode(learner.encoder, a, b)
    both = np.concatenate([tokens.a, tokens.b], 1).reshape(32, 2 * SLOTS, 2, 64)
    scores = np.asarray(eqx.filter_jit(learner.link)(both))[..., 0]
    there = np.concatenate([a.present, b.present], 1)[..., None]
    p = np.exp(log_softmax(np.where(there, scores, -1e9), (1, 2))).sum(2)
    np.testing.assert_allclose(np.exp(found), p, atol=1e-6)
    z = np.asarray(eqx.filter_jit(learner.consecutive)(tokens.cls))[:, 0]
    y = np.asarray(some.consecutive)
    cross = -np.where(y, -np.log1p(np.exp(-z)), -np.log1p(np.exp(z))).mean()
    assert told.consecutive == pytest.approx(cross, rel=1e-4)
    assert told.consecutive_accuracy == pytest.approx(((z > 0) == y).mean(), abs=1e-6)
    assert told.masked == 0 and loss == pytest.approx(
        float(told.link + 0.1 * told.consecutive), rel=1e-5
    )


def test_the_default_weights_are_the_papers(learner, seen, pairs):
    """A10"""
    assert Weights() == (1.0, 0.1, 0.01)
    loss, told = loss_of(learner, seen, first(pairs, 32))
    assert told.masked > 10
    whole = told.link + 0.1 * told.consecutive + 0.01 * told.masked
    assert loss == pytest.approx(float(whole), rel=1e-5)


def test_a_masked_text_matters_as_a_target_only(learner, seen, pairs):
    """A6: with all texts masked, the encoder does not see them."""
    some = first(pairs)
    a, b = seen.take(some.a), seen.take(some.b)
    every = jnp.ones_like(a.present)
    found = encode(learner.encoder, a, b, every, every)
    other = encode(learner.encoder, a._replace(text=-a.text), b, every, every)
    np.testing.assert_array_equal(found.a, other.a)
    one = jnp.zeros_like(every).at[:, 0].set(True)
    changed = a._replace(text=a.text.at[:, 0].set(5.0))
    found, other = (encode(learner.encoder, x, b, one, None) for x in (a, changed))
    np.testing.assert_array_equal(found.a, other.a)
    assert np.abs(encode(learner.encoder, changed, b).a - other.a).max() > 0.1


def test_the_mask_loss_is_the_squared_error_of_the_masked(learner, seen, pairs, monkeypatch):
    monkeypatch.setattr(objectives, "MASKED", 2.0)  # all of them
    some = first(pairs)
    told = eqx.filter_jit(partial(objectives.paper_loss, weights=Weights(0.5, 0.1, 0.01)))(
        learner, seen, some, KEY
    )[1]
    a, b = seen.take(some.a), seen.take(some.b)
    found = encode(learner.encoder, a, b, a.present, b.present)
    said = np.asarray(
        eqx.filter_jit(learner.masked)(jnp.concatenate([found.a, found.b], 1)[..., :64])
    )
    error = np.square(said - np.concatenate([a.text, b.text], 1)).sum(-1)
    there = np.concatenate([a.present, b.present], 1)
    assert told.masked == pytest.approx(error[there].mean(), rel=1e-4)


def towers(learner, seen, some):
    """What A's clicked components say about B, and the texts of B, as unit vectors."""
    a, b = seen.take(some.a), seen.take(some.b)
    said = np.asarray(eqx.filter_jit(learner.leads_to)(encode(learner.encoder, a).a))
    said = said / np.linalg.norm(said, axis=-1, keepdims=True)
    texts = np.asarray(b.text).sum(1)
    return said, texts / np.linalg.norm(texts, axis=-1, keepdims=True)


def test_hidden_b_finds_the_next_screen_among_the_others(learner, seen, pairs):
    some = first(pairs, 16)
    loss, told = loss_of(learner, seen, some, "hidden B")
    hit = np.nonzero(np.asarray(some.consecutive) & (np.asarray(some.clicked) >= 0))[0]
    said, texts = towers(learner, seen, some)
    scores = 10 * said[hit, np.asarray(some.clicked)[hit]] @ texts[hit].T
    expected = -np.diagonal(log_softmax(scores, 1)).mean()
    assert loss == told.link == pytest.approx(expected, rel=1e-4)
    assert told.link_accuracy == pytest.approx((scores.argmax(1) == np.arange(len(hit))).mean())


def test_two_towers_find_the_component_without_seeing_b(learner, seen, pairs):
    some = first(pairs, 16)
    loss, told = loss_of(learner, seen, some, "two towers")
    clicked = np.asarray(some.clicked)
    hit = np.nonzero(np.asarray(some.consecutive) & (clicked >= 0))[0]
    said, texts = towers(learner, seen, some)
    scores = 10 * (said * texts[:, None]).sum(-1)
    scores = np.where(np.asarray(seen.present)[np.asarray(some.a)], scores, -1e9)
    found = log_softmax(scores, 1)[hit, clicked[hit]]
    assert loss == told.link == pytest.approx(-found.mean(), rel=1e-4)


def test_objectives_that_hide_b_encode_a_alone(learner, seen, pairs):
    """The encoder's slope does not depend on B's pictures, which only LCP looks at."""
    some = first(screens.clicks_only(pairs), 8)
    bare = seen._replace(vision=seen.vision.at[some.b].set(0.0))
    keep = ~np.isin(some.a, some.b)
    some = jax.tree.map(lambda x: x[keep], some)
    assert len(some.a) >= 4
    for name, same in (("paper", False), ("hidden B", True), ("two towers", True)):
        one, other = (loss_of(learner, view, some, name)[0] for view in (seen, bare))
        assert (one == other) == same


def test_the_plateau_is_a_choice_among_live_icons(apps, pairs):
    clicks = screens.clicks_only(pairs)
    live = apps.live[clicks.a].sum(1)
    uniform = np.where(apps.live[clicks.a], -np.log(live)[:, None], -np.inf)
    expected = -uniform[np.arange(len(live)), clicks.clicked].mean()
    assert objectives.plateau(live) == pytest.approx(expected)


# Training ----------------------------------------------------------------------------------------


def test_rates_rise_and_then_fall_along_a_cosine():
    plan = training.Plan(1000, rate=2e-3, warm_up=100, last=0.05)
    rates = training.learning_rates(plan)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 100, 1000, 1e-4)
    after = [float(theirs(t)) for t in (100, 300, 700, 999)]
    np.testing.assert_allclose(rates[[100, 300, 700, 999]], after, rtol=1e-4)
    np.testing.assert_allclose(rates[[0, 49, 99]], [2e-5, 1e-3, 2e-3], rtol=1e-5)
    assert len(training.learning_rates(training.Plan(1))) == 1


def linear_loss(model, data, rows, key):
    error = jnp.square(data[rows] @ model["w"] - rows.astype(jnp.float32)).mean()
    return error, error


def test_a_step_is_adamw_on_clipped_gradients_and_passes_show_each_example_once():
    data = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)), jnp.float32)
    plan = training.Plan(4, rate=0.1, batch=5, warm_up=0)
    start = training.start({"w": np.ones(3, np.float32)})
    seen = []

    def spy(model, data, rows, key):
        jax.debug.callback(lambda r: seen.append(np.asarray(r)), rows)
        return linear_loss(model, data, rows, key)

    found = training.train(start, spy, data, np.arange(10), plan, key=KEY)
    jax.effects_barrier()
    assert sorted(np.concatenate(seen[:2])) == sorted(np.concatenate(seen[2:])) == list(range(10))
    assert not np.array_equal(seen[0], seen[2])
    rule = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(lambda t: jnp.asarray(rates)[t], b1=0.9, b2=0.98, eps=1e-7, weight_decay=0.01),
    )
    rates = training.learning_rates(plan)
    w, errors = jnp.ones(3), []
    memory = rule.init(w)
    with jax.numpy_dtype_promotion("standard"):
        for rows in seen:
            error, slope = jax.value_and_grad(
                lambda w, rows=rows: linear_loss({"w": w}, data, jnp.asarray(rows), KEY)[0]
            )(w)
            change, memory = rule.update(slope, memory, w)
            w, errors = optax.apply_updates(w, change), [*errors, error]
    np.testing.assert_allclose(found.state.model["w"], w, rtol=1e-4)
    np.testing.assert_allclose(found.metrics, errors, rtol=1e-4)


def test_training_goes_on_where_it_stopped(learner, seen, pairs):
    plan = training.Plan(5, batch=8)
    train = partial(training.train, loss=PAPER, data=seen, examples=pairs, plan=plan, key=KEY)
    whole = train(training.start(learner))
    part = train(train(training.start(learner), until=2).state)
    np.testing.assert_array_equal(whole.metrics.link[2:], part.metrics.link)
    for a, b in zip(*map(jax.tree.leaves, (whole.state, part.state)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.state.done == 5 and whole.metrics.masked.shape == (5,)


def test_devices_that_share_a_batch_find_the_same(learner, seen, pairs):
    plan = training.Plan(3, batch=8)
    train = partial(training.train, loss=PAPER, data=seen, examples=pairs, plan=plan, key=KEY)
    mesh = device_mesh(training.AXIS)
    assert mesh.size == 2
    alone, shared = train(training.start(learner)), train(training.start(learner), mesh=mesh)
    np.testing.assert_allclose(alone.metrics.link, shared.metrics.link, rtol=1e-4)
    one, two = (ravel_pytree(found.state.model)[0] for found in (alone, shared))
    assert np.abs(one - two).max() < 1e-3 < np.abs(one - ravel_pytree(learner)[0]).max()


@pytest.mark.computes
def test_true_clicks_teach_where_they_lead_and_shuffled_ones_do_not(apps, seen, learner):
    """Hidden B on few apps: how often the next screen is found among those of 32 clicks."""
    traces, found = screens.crawl(apps, 6, 20, 0), {}
    for shuffled in (False, True):
        pairs = screens.clicks_only(screens.pair_up(apps, traces, 0, shuffled=shuffled))
        plan = training.Plan(200)
        history = training.train(
            training.start(learner), objective("hidden B"), seen, pairs, plan, key=KEY
        )
        found[shuffled] = history.metrics.link_accuracy[-50:].mean()
    assert found[False] > 0.25 > 0.2 > found[True]


SHORT = training.Plan(2, batch=8)

# Bad input ---------------------------------------------------------------------------------------


def test_bad_arguments_are_named(learner, seen, pairs):
    def train(examples=pairs, plan=SHORT, **options):
        start = training.start(learner)
        return training.train(start, PAPER, seen, examples, plan, key=KEY, **options)

    none = jax.tree.map(lambda x: x[:0], pairs)
    for call, says in (
        (lambda: model.uni_stream(KEY, heads=5), "layers=2, heads=5 and width=64: wanted"),
        (lambda: model.uni_stream(KEY, layers=0), "layers=0, heads=4"),
        (lambda: objective("next"), "name='next' is not known: use one of paper, hidden B"),
        (lambda: train(until=3), "until=3 must lie after the 0 steps done and within the steps=2"),
        (lambda: train(until=0), "until=0 must lie after the 0"),
        (lambda: train(none), "examples has 0 rows, batch=8: wanted at least 1 of both"),
        (lambda: train(plan=training.Plan(2, batch=7), mesh=device_mesh(training.AXIS)),
         "batch=7 must be a multiple of the 2 devices"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            call()


# Paper scale -------------------------------------------------------------------------------------

TINY = paper_scale.Recipe(
    "paper", False, 1, 12, 2, types=8, functions=24, ambiguity=4, apps=12, traces=1, trace=6,
    size=16, cells=2, steps=6, batch=4,
)  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(paper_scale.RECIPES, "tiny", TINY)
    monkeypatch.setattr(paper_scale, "BLOCK", 2)


def test_a_stopped_training_is_taken_up_again(tiny, tmp_path, monkeypatch, capsys):
    told = dict(says="tiny: link accuracy", done=lambda row: row["step"])
    check_going_on(paper_scale, tmp_path, monkeypatch, capsys, at=4, **told)
    told = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    assert told["made"] == TINY._asdict() | {"seed": 0} and told["hardware"]


def test_recipes_have_the_sizes_of_the_paper():
    """Section 4.2: BASE and LARGE have 6 and 12 layers, both width 768 and 6 heads."""
    assert set(paper_scale.RECIPES) == {
        f"{size}-{kind}" for size in ("base", "large") for kind in ("paper", "shuffled", "hidden")
    }
    for name, recipe in paper_scale.RECIPES.items():
        assert recipe.layers == (6 if "base" in name else 12)
        assert (recipe.width, recipe.heads, recipe.batch) == (768, 6, 128)
        assert (recipe.types, recipe.functions, recipe.size) == (27, 77, 32)
        assert recipe.shuffled == ("shuffled" in name)
        objective(recipe.objective)
    found = paper_scale.laboratory(paper_scale.RECIPES["base-hidden"]._replace(apps=10), 0)
    assert found.apps.vision.shape[2] == 320 and found.pairs.consecutive.all()
    assert isinstance(found.test_pairs, Pairs) and len(found.test_apps.bar) == 1
    with pytest.raises(ValueError, match="name='x' is not known: use one of base-paper"):
        paper_scale.load("x")
