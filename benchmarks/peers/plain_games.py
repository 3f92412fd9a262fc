"""The same games as one would write them first: `plain_games.py FOLDER GAME WAY`.

GAME is as for `ours_games.py`. WAY "numpy" plays all games at once, step after step; "python" plays
one game after the other, as environments with a step() for a single game do, and only CHECKED.
"""

import sys

import numpy as np
from games_task import CHECKED, PAYOFF, SWAPPED, Task, digest
from meter import Meter

POLLUTION, CHOKED, HIT, REACH, FROZEN = np.float32(0.35), 3, np.float32(0.9), 2, 5
RIGHT, LEFT, UP, DOWN, ZAP = range(5)


def dilemma_at_once(task):
    chances = 1 / (1 + np.exp(-task.players))
    state = np.zeros(task.uniform.shape[2], int)
    totals = np.zeros((2, len(state)), np.float32)
    for uniform in task.uniform:
        first = (uniform[0] >= chances[0][state]).astype(int)
        second = (uniform[1] >= chances[1][SWAPPED[state]]).astype(int)
        totals += PAYOFF[2 * first + second], PAYOFF[2 * second + first]
        state = 1 + 2 * first + second
    return totals


def dilemma_by_game(task):
    chances = (1 / (1 + np.exp(-task.players))).tolist()
    payoff, swapped = PAYOFF.tolist(), SWAPPED.tolist()
    totals = []
    for game in range(CHECKED):
        state, own, other = 0, 0.0, 0.0
        for one, two in task.uniform[:, :, game].tolist():
            first = int(one >= chances[0][state])
            second = int(two >= chances[1][swapped[state]])
            own += payoff[2 * first + second]
            other += payoff[2 * second + first]
            state = 1 + 2 * first + second
        totals.append((own, other))
    return np.array(totals).T


def one_of(free, uniform):
    """One of the free cells (5, n), each as likely."""
    order = free.cumsum(0)
    return free & (order == (uniform * order[-1].astype(np.float32)).astype(int) + 1)


def cleanup_at_once(task, look):
    row, column, frozen = task.row.copy(), task.column.copy(), task.frozen.copy()
    dirt, apple = task.dirt.copy(), task.apple.copy()
    totals = np.zeros((4, row.shape[1]), np.float32)
    games = np.arange(row.shape[1])
    for appears, where_dirt, grows, where_apple, aim, coin, *choices in task.uniform:
        dirt |= one_of(~dirt, where_dirt) & (appears < POLLUTION)
        grown = grows < 1 - np.minimum(1, dirt.sum(0).astype(np.float32) / CHOKED)
        apple |= one_of(~apple, where_apple) & grown
        action = (np.stack(choices) * 6).astype(int)
        free = frozen == 0
        row = np.clip(row + free * ((action == DOWN).astype(int) - (action == UP)), 0, 4)
        column = np.clip(column + free * ((action == RIGHT).astype(int) - (action == LEFT)), 0, 3)
        eats = free & (column == 0) & apple[row, games]
        cleans = free & (column == 3) & dirt[row, games]
        fed, both = eats.copy(), eats.all(0) & (row[0] == row[1])
        fed[0] &= ~both | (coin < 0.5)
        fed[1] &= ~both | (coin >= 0.5)
        for player in (0, 1):
            apple[row[player], games] &= ~eats[player]
            dirt[row[player], games] &= ~cleans[player]
        near = abs(row[0] - row[1]) + abs(column[0] - column[1]) <= REACH
        hit = ((action == ZAP) & free & near & (aim < HIT))[::-1] & free
        frozen = np.where(hit, FROZEN, np.maximum(frozen - 1, 0))
        totals += fed.sum(0), cleans.sum(0), hit.sum(0), dirt.sum(0)
        if look:
            observe(row, column, frozen, dirt, apple)
    return totals


def observe(row, column, frozen, dirt, apple):
    """What both see: two one-hot cells, three one-hot things in each cell, two flags."""
    players = (4 * row + column)[..., None] == np.arange(20)
    n = row.shape[1]
    grid = np.zeros((n, 3, 5, 4), np.float32)
    grid[:, 0, :, 0], grid[:, 1, :, 3] = apple.T, dirt.T
    grid[:, 2] = 1 - grid[:, 0] - grid[:, 1]
    grid, flags = grid.reshape(n, 60), (frozen > 0).T
    return tuple(
        np.concatenate(
            [players[i], players[1 - i], grid, flags[:, [i, 1 - i]]], 1, dtype=np.float32
        )
        for i in (0, 1)
    )


def cleanup_by_game(task):
    totals = []
    for game in range(CHECKED):
        row, column, frozen = (x[:, game].tolist() for x in (task.row, task.column, task.frozen))
        dirt, apple = task.dirt[:, game].tolist(), task.apple[:, game].tolist()
        apples = cleaned = zapped = patches = 0
        numbers = task.uniform[:, :, game].tolist()
        for appears, where_dirt, grows, where_apple, aim, _, *choices in numbers:
            clean = [r for r in range(5) if not dirt[r]]
            if clean and appears < POLLUTION:
                dirt[clean[int(where_dirt * len(clean))]] = True
            bare = [r for r in range(5) if not apple[r]]
            if bare and grows < 1 - min(1, sum(dirt) / CHOKED):
                apple[bare[int(where_apple * len(bare))]] = True
            actions = [int(6 * choice) for choice in choices]
            free = [not wait for wait in frozen]
            for i in (0, 1):
                if free[i]:
                    row[i] = min(max(row[i] + (actions[i] == DOWN) - (actions[i] == UP), 0), 4)
                    step = (actions[i] == RIGHT) - (actions[i] == LEFT)
                    column[i] = min(max(column[i] + step, 0), 3)
            eats = {row[i] for i in (0, 1) if free[i] and column[i] == 0 and apple[row[i]]}
            apples += len(eats)  # one apple feeds one player
            cleans = [row[i] for i in (0, 1) if free[i] and column[i] == 3 and dirt[row[i]]]
            cleaned += len(cleans)
            for r in eats:
                apple[r] = False
            for r in cleans:
                dirt[r] = False
            near = abs(row[0] - row[1]) + abs(column[0] - column[1]) <= REACH
            hit = [
                actions[1 - i] == ZAP and free[1 - i] and free[i] and near and aim < HIT
                for i in (0, 1)
            ]
            frozen = [FROZEN if hit[i] else max(frozen[i] - 1, 0) for i in (0, 1)]
            zapped += sum(hit)
            patches += sum(dirt)
        totals.append((apples, cleaned, zapped, patches))
    return np.array(totals).T


task = Task()
game, way = sys.argv[2:]
play = {
    ("dilemma", "numpy"): lambda: dilemma_at_once(task),
    ("dilemma", "python"): lambda: dilemma_by_game(task),
    ("cleanup", "numpy"): lambda: cleanup_at_once(task, False),
    ("seen", "numpy"): lambda: cleanup_at_once(task, True),
    ("cleanup", "python"): lambda: cleanup_by_game(task),
}[game, way]
meter = Meter("numpy")
while meter.again(lambda: digest(play())):
    play()
