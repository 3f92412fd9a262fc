"""The iterated prisoner's dilemma, played one step after the other by many pairs at once.

App. B.1 of Meulemans et al. (2024), arXiv 2410.18636v2. Actions: 0 cooperates, 1 defects. What a
step of two players comes to is a number, 2 a_1 + a_2: CC, CD, DC, DD. What they see next is that
number plus one; 0 is the start of an inner episode. Each player sees its own action first.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

STATES = ("s0", "CC", "CD", "DC", "DD")
PAYOFF = np.float32([1, -1, 2, 0])  # of the player whose action comes first
SWAPPED = np.int32([0, 1, 3, 2, 4])  # a state as the other player sees it: CD and DC change places

State = Integer[Array, " n"]


class Outcome(NamedTuple):
    """What a step of a game comes to."""

    state: State
    rewards: Float[Array, "2 n"]


@dataclasses.dataclass(frozen=True)
class Game:
    """The rules, in the form in which `lib.cooperation.shaping` plays a game of two."""

    actions: int = 2
    symbols: int = 5  # what a player sees is one of so many symbols
    width: int = 0  # of what a player sees, if it sees a vector
    draws: int = 0  # uniform numbers that chance needs in each step

    def reset(self, key: PRNGKeyArray, n: int) -> State:
        """All pairs at the start of an inner episode."""
        return jnp.zeros(n, jnp.int32)

    def observe(self, state: State) -> tuple[State, State]:
        """What the first and the second player see."""
        return state, swapped(state)

    def step(
        self,
        state: State,
        first: Integer[Array, " n"],
        second: Integer[Array, " n"],
        uniform: Float[Array, "0 n"],
    ) -> Outcome:
        """Both act; the next state is what they did."""
        joint = 2 * first + second
        payoff = jnp.asarray(PAYOFF)
        return Outcome(joint + 1, jnp.stack([payoff[joint], payoff[swapped(joint + 1) - 1]]))


def swapped(state: Integer[Array, "*n"]) -> Integer[Array, "*n"]:
    """States as the other player sees them."""
    return jnp.asarray(SWAPPED)[state]
