"""Language models of bytes: features, layers and training against direct definitions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import entropy

from lib import datasets
from lib.mesa import language
from lib.mesa.language import ByteLM, Layer

SMALL = {"width": 16, "heads": 2, "length": 24}
MODELS = {
    "linear": (("linear",), {"shift": True, "nu": 2}),
    "mesa": (("mesa",), {"shift": True}),
    "softmax": (("softmax",), {"shift": True}),
    "four layers": (("softmax", "mesa", "linear", "mesa"), {"mlp": True, "nu": 0}),
}


def model(name: str, seed: int = 0, **sizes) -> ByteLM:
    kinds, options = MODELS[name]
    return ByteLM(jax.random.key(seed), kinds, **options, **(SMALL | sizes))


@pytest.fixture(scope="module")
def text():
    return datasets.wikitext2("smoke")


# The layer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("nu", [1, 2, 3, 7])
def test_dpfp_is_that_of_schlag_et_al(nu):
    d = 4
    x = np.random.default_rng(0).normal(size=(5, d)).astype(np.float32)
    wanted = np.zeros((5, 2 * d * nu), np.float32)
    for row, k in zip(wanted, x, strict=True):
        r = [max(a, 0) for a in (*k, *-k)]
        for j in range(1, nu + 1):
            for i in range(2 * d):
                row[2 * d * (j - 1) + i] = r[i] * r[(i + j) % (2 * d)]
    np.testing.assert_allclose(language.dpfp(x, nu), wanted, rtol=1e-6)


def by_loops(layer: Layer, x: np.ndarray, nu: int) -> np.ndarray:
    """What a layer with shifted keys says: one head, one time, one key after the other."""

    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    def feature(x):
        return np.asarray(language.dpfp(x / np.sqrt(x @ x + 1e-6), nu))

    def answer(q, keys, values):
        if layer.kind == "softmax":
            weights = np.exp([k @ q / np.sqrt(len(q)) for k in keys])
            return weights / weights.sum() @ values
        q, keys = feature(q), np.array([feature(k) for k in keys])
        if layer.kind == "mesa":
            q = np.linalg.solve(keys.T @ keys + np.eye(len(q)) / lam[head], q)
        return keys @ q @ values

    lam = None if layer.log_lam is None else np.exp(np.asarray(layer.log_lam, np.float64))
    project, join = np.asarray(layer.project), np.asarray(layer.join)
    h, d = np.zeros_like(x), x.shape[1] // layer.heads
    q, k, v = np.split(normal(x) @ project, 3, axis=1)
    for head in range(layer.heads):
        own = slice(head * d, (head + 1) * d)
        late = [np.zeros(d), *k[:-1, own]]  # each key comes a position late
        for t in range(len(x)):
            h[t, own] = answer(q[t, own], late[: t + 1], v[: t + 1, own])
    x = x + h @ join
    up, down = map(np.asarray, layer.mlp)
    return x + np.maximum(normal(x) @ up, 0) @ down


@pytest.mark.parametrize("kind, nu", [("linear", 2), ("mesa", 1), ("softmax", 0)])
def test_a_layer_equals_loops(kind, nu):
    options = {"shift": True, "mlp": True, "nu": nu, "width": 16, "heads": 2, "depth": 1}
    layer = Layer(jax.random.key(0), kind, **options)
    if kind == "mesa":
        layer = eqx.tree_at(lambda m: m.log_lam, layer, jnp.array([-1.0, 3.0]))
    x = np.random.default_rng(1).normal(size=(2, 20, 16)).astype(np.float32)
    wanted = [by_loops(layer, one, nu) for one in x]
    found = eqx.filter_jit(layer)(jnp.asarray(x))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


# The model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mesa", "softmax", "four layers"])
def test_no_byte_is_seen_before_it_is_predicted(name):
    windows = np.random.default_rng(0).integers(0, 256, (3, 25))
    changed, at = windows.copy(), 11
    changed[:, at] = (changed[:, at] + 1) % 256
    losses, untrained = jax.jit(language.byte_losses), model(name)
    before, after = (np.asarray(losses(untrained, x)) for x in (windows, changed))
    np.testing.assert_array_equal(before[:, : at - 1], after[:, : at - 1])
    assert (before[:, at - 1 :] != after[:, at - 1 :]).mean() > 0.9
    assert before.shape == (3, 24) and abs(before.mean() - np.log(256)) < 0.05


def test_training_is_adamw_with_a_schedule_and_learns(text):
    """Step by step as optax does it, past the end of a block; then better than a table of bytes."""
    start, steps, seen = model("softmax", width=32, length=64), 100, language.BLOCK + 5
    key = jax.random.key(1)
    trained = language.train(key, start, text.train, steps=steps, batch=16, rate=0.01)
    rates = optax.warmup_cosine_decay_schedule(0.0, 0.01, 10, steps)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(lambda count: rates(count + 1), 0.9, 0.95, weight_decay=0.1),
    )

    @jax.jit
    def step(known, state, windows):
        mean = lambda m: language.byte_losses(m, windows).mean()  # noqa: E731
        loss, slope = jax.value_and_grad(mean)(known)
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimiser.update(slope, state, known)
        return optax.apply_updates(known, update), state, loss

    known, state, losses = start, optimiser.init(start), []
    for rows in np.asarray(jax.random.randint(key, (steps, 16), 0, len(text.train) - 64))[:seen]:
        windows = np.stack([text.train[i : i + 65] for i in rows])
        known, state, loss = step(known, state, windows)
        losses.append(loss)
    np.testing.assert_allclose(trained.losses[:seen], losses, rtol=1e-4)
    assert trained.losses.shape == (steps,) and abs(losses[0] - np.log(256)) < 0.05
    tested = language.text_losses(trained.model, text.test, windows=128).mean()
    assert tested < entropy(np.bincount(text.train, minlength=256)) - 0.2
    assert tested > 1, "what is to be predicted must not be seen"


# Context -----------------------------------------------------------------------------------------


def test_a_model_without_memory_has_no_in_context_score(text):
    """Attention that adds nothing, and no positions: each byte is predicted from the last alone."""
    parts = lambda m: (m.place, m.layers[0].join, m.output)  # noqa: E731
    new = jnp.zeros((24, 16)), jnp.zeros((16, 16)), jax.random.normal(jax.random.key(3), (16, 256))
    blind = eqx.tree_at(parts, model("softmax"), new)
    scores = language.in_context_scores(blind, text.test, windows=128, early=2, band=6)
    assert scores.shape == (128,) and np.abs(scores).max() < 1e-5
    each = language.text_losses(blind, text.test, windows=128)
    logits = np.asarray(blind(np.arange(256)[:, None])[:, 0], np.float64)
    start = len(text.test) - 25
    for t in range(24):
        last, coming = text.test[start + t], text.test[start + t + 1]
        wanted = np.log(np.exp(logits[last]).sum()) - logits[last, coming]
        assert each[-1, t] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.computes
def test_a_layer_with_shifted_keys_learns_in_context():
    """Random strings, each said over and over: only what was said before tells what comes next."""
    rng = np.random.default_rng(0)
    said = [np.tile(rng.permutation(16), 16) for _ in range(400)]
    said = np.concatenate(said).astype(np.uint8)
    start = ByteLM(jax.random.key(0), ("mesa",), shift=True, nu=0, length=48)
    trained = language.train(
        jax.random.key(1), start, said[:-20_000], steps=300, batch=16, rate=0.03
    )
    known = trained.model, said[-20_000:]
    assert language.in_context_scores(*known, windows=128, early=4, band=8).mean() < -1
    assert language.text_losses(*known, windows=128)[:, 24:].mean() < np.log(16) / 2


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kinds, options, message",
    [
        ((), {}, r"kinds=\(\) must be"),
        ("mesa", {}, "kinds='mesa' must be a tuple"),
        (("mesa", "gated"), {}, "one of .*'softmax'"),
        (("mesa",), {"heads": 3}, "width=16 must be a multiple of 2 heads = 6"),
        (("mesa",), {"nu": 16}, "nu=16 must be from 0.* to 15 for d=8"),
        (("mesa",), {"nu": -1}, "nu=-1 must be"),
    ],
)
def test_models_that_cannot_be(kinds, options, message):
    with pytest.raises(ValueError, match=message):
        ByteLM(jax.random.key(0), kinds, **(SMALL | options))


def test_texts_and_numbers_that_cannot_be(text):
    small, key = model("linear"), jax.random.key(0)
    short = text.test[:24]
    for bad, message in [
        (lambda: small(np.zeros((1, 25), int)), "25 bytes a window, the model reads 24"),
        (lambda: language.train(key, small, short, steps=1), "24 bytes: give it at least 25"),
        (lambda: language.train(key, small, text.train, steps=0), "steps=0 .* at least 1"),
        (lambda: language.train(key, small, text.train, steps=1, batch=0), "batch=0"),
        (lambda: language.text_losses(small, short), "24 bytes: give it at least 25"),
        (lambda: language.text_losses(small, text.test, windows=0), "windows=0"),
        (lambda: language.in_context_scores(small, text.test, band=9), "8 to 17 must come before"),
        (lambda: language.in_context_scores(small, short, band=4), "at least 37"),
        (lambda: language.dpfp(np.zeros((2, 3)), 6), "nu=6 .* to 5 for d=3"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()
