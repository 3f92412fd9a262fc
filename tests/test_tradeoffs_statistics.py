"""Curves, intervals and rules of the trade-off chapter against statsmodels, scipy and the paper."""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, stats
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.multitest import multipletests

from lib.tradeoffs import alternatives, logistic, rules, utility
from lib.tradeoffs.alternatives import Prior
from lib.tradeoffs.counts import LEVELS, Condition, paper_counts
from lib.tradeoffs.logistic import fit_finite, fit_logit, switch_interval, switch_point

COUNTS = paper_counts()
VARIED = np.flatnonzero(COUNTS.varies)
K, N = COUNTS.chose[VARIED], COUNTS.valid[VARIED]


@cache
def curves():
    """Those of all conditions that vary; not made while tests are collected."""
    return fit_logit(LEVELS, K, N)


def row(model, experiment, scale):
    """The place among the conditions that vary."""
    at = COUNTS.conditions.index(Condition(model, experiment, scale))
    return int(np.flatnonzero(VARIED == at)[0])


def glm(k, n):
    there = n > 0
    both = np.column_stack([k, n - k])[there]
    design = sm.add_constant(LEVELS[there])
    # a tolerance at which statsmodels' own rounding error is not what is measured
    return sm.GLM(both, design, family=sm.families.Binomial()).fit(tol=1e-14, maxiter=100)


def loglik(b0, b1, k, n):
    eta = b0 + b1 * LEVELS
    return np.sum(k * eta - n * np.logaddexp(0, eta))


def log_det_information(b, k, n):
    p = expit(b[0] + b[1] * LEVELS)
    design = np.column_stack([np.ones(10), LEVELS])
    return np.linalg.slogdet(design.T @ (design * (n * p * (1 - p))[:, None]))[1]


def test_all_curves_are_those_of_statsmodels():
    assert len(VARIED) == 24 and curves().converged.all() and not curves().separated.any()
    fall_short = logistic.deviance(curves(), LEVELS, K, N)
    for i, (k, n) in enumerate(zip(K, N, strict=True)):
        theirs = glm(k, n)
        fit = curves()
        ours = fit.b0[i], fit.b1[i], fit.cov00[i] ** 0.5, fit.cov11[i] ** 0.5
        np.testing.assert_allclose(ours, [*theirs.params, *theirs.bse], rtol=1e-6, atol=1e-6)
        assert curves().cov01[i] == pytest.approx(theirs.cov_params()[0, 1], rel=1e-6)
        assert curves().loglik[i] == pytest.approx(theirs.llf, rel=1e-8)
        assert fall_short.statistic[i] == pytest.approx(theirs.deviance, rel=1e-8)
        p = stats.chi2.sf(theirs.deviance, theirs.df_resid)
        assert fall_short.p[i] == pytest.approx(p, rel=1e-6)
        assert fall_short.df[i] == theirs.df_resid


def test_any_number_of_leading_axes():
    again = fit_logit(LEVELS, K.reshape(2, 3, 4, 10), N.reshape(2, 3, 4, 10))
    one = fit_logit(LEVELS[:8], K[9, :8], N[9, :8])
    np.testing.assert_allclose(again.b1.ravel(), curves().b1, rtol=1e-12)
    assert one.b1.shape == () and (N[9, 8:] == 0).all()
    assert float(one.b1) == pytest.approx(curves().b1[9], rel=1e-9)


def test_a_ridge_is_that_of_scikit_learn():
    k, n = K[0], N[0]
    x = np.concatenate([LEVELS, LEVELS])[:, None]
    y = np.repeat([1, 0], 10)
    theirs = LogisticRegression(C=0.5, tol=1e-12, solver="newton-cholesky")
    theirs.fit(x, y, sample_weight=np.concatenate([k, n - k]))
    ours = fit_logit(LEVELS, k, n, l2=2.0)
    np.testing.assert_allclose(
        [ours.b0, ours.b1], [theirs.intercept_[0], theirs.coef_[0, 0]], rtol=1e-6
    )


@pytest.mark.parametrize(
    "k",
    [K[row("Claude 3.5 Sonnet", "pain", "quantitative")], [0] * 6 + [1] + [0] * 3,
     [50] * 4 + [0] * 6, [50] * 4 + [20] + [0] * 5],
    ids=["paper", "a single 3", "separated", "separated but for one level"],
)  # fmt: skip
def test_firths_fit_is_where_the_penalised_likelihood_is_highest(k):
    k, n = np.asarray(k), np.full(10, 50)

    def penalised(b):
        return -loglik(b[0], b[1], k, n) - log_det_information(b, k, n) / 2

    fit = fit_logit(LEVELS, k, n, firth=True)
    start = np.array([float(fit.b0), float(fit.b1)]) * 0.8
    best = optimize.minimize(
        penalised, start, method="Nelder-Mead", options=dict(xatol=1e-9, fatol=1e-12, maxiter=4000)
    )
    assert fit.converged
    np.testing.assert_allclose([fit.b0, fit.b1], best.x, rtol=1e-5)


def test_separated_data_have_no_curve_but_a_likelihood():
    n = np.full((4, 10), 50)
    k = np.array([[50] * 10, [50] * 4 + [0] * 6, [50] * 4 + [20] + [0] * 5, [0] * 10])
    fit = fit_logit(LEVELS, k, n)
    assert fit.separated.all() and not fit.converged.any() and np.isnan(fit.b1).all()
    np.testing.assert_allclose(
        fit.loglik, [0, 0, stats.binom.logpmf(20, 50, 0.4), 0], atol=1e-9
    )  # fmt: skip
    overlapping = k[1] + np.array([0, 0, 0, -1, 1, 0, 0, 0, 0, 0])
    assert not fit_logit(LEVELS, overlapping, n[1]).separated
    assert set(switch_interval(fit, LEVELS, k, n).words()) == {"none"}
    np.testing.assert_array_equal(fit_finite(LEVELS, K, N).b1, curves().b1)
    assert abs(switch_point(fit_finite(LEVELS, k[1], n[1])) - 4.5) < 1e-6


def test_constant_conditions_have_no_slope_and_no_switch_point():
    rest = np.setdiff1d(np.flatnonzero(COUNTS.valid.sum(1) > 0), VARIED)
    k, n = COUNTS.chose[rest], COUNTS.valid[rest]
    firth = fit_logit(LEVELS, k, n, firth=True)
    assert len(rest) == 11 and firth.converged.all() and (np.abs(firth.b1) < 1e-3).all()
    plain = fit_logit(LEVELS, k, n)
    assert plain.separated.all() and np.isnan(switch_point(plain)).all()


def test_the_table_of_the_paper():
    printed = {  # b1, se, switch point, Fieller's set, deviance; then the label in the paper
        ("Claude 3.5 Sonnet", "pain", "quantitative"): (-2.787, 0.373, 2.86, 2.69, 3.03, 30.7),
        ("GPT-4o", "pain", "quantitative"): (-1.607, 0.169, 3.15, 2.93, 3.38, 26.5),
        ("Command R+", "pain", "quantitative"): (-1.459, 0.140, 6.04, 5.81, 6.28, 32.1),
        ("GPT-4o mini", "pain", "quantitative"): (-1.185, 0.223, 0.55, -0.25, 1.00, 12.5),
        ("Llama 3.1 405b", "pain", "quantitative"): (-0.864, 0.135, 10.37, 9.85, 11.20, 7.9),
        ("Command R+", "pain", "qualitative"): (-0.546, 0.069, 7.17, 6.65, 7.88, 299.4),
        ("Command R+", "pleasure", "quantitative"): (-0.315, 0.037, 4.09, 3.35, 4.71, 53.9),
        ("GPT-4o", "pleasure", "quantitative"): (-1.037, 0.088, 5.44, 5.16, 5.72, 49.7),
        ("Claude 3 Opus", "pleasure", "qualitative"): (-0.819, 0.079, 5.45, 5.13, 5.79, 210.0),
    }
    sets = switch_interval(curves(), LEVELS, K, N)
    short = logistic.deviance(curves(), LEVELS, K, N).statistic
    for which, (b1, se, s, low, high, dev) in printed.items():
        i = row(*which)
        assert curves().b1[i] == pytest.approx(b1, abs=5.1e-4)
        assert curves().cov11[i] ** 0.5 == pytest.approx(se, abs=5.1e-4)
        ours = switch_point(curves())[i], sets.low[i], sets.high[i]
        np.testing.assert_allclose(ours, [s, low, high], atol=5.1e-3)
        assert short[i] == pytest.approx(dev, abs=0.051) and sets.bounded[i]
    labels = {"GPT-4o mini": 0.55, "Claude 3.5 Sonnet": 2.86, "GPT-4o": 3.15, "Command R+": 6.05,
              "Llama 3.1 405b": 10.37}  # fmt: skip
    for model, label in labels.items():
        s = switch_point(curves())[row(model, "pain", "quantitative")]
        assert s == pytest.approx(label, abs=0.01)


def test_fiellers_sets_end_where_the_wald_statistic_crosses_its_quantile():
    sets = switch_interval(curves(), LEVELS, K, N)
    inside, fit = {"interval": 1, "outside": -1}, curves()
    for i, kind in enumerate(sets.kind):
        covariance = np.array([[fit.cov00[i], fit.cov01[i]], [fit.cov01[i], fit.cov11[i]]])

        def excess(s, i=i, covariance=covariance):
            v = np.array([1, s])
            return (fit.b0[i] + fit.b1[i] * s) ** 2 - stats.chi2.ppf(0.95, 1) * v @ covariance @ v

        low, high = sets.low[i], sets.high[i]
        for end in (low, high):
            width = 0.2 * (high - low)
            found = optimize.brentq(excess, end - width, end + width, xtol=1e-12)
            assert found == pytest.approx(end, abs=1e-6, rel=1e-6)
        assert excess((low + high) / 2) * inside[str(kind)] < 0


def test_profile_sets_end_where_the_deviance_crosses_its_quantile():
    hardly = [24, 25, 25, 26, 26, 27, 27, 28, 29, 29]  # excludes a few levels, all on one side
    k, n = np.vstack([K, hardly]), np.vstack([N, np.full(10, 50)])
    fits = fit_logit(LEVELS, k, n)
    sets = switch_interval(fits, LEVELS, k, n, method="profile")
    limit = stats.chi2.ppf(0.95, 1)
    assert set(sets.kind) == {"interval", "outside"}
    for i in range(len(k)):
        best = loglik(fits.b0[i], fits.b1[i], k[i], n[i])

        def excess(s, i=i, best=best):
            flat = optimize.minimize_scalar(
                lambda b: -loglik(-b * s, b, k[i], n[i]), (-0.5, -0.1), options=dict(xtol=1e-12)
            )
            return 2 * (best + flat.fun) - limit

        for end in (sets.low[i], sets.high[i]):
            width = 0.05 * abs(end - switch_point(fits)[i])
            assert excess(end - width) * excess(end + width) < 0
            found = optimize.brentq(excess, end - width, end + width, xtol=1e-7)
            assert found == pytest.approx(end, rel=1e-5, abs=1e-5)
    # bounded exactly where the likelihood-ratio test finds a slope
    slope = logistic.slope_test(LEVELS, k, n)
    np.testing.assert_array_equal(sets.bounded, slope.p < 0.05)


def test_a_set_that_is_no_interval_is_not_told_as_one():
    llama = row("Llama 3.1 8b", "pain", "quantitative")
    told = switch_interval(curves(), LEVELS, K, N).words()
    low, high = (float(end) for end in told[llama].split(" to "))
    assert low < -1000 and high < 0, "no threshold: it stretches for a hundred scales"
    no_slope = row("Llama 3.1 8b", "pleasure", "quantitative")
    assert told[no_slope] == "outside -5.14 to 17.51"
    coin = np.full(10, 25)
    fit = fit_logit(LEVELS, coin, 2 * coin)
    for method in ("fieller", "profile"):
        assert switch_interval(fit, LEVELS, coin, 2 * coin, method=method).words() == ["unbounded"]


def test_the_delta_method_is_that_of_statsmodels():
    i = row("GPT-4o", "pain", "quantitative")
    theirs = glm(K[i], N[i])
    b0, b1 = theirs.params
    gradient = np.array([-1 / b1, b0 / b1**2])
    half = stats.norm.ppf(0.975) * np.sqrt(gradient @ theirs.cov_params() @ gradient)
    ours = switch_interval(curves(), LEVELS, K, N, method="delta")
    np.testing.assert_allclose(
        [ours.low[i], ours.high[i]], [-b0 / b1 - half, -b0 / b1 + half], rtol=1e-6
    )


def test_bands_are_those_of_statsmodels_and_of_the_figures():
    """Edges were read off the published pictures, line width included."""
    i = row("Llama 3.1 405b", "pain", "quantitative")
    grid = np.linspace(0, 11, 12)
    theirs = glm(K[i], N[i]).get_prediction(sm.add_constant(grid)).conf_int()
    band = logistic.wald_band(curves(), grid)
    np.testing.assert_allclose(np.column_stack([band.low[i], band.high[i]]), theirs, atol=1e-6)
    read = {  # at which level, lower and upper edge, how wide against ours
        ("Llama 3.1 405b", "pain", "quantitative"): (9.5, 0.586, 0.760, 1),
        ("Command R+", "pain", "quantitative"): (6.5, 0.263, 0.427, 1),
        ("Command R+", "pleasure", "quantitative"): (2.5, 0.576, 0.667, 0.70),
    }
    for which, (at, low, high, ratio) in read.items():
        band = logistic.wald_band(curves(), np.array([at]))
        ours = band.low[row(*which), 0], band.high[row(*which), 0]
        assert (high - low) / (ours[1] - ours[0]) == pytest.approx(ratio, abs=0.03)
        assert (low + high) / 2 == pytest.approx(sum(ours) / 2, abs=0.004)
    np.testing.assert_allclose(ours, [0.557, 0.684], atol=5.1e-4)


def test_tests_of_the_slope_are_those_of_statsmodels():
    ours = logistic.slope_test(LEVELS, K, N)
    for i, (k, n) in enumerate(zip(K, N, strict=True)):
        there = n > 0
        flat = sm.GLM(
            np.column_stack([k, n - k])[there], np.ones(there.sum()), family=sm.families.Binomial()
        ).fit()
        statistic = 2 * (glm(k, n).llf - flat.llf)
        assert ours.statistic[i] == pytest.approx(statistic, rel=1e-6, abs=1e-6)
    adjusted = logistic.holm(ours.p)
    np.testing.assert_allclose(adjusted, multipletests(ours.p, method="holm")[1], rtol=1e-12)
    weak = [
        row("Llama 3.1 8b", "pain", "quantitative"),
        row("Llama 3.1 8b", "pleasure", "qualitative"),
    ]
    np.testing.assert_allclose(ours.p[weak], [0.043, 0.016], atol=5e-4)
    assert (adjusted[weak] > 0.05).all()


def test_draws_are_binomial():
    p, n = np.array([[0.0, 0.03, 0.5, 0.97, 1.0]]), np.array([[50, 50, 7, 100, 3]])
    drawn = logistic.draw_counts(jax.random.key(0), p, n, draws=20_000)[:, 0]
    assert (drawn[:, 0] == 0).all() and (drawn[:, 4] == 3).all()
    for j in (1, 2, 3):
        seen = np.bincount(drawn[:, j], minlength=n[0, j] + 1)
        expected = stats.binom.pmf(np.arange(n[0, j] + 1), n[0, j], p[0, j]) * len(drawn)
        group = np.cumsum(expected > 10)  # rare counts join a common one
        seen, expected = (np.bincount(group, weights=part) for part in (seen, expected))
        there = expected > 0
        assert stats.chisquare(seen[there], expected[there]).pvalue > 1e-3


def test_the_default_interval_covers_what_it_says():
    subjects = [("Command R+", "pain"), ("Llama 3.1 405b", "pleasure"), ("GPT-4o", "pain")]
    which = [row(*subject, "quantitative") for subject in subjects]
    true, p = switch_point(curves())[which], logistic.probability(curves(), LEVELS)[which]
    k = logistic.draw_counts(jax.random.key(1), p, N[which], draws=4000)
    n = np.broadcast_to(N[which], k.shape)
    sets = switch_interval(fit_logit(LEVELS, k, n), LEVELS, k, n)
    within = (sets.low <= true) & (true <= sets.high)
    covered = np.where(sets.kind == "outside", ~within, within) | (sets.kind == "everything")
    assert ((0.93 < covered.mean(0)) & (covered.mean(0) < 0.97)).all(), covered.mean(0)


def test_the_bootstrap_agrees_with_fieller_where_the_switch_point_is_well_determined():
    which = [row("GPT-4o", "pain", "quantitative"), row("Command R+", "pain", "quantitative")]
    s = logistic.bootstrap(jax.random.key(2), LEVELS, K[which], N[which], draws=4000)
    sets = switch_interval(curves(), LEVELS, K, N)
    ends = np.percentile(s, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(ends, [sets.low[which], sets.high[which]], atol=0.03)


def test_the_posterior_of_many_data_is_laplaces():
    k, n = 100 * K[curves().b1 < -0.3], 100 * N[curves().b1 < -0.3]
    found, fits = alternatives.posterior_grid(LEVELS, k, n), fit_logit(LEVELS, k, n)
    se = fits.cov11**0.5
    ends = (found.slope_low - fits.b1) / se, (found.slope_high - fits.b1) / se
    sets = switch_interval(fits, LEVELS, k, n)
    width = sets.high - sets.low
    assert len(k) > 10 and np.abs(np.abs(ends) - 1.96).max() < 0.15
    for ours, theirs in ((found.switch.low, sets.low), (found.switch.high, sets.high)):
        assert (np.abs(ours - theirs) < 0.04 * width).all()
    assert (found.falls > 1 - 1e-6).all()


def test_the_posterior_is_that_of_importance_sampling():
    """Few data and a narrow prior, so that all parts of the density matter."""
    k, n, prior = np.array([2, 3, 1, 0]), np.array([3, 4, 2, 2]), Prior(2.0, 1.0)
    x = np.arange(1.0, 5)
    found = alternatives.posterior_grid(x, k, n, prior=prior)
    rng = np.random.default_rng(0)
    at, slope = rng.normal(0, 2, 400_000), rng.normal(0, 1, 400_000)
    eta = at[:, None] + slope[:, None] * (x - 2.5)
    log_w = (k * eta - n * np.logaddexp(0, eta)).sum(1)
    weight = np.exp(log_w - logsumexp(log_w))
    order = np.argsort(slope)
    ends = np.interp([0.025, 0.975], np.cumsum(weight[order]), slope[order])
    np.testing.assert_allclose([found.slope_low, found.slope_high], ends, atol=0.03)
    assert found.falls == pytest.approx(weight[slope < 0].sum(), abs=0.01)
    s = 2.5 - at / slope
    assert found.in_range == pytest.approx(weight[(s >= 1) & (s <= 4)].sum(), abs=0.01)


def test_a_constant_condition_leaves_the_direction_open():
    found = alternatives.posterior_grid(LEVELS, np.zeros(10), np.full(10, 50))
    assert found.falls == pytest.approx(0.5, abs=1e-6) and found.in_range < 0.01


def test_curves_with_lapses_nest_the_logistic_curve_and_find_lapses():
    fitted = alternatives.psychometric(LEVELS, K, N)
    assert (fitted.loglik >= curves().loglik - 1e-9).all()
    p = fitted.lower[:, None] + (1 - fitted.lower - fitted.upper)[:, None] * expit(
        fitted.b0[:, None] + fitted.b1[:, None] * LEVELS
    )
    np.testing.assert_allclose(stats.binom.logpmf(K, N, p).sum(1), fitted.loglik, rtol=1e-8)
    lower, upper, n = 0.12, 0.2, np.full(10, 5000)
    p = lower + (1 - lower - upper) * expit(9 - 1.6 * LEVELS)
    k = logistic.draw_counts(jax.random.key(3), p, n, draws=1)
    found = alternatives.psychometric(LEVELS, k, n[None])
    parts = [float(part[0]) for part in found[:4]]
    np.testing.assert_allclose(parts, [9, -1.6, lower, upper], rtol=0.06)


def test_the_curve_with_lapses_is_as_likely_as_scipys():
    i = row("GPT-4o", "pleasure", "quantitative")

    def lacking(b):
        p = b[2] + (1 - b[2] - b[3]) * expit(b[0] + b[1] * LEVELS)
        return -stats.binom.logpmf(K[i], N[i], p).sum()

    theirs = min(
        optimize.minimize(
            lacking, [8, -1.5, g, g], bounds=[(None, None), (None, None), (0, 0.5), (0, 0.5)]
        ).fun
        for g in (0.01, 0.1)
    )
    ours = alternatives.psychometric(LEVELS, K, N).loglik[i]
    assert ours == pytest.approx(-theirs, abs=1e-3)


def test_criteria_are_ordered_as_the_models_are_nested():
    table = alternatives.criteria(LEVELS, K, N)
    at = dict(zip(table.models, np.moveaxis(table.loglik, -1, 0), strict=True))
    np.testing.assert_allclose(
        at["saturated"], stats.binom.logpmf(K, N, K / np.maximum(N, 1)).sum(1)
    )
    assert (at["logistic"] <= at["logistic with lapses"] + 1e-9).all()
    assert (at["isotonic"] <= at["saturated"] + 1e-9).all()
    falls = curves().b1 < 0  # a falling logistic curve is one of the falling curves
    assert (at["logistic"] <= at["isotonic"] + 1e-9)[falls].all()
    short = 2 * (at["saturated"] - at["logistic"])
    np.testing.assert_allclose(
        short, logistic.deviance(curves(), LEVELS, K, N).statistic, rtol=1e-6
    )
    lapses = alternatives.psychometric(LEVELS, K, N)
    np.testing.assert_allclose(table.aic[:, 1], lapses.aic)
    np.testing.assert_array_equal(table.parameters[:, :2], [[2, 4]] * len(K))
    np.testing.assert_allclose(table.aic[:, 0], [glm(k, n).aic for k, n in zip(K, N, strict=True)])


def test_three_rules_give_three_lists():
    fits = fit_logit(LEVELS, COUNTS.chose, COUNTS.valid)
    lists = {
        name: set(rules.models(COUNTS, rule(COUNTS, fits))) for name, rule in rules.RULES.items()
    }
    abstract = {"Claude 3.5 Sonnet", "Command R+", "GPT-4o", "GPT-4o mini"}
    assert lists == {
        "reconstructed": abstract,
        "switch point in range": abstract | {"Claude 3 Opus"},
        "one majority crossing": abstract - {"GPT-4o mini"},
    }


def test_every_trade_off_departs_from_a_straight_curve():
    crossing = rules.in_range(COUNTS, fit_logit(LEVELS, COUNTS.chose, COUNTS.valid))[VARIED]
    p = logistic.deviance(curves(), LEVELS, K, N).p
    assert crossing.sum() == 10 and (p[crossing] < 0.01).all()


def test_switch_words_are_those_of_the_figures():
    words = {
        ("Command R+", "pain", "qualitative"): "extremely intense",
        ("GPT-4o mini", "pleasure", "qualitative"): "mild",
        ("Command R+", "pleasure", "qualitative"): "intense",
        ("GPT-4o", "pleasure", "qualitative"): "intense",
        ("Claude 3 Opus", "pleasure", "qualitative"): "intense",
    }
    for which, word in words.items():
        assert (
            rules.switch_word(Condition(*which), float(switch_point(curves())[row(*which)])) == word
        )


def test_softmax_choosers_have_logistic_curves():
    a, pain = 1.3, 0.9
    theta = utility.Utility(a, pain, 0.0)
    s = utility.switch_of(a, pain)
    assert utility.choice_probabilities(s, 0.0, theta)[2] == pytest.approx(0.5, abs=1e-12)
    p = utility.choice_probabilities(LEVELS, 0.0, theta)[:, 2]
    exact = fit_logit(LEVELS, p * 50, np.full(10, 50.0))  # shares that are the curve itself
    assert -exact.b0 / exact.b1 == pytest.approx(s, abs=1e-6)
    assert exact.b1 == pytest.approx(-pain, abs=1e-6)
    behind = utility.from_logit(exact)
    assert behind.points == pytest.approx(a, abs=1e-6)
    assert behind.pain == pytest.approx(pain, abs=1e-6)


def test_temperature_changes_the_slope_but_hardly_the_switch_point():
    theta = utility.Utility(1.3, 0.9)
    p = [utility.choice_probabilities(LEVELS, 0.0, theta, temperature=t)[:, 2] for t in (1, 2)]
    log_odds = [np.log(q / (1 - q)) for q in p]
    steps = [np.diff(eta) for eta in log_odds]
    np.testing.assert_allclose(steps[0], 2 * steps[1], rtol=1e-8)
    cold = utility.switch_of(1.3, 0.9, temperature=0.01)
    assert cold == pytest.approx(1.3 / 0.9, abs=1e-6)


def test_utilities_are_recovered_from_choices():
    pain = np.concatenate([LEVELS, np.zeros(10)])
    pleasure = np.concatenate([np.zeros(10), LEVELS])
    true = utility.Utility(1.1, 0.5, 0.3)
    p = utility.choice_probabilities(pain, pleasure, true)
    chosen = np.random.default_rng(4).multinomial(200, p)
    found, error = utility.fit_utility(pain, pleasure, chosen)
    assert (np.abs(np.subtract(found, true)) < 3 * np.array(error)).all()

    def lacking(theta):
        q = utility.choice_probabilities(pain, pleasure, utility.Utility(*theta))
        return -np.sum(chosen * np.log(q))

    best = optimize.minimize(
        lacking, found, method="Nelder-Mead", options=dict(xatol=1e-8, fatol=1e-10)
    )
    np.testing.assert_allclose(found, best.x, atol=1e-5)
    only_pain, error = utility.fit_utility(pain[:10], pleasure[:10], chosen[:10])
    assert only_pain.pleasure == 0 and np.isinf(error.pleasure)
    assert abs(only_pain.pain - true.pain) < 3 * error.pain


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: logistic.checked(LEVELS, K, N[:, :8]), "must have one shape"),
        (lambda: fit_logit(LEVELS, N + 1, N), r"k=51 of n=50 at \(0, 0\) is impossible"),
        (lambda: fit_logit(LEVELS, K, N, l2=-1.0), "l2=-1.0 must not be negative"),
        (lambda: fit_logit(LEVELS, K, N, steps=0), "steps=0 must be at least 1"),
        (lambda: switch_interval(curves(), LEVELS, K, N, method="wald"), "method='wald' is not"),
        (lambda: logistic.wald_band(curves(), LEVELS, level=95), "level=95 must lie between 0 and"),
        (lambda: logistic.holm(np.array([0.1, np.nan])), "must lie between 0 and 1"),
        (lambda: logistic.bootstrap(jax.random.key(0), LEVELS, K, N, draws=0), "draws=0"),
        (lambda: logistic.draw_counts(jax.random.key(0), K + 0.5, N, draws=1), "p must hold"),
        (lambda: alternatives.posterior_grid(LEVELS, K, N, size=5), "size=5 is too coarse"),
        (lambda: alternatives.posterior_grid(LEVELS, K, N, prior=Prior(0.0)), "prior="),
        (lambda: utility.switch_of(1.0, 0.0), "pain=0 has no switch point"),
        (lambda: utility.switch_of(1.0, 1.0, temperature=0.0), "temperature=0.0 must be positive"),
        (lambda: utility.fit_utility(LEVELS, LEVELS, -np.ones((10, 3))), "must not be negative"),
        (lambda: utility.fit_utility(LEVELS, 0 * LEVELS, np.eye(3)[[2] * 10]), "no finite"),
        (lambda: rules.switch_word(COUNTS.conditions[0], 11.2), "point=11.2 is not on the scale"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError, match=says) as refused:
        call()
    assert "\n" not in str(refused.value)
