"""Policy gradients against Algorithm 1 by hand, SciPy's filters, and exact expectations."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import expit

from lib.cooperation import estimators, exact, experiments

# what its fixtures compute is wanted once, not by each worker
pytestmark = pytest.mark.xdist_group("estimators")

METHODS = {name: estimators.method(name) for name in estimators.METHODS}
FLAGS = ("average_future", "normalise_current")


def flags(name):
    """The two of Algorithm 1."""
    return {flag: getattr(METHODS[name], flag) for flag in FLAGS}


def data(steps=3, episodes=4, n=2, copies=3, seed=0):
    """Rewards and values."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, steps * episodes, n, copies))


# Algorithm 1 -------------------------------------------------------------------------------------

BY_HAND = {
    "coala": [[15, 16], [14.5, 15], [6, 7], [3.5, 4]],
    "mfos": [[17, 19], [16, 17], [12, 14], [7, 8]],
    "unaware": [[16, 20], [15, 18], [12, 14], [7, 8]],
}


@pytest.mark.parametrize("name", METHODS)
def test_two_inner_episodes_by_hand(name):
    x = np.arange(1, 9, dtype=np.float32).reshape(4, 1, 2)
    zero = np.zeros_like(x)
    setting = {"steps": 2, "discount": 1.0, "lam": 1.0, **flags(name)}
    ours = estimators.batch_lambda_returns(x, zero, zero[0], **setting)
    np.testing.assert_array_equal(ours[:, 0], BY_HAND[name])
    np.testing.assert_array_equal(ours, estimators.weights(x, METHODS[name], steps=2))


def algorithm_1(r, v, discount, lam, average, normalise, steps):
    """App. A as it is printed, for one batch (B, L); its v is already one step later."""
    copies, time = r.shape
    norm = copies if normalise else 1
    acc, shared, out = v[:, -1].copy(), v[:, -1].mean(), np.empty_like(r)
    for t in range(time - 1, -1, -1):
        if average and t % steps == steps - 1:
            acc[:] = shared
        acc = r[:, t] / norm + discount * ((1 - lam) * v[:, t] + lam * acc)
        shared = np.mean(r[:, t] + discount * ((1 - lam) * v[:, t] + lam * shared))
        out[:, t] = acc
    return out


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_it_is_the_printed_algorithm(average, normalise):
    x, values = data()
    setting = {"average_future": average, "normalise_current": normalise}
    with jax.enable_x64(True):
        ours = estimators.batch_lambda_returns(
            x, values, values[-1], steps=3, discount=0.9, lam=0.8, **setting
        )
    for n in range(2):
        true = algorithm_1(x[:, n].T, values[:, n].T, 0.9, 0.8, average, normalise, 3)
        np.testing.assert_allclose(ours[:, n].T, true, atol=1e-13)


def test_unaware_advantages_and_targets_are_those_of_a_filter():
    rewards, values = data()
    later = np.concatenate([values[1:], np.zeros_like(values[:1])])

    def discounted(x, factor):
        return lfilter([1], [1, -factor], x[::-1], axis=0)[::-1]

    setting = {"steps": 3, "discount": 0.9, "lam": 0.7}
    with jax.enable_x64(True):
        gae = estimators.advantages(rewards, values, METHODS["unaware"], **setting)
        target = estimators.value_targets(rewards, values, **setting)
    np.testing.assert_allclose(gae, discounted(rewards + 0.9 * later - values, 0.63), atol=1e-13)
    # a TD(lambda) return is the value plus the advantage
    np.testing.assert_allclose(target, np.asarray(gae) + values, atol=1e-13)


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_the_algorithm_without_values_or_discount(name):
    rewards, _ = data()
    zero = np.zeros_like(rewards)
    with jax.enable_x64(True):
        found = [
            estimators.weights(rewards, METHODS[name], steps=3),
            estimators.advantages(rewards, zero, METHODS[name], steps=3, discount=1.0, lam=1.0),
        ]
    np.testing.assert_allclose(*found, atol=1e-13)


@pytest.mark.parametrize("discount, lam, rounding", [(1.0, 1.0, 0), (0.9, 0.8, 1e-6)])
def test_with_one_copy_all_methods_are_the_same(discount, lam, rounding):
    rewards, values = (x[:, :, :1].astype(np.float32) for x in data())
    setting = {"steps": 3, "discount": discount, "lam": lam}
    found = [estimators.advantages(rewards, values, m, **setting) for m in METHODS.values()]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=0, atol=rounding)
    assert {float(estimators.outer_factor(m, 1)) for m in METHODS.values()} == {1.0}


def test_copies_are_equals():
    rewards, values = data()
    order = np.array([2, 0, 1])
    for method in METHODS.values():
        f = partial(estimators.advantages, method=method, steps=3, discount=0.9, lam=0.8)
        with jax.enable_x64(True):
            moved, still = f(rewards[..., order], values[..., order]), f(rewards, values)
        np.testing.assert_allclose(moved, np.asarray(still)[..., order], atol=1e-13)


def test_one_program_serves_all_methods():
    rewards, values = (x.astype(np.float32) for x in data())
    traced = []

    @jax.jit
    def one(method):
        traced.append(method)
        return estimators.advantages(rewards, values, method, steps=3, discount=1.0, lam=1.0)

    found = [one(method) for method in METHODS.values()]
    assert len(traced) == 1 and not np.allclose(found[0], found[1])


# All that can happen -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    return experiments.unbiasedness()


def distance(a, b):
    return np.abs(a - b).max()


def test_coala_is_unbiased(rows):
    assert len(rows) == 10 and {row.centred for row in rows} == {True, False}
    for row in rows:
        found = row.comparison
        assert abs(found.mass - 1) < 1e-12
        assert distance(found.coala, found.truth) < 1e-12, row
        assert distance(found.baseline, found.truth) < 1e-12, row
        assert np.abs(found.truth).max() > 0.01


def test_the_others_are_biased_in_one_direction(rows):
    for row in rows:
        found, copies = row.comparison, row.copies
        if copies == 1:
            assert distance(found.mfos, found.truth) < 1e-12
            assert distance(found.unaware, found.truth) < 1e-12
            continue
        error = exact.relative_error(found.mfos, found.truth)
        assert 0.5 < error < 3 and exact.relative_error(found.unaware, found.truth) > 1e-3
        ratio = np.linalg.norm(found.mfos) / np.linalg.norm(found.unaware)
        # after one step, a player has seen nothing that it could remember
        if row.player == "table" or row.steps == 1:
            assert exact.cosine(found.mfos, found.unaware) > 1 - 1e-12
            assert abs(ratio - copies) < 1e-9
        else:
            assert 0.999 < exact.cosine(found.mfos, found.unaware) < 1 - 1e-9
            assert 1e-6 < abs(ratio - copies) < 0.05


def test_three_parts_make_all_three(rows):
    for row in rows:
        found, copies = row.comparison, row.copies
        now, own, cross = found.current, found.own_future, found.cross_future
        assert distance(found.truth, now + own + cross) < 1e-12
        assert distance(found.unaware, now + own) < 1e-12
        assert distance(found.mfos, copies * now + own + cross) < 1e-12
        if row.player == "table":  # a copy tells as much of its own future as of another's
            assert distance(cross, (copies - 1) * own) < 1e-12


def test_shortcuts_are_biased(rows):
    row = next(r for r in rows if (r.steps, r.copies, r.player) == (2, 2, "table"))
    found = row.comparison
    assert exact.relative_error(found.shortsighted, found.truth) > 0.02
    # less the batch's own mean: it contains what the action itself has done
    assert np.linalg.norm(found.centred) / np.linalg.norm(found.truth) < 0.9
    assert exact.cosine(found.normalised, found.truth) < 0.95


def logistic(x):
    """Probability of cooperation and its slope."""
    return expit(x), expit(x) * expit(-x)


def test_one_step_of_one_copy_in_closed_form():
    player = exact.Tabular(np.array([[0.3, 0, 0, 0, 0]]))
    learner = np.array([-0.8, 0, 0, 0, 0])
    found = exact.world(
        player, learner, exact.Reinforce(np.asarray(1.0)), steps=1, episodes=1, copies=1
    )
    (p, slope), (q, _) = logistic(0.3), logistic(-0.8)
    assert abs(found.value - (p * q - p * (1 - q) + 2 * (1 - p) * q)) < 1e-15
    # whatever the other does, cooperation costs 1
    np.testing.assert_allclose(found.gradient, [-slope, 0, 0, 0, 0], atol=1e-15)


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(3)
    logits, learner = rng.normal(size=(2, 5)), rng.normal(size=5)
    update = exact.Reinforce(np.asarray(5.0))

    def world(logits):
        return exact.world(exact.Tabular(logits), learner, update, steps=2, episodes=2, copies=1)

    truth = world(logits).gradient
    for at in [(0, 0), (0, 2), (1, 3)]:
        step = np.zeros((2, 5))
        step[at] = 1e-5
        slope = (world(logits + step).value - world(logits - step).value) / 2e-5
        assert abs(slope - truth.reshape(2, 5)[at]) < 1e-9


def test_multisets_count_what_enumeration_lists():
    rng = np.random.default_rng(1)
    player, learner = rng.normal(size=(2, 5))
    found = exact.lookahead(player, learner, steps=2, copies=2, rate=2.0)
    world = exact.world(
        exact.Tabular(np.stack([player, player])), learner, exact.Reinforce(np.asarray(2.0)),
        steps=2, episodes=2, copies=2,
    )  # fmt: skip
    listed = exact.compare(world)
    for name in ("truth", "coala", "mfos", "unaware"):
        # one table for both inner episodes: its slope is the sum
        both = getattr(listed, name).reshape(2, 5).sum(0)
        np.testing.assert_allclose(getattr(found, name), both, atol=1e-12, err_msg=name)
    assert abs(found.mass - 1) < 1e-12


def prototype(seed: int, rate: float) -> list[exact.Lookahead]:
    """The gradients with 1, 2 and 3 copies for a pair of players of which other code told some."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed))
        pair = [np.asarray(jax.random.normal(key, (5,), np.float64)) for key in keys]
    return [exact.lookahead(*pair, steps=2, copies=size, rate=rate) for size in (1, 2, 3)]


def test_shaping_is_lost_in_large_batches_by_mfos_only():
    found = prototype(1, 5.0)
    cosines = [exact.cosine(one.mfos, one.truth) for one in found]
    np.testing.assert_allclose(cosines, [1, 0.9935, 0.9817], atol=5e-5)
    pairs = experiments.growing_batches((1, 2, 3), rate=5.0, seed=1, pairs=3)
    assert pairs.coala_error.shape == (3, 3) and pairs.coala_error.max() < 1e-12
    assert (np.diff(pairs.mfos_cosine) < 0).all()
    np.testing.assert_allclose(pairs.unaware_cosine, pairs.mfos_cosine, atol=1e-12)


def test_large_batches_lead_to_lola():
    distance = [exact.relative_error(one.coala, one.lola) for one in prototype(0, 1.0)]
    np.testing.assert_allclose(distance, [0.02525, 0.01560, 0.01095], atol=5e-6)
    far, near = (
        experiments.growing_batches((2, 3), rate=rate, seed=0, pairs=4).lola_distance
        for rate in (1.0, 0.03)
    )
    order = np.diff(np.log(near)) / np.log(3 / 2)
    np.testing.assert_allclose(order, -1, atol=0.03)  # theory: -1 + O(rate / B)
    assert (far > near).all()


def test_a_mistake_of_an_estimator_is_seen_in_larger_batches(monkeypatch):
    pair = np.random.default_rng(2).normal(size=(2, 5))
    right = exact.lookahead(*pair, steps=2, copies=3, rate=5.0)
    weights = exact.estimators.weights

    def undivided(rewards, method, *, steps):
        return weights(rewards, method._replace(normalise_current=np.asarray(False)), steps=steps)

    monkeypatch.setattr(exact.estimators, "weights", undivided)
    exact._weights.clear_cache()
    wrong = exact.lookahead(*pair, steps=2, copies=3, rate=5.0)
    exact._weights.clear_cache()
    np.testing.assert_allclose(wrong.coala, right.mfos, atol=1e-12)
    np.testing.assert_allclose(wrong.truth, right.truth, atol=1e-15)
    assert np.abs(wrong.coala - right.coala).max() > 1e-3


# Bad input ---------------------------------------------------------------------------------------

X = np.ones((6, 2, 3), np.float32)
GOOD = {
    "x": X,
    "values": X,
    "bootstrap": X[0],
    "steps": 3,
    "discount": 1.0,
    "lam": 1.0,
    "average_future": True,
    "normalise_current": True,
}
HOLE = np.where(np.arange(6)[:, None, None] == 4, np.nan, X)


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"x": X[..., :0]}, r"x has shape \(6, 2, 0\): there must be a step"),
        ({"x": X[:, 0]}, r"x has shape \(6, 3\): it must be \(L, N, B\)"),
        ({"x": X.transpose(2, 1, 0)[:2]}, "steps=3 must divide L=2"),
        ({"steps": 4}, r"steps=4 must divide L=6, the first axis of x with shape \(6, 2, 3\)"),
        ({"steps": 0}, "steps=0 must divide"),
        ({"values": X[:5]}, r"values has shape \(5, 2, 3\)"),
        ({"bootstrap": X[0].T}, r"bootstrap \(3, 2\)"),
        ({"discount": 1.01}, "discount=1.01 must lie in"),
        ({"lam": -0.5}, "lam=-0.5 must lie in"),
        ({"x": HOLE}, r"x is NaN at \(4, 0, 0\)"),
    ],
)
def test_bad_arguments_are_named(bad, says):
    function = inspect.unwrap(estimators.batch_lambda_returns)
    with pytest.raises(ValueError, match=says):
        function(**GOOD | bad)


def test_bad_rewards_are_named_everywhere():
    method = METHODS["coala"]
    with pytest.raises(ValueError, match="rewards is NaN at"):
        estimators.weights(HOLE, method, steps=3)
    setting = {"steps": 3, "discount": 1.0, "lam": 1.0}
    with pytest.raises(ValueError, match="rewards is NaN at"):
        estimators.advantages(HOLE, X, method, **setting)
    with pytest.raises(ValueError, match="discount=2"):
        estimators.advantages(X, X, method, **setting | {"discount": 2.0})
    with pytest.raises(ValueError, match="x is NaN at"):
        estimators.value_targets(HOLE, X, **setting)
    with pytest.raises(ValueError, match="method='lola' is not known: use one of coala, mfos"):
        estimators.method("lola")


@pytest.mark.parametrize(
    "sizes, says",
    [
        ({"copies": 0}, "copies=0 must be at least 1"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"copies": 5}, r"give 4\^20 batches: at most 262144"),
    ],
)
def test_worlds_that_cannot_be_enumerated(sizes, says):
    with pytest.raises(ValueError, match=says):
        exact.enumerate_batches(**{"steps": 2, "episodes": 2, "copies": 2} | sizes)


def test_bad_players_are_named():
    logits = np.zeros(5)
    with pytest.raises(ValueError, match="copies=0"):
        exact.lookahead(logits, logits, steps=2, copies=0, rate=1.0)
    with pytest.raises(ValueError, match="rate=0.0 must be positive"):
        exact.lookahead(logits, logits, steps=2, copies=1, rate=0.0)
    with pytest.raises(ValueError, match="five finite logits"):
        inspect.unwrap(exact.world)(
            exact.Tabular(logits[None]), np.full(5, np.nan), exact.Reinforce(jnp.array(1.0)),
            steps=1, episodes=1, copies=1,
        )  # fmt: skip
    with pytest.raises(ValueError, match="player='rnn' is not known"):
        experiments.unbiasedness(players=["rnn"])
