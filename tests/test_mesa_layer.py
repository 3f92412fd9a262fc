"""The mesa-layer against scikit-learn's ridge regressions, closed forms, and its own definition."""

import inspect
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lib.mesa import alternatives, layer

ROOT = Path(__file__).resolve().parent.parent
N, DA, DV = 3, 7, 4
LAM = np.array([0.5, 1.0, 20.0])
CG = partial(alternatives.mesa_cg, iterations=40)
FORGETTING = {
    "reference": alternatives.mesa_reference,
    "by innovations": layer.mesa,
    "refined": partial(layer.mesa, refine=1),
    "Sherman-Morrison": alternatives.mesa_sherman_morrison,
}
FORMS = FORGETTING | {"CG": CG}


def task(steps, da=DA, dv=DV, n=N, seed=0):
    """Queries and keys of length about 1, values, and a direction for gradients."""
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, n, steps, da)) / np.sqrt(da)
    v, w = rng.normal(size=(2, n, steps, dv))
    return q, k, v, w


def forget(steps):
    return np.random.default_rng(1).uniform(0.9, 1, (N, steps))


def with_gradients(form, w, *arguments):
    """The output of a form and its gradients in the direction w, by name."""

    def both(w, *arguments):
        o, pull = jax.vjp(form, *arguments)
        return (o, *pull(w))

    found = jax.jit(both)(w, *map(jnp.asarray, arguments))
    return dict(zip(("o", "q", "k", "v", "lam", "gamma"), found, strict=False))


def errors(found, true):
    """Largest difference of each array, relative to the largest number in it."""
    return {
        name: float(np.abs(np.asarray(x, np.float64) - true[name]).max() / np.abs(true[name]).max())
        for name, x in found.items()
    }


# Truth of others ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form, forgets",
    [(f, False) for f in [*FORMS, "decoded"]] + [(f, True) for f in [*FORGETTING, "decoded"]],
)
def test_the_output_is_that_of_a_ridge_regression_on_the_past(form, forgets):
    steps = 9
    q, k, v, _ = task(steps)
    gamma = forget(steps) ** 3 if forgets else np.ones((N, steps))
    with jax.enable_x64(True):
        given = (jnp.asarray(gamma),) if forgets else ()
        f = decoded if form == "decoded" else FORMS[form]
        ours = np.asarray(f(*map(jnp.asarray, (q, k, v, LAM)), *given))
    for n, t in np.ndindex(N, steps):
        left = np.append(np.cumprod(gamma[n, t:0:-1])[::-1], 1)  # of each step so far
        ridge = Ridge(alpha=gamma[n, : t + 1].prod() / LAM[n], fit_intercept=False, solver="svd")
        ridge.fit(k[n, : t + 1], v[n, : t + 1], sample_weight=left)
        np.testing.assert_allclose(ours[n, t], ridge.predict(q[n, [t]])[0], atol=1e-11)


def decoded(q, k, v, lam, gamma=None):
    """The mesa-layer step by step, with nothing before the first."""
    state = layer.mesa_decode_start(k[:, :0], v[:, :0], lam)
    outputs = []
    for t in range(q.shape[1]):
        now = None if gamma is None else gamma[:, t]
        state, o = layer.mesa_decode_step(state, q[:, t], k[:, t], v[:, t], now)
        outputs.append(o)
    return jnp.stack(outputs, 1)


def test_orthonormal_keys_make_a_memory_that_shrinks_by_a_known_factor():
    k = np.linalg.qr(np.random.default_rng(0).normal(size=(N, 6, 6)))[0].astype(np.float32)
    v = np.random.default_rng(1).normal(size=(N, 6, DV)).astype(np.float32)
    lam = np.float32([0.1, 1, 10])
    shrunk = v * (lam / (1 + lam))[:, None, None]
    for form in FORMS.values():
        np.testing.assert_allclose(form(k, k, v, jnp.asarray(lam)), shrunk, atol=1e-5)


def test_innovations_take_the_inverse_apart():
    _, k, _, _ = task(30)
    with jax.enable_x64(True):
        e = np.asarray(layer.innovations(k, LAM, chunk=16))
        state = layer.mesa_decode_start(k, k, LAM)
    eye = np.eye(DA)
    for n, t in np.ndindex(N, 30):
        past = k[n, : t + 1]
        true = np.linalg.inv(past.T @ past + eye / LAM[n])
        np.testing.assert_allclose(LAM[n] * eye - e[n, : t + 1].T @ e[n, : t + 1], true, atol=1e-11)
        if t == 29:
            np.testing.assert_allclose(state.inverse[n], true, atol=1e-11)


@pytest.mark.parametrize("steps", [50, 150])
def test_for_small_lam_it_is_linear_attention(steps):
    q, k, v, _ = task(steps)
    fit = np.tril(np.einsum("ntd,nsd->nts", q, k))
    with jax.enable_x64(True):
        linear = layer.linear_attention(q, k, v)
        small = layer.mesa(q, k, v, jnp.full(N, 1e-9)) / 1e-9
    np.testing.assert_allclose(linear, fit @ v, atol=1e-12)
    np.testing.assert_allclose(small, linear, atol=1e-6)


# Against the definition --------------------------------------------------------------------------


# below and above a block; no multiple of a chunk
@pytest.mark.parametrize("steps, chunks", [(37, [8, 16]), (150, [32])])
@pytest.mark.parametrize("forgets", [False, True])
def test_all_forms_and_their_gradients_agree_in_float64(steps, chunks, forgets):
    q, k, v, w = task(steps)
    gamma = (forget(steps) ** 0.5,) if forgets else ()
    forms = FORGETTING if forgets else FORMS
    if not forgets:
        forms = forms | {f"chunk {c}": partial(layer.mesa, chunk=c) for c in chunks}
    with jax.enable_x64(True):
        found = {n: with_gradients(f, w, q, k, v, LAM, *gamma) for n, f in forms.items()}
    true = {name: np.asarray(x) for name, x in found.pop("reference").items()}
    assert len(true) == 5 + forgets
    for name, one in found.items():
        # the paper's way back loses digits even here
        bound = 1e-7 if name == "Sherman-Morrison" else 1e-10
        worst = errors(one, true)
        assert max(worst.values()) < bound, f"{name}: {worst}"


@pytest.mark.parametrize("forgets", [False, True])
def test_decoding_goes_on_from_a_prompt(forgets):
    q, k, v, _ = task(40)
    gamma = forget(40) if forgets else None
    with jax.enable_x64(True):
        whole = layer.mesa(q, k, v, LAM, gamma)
        prompt = None if gamma is None else gamma[:, :30]
        state = layer.mesa_decode_start(k[:, :30], v[:, :30], LAM, prompt)
        for t in range(30, 40):
            now = None if gamma is None else gamma[:, t]
            state, o = layer.mesa_decode_step(state, q[:, t], k[:, t], v[:, t], now)
            np.testing.assert_allclose(o, whole[:, t], atol=1e-11)


@pytest.mark.parametrize("steps, cut, chunk", [(50, 21, 1), (150, 90, 16)])
def test_nothing_leaks_from_the_future(steps, cut, chunk):
    q, k, v, _ = (x.astype(np.float32) for x in task(steps))
    lam, form = LAM.astype(np.float32), jax.jit(partial(layer.mesa, chunk=chunk))
    later = np.arange(steps)[:, None] >= cut
    other = form(*(np.where(later, 3 * x + 1, x) for x in (q, k, v)), lam)
    np.testing.assert_array_equal(form(q, k, v, lam)[:, :cut], other[:, :cut])
    past = jax.grad(lambda *a: form(*a, lam)[:, :cut].sum(), (0, 1, 2))
    for gradient in past(q, k, v):
        assert not np.any(gradient[:, cut:]) and np.all(np.any(gradient[:, :cut], -1))


# Rounding, memory, time --------------------------------------------------------------------------


def rounding(form, lam, seed=0):
    """Errors in float32 after 200 keys of length about 1."""
    q, k, v, w = task(200, 20, 20, n=4, seed=seed)
    with jax.enable_x64(True):
        true = with_gradients(alternatives.mesa_reference, w, q, k, v, np.full(4, lam))
        true = {name: np.asarray(x) for name, x in true.items()}
    single = (x.astype(np.float32) for x in (w, q, k, v, np.full(4, lam)))
    return errors(with_gradients(form, *single), true)


@pytest.mark.parametrize(
    "lam, refine, bound", [(1.0, 0, 5e-6), (100.0, 0, 1e-3), (100.0, 1, 3e-5), (1e4, 1, 5e-3)]
)
def test_float32_keeps_digits(lam, refine, bound):
    worst = rounding(partial(layer.mesa, refine=refine), lam)
    assert max(worst.values()) < bound, worst


def test_the_papers_way_back_loses_all_digits_while_its_output_is_right():
    worst = rounding(alternatives.mesa_sherman_morrison, 1e4)
    assert worst["o"] < 5e-3 and worst["k"] > 10 and worst["q"] > 0.1, worst


def test_memory_is_a_tenth_of_the_definitions():
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in [(256, 50, 20)] * 4 + [(256,)]]

    def temporary(form):
        compiled = jax.jit(partial(with_gradients, form)).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(layer.mesa) < temporary(alternatives.mesa_reference) / 10


def test_gradients_of_a_large_batch_do_not_hang():
    code = """
import jax, numpy as np
from lib.mesa.layer import mesa
x = np.random.default_rng(0).normal(size=(3, 1024, 50, 20)).astype(np.float32)
for chunk in (1, 16):
    grad = jax.jit(jax.grad(lambda *a: mesa(*a, chunk=chunk).sum(), (0, 1, 2, 3)))
    assert all(np.isfinite(g).all() for g in grad(*x, np.ones(1024, np.float32)))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


# Bad input ---------------------------------------------------------------------------------------

GOOD = dict(
    zip("qkv", (np.ones((2, 5, d), np.float32) for d in (3, 3, 4)), strict=True),
    lam=np.ones(2, np.float32),
)


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"q": np.ones((2, 5, 4))}, r"q has shape \(2, 5, 4\), k \(2, 5, 3\)"),
        ({"q": np.ones((5, 3)), "k": np.ones((5, 3))}, "heads first"),
        ({"v": np.ones((2, 4, 4))}, r"v has shape \(2, 4, 4\)"),
        ({"lam": np.ones(3)}, "lam has shape"),
        ({"lam": np.array([1.0, -2.0])}, "lam has -2.0: it must be positive"),
        ({"lam": np.array([1.0, np.nan])}, "lam has nan"),
        ({"gamma": np.ones((5, 2))}, r"gamma has shape \(5, 2\): give \(N, T\) = \(2, 5\)"),
        ({"gamma": np.full((2, 5), 1.5)}, "gamma has 1.5, outside"),
        ({"chunk": 0}, "chunk=0 must be at least 1"),
        ({"refine": -1}, "refine=-1 must be at least 0"),
    ],
)
def test_bad_arguments_are_named(bad, says):
    # as for a reader, without the checks of shapes that run in these tests
    mesa = inspect.unwrap(layer.mesa)
    with pytest.raises(ValueError, match=says):
        mesa(**GOOD | bad)


def test_bad_arguments_of_the_other_forms_are_named():
    for form in (alternatives.mesa_reference, alternatives.mesa_sherman_morrison, CG):
        with pytest.raises(ValueError, match="lam has 0.0"):
            form(**GOOD | {"lam": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match="iterations=0 must be at least 1"):
        alternatives.mesa_cg(**GOOD, iterations=0)
    with pytest.raises(ValueError, match="v has shape"):
        inspect.unwrap(layer.linear_attention)(GOOD["q"], GOOD["k"], np.ones((2, 4, 4)))
