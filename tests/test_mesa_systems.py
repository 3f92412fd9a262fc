"""Systems, closed-form predictors and probes against SciPy, scikit-learn and algebra."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import rbf_kernel

from lib.mesa import baselines, probes, systems

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SMALL = dict(n=4, steps=12)


def draw(generate, batch, *args, key=KEY, **options):
    """Sequences of one generator, under jit."""
    return jax.jit(partial(generate, **options), static_argnums=1)(key, batch, *args)


@pytest.fixture(scope="module")
def rotations():
    """The paper's main task, 2048 sequences."""
    return draw(systems.linear, 2048)


@pytest.fixture(scope="module")
def short():
    """Six short sequences in four dimensions, as NumPy sees them, too."""
    s = draw(systems.linear, 6, **SMALL).s
    return s, np.asarray(s, np.float64)


def past(s, b, t):
    """Columns s_1 .. s_{t-1} and s_2 .. s_t of one sequence, and s_t; t counts from 1."""
    return s[b, : t - 1].T, s[b, 1:t].T, s[b, t - 1]


# Systems -----------------------------------------------------------------------------------------


def test_maps_are_haar(rotations):
    w = np.asarray(rotations.w, np.float64)
    np.testing.assert_allclose(w @ w.mT, np.tile(np.eye(10), (len(w), 1, 1)), atol=3e-6)
    for i, j in [(0, 0), (0, 9), (9, 0), (9, 9), (4, 6)]:  # an entry's square is Beta distributed
        assert stats.kstest(w[:, i, j] ** 2, stats.beta(0.5, 4.5).cdf).pvalue > 1e-4
        assert abs(np.mean(w[:, i, j] > 0) - 0.5) < 0.06
    assert abs(np.mean(np.linalg.det(w) > 0) - 0.5) < 0.06
    peers = stats.ortho_group(10, seed=0).rvs(2000)
    for statistic in (
        lambda q: np.trace(q, axis1=1, axis2=2),
        lambda q: np.trace(q @ q, axis1=1, axis2=2),
        lambda q: np.trace(q[:, :5, :5] @ q[:, 5:, 5:], axis1=1, axis2=2),
    ):
        assert stats.ks_2samp(statistic(w), statistic(peers)).pvalue > 1e-4
    trace = np.trace(w, axis1=1, axis2=2)
    assert abs(trace.mean()) < 0.2 and abs((trace**2).mean() - 1) < 0.3  # 0 and 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_haar_in_few_dimensions(n):
    w = np.asarray(jax.jit(systems.haar, static_argnums=(1, 2))(KEY, 2000, n), np.float64)
    assert abs(np.mean(np.linalg.det(w) > 0) - 0.5) < 0.06
    if n > 1:  # the angle of the first column is uniform
        angle = np.arctan2(w[:, 1, 0], w[:, 0, 0])
        assert stats.kstest(angle / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_rotations_move_as_they_should(sigma):
    s, w = map(np.asarray, draw(systems.linear, 2048, n=3, sigma_h=sigma))
    noise = s[:, 1:] - np.einsum("bij,btj->bti", w, s[:, :-1])
    np.testing.assert_allclose(noise.std(), sigma, rtol=0.01, atol=1e-6)
    # |s_t|^2 / n = 1 + (t - 1) sigma^2 on average
    np.testing.assert_allclose(np.square(s).mean(), 1 + 25 * sigma**2, rtol=0.05)


def test_error_of_predicting_nothing(rotations):
    zero = baselines.mse(baselines.zero(rotations.s[:, :-1]), rotations.s[:, 1:])
    np.testing.assert_allclose(zero, 1 + 25.5 * 0.1**2, rtol=0.03)  # the top of the axis of Fig. 4B


def test_partial_observations_obey_a_recurrence_of_three_states():
    options = dict(n_s=2, n_h=6, steps=40, sigma_h=0.0)
    s, w = draw(systems.partially_observed, 1000, **options)
    assert s.shape == (1000, 41, 2) and w.shape == (1000, 6, 6)
    np.testing.assert_allclose(s.var(), 6 * 0.5**2, rtol=0.1)
    for k, exact in [(2, False), (3, True)]:  # 6 hidden numbers need 3 x 2 observed
        x = np.asarray(systems.stacked_tokens(s, k), np.float64)[0]
        x, y = x[k - 1 : -1], np.asarray(s, np.float64)[0, k:]
        wrong = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        assert (np.square(wrong).mean() < 1e-6) == exact
    seen = draw(systems.partially_observed, 1000, **options, sigma_s=0.2).s
    np.testing.assert_allclose((seen - s).std(), 0.2, rtol=0.02)


def test_nonlinear_systems_follow_their_teacher():
    teacher = systems.teacher(KEY, n=4)
    s, w = draw(systems.nonlinear, 256, teacher)
    a, b, states = (np.asarray(x, np.float64) for x in (*teacher, s))
    linear = states[:, :-1] @ a.T
    hidden = 0.5 * linear * (1 + special.erf(linear / np.sqrt(2)))
    clean = np.einsum("bij,btj->bti", w, hidden @ b.T)
    free = np.abs(states[:, 1:]) < 4
    np.testing.assert_allclose((states[:, 1:] - clean)[free].std(), 0.1, rtol=0.02)
    np.testing.assert_allclose(baselines.oracle(s[:, :-1], w, teacher), clean, atol=0.02)
    assert np.abs(s).max() == 4 and free.mean() > 0.9  # some states are clipped


def test_contracting_maps_keep_phases_and_few_sequences_grow():
    maps = systems.contracting_maps(np.random.default_rng(1), 4000)
    plain = np.random.default_rng(1).normal(size=(4000, 10, 10))
    moved, before = np.linalg.eigvals(maps.astype(np.float64)[:50]), np.linalg.eigvals(plain[:50])
    clipped = before / np.abs(before) * np.clip(np.abs(before), 0.3, 0.9)
    for ours, truth in zip(moved, clipped, strict=True):
        far = np.abs(ours[:, None] - truth)
        assert far.min(0).max() < 1e-3 and far.min(1).max() < 1e-3
    s, w = draw(systems.from_pool, 4000, maps)
    assert 0.01 < (jnp.abs(s).max((1, 2)) > 10).mean() < 0.025  # "approximately 2 %"
    assert all((maps == one).all((1, 2)).any() for one in np.asarray(w[:20]))
    bounded = draw(systems.from_pool, 100, maps, clip=2.0).s
    assert jnp.abs(bounded).max() == 2


def test_a_pool_of_one_is_a_fixed_teacher():
    only = jax.jit(systems.haar, static_argnums=(1, 2))(KEY, 1, 4)
    s, w = draw(systems.from_pool, 3, only, steps=5, sigma_h=0.0)
    np.testing.assert_array_equal(w, jnp.tile(only, (3, 1, 1)))
    power = np.linalg.matrix_power(np.asarray(only[0], np.float64), 5)
    np.testing.assert_allclose(s[:, 5], s[:, 0] @ power.T, atol=1e-5)


def test_few_shot_sequences_alternate():
    s, w = draw(systems.few_shot, 200, n=3, pairs=7, tasks=2)
    assert s.shape == (200, 28, 3)
    x, y = s[:, ::2].reshape(200, 2, 7, 3), s[:, 1::2].reshape(200, 2, 7, 3)
    np.testing.assert_allclose(y, jnp.einsum("bkij,bkpj->bkpi", w, x), atol=1e-5)
    assert stats.kstest(np.ravel(x), "norm").pvalue > 1e-4
    assert not np.allclose(w[:, 0], w[:, 1])


def test_tokens():
    s = jnp.arange(1.0, 7).reshape(1, 3, 2)
    tokens = [[0, 0, 1, 2, 1, 2, 0, 0], [0, 0, 3, 4, 3, 4, 1, 2], [0, 0, 5, 6, 5, 6, 3, 4]]
    np.testing.assert_array_equal(systems.constructed_tokens(s)[0], tokens)
    stacked = [[1, 2, 0, 0, 0, 0], [3, 4, 1, 2, 0, 0], [5, 6, 3, 4, 1, 2]]
    np.testing.assert_array_equal(systems.stacked_tokens(s, 3)[0], stacked)


# Predictors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.1, 10.0, 1000.0])
def test_ridge_equals_scikit_learn_at_every_time(short, lam):
    s, exact = short
    ours, solved = baselines.ridge(s, lam), baselines.preconditioned(s, lam)
    for b, t in [(0, 2), (1, 4), (2, 5), (3, 9), (5, 13)]:
        keys, values, query = past(exact, b, t)
        peer = Ridge(alpha=1 / lam, fit_intercept=False).fit(keys.T, values.T)
        np.testing.assert_allclose(ours[b, t - 1], peer.predict(query[None])[0], atol=2e-3)
        truth = np.linalg.solve(keys @ keys.T + np.eye(4) / lam, query)
        np.testing.assert_allclose(
            solved[b, t - 1], truth, rtol=2e-3, atol=2e-3 * np.abs(truth).max()
        )
    assert (ours[:, 0] == 0).all()


def test_ridge_on_features_equals_scikit_learn(short):
    s, _ = short
    x = systems.stacked_tokens(s, 2)
    ours = baselines.ridge(s, 2.0, features=x)
    peer = Ridge(alpha=0.5, fit_intercept=False).fit(x[3, :8], s[3, 1:9])
    np.testing.assert_allclose(ours[3, 8], peer.predict(x[3, 8:9])[0], atol=1e-4)


@pytest.mark.parametrize("sigma, best", [(0.1, 10.0), (0.3, 1.0)])
def test_the_best_lambda_is_the_prior_variance_over_that_of_the_noise(rotations, sigma, best):
    s, w = draw(systems.from_pool, 512, rotations.w, sigma_h=sigma)
    errors = {
        lam: float(baselines.mse(baselines.ridge(s[:, :-1], lam), s[:, 1:]))
        for lam in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
    }
    assert min(errors, key=errors.get) == best
    np.testing.assert_allclose(1 / (10 * sigma**2), best, rtol=0.12)
    known = baselines.mse(baselines.oracle(s[:, :-1], w), s[:, 1:])
    np.testing.assert_allclose(known, sigma**2, rtol=0.02)
    assert known < errors[best]


def test_gradient_step_is_one_step_down_the_loss(short):
    s, _ = short

    def loss(phi, x):
        return 0.5 * jnp.square(x[1:] - x[:-1] @ phi.T).sum()

    ours = baselines.gradient_step(s, 0.03)
    for b, t in [(0, 1), (2, 2), (3, 7), (5, 13)]:
        phi = -0.03 * jax.grad(loss)(jnp.zeros((4, 4)), s[b, :t])
        np.testing.assert_allclose(ours[b, t - 1], phi @ s[b, t - 1], atol=1e-5)


def test_polynomial_features_are_matrix_powers(short):
    _, s = short
    plain, means = (baselines.polynomial_features(s, 3, mean=mean) for mean in (False, True))
    for b, t, j in [(0, 1, 0), (1, 2, 1), (2, 6, 0), (3, 9, 2), (5, 13, 3)]:
        keys, values, query = past(s, b, t)
        truth = values @ keys.T @ np.linalg.matrix_power(keys @ keys.T, j) @ query
        np.testing.assert_allclose(plain[j, b, t - 1], truth, rtol=1e-9, atol=1e-12)
        truth /= max(t - 1, 1) ** (j + 1)
        np.testing.assert_allclose(means[j, b, t - 1], truth, rtol=1e-9, atol=1e-12)
    step = baselines.gradient_step(jnp.asarray(s, jnp.float32), 0.1)
    np.testing.assert_allclose(baselines.polynomial(s, np.array([0.1])), step, rtol=1e-3, atol=1e-4)


def test_proposition_2_is_a_polynomial():
    s = RNG.normal(size=(1, 9, 3))
    keys, values, query = past(s, 0, 9)
    a = keys @ keys.T + np.eye(3) / 2
    alphas, betas, eta = RNG.uniform(0.01, 0.1, 4), RNG.uniform(0, 0.5, 4), 0.7
    x = before = query
    p = old = np.polynomial.Polynomial([1.0])
    shifted = np.polynomial.Polynomial([0.5, 1.0])  # S S' + I / 2
    for alpha, beta in zip(alphas, betas, strict=True):
        x, before = x + alpha * (query - a @ x) + beta * (x - before), x
        p, old = p + alpha * (1 - shifted * p) + beta * (p - old), p
    ours = baselines.polynomial(s, eta * p.coef)
    np.testing.assert_allclose(ours[0, 8], eta * values @ keys.T @ x, rtol=1e-9)


def test_degree_n_minus_1_reaches_least_squares():
    # Cayley and Hamilton: the inverse of a matrix is a polynomial of it
    s = np.asarray(draw(systems.linear, 1, **SMALL, sigma_h=0.0).s, np.float64)
    keys, values, query = past(s, 0, 13)
    characteristic = np.poly(keys @ keys.T)
    ours = baselines.polynomial(s, -characteristic[:-1][::-1] / characteristic[-1])
    phi = np.linalg.lstsq(keys.T, values.T, rcond=None)[0].T
    np.testing.assert_allclose(ours[0, 12], phi @ query, rtol=1e-6)


@pytest.mark.parametrize("degree, mean", [(0, False), (2, True), (4, False)])
def test_fitted_polynomials_are_optimal(rotations, degree, mean):
    s = np.asarray(rotations.s[:192], np.float64)
    x = baselines.polynomial_features(s[:, :-1], degree, mean=mean).reshape(degree + 1, -1).T
    y = s[:, 1:].ravel()
    plain = baselines.fit_polynomial(s, degree, mean=mean, clip=None)
    left = (y - x @ plain)[:, None]  # least squares leaves what is orthogonal to the features
    assert np.abs((x * left).sum(0) / np.linalg.norm(x, axis=0)).max() < 1e-6 * np.linalg.norm(y)

    def error(c):
        return np.square(np.clip(x @ c, -4, 4) - y).mean()

    ours = baselines.fit_polynomial(s, degree, mean=mean)
    found = optimize.minimize(lambda c: error(c * ours), np.ones(degree + 1), method="Nelder-Mead")
    assert error(ours) < error(plain)
    assert found.fun > error(ours) * (1 - 1e-3)


def test_depth_helps_and_least_squares_is_best(rotations):
    train, test = rotations.s[:192], rotations.s[192:]
    inputs, targets = test[:, :-1], test[:, 1:]
    fits = [baselines.fit_polynomial(train, degree, mean=True) for degree in (0, 1, 3)]
    tried = [baselines.polynomial(inputs, fit, mean=True) for fit in fits]
    errors = [baselines.mse(f, targets, clip=4.0) for f in tried]
    errors = [baselines.mse(baselines.zero(inputs), targets), *errors]
    errors.append(baselines.mse(baselines.ridge(inputs, 10.0), targets))
    assert all(after < 0.9 * before for before, after in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("d, steps, gauss", [(5, 100, False), (5, 100, True), (10, 50, False)])
def test_step_on_diagonal_systems_equals_monte_carlo(d, steps, gauss):
    rng, f_y, f_f = np.random.default_rng(2), 0.0, 0.0
    for _ in range(2):
        first = rng.normal(size=(1500, d)) if gauss else np.ones((1500, d))
        phases = rng.uniform(0, 2 * np.pi, (1500, 1, d))
        x = np.exp(1j * phases * np.arange(steps)[:, None]) * first[:, None]
        t = np.arange(1, steps - 1)
        scores = x[:, t] @ x[:, : steps - 2].conj().mT * (t[:, None] > np.arange(steps - 2))
        f = scores @ x[:, 1 : steps - 1] / t[:, None]
        f_y += (f.conj() * x[:, 2:]).sum().real
        f_f += (np.abs(f) ** 2).sum()
    moments = (3.0, 15.0, 3.0 * (d - 1)) if gauss else (1.0, 1.0, d - 1.0)
    named = dict(zip(("fourth", "sixth", "mixed"), moments, strict=True))
    ours = baselines.diagonal_step_size(steps, **named)
    np.testing.assert_allclose(ours, f_y / f_f, rtol=0.03)


def test_kernel_regression_is_nadaraya_watson(short):
    s, exact = short
    ours = baselines.kernel_regression(s, 0.7)
    for b, t in [(0, 2), (1, 3), (2, 8), (5, 13)]:
        keys, values, query = past(exact, b, t)
        truth = values @ special.softmax(0.7 * keys.T @ query)
        np.testing.assert_allclose(ours[b, t - 1], truth, atol=1e-5)
    assert (ours[:, 0] == 0).all()
    # without noise all states of a sequence are equally long, and the kernel is Gaussian
    s = draw(systems.linear, 1, **SMALL, sigma_h=0.0).s
    keys, values, query = past(np.asarray(s, np.float64), 0, 13)
    weights = rbf_kernel(keys.T, query[None], gamma=0.35)[:, 0]
    truth = values @ weights / weights.sum()
    np.testing.assert_allclose(baselines.kernel_regression(s, 0.7)[0, 12], truth, atol=1e-5)


def test_fitted_kernel_is_the_best_of_its_grid(short):
    s, exact = short

    def error(scale):
        f = [
            past(exact, b, t)[1] @ special.softmax(scale * past(exact, b, t)[0].T @ exact[b, t - 1])
            for b in range(6)
            for t in range(2, 13)
        ]
        return np.square(np.reshape(f, (6, 11, 4)) - exact[:, 2:]).mean()

    scales = tuple(np.geomspace(0.02, 20, 9).tolist())
    assert baselines.fit_kernel(s, scales) == min(scales, key=error)


def test_half_of_few_shot_transitions_are_spurious():
    s, w = draw(systems.few_shot, 64, n=5, pairs=600)
    error = probes.few_shot_error(baselines.ridge(s[:, :-1], 1.0), s)
    np.testing.assert_allclose(error[-100:].mean(), 0.25, atol=0.02)  # Phi -> W / 2
    half = 0.5 * jnp.einsum("bij,btj->bti", w[:, 0], s[:, :-1])
    np.testing.assert_allclose(probes.few_shot_error(half, s).mean(), 0.25, rtol=0.02)
    assert error[1:5].max() > error[0]  # the early ascent


# Probes ------------------------------------------------------------------------------------------


def test_probe_equals_scikit_learn():
    x = RNG.normal(size=(300, 6)) * np.array([1, 1, 100, 1e-3, 1, 0]) + 3
    y = np.stack([x[:, 0], (x[:, 1] - 3) ** 2, x[:, 2] / 100 + x[:, 3] * 1e3 + x[:, 4]], 1)
    y += 0.3 * RNG.normal(size=y.shape)
    ours = probes.probe(x, y.reshape(300, 3, 1), train=200, penalty=0.1)
    scaled = (x - x[:200].mean(0)) / np.where(x[:200].std(0) > 0, x[:200].std(0), 1)
    peer = Ridge(alpha=20).fit(scaled[:200], y[:200]).predict(scaled[200:])
    truth = 1 - r2_score(y[200:], peer, multioutput="raw_values")
    np.testing.assert_allclose(ours[:, 0], truth, rtol=1e-8)
    assert ours[2, 0] < 0.1 < 0.8 < ours[1, 0]


def test_probes_find_what_tokens_hold(rotations):
    s = rotations.s[:400, :9]
    tokens = systems.constructed_tokens(s)
    held = probes.probe_past(tokens[:, 8], s, train=300)
    assert held[-2:].max() < 1e-6 and held[:-2].min() > 0.5


def test_winsorised_probes_forget_outliers():
    x = RNG.normal(size=(400, 3))
    y = (x @ np.array([1.0, 2, 3]))[:, None]
    y[[5, 350]] = 1e6
    assert probes.probe(x, y, train=300)[0] > 0.9
    assert probes.probe(x, y, train=300, winsor=0.01)[0] < 0.1


def proposition_1(eta, n):
    """Two heads that share one step of gradient descent."""
    one, none = np.eye(n), np.zeros((n, n))
    w_q = np.stack([np.hstack([none, one, none, none]), np.hstack([none, none, one, none])])
    w_k = np.stack([np.hstack([none, none, none, one])] * 2)
    w_v = np.stack([np.hstack([none, one, none, none]), np.hstack([none, none, one, none])])
    p = np.stack(
        [eta / 3 * np.vstack([one] + [none] * 3), 2 * eta / 3 * np.vstack([one] + [none] * 3)]
    )
    return probes.products(*(jnp.asarray(x, jnp.float32) for x in (w_q, w_k, w_v, p)))


def test_weights_of_proposition_1_are_a_gradient_step(short):
    s, _ = short
    layer = proposition_1(0.03, 4)
    e = systems.constructed_tokens(s)
    scores = jnp.tril(jnp.einsum("btd,hcd,bic->hbti", e, layer.key_query, e))
    f = jnp.einsum("hbti,hcd,bid->btc", scores, layer.output_value, e)[..., :4]
    np.testing.assert_allclose(f, baselines.gradient_step(s, 0.03), atol=1e-5)
    np.testing.assert_allclose(probes.effective_step(layer, 4), 0.03, rtol=1e-6)
    for matrices, places in zip(layer, (probes.KEY_QUERY, probes.OUTPUT_VALUE), strict=True):
        assert probes.diagonal_share(matrices, 4, places) == 1
        np.testing.assert_array_equal(probes.compress(matrices, 4), matrices)


def test_compressed_and_interpolated_products():
    a, b = (probes.Products(*RNG.normal(size=(2, 3, 40, 40)).astype(np.float32)) for _ in range(2))
    a, b = (probes.Products(*map(jnp.asarray, x)) for x in (a, b))
    ours = probes.compress(a.key_query, 10)
    for h, i, j in np.ndindex(3, 4, 4):
        block = np.s_[h, 10 * i : 10 * i + 10, 10 * j : 10 * j + 10]
        mean = np.trace(a.key_query[block]) / 10
        np.testing.assert_allclose(ours[block], mean * np.eye(10), atol=1e-6)
    share = probes.diagonal_share(a.key_query, 10, [(i, j) for i in range(4) for j in range(4)])
    np.testing.assert_allclose(share, 0.1, rtol=0.2)  # 160 of 1600 random entries
    mixed = probes.interpolate(a, b, 0.25)
    np.testing.assert_allclose(mixed[1], 0.75 * a[1] + 0.25 * b[1], atol=1e-6)


def test_errors_by_position_average_to_the_mean(short):
    s, exact = short
    f = 3 * s[:, :-1]
    truth = np.square(np.clip(3 * exact[:, :-1], -2, 2) - exact[:, 1:])
    ours = probes.mse_by_position(f, s[:, 1:], clip=2.0)
    np.testing.assert_allclose(ours, truth.mean((0, 2)), rtol=1e-4)
    np.testing.assert_allclose(baselines.mse(f, s[:, 1:], clip=2.0), truth.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda s: systems.linear(KEY, 0), "batch=0 must be at least 1"),
        (lambda s: systems.linear(KEY, 2, n=1, steps=0), "steps=0 must be"),
        (lambda s: systems.linear(KEY, 2, n=1, sigma_h=-0.1), "sigma_h=-0.1 is a standard"),
        (lambda s: systems.partially_observed(KEY, 2, n_h=0), "n=0 must be"),
        (lambda s: systems.from_pool(KEY, 2, np.eye(2)[None], clip=0.0), "clip=0.0 must be"),
        (lambda s: systems.few_shot(KEY, 2, pairs=0), "pairs=0 must be"),
        (lambda s: systems.teacher(KEY, variance=0.0), "variance=0.0 must be"),
        (lambda s: systems.contracting_maps(RNG, 2, moduli=(0.9, 0.3)), "moduli=.* low <= high"),
        (lambda s: systems.stacked_tokens(s, 0), "k=0 must be"),
        (lambda s: baselines.ridge(s, 0.0), "lam=0.0 must be positive"),
        (lambda s: baselines.polynomial_features(s, -1), "degree=-1 must be at least 0"),
        (lambda s: baselines.fit_polynomial(s, 1, clip=-1.0), "clip=-1.0 must be positive"),
        (
            lambda s: baselines.diagonal_step_size(2, fourth=1, sixth=1, mixed=1),
            "steps=2 must be at least 3",
        ),
        (lambda s: probes.few_shot_error(s, s), "f has 13 times and s has 13"),
        (lambda s: probes.probe(s[:, 0], s[:, 1], train=5), "train=5 must leave two of the 6"),
        (lambda s: probes.probe(s[:, 0], s[:, 1], train=3, winsor=0.5), "winsor=0.5 must be"),
        (lambda s: probes.compress(jnp.eye(10), 3), "block=3 must divide the tokens' D = 10"),
        (lambda s: probes.interpolate(proposition_1(1, 2), proposition_1(1, 2), 2), "share=2 must"),
    ],
)
def test_bad_input_is_named(short, call, message):
    with pytest.raises(ValueError, match=message):
        call(short[0])
