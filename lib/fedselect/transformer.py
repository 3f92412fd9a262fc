"""A small transformer that predicts the next word, to be cut by words and by neurons.

The shape of section 5.3 of Charles et al. (2022) in small: one layer, causal, layers normalised
first (pre-norm), without dropout. Input and output have weights of their own, not tied.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from lib.fedavg.networks import Dense


class MiniTransformer(eqx.Module):
    """Words in, the next word out; the word `vocab` is unknown and read as zeros."""

    embedding: Float[Array, "vocab embed"]
    enter: Dense
    position: Float[Array, "length width"]
    scales: Float[Array, "3 width"]  # of the three normalisations
    mixing: tuple[Dense, ...]  # queries, keys, values, and what comes of them
    feed: tuple[Dense, ...]  # the feed-forward network
    output: Dense
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        vocab: int,
        embed: int = 32,
        width: int = 128,
        neurons: int = 512,
        heads: int = 4,
        length: int = 20,
    ):
        if width % heads:
            raise ValueError(f"heads={heads} must divide width={width}")
        keys = iter(jax.random.split(key, 10))
        self.embedding = jax.random.normal(next(keys), (vocab, embed))
        self.enter = Dense(next(keys), embed, width)
        self.position = 0.1 * jax.random.normal(next(keys), (length, width))
        self.scales = jnp.ones((3, width))
        self.mixing = tuple(Dense(next(keys), width, width) for _ in range(4))
        self.feed = (Dense(next(keys), width, neurons), Dense(next(keys), neurons, width))
        self.output = Dense(next(keys), width, vocab)
        self.heads = heads

    def __call__(self, x: Integer[Array | np.ndarray, "b time"]) -> Float[Array, "b time vocab"]:
        """Scores of each word to come next, at each position; at most `length` positions."""
        x = jnp.asarray(x, jnp.int32)
        h = self.enter(self.embedding.at[x].get(mode="fill", fill_value=0))
        h = h + self.position[None, : x.shape[1]]
        h = h + self._attend(_normalised(h, self.scales[0]))
        into, out = self.feed
        h = h + out(jax.nn.relu(into(_normalised(h, self.scales[1]))))
        return self.output(_normalised(h, self.scales[2]))

    def _attend(self, h):
        b, time, width = h.shape
        queries, keys, values, mixed = self.mixing
        split = (b, time, self.heads, width // self.heads)
        q, k, v = (layer(h).reshape(split) for layer in (queries, keys, values))
        h = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return mixed(h.reshape(b, time, width))


def _normalised(h, scale):
    """Layer normalisation without an offset."""
    h = h - h.mean(-1, keepdims=True)
    h = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6)
    return h * scale[None, None]
