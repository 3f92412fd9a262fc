"""Models and training against constructed weights, closed forms, and JAX's and Equinox's layers."""

import json
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import check_going_on
from sklearn.metrics import r2_score

from lib import checkpoints
from lib.mesa import baselines, models, paper_scale, probes, systems, training
from lib.mesa.models import KINDS, attention, constructed, transformer
from lib.mesa.training import predict

KEY = jax.random.key(0)
SMALL = {"n": 4, "steps": 12}
SIZES = {"width": 16, "heads": 3, "key_size": 5, "std": 0.5}


def sequences(key, batch, **options):
    return systems.linear(key, batch, **options).s


@pytest.fixture(scope="module")
def s():
    """Six sequences of 13 states in four dimensions."""
    return jax.jit(partial(sequences, batch=6, **SMALL))(KEY)


@pytest.fixture
def tokens(s):
    return systems.constructed_tokens(s)


# Constructed weights -----------------------------------------------------------------------------


def test_proposition_1_is_one_step_of_gradient_descent(s):
    f = predict(models.gradient_descent(4, 0.03, clip=None), s)
    np.testing.assert_allclose(f, baselines.gradient_step(s, 0.03), atol=1e-5)


def test_proposition_2_is_a_polynomial_with_the_roots_of_its_steps(s):
    alphas = [0.01, 0.02, 0.05]
    # x - a S S' x, three times in a row: the product of 1 - a z
    coefficients = 0.03 * np.polynomial.Polynomial.fromroots(1 / np.array(alphas)).coef
    coefficients *= -np.prod(alphas)
    f = predict(models.gradient_descent(4, 0.03, alphas, clip=None), s)
    np.testing.assert_allclose(f, baselines.polynomial(s, coefficients), atol=2e-5)


def test_mesa_heads_on_bound_tokens_are_ridge_regressions(s):
    def block(place):  # two heads that read the same of the four blocks
        return jnp.tile(jnp.eye(16)[None, 4 * place : 4 * place + 4], (2, 1, 1))

    log_lam = jnp.log(jnp.array([7.0, 0.1]))
    layer = models.MesaAttention(block(1), block(3), block(2), block(0).mT, log_lam=log_lam)
    f = predict(models.ConstructedTransformer((layer,), None), s)
    np.testing.assert_allclose(f, baselines.ridge(s, 7.0) + baselines.ridge(s, 0.1), atol=1e-4)


# Layers ------------------------------------------------------------------------------------------


def test_softmax_attention_is_that_of_jax(tokens):
    layer = attention(KEY, "softmax", **SIZES)
    q, k, v = (jnp.einsum("btd,hkd->bthk", tokens, w) for w in (layer.w_q, layer.w_k, layer.w_v))
    o = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(
        predict(layer, tokens), jnp.einsum("bthk,hdk->btd", o, layer.p), atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_say_what_a_layer_does_with_values(kind, tokens):
    layer = attention(KEY, kind, **SIZES, positions=True)
    weights = layer.weights(tokens)
    v = jnp.einsum("btd,hkd->bhtk", tokens, layer.w_v)
    said = jnp.einsum("bhtk,hdk->btd", weights @ v, layer.p)
    np.testing.assert_allclose(predict(layer, tokens), said, rtol=1e-3, atol=1e-3)
    if kind == "softmax":
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_a_block_is_one_of_gpt_2(tokens):
    layer = models.block(KEY, "softmax", **SIZES)
    norms = 1 + 0.1 * jax.random.normal(KEY, layer.norms.shape)
    layer = eqx.tree_at(lambda b: b.norms, layer, norms)
    scales = [eqx.nn.LayerNorm(16) for _ in norms]
    scales = [
        eqx.tree_at(lambda m: (m.weight, m.bias), norm, tuple(own))
        for norm, own in zip(scales, norms, strict=True)
    ]
    first, second = (jax.vmap(jax.vmap(norm)) for norm in scales)
    e = tokens + layer.attention(first(tokens))
    e = e + jax.nn.gelu(second(e) @ layer.w_1.T) @ layer.w_2.T
    np.testing.assert_allclose(tokens + predict(layer, tokens), e, atol=2e-5)
    weights = layer.attention.weights(first(tokens))
    np.testing.assert_allclose(layer.weights(tokens), weights, atol=1e-5)


BUILDS = {
    kind: partial(constructed, kinds=[kind] * 2, n=4, std=0.1, clip=None) for kind in KINDS
} | {
    "raw": partial(transformer, kinds=["softmax", "mesa"], n=4, width=16, std=0.3),
    "GPT-2": partial(transformer, kinds=["softmax", "linear"], n=4, width=16, std=0.3, mlp=True),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_nothing_leaks_from_the_future(s, build):
    model = build(KEY)
    other = s.at[:, 7:].set(3 * s[:, 7:] + 1)
    before, after = predict(model, s), predict(model, other)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.all(np.any(before[:, 7:] != after[:, 7:], -1))
    for maps in jax.jit(models.attention_maps)(model, s):
        assert not np.any(np.triu(maps, 1)) and np.any(np.tril(maps, -1))


@pytest.mark.parametrize("distance", [1, 3])
def test_positions_let_a_head_look_back_by_a_fixed_distance(distance):
    """A rotation of sines and cosines by `distance` steps is linear: q_t . k_i peaks there."""
    half = 20
    turn = distance / 1e4 ** (np.arange(half) / half)
    cos, sin = np.diag(np.cos(turn)), np.diag(np.sin(turn))
    back = jnp.asarray(np.block([[cos, -sin], [sin, cos]]), jnp.float32)[None]
    known = models.Positions(300 * back, jnp.eye(2 * half)[None])
    nothing = jnp.zeros((1, 2 * half, 8))
    layer = models.SoftmaxAttention(nothing, nothing, nothing, nothing.mT, known)
    weights = layer.weights(jnp.zeros((1, 30, 8)))[0, 0]
    rows = np.arange(distance, 30)
    assert np.all(weights[rows, rows - distance] > 0.9)


def test_numbers_are_clipped_after_each_layer(s):
    model = constructed(KEY, ["linear"] * 3, n=4, std=0.3, clip=0.7)
    for e in model.activations(s)[1:]:
        np.testing.assert_allclose(np.abs(e).max(), 0.7, rtol=1e-6)
    free = models.ConstructedTransformer(model.layers[:1], None)(s)
    assert np.abs(free).max() > 0.7
    clipped = models.ConstructedTransformer(model.layers[:1], 0.7)(s)
    np.testing.assert_array_equal(clipped, np.clip(free, -0.7, 0.7))


# Products ----------------------------------------------------------------------------------------


def test_linear_attention_depends_on_products_only(s):
    model = constructed(KEY, ["linear"] * 3, n=4, std=0.2)
    same = models.from_products(models.layer_products(model))
    np.testing.assert_allclose(predict(same, s), predict(model, s), rtol=1e-4, atol=1e-4)
    assert np.std(predict(model, s)) > 0.1


def test_constructed_weights_lose_nothing_by_compression(s):
    model = models.gradient_descent(4, 0.02, [0.01, 0.03])
    products = models.layer_products(model)
    small = [probes.Products(*(probes.compress(m, 4) for m in layer)) for layer in products]
    np.testing.assert_array_equal(predict(models.from_products(small), s), predict(model, s))
    assert probes.effective_step(products[-1], 4) == pytest.approx(0.02, rel=1e-6)
    shuffled = jax.tree.map(lambda m: m[..., ::-1], products)
    small = [probes.Products(*(probes.compress(m, 4) for m in layer)) for layer in shuffled]
    small, shuffled = map(models.from_products, (small, shuffled))
    lost = predict(small, s) - predict(shuffled, s)
    assert np.abs(lost).max() > 1e-3


def test_interpolation_starts_at_one_model_and_ends_at_the_other(s):
    a, b = constructed(KEY, ["linear"], n=4, std=0.3, heads=1), models.gradient_descent(4, 0.05)
    (one,), (other,) = map(models.layer_products, (a, b))
    ends = {0.0: predict(a, s), 1.0: predict(b, s)}
    for share, f in ends.items():
        mixed = models.from_products([probes.interpolate(one, other, share)])
        np.testing.assert_allclose(predict(mixed, s), f, rtol=1e-4, atol=1e-5)
    half = predict(models.from_products([probes.interpolate(one, other)]), s)
    assert min(np.abs(half - f).max() for f in ends.values()) > 1e-3


# Training ----------------------------------------------------------------------------------------

DATA = jax.jit(partial(sequences, batch=32, **SMALL))
ADAM = training.optimiser(3e-3, weight_decay=0.01)


@pytest.fixture(scope="module")
def test():
    return jax.jit(partial(sequences, batch=1100, **SMALL))(jax.random.key(1))


def lsa(key):
    return constructed(key, ["linear"], n=4, heads=2, key_size=8)


def test_one_layer_learns_the_best_step_of_gradient_descent(test):
    history = training.train(lsa(KEY), DATA, test, key=KEY, at=[0, 300], optimiser=ADAM)
    s, y = test[:, :-1], test[:, 1:]
    (eta,) = baselines.fit_polynomial(test, 0)
    best = float(baselines.mse(baselines.gradient_step(s, float(eta)), y, clip=4.0))
    nothing = float(baselines.mse(baselines.zero(s), y))
    assert history.mse[0] == pytest.approx(nothing, rel=0.01)
    assert best < 0.8 * nothing and history.mse[-1] < 1.02 * best
    said = predict(history.state.model, s)
    assert history.mse[-1] == pytest.approx(float(baselines.mse(said, y)), rel=1e-5)
    (products,) = models.layer_products(history.state.model)
    step = baselines.gradient_step(s, probes.effective_step(products, 4))
    assert r2_score(np.clip(step, -4, 4).ravel(), said.ravel()) > 0.9


def test_a_step_goes_down_half_the_summed_squares(test):
    model, fresh = lsa(KEY), DATA(jax.random.fold_in(KEY, 0))

    def loss(model):
        return 0.5 * jnp.square(model(fresh[:, :-1]) - fresh[:, 1:]).sum() / len(fresh)

    slope = jax.jit(jax.grad(loss))(model)
    found = training.train(model, DATA, test[:9], key=KEY, at=[1], optimiser=optax.sgd(1.0))
    for w, g, now in zip(*map(jax.tree.leaves, (model, slope, found.state.model)), strict=True):
        np.testing.assert_allclose(now, w - g, atol=1e-5)
        assert np.abs(g).max() > 1e-3


def test_the_optimiser_is_adamw_on_clipped_gradients():
    w, (m, v) = np.array([1.0, -2.0]), np.zeros((2, 2))
    rule, weights = training.optimiser(0.1, weight_decay=0.3), jnp.asarray(w, jnp.float32)
    memory = rule.init(weights)
    for t, g in enumerate(np.array([[3.0, 4.0], [0.3, -0.4]]), 1):
        with jax.numpy_dtype_promotion("standard"):
            change, memory = rule.update(jnp.asarray(g, jnp.float32), memory, weights)
        weights = optax.apply_updates(weights, change)
        g = g / max(np.linalg.norm(g), 1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        slope = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - 0.1 * (slope + 0.3 * w)
        np.testing.assert_allclose(weights, w, rtol=1e-5)


def test_training_goes_on_where_it_stopped(test):
    train = partial(training.train, generate=DATA, test=test[:9], key=KEY, optimiser=ADAM)
    whole = train(lsa(KEY), at=[3, 7, 12])
    part = train(train(lsa(KEY), at=[5]).state, at=[7, 12])
    np.testing.assert_array_equal(whole.mse[1:], part.mse)
    for a, b in zip(*map(jax.tree.leaves, (whole.state, part.state)), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="from 12 on"):
        train(part.state, at=[10])


def test_seeds_train_side_by_side_as_each_does_alone(test):
    keys = jax.random.split(KEY, 3)
    train = partial(training.train, generate=DATA, test=test[:50], at=[2, 20], optimiser=ADAM)
    together = train(jax.vmap(lsa)(keys), key=keys)
    assert together.mse.shape == (2, 3)
    alone = train(lsa(keys[1]), key=keys[1])
    np.testing.assert_allclose(together.mse[:, 1], alone.mse, rtol=1e-5)


# Few-shot ----------------------------------------------------------------------------------------


@jax.jit
def pairs(key):
    """Sixteen sequences of eight pairs in four dimensions."""
    return systems.few_shot(key, 16, n=4, pairs=8).s


class Average(eqx.Module):
    """f_t is the mean of the tokens so far, so that it tells which they were."""

    weight: jax.Array

    def __call__(self, s):
        return self.weight * jnp.cumsum(s, 1) / jnp.arange(1, s.shape[1] + 1.0)[None, :, None]


@pytest.mark.parametrize("length", [1, 6, 7])
@pytest.mark.parametrize("eos, prefix", [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_a_prompt_goes_before_and_between_pairs(length, eos, prefix):
    s = pairs(KEY)[:, :length]
    end, before = 5 * jnp.ones(4), jnp.full((prefix, 4), 9.0) if prefix else None
    f = predict(models.Prompted(Average(jnp.ones(())), end if eos else None, before), s)
    for t in range(length):
        seen = [s[0, i] if i is not None else end for i in order(t, eos)]
        seen = [*([] if before is None else before), *seen]
        np.testing.assert_allclose(f[0, t], np.mean(seen, 0), rtol=1e-5)


def order(t, eos):
    """Tokens up to the t-th, None where a pair has ended."""
    for i in range(t + 1):
        if eos and i and i % 2 == 0:
            yield None
        yield i


@pytest.mark.parametrize("learn", [lambda m: m.eos, lambda m: m.prefix])
def test_tuning_a_prompt_leaves_the_model_untouched(learn):
    inside = transformer(KEY, ["softmax", "mesa"], n=4, width=16, heads=2, key_size=8, std=0.2)
    start = models.Prompted(inside, 2 * jnp.ones(4), 2 * jnp.ones((3, 4)))
    tuned = training.train(
        start, pairs, pairs(jax.random.key(5)), key=KEY, at=[0, 40], errors=training.answers,
        optimiser=optax.adam(0.05), learn=learn,
    )  # fmt: skip
    assert tuned.mse[1] < tuned.mse[0]
    before = jax.tree.leaves(eqx.tree_at(learn, start, replace_fn=jnp.zeros_like))
    after = jax.tree.leaves(eqx.tree_at(learn, tuned.state.model, replace_fn=jnp.zeros_like))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.all(learn(tuned.state.model) != learn(start))


def test_answers_are_scored_at_the_inputs_of_tasks():
    few, model = pairs(KEY), Average(jnp.ones(()))
    true = probes.few_shot_error(predict(model, few[:, :-1]), few).mean()
    scored = training.mean_squared_error(model, few, errors=training.answers)
    assert scored == pytest.approx(float(true), rel=1e-6)


# Bad input ---------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="kind='relu' is not known: use one of linear, softmax"):
        constructed(KEY, ["relu"])
    with pytest.raises(ValueError, match="width=15 must be even"):
        transformer(KEY, ["softmax"], width=15)
    for at in ([], [3, 3], [5, 2]):
        with pytest.raises(ValueError, match="must be steps that rise, from 0 on"):
            training.train(lsa(KEY), DATA, np.ones((2, 13, 4)), key=KEY, at=at, optimiser=ADAM)


# Models with the paper's settings ----------------------------------------------------------------

TINY = paper_scale.Recipe(("linear",), True, 1e-3, 6, 4, 0.1, length=5)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(paper_scale.RECIPES, "tiny", TINY)
    monkeypatch.setattr(paper_scale, "TESTS", 8)


def test_a_stopped_training_goes_on(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_scale, "BLOCK", 2)
    told = dict(says="mean squared error", done=lambda row: row[0])
    check_going_on(paper_scale, tmp_path, monkeypatch, capsys, at=4, **told)


@pytest.fixture
def stopped(tiny, tmp_path, monkeypatch):
    """The file of a training that was stopped when all its steps were done."""
    right = checkpoints.write

    def stop(path, head, tree):
        if head is None:
            raise KeyboardInterrupt
        right(path, head, tree)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            paper_scale.fit("tiny", tmp_path)
    return tmp_path / "tiny.unfinished.eqx"


def refused(path, capsys, *options):
    """What the command says to this file, in one line; the file stays as it is."""
    before = path.read_bytes()
    assert paper_scale.main(["tiny", "--folder", str(path.parent), *options]) == 1
    said = capsys.readouterr().err.strip().split("\n")[-1]
    assert said.startswith(f"error: {path} ") and path.read_bytes() == before
    return said


def test_a_training_that_was_begun_otherwise_is_refused_and_kept(stopped, monkeypatch, capsys):
    said = refused(stopped, capsys, "--seed", "1")
    assert "was begun with seed=0, wanted seed=1: go on with seed=0, name another folder" in said
    other = TINY._replace(kinds=("linear", "linear"), sigma=0.2)
    monkeypatch.setitem(paper_scale.RECIPES, "tiny", other)
    said = refused(stopped, capsys)
    assert "was begun with kinds=['linear'], sigma=0.1, wanted kinds=['linear', 'linear']" in said
    monkeypatch.setitem(paper_scale.RECIPES, "tiny", TINY)
    about = paper_scale.fit("tiny", stopped.parent).about
    assert [step for step, _ in about["curve"]] == [6] and about["made"]["seed"] == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: data.replace(b"[[6, ", b"[[5, "),
        lambda data: b"[1]\n" + data.partition(b"\n")[2],
        lambda data: b"{}\n" + data.partition(b"\n")[2],
    ],
    ids=["cut", "cut in its first line", "empty", "longer", "a bit", "a step", "a list", "no sum"],
)
def test_a_damaged_training_is_refused_and_kept(stopped, damage, capsys):
    data = stopped.read_bytes()
    stopped.write_bytes(damage(data))
    said = refused(stopped, capsys)
    assert "is damaged: its checksum is " in said and "Put a whole copy in its place" in said
    stopped.write_bytes(data)
    assert paper_scale.fit("tiny", stopped.parent).about["curve"][-1][0] == 6


def test_a_recipe_says_how_large_and_how_noisy_its_sequences_are(tiny, tmp_path, monkeypatch):
    made = paper_scale.fit("tiny", tmp_path).about["made"]
    assert (made["n"], made["sigma"]) == (10, 0.1)
    small = TINY._replace(n=3, sigma=0.0)
    s = paper_scale.draw(small, jax.random.key(0), 4)
    assert s.shape == (4, 6, 3)
    lengths = np.linalg.norm(s, axis=2)
    np.testing.assert_allclose(lengths, lengths[:, :1].repeat(6, 1), rtol=1e-4)  # no noise
    monkeypatch.setitem(paper_scale.RECIPES, "tiny", small)
    kept = paper_scale.fit("tiny", tmp_path / "small")
    assert (kept.about["made"]["n"], kept.about["made"]["sigma"]) == (3, 0.0)
    assert predict(kept.model, s[:, :-1]).shape == (4, 5, 3)
    told = json.loads((paper_scale.WEIGHTS / "LSA-6.json").read_text(encoding="utf-8"))["made"]
    assert "sigma" not in told, "an older file, which load() reads none the less"
    assert paper_scale.load("LSA-6").about["made"] == told | {"n": 10, "sigma": 0.1}


@pytest.mark.computes
@pytest.mark.parametrize("name", [p.stem for p in sorted(paper_scale.WEIGHTS.glob("*.eqx"))])
def test_stored_weights_have_the_recorded_error(name):
    kept, recipe = paper_scale.load(name), paper_scale.RECIPES[name]
    made = kept.about["made"]
    assert made == {**recipe._asdict(), "kinds": list(recipe.kinds), "seed": made["seed"]}
    fresh = paper_scale.draw(recipe, jax.random.key(99), 2048)
    error = training.mean_squared_error(kept.model, fresh)
    spread = np.square(predict(kept.model, fresh[:, :-1]) - fresh[:, 1:]).mean((1, 2)).std()
    assert abs(error - kept.about["mse"]) < 4 * spread * (1 / 2048 + 1 / paper_scale.TESTS) ** 0.5
    own = paper_scale.draw(
        recipe, jax.random.fold_in(jax.random.key(made["seed"]), 1), paper_scale.TESTS
    )
    assert training.mean_squared_error(kept.model, own) == pytest.approx(
        kept.about["mse"], abs=1e-3
    )


def test_a_recipe_that_is_not_there():
    with pytest.raises(ValueError, match="name='LSA-9' is not known: use one of LSA-6, softmax-7"):
        paper_scale.load("LSA-9")
