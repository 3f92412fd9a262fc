"""CleanUp-lite: apples grow only while somebody cleans the river, and whoever cleans eats less.

App. B.1.2 of Meulemans et al. (2024), arXiv 2410.18636v2. Two players on a grid of 5 rows and 4
columns: the left column is the orchard, the right one the river. In each step of n games, in this
order: a dirt patch may appear, an apple may grow, both move, eat, clean, and zap. The paper leaves
open in which order; how far two cells are (here: rows plus columns); who gets an apple on which
both stand (here: a coin flip); and whether both may stand on one cell (here: yes).

Players, cells and random numbers come first, games last: that is three times as fast.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

ROWS, COLUMNS = 5, 4
ACTIONS = ("right", "left", "up", "down", "zap", "stay")
ZAP = 4
POLLUTION = 0.35  # probability of one more dirt patch
CHOKED = 3  # dirt patches at which no apple grows
HIT = 0.9  # probability that a zap at a co-player in reach succeeds
REACH = 2
FROZEN = 5  # steps
DIRTY = 3  # patches at the start
WIDTH = 2 * ROWS * COLUMNS + 3 * ROWS * COLUMNS + 2  # numbers that a player sees


class State(NamedTuple):
    """Where n games stand."""

    row: Integer[Array, "2 n"]
    column: Integer[Array, "2 n"]
    frozen: Integer[Array, "2 n"]  # steps that a zapped player still has to wait
    dirt: Bool[Array, "5 n"]  # in the rows of the river
    apple: Bool[Array, "5 n"]  # in the rows of the orchard


class Outcome(NamedTuple):
    """What a step comes to."""

    state: State
    rewards: Float[Array, "2 n"]  # 1 for an apple
    cleaned: Bool[Array, "2 n"]
    hit: Bool[Array, "2 n"]  # was zapped


class Statistics(NamedTuple):
    """Averages over steps, games, and, but for `dirt`, players."""

    reward: float
    cleaned: float
    hit: float
    dirt: float  # patches, of 5


@dataclasses.dataclass(frozen=True)
class Game:
    """The rules, in the form in which `lib.cooperation.shaping` plays a game of two."""

    actions: int = len(ACTIONS)
    symbols: int = 0
    width: int = WIDTH
    draws: int = 6

    def reset(self, key: PRNGKeyArray, n: int) -> State:
        """See `reset`."""
        return reset(key, n)

    def observe(self, state: State) -> tuple[Float[Array, "n width"], Float[Array, "n width"]]:
        """See `observe`."""
        return observe(state)

    def step(
        self,
        state: State,
        first: Integer[Array, " n"],
        second: Integer[Array, " n"],
        uniform: Float[Array, "6 n"],
    ) -> Outcome:
        """See `step`."""
        return step(state, first, second, uniform)


def reset(key: PRNGKeyArray, n: int) -> State:
    """Players anywhere, no apples, three dirt patches."""
    keys = jax.random.split(key, 3)
    order = jnp.argsort(jax.random.uniform(keys[2], (ROWS, n)), 0)
    return State(
        jax.random.randint(keys[0], (2, n), 0, ROWS),
        jax.random.randint(keys[1], (2, n), 0, COLUMNS),
        jnp.zeros((2, n), jnp.int32),
        order < DIRTY,
        jnp.zeros((ROWS, n), bool),
    )


def step(
    state: State,
    first: Integer[Array, " n"],
    second: Integer[Array, " n"],
    uniform: Float[Array, "6 n"],
) -> Outcome:
    """Play one step of n games.

    `uniform` decides, in this order: whether and where dirt appears, whether and where an apple
    grows, whether zaps succeed, and who gets an apple on which both stand.

    Raises ValueError if there is not one action for each game, or not six numbers.
    """
    n = state.row.shape[1]
    if first.shape != (n,) or second.shape != (n,) or uniform.shape != (6, n):
        raise ValueError(
            f"first has shape {first.shape}, second {second.shape}, uniform {uniform.shape}: "
            f"wanted ({n},), ({n},) and (6, {n}), for {n} games"
        )
    appears, where_dirt, grows, where_apple, aim, coin = uniform
    dirt = state.dirt | (_one_of(~state.dirt, where_dirt) & (appears < POLLUTION)[None])
    choked = jnp.minimum(1.0, dirt.sum(0, dtype=jnp.float32) / CHOKED)
    apple = state.apple | (_one_of(~state.apple, where_apple) & (grows < 1 - choked)[None])

    action = jnp.stack([first, second])
    free = state.frozen == 0
    down = jnp.where(action == 3, 1, 0) - jnp.where(action == 2, 1, 0)
    right = jnp.where(action == 0, 1, 0) - jnp.where(action == 1, 1, 0)
    row = jnp.clip(state.row + jnp.where(free, down, 0), 0, ROWS - 1)
    column = jnp.clip(state.column + jnp.where(free, right, 0), 0, COLUMNS - 1)

    here = (row[:, None] == jnp.arange(ROWS)[None, :, None]) & free[:, None]  # 2, 5, n
    eats = here & (column == 0)[:, None] & apple[None]
    cleans = here & (column == COLUMNS - 1)[:, None] & dirt[None]
    contested, heads = eats.all(0).any(0), coin < 0.5
    fed = eats.any(1) & jnp.stack([~contested | heads, ~contested | ~heads])

    distance = jnp.abs(row[0] - row[1]) + jnp.abs(column[0] - column[1])
    zaps = (action == ZAP) & free & ((distance <= REACH) & (aim < HIT))[None]
    hit = zaps[::-1] & free
    frozen = jnp.where(hit, FROZEN, jnp.maximum(state.frozen - 1, 0))
    after = State(row, column, frozen, dirt & ~cleans.any(0), apple & ~eats.any(0))
    return Outcome(after, fed.astype(jnp.float32), cleans.any(1), hit)


def observe(state: State) -> tuple[Float[Array, "n width"], Float[Array, "n width"]]:
    """What each player sees: itself, the other, the grid, and who of the two is frozen.

    One-hot: 20 cells for either player; apple, dirt or nothing in each cell; two flags.
    """
    cell = state.row * COLUMNS + state.column
    players = cell[:, None] == jnp.arange(ROWS * COLUMNS)[None, :, None]
    n = cell.shape[1]
    rest = jnp.zeros((ROWS, COLUMNS - 1, n), bool)
    apples = jnp.concatenate([state.apple[:, None], rest], 1)
    dirt = jnp.concatenate([rest, state.dirt[:, None]], 1)
    grid = jnp.stack([apples, dirt, ~(apples | dirt)], 2).reshape(-1, n)
    frozen = state.frozen > 0

    def seen_by(me, other):
        parts = players[me], players[other], grid, frozen[jnp.array([me, other])]
        return jnp.concatenate(parts).T.astype(jnp.float32)

    return seen_by(0, 1), seen_by(1, 0)


def random_actions(state: State, uniform: Float[Array, "2 n"]) -> Integer[Array, "2 n"]:
    """Any action, equally likely: one that looks at nothing."""
    return (uniform * len(ACTIONS)).astype(jnp.int32)


def greedy_actions(state: State, uniform: Float[Array, "2 n"]) -> Integer[Array, "2 n"]:
    """Go to the nearest apple; without apples, to the nearest dirt if it chokes the orchard.

    Nobody zaps. Ties go to the lower row; whoever has nothing to do stays.
    """
    away = jnp.abs(state.row[:, None] - jnp.arange(ROWS)[None, :, None])  # 2, 5, n
    choked = state.dirt.sum(0) >= CHOKED
    fruit = state.apple.any(0)
    target = jnp.where(fruit[None], state.apple, state.dirt & choked[None])
    row = jnp.argmin(jnp.where(target[None], away, ROWS), 1).astype(jnp.int32)
    column = jnp.where(fruit, 0, COLUMNS - 1)[None]
    right, left, up, down, _, stay = range(len(ACTIONS))
    vertical = jnp.where(row < state.row, up, jnp.where(row > state.row, down, stay))
    sideways = jnp.where(column < state.column, left, right)
    towards = jnp.where(column == state.column, vertical, sideways)
    return jnp.where((fruit | choked)[None], towards, stay).astype(jnp.int32)


def play(key: PRNGKeyArray, actions, *, n: int, steps: int) -> Statistics:
    """What two players who follow `actions(state, uniform)` make of n games.

    Raises ValueError if `n` or `steps` is below 1.
    """
    if n < 1 or steps < 1:
        raise ValueError(f"n={n} and steps={steps} must be at least 1")
    return Statistics(*map(float, _play(key, actions, n, steps)))


def _play_traced(key, actions, n, steps):
    def advance(state, key):
        uniform = jax.random.uniform(key, (8, n))
        both = actions(state, uniform[6:])
        after = step(state, both[0], both[1], uniform[:6])
        shares = [x.mean(dtype=jnp.float32) for x in after[1:]]
        return after.state, (*shares, after.state.dirt.sum(0, dtype=jnp.float32).mean())

    first, later = jax.random.split(key)
    found = jax.lax.scan(advance, reset(first, n), jax.random.split(later, steps))[1]
    return [x.mean() for x in found]


_play = jax.jit(_play_traced, static_argnums=(1, 2, 3))


def _one_of(free, uniform):
    """One of the free cells (5, n), each as likely; none if none is free."""
    order = jnp.cumsum(free, 0, dtype=jnp.int32)
    chosen = jnp.floor(uniform * order[-1].astype(uniform.dtype)).astype(order.dtype)
    return free & (order == chosen[None] + 1)
