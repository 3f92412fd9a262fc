"""Policies and single steps of learning, against NumPy, Markov chains and known games."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit, softmax

from lib.cooperation import dilemma, estimators, policies, shaping

SEES, PAYS = dilemma.STATES, dict(zip(("CC", "CD", "DC", "DD"), (1, -1, 2, 0), strict=True))
SURE = 40.0  # a logit
ALWAYS_DEFECT, TIT_FOR_TAT = [-SURE] * 5, [SURE, SURE, -SURE, SURE, -SURE]
SIZES = shaping.Sizes(
    copies=4, episodes=3, steps=5, learning=2, meeting=2, agents=2, epochs=1, minibatches=1
)
STILL = shaping.Learning(rate=1e-9)
meet_agent = jax.jit(shaping.meet_agent, static_argnames="sizes")
judge = jax.jit(lambda agent, *given: agent.judge(*given))
meet_learners = jax.jit(shaping.meet_learners, static_argnames="sizes")


def table(logits, values=(0,) * 5):
    return policies.Tabular(*(jnp.asarray(x, jnp.float32) for x in (logits, values)))


def stacked(*policies):
    return jax.tree.map(lambda *x: jnp.stack(x), *policies)


# The game ----------------------------------------------------------------------------------------


def test_what_two_players_see_and_earn():
    game = dilemma.Game()
    first, second = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
    outcome = game.step(game.reset(jax.random.key(0), 4), first, second, jnp.zeros((0, 4)))
    mine, theirs = game.observe(outcome.state)
    assert [SEES[i] for i in mine] == ["CC", "CD", "DC", "DD"]
    assert [SEES[i] for i in theirs] == ["CC", "DC", "CD", "DD"]
    for seen, rewards in zip((mine, theirs), outcome.rewards, strict=True):
        assert [PAYS[SEES[i]] for i in seen] == rewards.tolist()
    assert [SEES[i] for i in game.observe(game.reset(jax.random.key(0), 2))[1]] == ["s0", "s0"]


@pytest.mark.parametrize(
    "first, second, earn",
    [
        (TIT_FOR_TAT, TIT_FOR_TAT, (1, 1)),
        # cheated once in each inner episode of five steps
        (TIT_FOR_TAT, ALWAYS_DEFECT, (-1 / 5, 2 / 5)),
        (ALWAYS_DEFECT, TIT_FOR_TAT, (2 / 5, -1 / 5)),
        (ALWAYS_DEFECT, [SURE] * 5, (2, -1)),
    ],
)
def test_known_players_meet(first, second, earn):
    plays = meet_agent(table(first), table(second), jax.random.key(0), sizes=SIZES)
    assert plays[0].seen.shape == (15, 2, 4)
    np.testing.assert_allclose([play.reward.mean() for play in plays], earn, rtol=1e-6)
    np.testing.assert_array_equal(plays[1].seen, dilemma.swapped(plays[0].seen))
    learners = stacked(table(second), table(second))
    plays = meet_learners(table(first), learners, jax.random.key(0), sizes=SIZES, learning=STILL)
    np.testing.assert_allclose([play.reward.mean() for play in plays[:2]], earn, rtol=1e-6)


def chain(p, q, steps):
    """Mean reward of both players for each step, by the Markov chain of what was done last."""
    p, q = expit(p), expit(np.asarray(q)[[0, 1, 3, 2, 4]])
    to = np.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], 1)  # from s0, CC, ...
    now, total = to[0], np.zeros(4)
    for _ in range(steps):
        total, now = total + now, now @ to[1:]
    return total @ np.array([[1, 1], [-1, 2], [2, -1], [0, 0]]) / steps


def test_rewards_are_those_of_the_markov_chain():
    p, q = np.random.default_rng(0).normal(size=(2, 5))
    learners = stacked(*[table(q)] * 1000)
    mine, theirs, _ = meet_learners(
        table(p), learners, jax.random.key(1), sizes=SIZES, learning=STILL
    )
    # 12,000 inner episodes, whose mean rewards deviate by less than 1
    found = [float(play.reward.mean()) for play in (mine, theirs)]
    np.testing.assert_allclose(found, chain(p, q, 5), atol=5 / np.sqrt(12_000))


# Policies ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hawk():
    agent = jax.jit(partial(policies.hawk, seen=5, actions=3, width=8))(jax.random.key(0))
    assert not agent.policy.any() and not agent.value.any(), "undecided at first"
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + jnp.float32(0.3 * rng.normal(size=x.shape)), agent)


@pytest.fixture(scope="module")
def games(hawk):
    """What three players of 12 steps see and do, step by step."""
    seen = jax.random.randint(jax.random.key(1), (12, 3), 0, 5)
    act = jax.jit(lambda memory, *given: hawk.act(hawk.prepare(), memory, *given))
    memory, moves = hawk.start(3), []
    for t in range(12):
        move = act(memory, seen[t], jax.random.uniform(jax.random.key(t), (3,)))
        memory = move.memory
        moves.append(move)
    return seen, stacked(*moves)


def by_the_book(p, seen):
    """Equations 1 to 4 of De et al. (2024) in NumPy, for one player: logits and values."""
    p = jax.tree.map(np.float64, p)

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2) + 1e-6) * scale

    def gelu(x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def blocks(x, weight):
        return np.concatenate([part @ w for part, w in zip(np.split(x, 2), weight, strict=True)])

    h, out = np.zeros(8), []
    for symbol in seen:
        x = p.embed[symbol]
        n = norm(x, p.scales[0])
        u = n @ p.branch
        r = expit(blocks(u, p.forget) + p.forget_bias)
        i = expit(blocks(u, p.admit) + p.admit_bias)
        a = np.exp(-8 * np.log1p(np.exp(p.decay)) * r)
        h = a * h + np.sqrt(1 - a**2) * (i * u)
        y = x + (h * gelu(n @ p.gate)) @ p.mix
        w = norm(y, p.scales[1]) @ p.widen
        y = y + (gelu(w[:8]) * w[8:]) @ p.narrow
        z = norm(y, p.scales[2])
        out.append((*(z @ p.policy + p.policy_bias), z @ p.value + p.value_bias))
    return np.array(out)[:, :3], np.array(out)[:, 3]


def test_hawk_is_what_its_equations_say(hawk, games):
    seen, moves = games
    for player in range(3):
        logits, values = by_the_book(hawk, np.asarray(seen[:, player]))
        taken = np.asarray(moves.action[:, player])
        logp = np.log(softmax(logits, 1))[np.arange(12), taken]
        np.testing.assert_allclose(moves.log_prob[:, player], logp, atol=1e-5)
        np.testing.assert_allclose(moves.value[:, player], values, atol=1e-5)
    assert len(np.unique(moves.action)) == 3


def test_judging_whole_games_is_playing_them_again(hawk, games):
    seen, moves = games
    symbols = judge(hawk, seen, moves.action)
    vectors = judge(hawk, jax.nn.one_hot(seen, 5), moves.action)
    for judged in (symbols, vectors):
        np.testing.assert_allclose(judged.log_prob, moves.log_prob, atol=1e-5)
        np.testing.assert_allclose(judged.value, moves.value, atol=1e-5)


def test_hawk_remembers(hawk, games):
    seen, moves = games
    other = judge(hawk, seen.at[0].add(1) % 5, moves.action)
    assert np.abs(other.value - moves.value)[-1].min() > 1e-4


def test_tables_draw_with_their_probabilities():
    logits = np.array([0.3, -2.0, 1.0, 0.0, 3.0])
    agent = table(logits, np.arange(5))
    uniform = (jnp.arange(1000.0) + 0.5) / 1000
    for symbol in range(5):
        seen = jnp.full(1000, symbol)
        move = agent.act(agent.prepare(), agent.start(1000), seen, uniform)
        assert abs(np.mean(move.action == 0) - expit(logits[symbol])) < 1e-3
        assert (move.value == symbol).all()
        true = np.where(move.action == 0, log_expit(logits[symbol]), log_expit(-logits[symbol]))
        np.testing.assert_allclose(move.log_prob, true, atol=1e-6)
    judged = agent.judge(seen[None], move.action[None])
    np.testing.assert_allclose(judged.log_prob[0], move.log_prob, atol=1e-6)


# Learning ----------------------------------------------------------------------------------------


def slope_of_log_prob(logits, play):
    """d log p / d logit of what was done, for each of the five states, in NumPy."""
    cooperated = np.asarray(play.action == 0, np.float64)
    away = cooperated - expit(logits)[np.asarray(play.seen)]
    return away[..., None] * np.eye(5)[np.asarray(play.seen)]


def test_learners_take_one_step_of_a2c():
    rng = np.random.default_rng(0)
    logits, values = rng.normal(size=(2, 5)) * [[1], [0.1]]
    learners = stacked(*[table(logits, values)] * 2)
    _, play, _ = meet_learners(
        table(rng.normal(size=5)), learners, jax.random.key(3), sizes=SIZES, learning=STILL
    )
    play = jax.tree.map(lambda x: x[:5], play)  # the first inner episode
    optimiser = shaping._optimiser(0.3)
    moments = jax.vmap(optimiser.init)(learners)
    learn = jax.jit(lambda *given: shaping._learn(*given, optimiser, shaping.Learning(rate=0.3)))
    after, _ = learn(learners, moments, play)
    for n in range(2):
        one = jax.tree.map(lambda x, n=n: np.asarray(x[:, n]), play)
        returns, later = np.zeros((5, 4)), 0
        for t in range(4, -1, -1):
            later = 0.05 * one.reward[t] + 0.99 * later
            returns[t] = later
        wrong = values[one.seen] - returns
        better = (-wrong + wrong.mean()) / wrong.std()
        policy = -(slope_of_log_prob(logits, one) * better[..., None]).mean((0, 1))
        value = (2 * 0.5 * wrong[..., None] * np.eye(5)[one.seen]).mean((0, 1))
        for before, found, slope in (
            (logits, after.logits[n], policy),
            (values, after.values[n], value),
        ):
            slope = slope / max(1, np.linalg.norm([*policy, *value]))
            # the first step of Adam
            true = before - 0.3 * slope / (np.abs(slope) + 1e-5)
            np.testing.assert_allclose(found, true, atol=1e-3)


@partial(jax.jit, static_argnums=0)
def improve(sizes, method, agent, play):
    """One update of PPO; the agent and Adam's memory."""
    batch = shaping._batch(method, shaping.PPO, sizes, play)
    moments = shaping._optimiser(0.0).init(agent)
    return shaping._improve(shaping.PPO, sizes, agent, moments, batch, jax.random.key(5))


@pytest.mark.parametrize("name", estimators.METHODS)
def test_agents_take_one_step_of_the_sampled_gradient(name):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=5)
    agent, learner = table(logits), table(rng.normal(size=5))
    play, _, _ = meet_learners(
        agent, stacked(learner, learner), jax.random.key(4), sizes=SIZES, learning=STILL
    )
    after, moments = improve(SIZES, estimators.method(name), agent, play)

    reward = np.float64(play.reward).reshape(3, 5, 2, 4) * 0.05  # M, T, N, B
    now = reward[:, ::-1].cumsum(1)[:, ::-1]
    later = reward.sum(1)[::-1].cumsum(0)[::-1] - reward.sum(1)
    mean = later.mean(2, keepdims=True)
    weight = {
        "coala": now / 4 + mean[:, None],
        "mfos": now + mean[:, None],
        "unaware": (now + later[:, None]) / 4,
    }[name].reshape(15, 2, 4)
    scores = slope_of_log_prob(logits, play)
    # summed over copies and steps, averaged over the two learners; PPO averages over steps too
    true = (scores * weight[..., None]).sum((0, 2)).mean(0) / 15
    # Adam's memory after its first step is a tenth of the slope
    np.testing.assert_allclose(-10 * moments[1][0].mu.logits, true, atol=1e-6)
    moved = after.logits - jnp.asarray(logits, jnp.float32)
    np.testing.assert_array_equal(np.sign(moved), np.sign(true))


def test_memory_of_agents_outlives_inner_episodes_and_of_learners_does_not(hawk):
    two = jax.tree.map(lambda x: x[..., :2] if x.shape[-1:] == (3,) else x, hawk)
    mine, theirs, _ = meet_learners(
        two, stacked(two, two), jax.random.key(0), sizes=SIZES, learning=STILL
    )
    starts = np.asarray(mine.value).reshape(3, 5, -1)[:, 0]
    assert np.ptp(starts, axis=0).min() > 1e-4
    fresh = np.asarray(theirs.value).reshape(3, 5, -1)[:, 0]
    np.testing.assert_allclose(fresh, np.broadcast_to(fresh[:1, :1], fresh.shape), atol=1e-6)
