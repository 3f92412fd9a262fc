"""Policies for games played step by step: a table of the last step, and the recurrent Hawk block.

A policy is a pytree with four functions. `start(n)` is the memory of n players before they have
seen anything, `prepare()` what can be computed once for many steps, `act` plays one step with
uniform random numbers from outside, `judge` goes through whole games afterwards and says what the
policy, as it is now, thinks of the actions in them. Players come last in all arrays but memories.

The network is that of App. B.3 of Meulemans et al. (2024), arXiv 2410.18636v2, without the short
convolution before the recurrence: De et al. (2024), arXiv 2402.19427, Section 2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, PRNGKeyArray, Shaped

Seen = Shaped[Array, "n ..."]  # symbols (n,), or vectors (n, width)
Memory = Float[Array, "n memory"]
SHARPNESS = 8.0  # c of the RG-LRU
SMALL = 1e-6


class Move(NamedTuple):
    """One step of n players."""

    memory: Memory
    action: Integer[Array, " n"]
    log_prob: Float[Array, " n"]  # of that action
    value: Float[Array, " n"]  # what they expect to earn from here on


class Judgement(NamedTuple):
    """What a policy thinks of whole games."""

    log_prob: Float[Array, "L n"]  # of the actions that were taken
    value: Float[Array, "L n"]


class Tabular(eqx.Module):
    """Two actions, chosen by what was seen last; the policy remembers nothing."""

    logits: Float[Array, " symbols"]  # of action 0
    values: Float[Array, " symbols"]

    def start(self, n: int) -> Memory:
        """No memory."""
        return jnp.zeros((n, 0), self.logits.dtype)

    def prepare(self) -> Float[Array, "symbols 4"]:
        """Probability of action 0, log probabilities of both, value: a row for each symbol."""
        logits = self.logits
        both = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return jnp.stack([jax.nn.sigmoid(logits), *both, self.values], 1)

    def act(
        self,
        table: Float[Array, "symbols 4"],
        memory: Memory,
        seen: Integer[Array, " n"],
        uniform: Float[Array, " n"],
    ) -> Move:
        """Draw actions with one uniform number each."""
        action = (uniform >= table[seen, 0]).astype(jnp.int32)
        return Move(memory, action, table[seen, 1 + action], table[seen, 3])

    def judge(self, seen: Integer[Array, "L n"], action: Integer[Array, "L n"]) -> Judgement:
        """Log probabilities and values in games of L steps."""
        table = self.prepare()
        return Judgement(table[seen, 1 + action], table[seen, 3])


class Gates(NamedTuple):
    """What the recurrence needs to know of an input: h <- decay h + drive, out = gate h."""

    decay: Float[Array, "*n width"]
    drive: Float[Array, "*n width"]
    gate: Float[Array, "*n width"]
    stream: Float[Array, "*n width"]  # the residual stream before the block


class Hawk(eqx.Module):
    """One residual Hawk block between a linear embedding and two linear heads.

    Symbols are embedded as one-hot vectors would be; since its gates depend on nothing but the
    symbol, they are computed once for the alphabet and looked up in each step.
    """

    embed: Float[Array, "seen width"]
    branch: Float[Array, "width width"]  # into the recurrence
    gate: Float[Array, "width width"]
    forget: Float[Array, "heads part part"]
    forget_bias: Float[Array, " width"]
    admit: Float[Array, "heads part part"]
    admit_bias: Float[Array, " width"]
    decay: Float[Array, " width"]
    mix: Float[Array, "width width"]
    widen: Float[Array, "width twice_wide"]
    narrow: Float[Array, "wide width"]
    scales: Float[Array, "3 width"]  # of the three RMSNorms
    policy: Float[Array, "width actions"]
    policy_bias: Float[Array, " actions"]
    value: Float[Array, " width"]
    value_bias: Float[Array, ""]

    def start(self, n: int) -> Memory:
        """The recurrent state before anything was seen."""
        return jnp.zeros((n, len(self.decay)), self.embed.dtype)

    def prepare(self) -> Gates:
        """The gates of each symbol, as if seen alone; unused for vectors."""
        return self._gates(self.embed)

    def act(self, table: Gates, memory: Memory, seen: Seen, uniform: Float[Array, " n"]) -> Move:
        """Take in what is seen, then draw actions with one uniform number each."""
        gates = self._look_up(table, seen)
        memory = gates.decay * memory + gates.drive
        logits, value = self._heads(memory, gates)
        below = jnp.cumsum(jax.nn.softmax(logits), -1)[:, :-1]
        action = (uniform[:, None] >= below).sum(1, dtype=jnp.int32)
        return Move(memory, action, _chosen(logits, action), value)

    def judge(self, seen: Shaped[Array, "L n ..."], action: Integer[Array, "L n"]) -> Judgement:
        """Log probabilities and values in games of L steps, from an empty memory on."""
        gates = self._look_up(self.prepare(), seen)

        def step(memory, now):
            memory = now[0] * memory + now[1]
            return memory, memory

        start = self.start(seen.shape[1])
        memory = lax.scan(step, start, (gates.decay, gates.drive))[1]
        logits, value = self._heads(memory, gates)
        return Judgement(_chosen(logits, action), value)

    def _look_up(self, table, seen):
        if jnp.issubdtype(seen.dtype, jnp.integer):
            return jax.tree.map(lambda rows: rows[seen], table)
        return self._gates(seen @ self.embed)

    def _gates(self, stream):
        x = self._norm(0, stream)
        u = x @ self.branch
        forget = jax.nn.sigmoid(_in_heads(u, self.forget) + _row(self.forget_bias, u))
        admit = jax.nn.sigmoid(_in_heads(u, self.admit) + _row(self.admit_bias, u))
        log_decay = -SHARPNESS * _row(jax.nn.softplus(self.decay), u) * forget
        drive = jnp.sqrt(-jnp.expm1(2 * log_decay)) * admit * u
        return Gates(jnp.exp(log_decay), drive, jax.nn.gelu(x @ self.gate), stream)

    def _heads(self, memory, gates):
        y = (memory * gates.gate) @ self.mix + gates.stream
        wide = self._norm(1, y) @ self.widen
        half = len(self.narrow)
        y = y + (jax.nn.gelu(wide[..., :half]) * wide[..., half:]) @ self.narrow
        z = self._norm(2, y)
        logits = z @ self.policy
        return logits + _row(self.policy_bias, logits), z @ self.value + self.value_bias

    def _norm(self, which, x):
        mean = jnp.square(x).mean(-1, keepdims=True)
        return x * lax.rsqrt(mean + SMALL) * _row(self.scales[which], x)


def tabular(key: PRNGKeyArray, *, symbols: int) -> Tabular:
    """A table that starts undecided and expects nothing; `key` has no part in it."""
    return Tabular(jnp.zeros(symbols), jnp.zeros(symbols))


def hawk(key: PRNGKeyArray, *, seen: int, actions: int, width: int, heads: int = 2) -> Hawk:
    """A Hawk block whose heads start at 0: all actions equally likely, nothing expected.

    `seen` is the size of the alphabet, or of the vectors, that it sees.

    Raises ValueError if `heads` does not divide `width`.
    """
    if width < 1 or heads < 1 or width % heads:
        raise ValueError(f"heads={heads} must divide width={width}: gates come in equal blocks")
    part = width // heads
    square, blocks = (width, width), (heads, part, part)
    shapes = [(seen, width), square, square, blocks, blocks, square, (width, 2 * width), square]
    decay_key, weight_key = jax.random.split(key)
    # all from one draw, which compiles much faster than many
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    drawn = jnp.split(jax.random.normal(weight_key, (int(ends[-1]),)), ends[:-1])
    embed, *weights = (x.reshape(shape) for x, shape in zip(drawn, shapes, strict=True))
    branch, gate, forget, admit, mix, widen, narrow = (
        weight / jnp.sqrt(weight.shape[-2]) for weight in weights
    )
    # decays between 0.9 and 0.999 where the forget gate is open
    slow = jax.random.uniform(decay_key, (width,), minval=0.9, maxval=0.999)
    return Hawk(
        embed=embed,
        branch=branch,
        gate=gate,
        forget=forget,
        forget_bias=jnp.zeros(width),
        admit=admit,
        admit_bias=jnp.zeros(width),
        decay=jnp.log(jnp.expm1(-jnp.log(slow) / SHARPNESS)),
        mix=mix,
        widen=widen,
        narrow=narrow,
        scales=jnp.ones((3, width)),
        policy=jnp.zeros((width, actions)),
        policy_bias=jnp.zeros(actions),
        value=jnp.zeros(width),
        value_bias=jnp.zeros(()),
    )


def _in_heads(x, weight):
    """x times a block-diagonal matrix."""
    heads, part, _ = weight.shape
    split = x.reshape(*x.shape[:-1], heads, part)
    return jnp.einsum("...hp,hpq->...hq", split, weight).reshape(x.shape)


def _chosen(logits, action):
    """Log probability of the actions."""
    picked = jnp.take_along_axis(logits, action[..., None], -1)[..., 0]
    return picked - jax.nn.logsumexp(logits, -1)


def _row(vector, like):
    """A vector along the last axis, with as many axes as `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
