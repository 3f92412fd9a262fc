"""The dilemma in closed form against linear algebra, differences, and a plain loop of training."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from lib.cooperation import ipd, pools

TIT_FOR_TAT = np.array([1.0, 1, 0, 1, 0])
ALWAYS_D, ALWAYS_C = np.zeros(5), np.ones(5)
OWN, OTHERS = np.array([1.0, -1, 2, 0]), np.array([1.0, 2, -1, 0])  # App. B.1: CC, CD, DC, DD


def chain(p, q):
    """Probabilities of the four outcomes, first and then after each: (4,) and (4, 4)."""
    q = q[[0, 1, 3, 2, 4]]
    rows = np.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 1)
    return rows[0], rows[1:]


def solved(first, second, gamma, pays=OWN):
    """Both sums of discounted payoffs of two policies in logits, by LAPACK."""
    start, after = chain(1 / (1 + np.exp(-first)), 1 / (1 + np.exp(-second)))
    visits = np.linalg.solve(np.eye(4) - gamma * after.T, start)
    return np.array([visits @ pays, visits @ pays[[0, 2, 1, 3]]])


def differences(f, x, step=1e-4):
    """The gradient of f by central differences."""
    return np.array([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))])


def slope(first, second, gamma, pays=OWN):
    """The gradient of the second's sum in its logits: imaginary steps, which lose no digits."""
    step = 1e-30j
    along = [solved(first, second + step * e, gamma, pays)[1].imag for e in np.eye(5)]
    return np.array(along) / step.imag


def double(f, *arguments):
    """What f computes in float64, compiled, as NumPy arrays."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(f)(*map(jnp.asarray, arguments)))


def pairs(count, seed=0, widest=8.0):
    """Logits of pairs of policies, up to +- `widest`."""
    return np.random.default_rng(seed).uniform(-widest, widest, (count, 2, 5))


@pytest.fixture(scope="module")
def many():
    """A thousand pairs at gamma 0.999, in float64: logits, and what `naive_slope` finds."""
    logits = pairs(1000)
    find = jax.vmap(partial(ipd.naive_slope, gamma=0.999, normalise=False))
    return logits, double(find, logits[:, 0], logits[:, 1])


# Returns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, second, wanted",
    [
        (TIT_FOR_TAT, TIT_FOR_TAT, (1, 1)),
        (ALWAYS_D, ALWAYS_C, (2, -1)),
        (ALWAYS_C, ALWAYS_D, (-1, 2)),
        (ALWAYS_D, ALWAYS_D, (0, 0)),
        (TIT_FOR_TAT, ALWAYS_D, (-0.05, 0.10)),  # exploited once, in the first of 1 / 0.05 steps
    ],
)
def test_returns_that_are_known(first, second, wanted):
    np.testing.assert_allclose(ipd.returns_of(first, second, gamma=0.95), wanted, atol=1e-6)
    sums = ipd.returns_of(first, second, gamma=0.95, normalise=False)
    np.testing.assert_allclose(sums, 20 * np.array(wanted), atol=1e-4)


def test_the_inverse_by_blocks_is_that_of_lapack(many):
    logits, found = many
    true = np.array([solved(*pair, 0.999) for pair in logits])
    # sums of up to 2000: the bound is on averages
    np.testing.assert_allclose(np.stack(found[:2], 1) / 1000, true / 1000, rtol=0, atol=1e-10)
    invert = jax.vmap(lambda p, q: jnp.array(ipd._inverse(p, q[ipd.SWAPPED], 0.999)))
    ours = double(invert, *expit(logits).swapaxes(0, 1))
    for x, pair in zip(ours, logits, strict=True):
        matrix = np.eye(4) - 0.999 * chain(*expit(pair))[1]
        assert np.abs(x - np.linalg.solve(matrix, np.eye(4))).max() < 1e-10 * np.abs(x).max()


@pytest.mark.parametrize("rest, share", [(1e-3, 1.0), (1e-4, 0.1)])
def test_float32_loses_less_than_lapack_does(rest, share):
    """LAPACK loses ten times more if the discount is ten times nearer to one."""
    single = pairs(1000, seed=1).astype(np.float32)
    found = jax.jit(jax.vmap(partial(ipd.returns, gamma=1 - rest)))(single[:, 0], single[:, 1])
    true = np.array([solved(*pair, 1 - rest) for pair in single.astype(float)]) * rest
    lapack = np.array([solved(*pair, np.float32(1 - rest)) for pair in single]) * rest
    worst, theirs = (np.abs(x - true).max() for x in (np.stack(found, 1), lapack))
    assert worst < share * theirs, (worst, theirs)


def test_players_change_places():
    logits = pairs(1, seed=2, widest=2.0)[0]
    one, other = (ipd.returns(*p, gamma=0.9) for p in (logits, logits[::-1]))
    np.testing.assert_allclose(one, other[::-1], rtol=1e-5)
    # and it matters which of CD and DC is whose
    confused = ipd.returns(logits[0], logits[1][[0, 1, 3, 2, 4]], gamma=0.9)
    assert abs(confused.first - one.first) > 0.01


def test_other_payoffs_and_no_future():
    first, second = pairs(1, seed=3, widest=2.0)[0]
    pays = ipd.payoff(5, 3, 1, 0)
    np.testing.assert_array_equal(pays, [3, 0, 5, 1])
    for gamma in (0.0, 0.7):
        options = {"gamma": gamma, "normalise": False, "pays": pays}
        found = double(partial(ipd.naive_slope, **options), first, second)
        wanted = solved(first, second, gamma, np.float64(pays))
        np.testing.assert_allclose(found[:2], wanted, atol=1e-12)
        np.testing.assert_allclose(
            found.gradient, slope(first, second, gamma, np.float64(pays)), atol=1e-12
        )
        with jax.enable_x64(True):
            np.testing.assert_allclose(ipd.returns(first, second, **options), wanted, atol=1e-12)


# Learning ----------------------------------------------------------------------------------------


def test_the_closed_slope_is_the_derivative_of_the_return(many):
    logits, found = many
    for ours, pair in zip(found.gradient, logits, strict=True):
        true = slope(*pair, 0.999)
        assert np.abs(ours - true).max() < 1e-9 * max(1, np.abs(true).max())
    # imaginary steps are themselves what they should be
    first, second = logits[0] / 4
    real = differences(lambda x: solved(first, x, 0.9)[1], second)
    np.testing.assert_allclose(slope(first, second, 0.9), real, atol=1e-6)


def walk(first, second, gamma, rate, episodes):
    """Naive learning: both averages at each episode, and the last policy."""
    got = [solved(first, second, gamma)]
    for _ in range(episodes):
        second = second + rate * (1 - gamma) * slope(first, second, gamma)
        got.append(solved(first, second, gamma))
    return (1 - gamma) * np.array(got), second


SETTING = {"gamma": 0.9, "rate": 5.0}
# steps of 5 along averages are steps of 0.5 along sums, at gamma 0.9
SUMS = {"gamma": 0.9, "rate": 0.5, "normalise": False}


@pytest.mark.parametrize("episodes", [0, 3])
def test_a_learner_walks_along_its_slope(episodes):
    player, learner = pairs(1, seed=4, widest=2.0)[0]
    got, last = walk(player, learner, **SETTING, episodes=episodes)
    path, sums = (
        double(partial(ipd.naive_path, **options, episodes=episodes), player, learner)
        for options in (SETTING, SUMS)
    )
    np.testing.assert_allclose(np.stack(path[:2], 1), got, atol=1e-12)
    np.testing.assert_array_equal(path.policy[0], learner)
    np.testing.assert_allclose(path.policy[-1], last, atol=1e-12)
    np.testing.assert_allclose(sums.own, 10 * path.own, atol=1e-12)
    np.testing.assert_allclose(sums.policy, path.policy, atol=1e-12)


def test_objectives_count_all_episodes_or_the_last_and_differentiate_through_learning():
    rng = np.random.default_rng(5)
    player, *learners = rng.uniform(-2, 2, (3, 5))
    learners = np.array(learners)

    def shaped(x):
        return np.mean([walk(x, one, **SETTING, episodes=3)[0][:, 0] for one in learners])

    def ahead(x):
        return walk(x, learners[0], **SETTING, episodes=3)[0][-1, 0]

    def both(player, learners):
        """Sums, since averages are what training uses below."""
        shaping = partial(ipd.shaping_objective, learners=learners, episodes=3, **SUMS)
        lola = partial(ipd.lola_objective, opponent=learners[0], lookaheads=3, **SUMS)
        return [jax.value_and_grad(objective)(player) for objective in (shaping, lola)]

    for (value, along), true in zip(double(both, player, learners), (shaped, ahead), strict=True):
        np.testing.assert_allclose(value, true(player), atol=1e-12)
        np.testing.assert_allclose(along, differences(true, player), atol=1e-6)


def test_the_gradient_of_twenty_steps_is_right_in_float32():
    player, learner = pairs(1, seed=7, widest=1.0)[0]
    options = {"gamma": 0.95, "rate": 5.0, "episodes": 20}

    def ours(player, learner):
        return jax.grad(lambda p: ipd.shaping_objective(p, learner[None], **options))(player)

    single = jax.jit(ours)(jnp.float32(player), jnp.float32(learner))
    true = differences(lambda x: walk(x, learner, **options)[0][:, 0].mean(), player)
    np.testing.assert_allclose(single, true, atol=1e-4)


# Extortion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor, part", [(1.0, 1.0), (2.0, 0.5), (5.0, 0.9)])
def test_zero_determinant_policies_fix_the_ratio_of_payoffs(factor, part):
    four = ipd.zero_determinant(factor, part / (1 + 2 * factor))
    assert ((four >= 0) & (four <= 1)).all()
    rng = np.random.default_rng(0)
    for _ in range(50):
        other = rng.uniform(0.05, 0.95, 5)
        _, after = chain(np.append(0.5, four), other)
        # averages without discounting, from the stationary distribution
        system = np.vstack([after.T - np.eye(4), np.ones(4)])
        lasting = np.linalg.lstsq(system, np.array([0, 0, 0, 0, 1.0]))[0]
        assert abs(lasting @ OWN - factor * (lasting @ OTHERS)) < 1e-12
    assert lasting @ OWN > 0.01, "that both get nothing would say little"


def test_tit_for_tat_is_the_fairest_of_them():
    np.testing.assert_allclose(ipd.zero_determinant(1.0, 1 / 3), TIT_FOR_TAT[1:], atol=1e-12)


def test_the_fit_finds_the_nearest():
    true = [(1.5, 0.2), (3.0, 0.1), (8.0, 0.05)]
    exact = ipd.fit_zero_determinant(np.stack([ipd.zero_determinant(*x) for x in true]))
    np.testing.assert_allclose(exact.loss, 0, atol=1e-4)
    np.testing.assert_allclose(np.stack(exact[1:], 1), true, rtol=0.02)
    far = np.random.default_rng(1).uniform(size=(8, 4))
    found = ipd.fit_zero_determinant(far)

    def loss(x, policy):
        factor = 1 + 39 * expit(x[0])
        near = ipd.zero_determinant(factor, expit(x[1]) / (1 + 2 * factor))
        return np.square(near - policy).sum()

    for policy, ours in zip(far, found.loss, strict=True):
        starts = [(a, b) for a in (-4, -1, 2) for b in (-2, 2)]
        best = min(minimize(loss, x, (policy,), method="Nelder-Mead").fun for x in starts)
        assert abs(ours - best) < 2e-3, (ours, best)


@pytest.mark.parametrize("gamma", [0.95, 0.999])
@pytest.mark.parametrize("forgiving", [0.46, 0.49, 0.51, 0.54])
def test_when_extorters_leave_defection(gamma, forgiving):
    like = np.array([0, 0.6, 0, forgiving, 0])

    def sum_of(start):
        policy = jnp.asarray(like).at[0].set(start)
        return ipd.returns_of(policy, like, gamma=gamma, normalise=False).first

    true = double(jax.grad(sum_of), np.float64(0))
    found = ipd.escape_slope(gamma, forgiving)
    assert abs(found - true) < 1e-8
    assert (found > 0) == (forgiving > 1 / (2 * gamma))


# Training ----------------------------------------------------------------------------------------


def averages(first, second, gamma):
    """The first player's average as a textbook would: a solver, for JAX to differentiate."""
    p, q = jax.nn.sigmoid(first), jax.nn.sigmoid(second)[jnp.array([0, 1, 3, 2, 4])]
    rows = jnp.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 1)
    values = jnp.linalg.solve(jnp.eye(4) - gamma * rows[1:], jnp.float32(OWN))
    return (1 - gamma) * rows[0] @ values


def learned(player, learner, rate, steps, gamma=0.95):
    """The player's averages while the other learns."""
    got = [averages(player, learner, gamma)]
    for _ in range(steps):
        learner = learner + rate * jax.grad(averages)(learner, player, gamma)
        got.append(averages(player, learner, gamma))
    return jnp.stack(got)


def by_hand(agents, value, step, share):
    """AdamW for each agent in turn, as if there were no other way."""
    optimiser = optax.adamw(step)
    memories = [optimiser.init(agent) for agent in agents]

    @jax.jit
    def improved(agent, other, memory, i, at, share):
        def mixed(agent):
            return share * value(agent, other, i, at) + (1 - share) * averages(agent, other, 0.95)

        with jax.numpy_dtype_promotion("standard"):
            change, memory = optimiser.update(-jax.grad(mixed)(agent), memory, agent)
        return agent + change, memory

    for at in range(STEPS):
        both = [improved(agents[i], agents[1 - i], memories[i], i, at, share) for i in (0, 1)]
        agents, memories = zip(*both, strict=True)
        yield np.stack(agents)


STEPS = pools.POINTS + 1


def test_pools_train_as_a_plain_loop_does():
    key, shares = jax.random.key(3), np.float32([0.3, 1.0])
    setting = pools.Setting(share=shares, rate=2.0, step=0.03)
    found = pools.train_pool(key, setting, seeds=1, steps=STEPS, learners=1, episodes=1)
    first, rest = jax.random.split(jax.random.split(key, 1)[0])
    start = jax.random.normal(first, (2, 5))

    def value(agent, other, i, at):
        drawn = jax.random.normal(jax.random.fold_in(rest, at), (2, 1, 5))[i, 0]
        return learned(agent, drawn, 2.0, 1).mean()

    for pool, share in enumerate(shares):
        *_, true = by_hand(start, value, 0.03, share)
        np.testing.assert_allclose(found.policy[pool, 0], true, atol=1e-4)
    assert np.abs(found.policy[0] - found.policy[1]).max() > 0.01
    # with learners alone all the time, all are trained as those whose share is 1
    warm = pools.train_pool(
        key, setting, seeds=1, steps=STEPS, learners=1, episodes=1, shaping_first=STEPS
    )
    for policy in warm.policy:
        np.testing.assert_allclose(policy, found.policy[1], atol=1e-6)


def test_lola_trains_as_a_plain_loop_does():
    key, setting = jax.random.key(4), pools.Setting(share=0.7, rate=5.0, step=0.03)
    found = pools.train_lola(key, setting, lookaheads=1, seeds=2, steps=STEPS)
    start = jax.random.normal(jax.random.split(key, 2)[1], (2, 5))

    def value(agent, other, i, at):
        return learned(agent, other, 5.0, 1)[-1]

    true = list(by_hand(start, value, 0.03, np.float32(0.7)))
    np.testing.assert_allclose(found.policy[0, 1], true[-1], atol=1e-4)
    # curves: each point is the mean of its part, and the first part takes what is left over
    assert found.steps.tolist() == [2, *range(3, STEPS + 1)]
    met = [
        (averages(*agents, 0.95) + averages(*agents[::-1], 0.95)) / 2
        for agents in (start, *true[:-1])
    ]
    wanted = [(met[0] + met[1]) / 2, *met[2:]]
    np.testing.assert_allclose(found.meeting[0, 1], wanted, atol=1e-5)


def test_a_short_training_leads_to_extortion_of_learners_and_defection_without():
    found = pools.train_pool(
        jax.random.key(0), pools.Setting(np.float32([1.0, 0.0]), step=0.02),
        seeds=2, steps=600, learners=8,
    )  # fmt: skip
    lesson = pools.teach(jax.random.key(1), found.policy[0])
    # of long trainings: 1.13 to 1.16 and 0.46 to 0.56; 0.05 to 0.06, of random policies 0.64
    assert lesson.own.min() > 1.05 and 0.2 < lesson.other.min() < lesson.other.max() < 0.7
    assert ipd.fit_zero_determinant(expit(found.policy[0, ..., 1:].astype(float))).loss.max() < 0.15
    assert np.abs(found.meeting[1, :, -1]).max() < 0.05


# Bad input ---------------------------------------------------------------------------------------

NUMBERS = np.zeros(5, np.float32)
SPOILT = np.float32([0, 0, np.nan, 0, 0])


@pytest.mark.parametrize(
    "name, bad, says",
    [
        ("returns", {"gamma": 1.0}, "gamma=1.0 must be at least 0 and below 1"),
        ("returns_of", {"first": NUMBERS - 2}, "first has -2 .. -2, wanted probabilities 0 .. 1"),
        ("returns", {"first": [0.5] * 4}, r"first has shape \(4,\), wanted \(5,\): in the beg"),
        ("returns", {"gamma": -0.1}, "gamma=-0.1 must be"),
        ("returns", {"gamma": np.float32(1)}, "gamma=1.0 must be"),
        ("returns", {"first": np.zeros((5, 3))}, r"first has shape \(5, 3\), wanted \(5,\)"),
        ("returns", {"second": np.zeros((3, 5))}, r"second has shape \(3, 5\).*use jax.vmap"),
        ("returns", {"second": SPOILT}, "second has numbers that are not finite"),
        ("returns", {"pays": np.zeros(5)}, r"pays has shape \(5,\), wanted \(4,\)"),
        ("returns_of", {"gamma": np.nan}, "gamma=nan must be"),
        ("returns_of", {"first": np.zeros(4)}, r"first has shape \(4,\)"),
        ("naive_slope", {"first": SPOILT}, "first has numbers that are not finite"),
        ("naive_path", {"rate": 0.0}, "rate=0.0 must be positive"),
        ("naive_path", {"rate": np.nan}, "rate=nan must be positive"),
        ("naive_path", {"episodes": -1}, "episodes=-1 must be 0 or more"),
        ("naive_path", {"learner": np.zeros((2, 5))}, r"learner has shape \(2, 5\)"),
        ("lola_objective", {"lookaheads": -1}, "lookaheads=-1 must be 0 or more"),
        ("payoff", {"reward": 6}, "are no prisoner's dilemma: they must fall"),
        ("payoff", {"temptation": 7}, "2 reward > temptation"),
        ("payoff", {"sucker": np.nan}, "sucker=nan are no prisoner's dilemma"),
        ("zero_determinant", {"factor": 0.9}, "factor=0.9 must be at least 1"),
        ("zero_determinant", {"scale": 0.3}, "scale=0.3 lie in"),
    ],
)
def test_bad_arguments_are_named(name, bad, says):
    players = {"first": NUMBERS, "second": NUMBERS}
    learning = {"player": NUMBERS, "gamma": 0.9, "rate": 1.0}
    good = {
        "returns": players | {"gamma": 0.9},
        "returns_of": players | {"gamma": 0.9},
        "naive_slope": players | {"gamma": 0.9},
        "naive_path": learning | {"learner": NUMBERS, "episodes": 1},
        "lola_objective": learning | {"opponent": NUMBERS, "lookaheads": 1},
        "payoff": dict(temptation=5, reward=3, punishment=1, sucker=0),
        "zero_determinant": {"factor": 2.0, "scale": 0.1},
    }[name]
    # as for a reader, without the checks of shapes that run in these tests
    with pytest.raises(ValueError, match=says) as caught:
        inspect.unwrap(getattr(ipd, name))(**good | bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, bad, says",
    [
        ("train_pool", {"share": 1.5}, "share=1.5 must lie in 0 .. 1"),
        ("train_pool", {"share": np.float32([0.5, np.nan])}, "must lie in 0 .. 1"),
        ("train_pool", {"gamma": 1.0}, "gamma=1.0 must lie in 0 .. 1, below 1"),
        ("train_pool", {"rate": 0.0}, "rate=0.0 and step=0.005 must be positive"),
        ("train_pool", {"step": -1.0}, "step=-1.0 must be positive"),
        ("train_pool", {"seeds": 0}, "seeds=0 must be at least 1"),
        ("train_pool", {"steps": 24}, "steps=24 must be at least 25"),
        ("train_pool", {"learners": 0}, "learners=0 must be at least 1"),
        ("train_pool", {"episodes": 0}, "episodes=0 must be at least 1"),
        ("train_pool", {"start": "x"}, "start='x' is not known: use one of normal, defection"),
        ("train_lola", {"lookaheads": -1}, "lookaheads=-1 must be 0 or more"),
        ("train_lola", {"gamma": -0.5}, "gamma=-0.5 must lie"),
        ("teach", {"policy": np.zeros((5, 2))}, r"policy has shape \(5, 2\), wanted \(..., 5\)"),
        ("teach", {"policy": SPOILT}, "policy has numbers that are not finite"),
        ("teach", {"gamma": 1.0}, "gamma=1.0 must lie"),
        ("teach", {"learners": 0}, "learners=0 must be at least 1"),
        ("teach", {"episodes": -1}, "episodes=-1 must be 0 or more"),
    ],
)
def test_bad_trainings_are_named(name, bad, says):
    setting = {k: v for k, v in bad.items() if k in pools.Setting._fields}
    good = {
        "train_pool": {"seeds": 1, "steps": 25},
        "train_lola": {"seeds": 1, "steps": 25, "lookaheads": 1},
        "teach": {"policy": NUMBERS},
    }[name]
    if name == "teach":
        setting = {}
    else:
        good["setting"] = pools.Setting(**{"share": 0.5} | setting)
    options = good | {k: v for k, v in bad.items() if k not in setting}
    with pytest.raises(ValueError, match=says):
        inspect.unwrap(getattr(pools, name))(jax.random.key(0), **options)
