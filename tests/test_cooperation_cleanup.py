"""CleanUp-lite: its rules one by one, what must hold in any game, and statistics of chance."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lib.cooperation import cleanup

RIGHT, LEFT, UP, DOWN, ZAP, STAY = range(6)
NEVER = 1.0  # above all that is drawn: no dirt, no apple, no hit


def state(places, frozen=(0, 0), dirt=(), apple=()):
    """One game with players at (row, column)."""
    row, column = np.array(places).T
    cells = np.arange(5)[:, None]
    return cleanup.State(
        jnp.asarray(row[:, None]),
        jnp.asarray(column[:, None]),
        jnp.asarray(np.array(frozen)[:, None]),
        jnp.asarray(np.isin(cells, dirt)),
        jnp.asarray(np.isin(cells, apple)),
    )


def after(now, first, second, **numbers):
    """The outcome of a step with these numbers of chance; nothing happens by default."""
    names = ("appears", "where_dirt", "grows", "where_apple", "aim", "coin")
    uniform = jnp.array([[numbers.get(name, NEVER)] for name in names])
    return cleanup.step(now, jnp.array([first]), jnp.array([second]), uniform)


def rows(cells):
    return np.flatnonzero(np.asarray(cells)[:, 0]).tolist()


FAR = [(0, 1), (4, 2)]


# The rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action, place",
    [(RIGHT, (2, 2)), (LEFT, (2, 0)), (UP, (1, 1)), (DOWN, (3, 1)), (ZAP, (2, 1)), (STAY, (2, 1))],
)
def test_players_move(action, place):
    moved = after(state([(2, 1), (2, 1)]), action, STAY).state
    assert (int(moved.row[0, 0]), int(moved.column[0, 0])) == place
    assert (int(moved.row[1, 0]), int(moved.column[1, 0])) == (2, 1)


def test_nobody_leaves_the_grid():
    corner = after(state([(0, 0), (4, 3)]), UP, DOWN).state
    corner = after(corner, LEFT, RIGHT).state
    np.testing.assert_array_equal(corner.row[:, 0], [0, 4])
    np.testing.assert_array_equal(corner.column[:, 0], [0, 3])


def test_whoever_comes_to_an_apple_eats_it_and_to_dirt_cleans_it():
    found = after(state([(1, 1), (3, 2)], dirt=[3, 4], apple=[1, 2]), LEFT, RIGHT)
    np.testing.assert_array_equal(found.rewards[:, 0], [1, 0])
    np.testing.assert_array_equal(found.cleaned[:, 0], [False, True])
    assert rows(found.state.apple) == [2] and rows(found.state.dirt) == [4]


@pytest.mark.parametrize("coin, winner", [(0.4, 0), (0.6, 1)])
def test_a_coin_decides_who_gets_a_shared_apple(coin, winner):
    found = after(state([(1, 0), (2, 0)], apple=[1]), STAY, UP, coin=coin)
    assert np.argmax(found.rewards[:, 0]) == winner and found.rewards.sum() == 1
    assert rows(found.state.apple) == []


@pytest.mark.parametrize("number, grown", [(0.3, [0, 3]), (0.36, [3])])
def test_dirt_appears_with_probability_035(number, grown):
    found = after(state(FAR, dirt=[3]), STAY, STAY, appears=number, where_dirt=0.1).state
    assert rows(found.dirt) == grown


@pytest.mark.parametrize("where, row", [(0.0, 0), (0.3, 1), (0.6, 2), (0.99, 4)])
def test_dirt_appears_where_none_is(where, row):
    found = after(state(FAR, dirt=[3]), STAY, STAY, appears=0.0, where_dirt=where).state
    assert rows(found.dirt) == sorted([row, 3])


@pytest.mark.parametrize("dirt, chance", [([], 1), ([0], 2 / 3), ([0, 1], 1 / 3), ([0, 1, 2], 0)])
def test_apples_grow_less_the_dirtier_the_river(dirt, chance):
    for number, grows in ((chance - 0.01, True), (chance + 0.01, False)):
        if 0 <= number < 1:
            found = after(state(FAR, dirt=dirt), STAY, STAY, grows=number, where_apple=0.5).state
            assert rows(found.apple) == [2] * grows


def test_the_dirt_of_this_step_counts():
    now = state(FAR, dirt=[0, 1])
    found = after(now, STAY, STAY, appears=0.0, where_dirt=0.0, grows=0.2, where_apple=0.0)
    assert rows(found.state.dirt) == [0, 1, 2] and rows(found.state.apple) == []


@pytest.mark.parametrize(
    "other, aim, hit",
    [((2, 1), 0.5, True), ((3, 2), 0.5, True), ((3, 2), 0.95, False), ((4, 2), 0.5, False)],
)
def test_a_zap_reaches_two_cells_and_hits_nine_times_in_ten(other, aim, hit):
    found = after(state([(2, 1), other]), ZAP, STAY, aim=aim)
    assert bool(found.hit[1, 0]) == hit and not found.hit[0, 0]
    assert int(found.state.frozen[1, 0]) == 5 * hit


def test_a_frozen_player_does_nothing_for_five_steps_and_is_not_zapped_again():
    now = after(state([(1, 0), (1, 1)], apple=[1]), STAY, ZAP, aim=0.0)
    assert now.hit[0, 0] and now.rewards[0, 0] == 1  # the apple came first
    for left in (4, 3, 2, 1, 0):
        grown = now.state._replace(apple=now.state.apple.at[1].set(True))
        now = after(grown, DOWN, ZAP, aim=0.0)
        assert not now.hit.any() and not now.rewards.any(), "neither eats nor is zapped"
        assert (int(now.state.row[0, 0]), int(now.state.frozen[0, 0])) == (1, left)
    now = after(now.state, DOWN, ZAP, aim=0.0)
    assert now.hit[0, 0] and int(now.state.row[0, 0]) == 2


def test_games_start_dirty_and_without_apples():
    start = cleanup.reset(jax.random.key(0), 2000)
    assert not start.apple.any() and not start.frozen.any()
    assert np.unique(start.dirt.sum(0)).tolist() == [3]
    # every patch and every cell as often: five standard deviations
    np.testing.assert_allclose(start.dirt.mean(1), 0.6, atol=5 * np.sqrt(0.24 / 2000))
    cell = np.asarray(start.row * 4 + start.column).ravel()
    share = np.bincount(cell, minlength=20) / 4000
    np.testing.assert_allclose(share, 0.05, atol=5 * np.sqrt(0.0475 / 4000))


# Any game ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def games():
    """States before and after each of 200 steps of 64 random games, actions, numbers, outcomes."""

    @jax.jit
    def step(now, key):
        uniform = jax.random.uniform(key, (8, 64))
        both = cleanup.random_actions(now, uniform[6:])
        return both, uniform[:6], cleanup.step(now, *both, uniform[:6])

    now, seen = cleanup.reset(jax.random.key(1), 64), []
    for t in range(200):
        both, uniform, outcome = step(now, jax.random.key(t))
        seen.append((now, both, uniform, outcome))
        now = outcome.state
    return jax.tree.map(lambda *x: jnp.stack(x), *seen)


def test_invariants(games):
    before, actions, _, outcome = jax.tree.map(np.asarray, games)
    now = outcome.state
    growth = now.dirt.sum(1, dtype=int) - before.dirt.sum(1, dtype=int)
    assert growth.max() == 1 and growth.min() >= -2
    assert set(np.unique(now.row)) == set(range(5)) and set(np.unique(now.column)) == set(range(4))
    # whoever eats stands in the orchard, whoever cleans in the river
    assert outcome.rewards.sum() > 50 and not now.column[outcome.rewards == 1].any()
    assert outcome.cleaned.sum() > 500 and (now.column[outcome.cleaned] == 3).all()
    frozen = before.frozen > 0
    assert frozen.sum() > 500 and not (outcome.hit & frozen).any()
    for x, y in ((before.row, now.row), (before.column, now.column)):
        np.testing.assert_array_equal(x[frozen], y[frozen])
    assert not outcome.rewards[frozen].any() and not outcome.cleaned[frozen].any()
    # only a zap that is near enough hits
    distance = np.abs(np.diff(now.row, axis=1)) + np.abs(np.diff(now.column, axis=1))
    could = (actions[:, ::-1] == ZAP) & ~frozen[:, ::-1] & (distance <= 2)
    assert outcome.hit.any() and not (outcome.hit & ~could).any()


def swapped(now):
    """The same games with the players' names exchanged."""
    return now._replace(row=now.row[::-1], column=now.column[::-1], frozen=now.frozen[::-1])


def test_names_of_players_do_not_matter(games):
    for t in range(0, 200, 40):
        before, both, uniform, outcome = jax.tree.map(lambda x, t=t: x[t], games)
        mirrored = uniform.at[5].set(1 - uniform[5])
        other = cleanup.step(swapped(before), both[1], both[0], mirrored)
        jax.tree.map(np.testing.assert_array_equal, other.state, swapped(outcome.state))
        for name in ("rewards", "cleaned", "hit"):
            np.testing.assert_array_equal(getattr(other, name), getattr(outcome, name)[::-1])
        for a, b in zip(
            cleanup.observe(swapped(before)), cleanup.observe(before)[::-1], strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_all_that_happens_can_be_seen(games):
    now = jax.tree.map(lambda x: x[17], games)[0]
    mine, theirs = map(np.asarray, cleanup.observe(now))
    assert mine.shape == (64, cleanup.WIDTH) and cleanup.WIDTH == 102
    cell = np.asarray(now.row * 4 + now.column)
    for seen, (me, other) in ((mine, (0, 1)), (theirs, (1, 0))):
        np.testing.assert_array_equal(seen[:, :20].argmax(1), cell[me])
        np.testing.assert_array_equal(seen[:, 20:40].argmax(1), cell[other])
        grid = seen[:, 40:100].reshape(64, 5, 4, 3)
        np.testing.assert_array_equal(grid[:, :, 0, 0].T, now.apple)
        np.testing.assert_array_equal(grid[:, :, 3, 1].T, now.dirt)
        assert (grid.sum(-1) == 1).all() and (seen[:, :40].sum(1) == 2).all()
        np.testing.assert_array_equal(seen[:, 100:].T, np.asarray(now.frozen > 0)[[me, other]])


# Chance ------------------------------------------------------------------------------------------


def test_random_players_hardly_eat_and_greedy_ones_do():
    # 2048 games of 64 steps; of another prototype: .0072, .092, .036, 3.98
    chance = cleanup.play(jax.random.key(0), cleanup.random_actions, n=2048, steps=64)
    np.testing.assert_allclose(chance, [0.0072, 0.092, 0.036, 3.98], rtol=0.05)
    greedy = cleanup.play(jax.random.key(0), cleanup.greedy_actions, n=2048, steps=64)
    assert greedy.reward > 5 * chance.reward and greedy.hit == 0 and greedy.dirt < 3


def test_bad_arguments_are_named():
    now = state(FAR)
    step = inspect.unwrap(cleanup.step)
    one, two = jnp.zeros(1, int), jnp.zeros(2, int)
    with pytest.raises(ValueError, match=r"second \(2,\), uniform \(6, 1\): wanted \(1,\)"):
        step(now, one, two, jnp.zeros((6, 1)))
    with pytest.raises(ValueError, match=r"uniform \(1, 6\): wanted \(1,\), \(1,\) and \(6, 1\)"):
        step(now, one, one, jnp.zeros((1, 6)))
    with pytest.raises(ValueError, match="n=0 and steps=5 must be at least 1"):
        cleanup.play(jax.random.key(0), cleanup.random_actions, n=0, steps=5)
