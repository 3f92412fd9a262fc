"""Transformers that predict the next state, of linear, softmax and mesa self-attention.

As in von Oswald et al., arXiv 2309.05858v2. A model takes states s, (B, T, n), and gives f of the
same shape: f_t predicts s_{t+1}. A layer takes tokens e, (B, T, D), and gives what it adds to each.
No matrix has a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from lib.mesa.layer import einsum, linear_attention, mesa, softmax_attention
from lib.mesa.probes import KEY_QUERY, OUTPUT_VALUE, Products, products
from lib.mesa.systems import constructed_tokens

Tokens = Float[Array, "B T D"]
States = Float[Array, "B T n"]
Heads = Float[Array, "N T key"]  # N = B * heads, the heads of an example side by side
SMALL = 0.0002**0.5  # standard deviation of initial weights on constructed tokens, Table 1


class ConstructedTransformer(eqx.Module):
    """Layers on the tokens (0, s_t, s_t, s_{t-1}): the prediction is what replaces the 0.

    After each layer all numbers are clipped to [-clip, clip]: early in training, and for rare
    sequences always, sums over time are huge.
    """

    layers: tuple[Attention, ...]
    clip: float | None = eqx.field(static=True, default=4.0)

    def __call__(self, s: States) -> States:
        return self.activations(s)[-1][..., : s.shape[-1]]

    def activations(self, s: States) -> tuple[Tokens, ...]:
        """The tokens before the first layer and after each."""
        return _residual_stream(self.layers, constructed_tokens(s), self.clip)


class Transformer(eqx.Module):
    """Layers on the states themselves, embedded by a matrix and read out by another."""

    embedding: Float[Array, "D n"]
    layers: tuple[Attention | Block, ...]
    readout: Float[Array, "n D"]
    clip: float | None = eqx.field(static=True, default=None)

    def __call__(self, s: States) -> States:
        return einsum("btd,nd->btn", self.activations(s)[-1], self.readout)

    def activations(self, s: States) -> tuple[Tokens, ...]:
        """The embedded states before the first layer and after each."""
        e = einsum("btn,dn->btd", s, self.embedding)
        return _residual_stream(self.layers, e, self.clip)


class Prompted(eqx.Module):
    """A model for few-shot sequences x_1, y_1, x_2, y_2, ... that is told where pairs end.

    It reads P_1 .. P_m, x_1, y_1, EOS, x_2, y_2, EOS, ...; predictions are for the tokens of s
    only. `train(..., learn=lambda m: m.eos)` tunes the vector EOS, `m.prefix` the tokens P; the
    model inside stays as it is (section 1.8 and Fig. 8).
    """

    model: Callable[[States], States]
    eos: Float[Array, " n"] | None = None
    prefix: Float[Array, "P n"] | None = None

    def __call__(self, s: States) -> States:
        batch, steps, n = s.shape
        times = np.arange(steps)
        if self.eos is not None:
            longer = jnp.broadcast_to(self.eos, (batch, steps + (steps - 1) // 2, n))
            times = times + times // 2
            s = longer.at[:, times].set(s)
        if self.prefix is not None:
            before = jnp.broadcast_to(self.prefix, (batch, *self.prefix.shape))
            times = times + len(self.prefix)
            s = jnp.concatenate([before, s], 1)
        return self.model(s)[:, times]


def constructed(
    key: PRNGKeyArray,
    kinds: Sequence[str],
    *,
    n: int = 10,
    heads: int = 4,
    key_size: int = 20,
    std: float = SMALL,
    clip: float | None = 4.0,
) -> ConstructedTransformer:
    """A model for constructed tokens, of layers like ["linear"] * 6: Table 1. Weights N(0, std^2).

    The paper has 2 heads where there is one layer.

    Raises ValueError for a kind that is not in KINDS.
    """
    sizes = {"width": 4 * n, "heads": heads, "key_size": key_size, "std": std}
    keys = jax.random.split(key, len(kinds))
    layers = [attention(k, kind, **sizes) for k, kind in zip(keys, kinds, strict=True)]
    return ConstructedTransformer(tuple(layers), clip)


def transformer(
    key: PRNGKeyArray,
    kinds: Sequence[str],
    *,
    n: int = 10,
    width: int = 40,
    heads: int = 4,
    key_size: int = 20,
    std: float = 0.05,
    mlp: bool = False,
    clip: float | None = None,
) -> Transformer:
    """A model for the states themselves, of layers like ["softmax", "mesa"]: Tables 2 and 3.

    Its first layer knows positions. With `mlp`, layers are those of GPT-2: see `Block`. Weights
    start as N(0, std^2).

    Raises ValueError for a kind that is not in KINDS and for an odd `width`.
    """
    first, last, *keys = jax.random.split(key, 2 + len(kinds))
    sizes = {"width": width, "heads": heads, "key_size": key_size, "std": std}
    build = block if mlp else attention
    layers = [
        build(k, kind, **sizes, positions=not depth)
        for depth, (k, kind) in enumerate(zip(keys, kinds, strict=True))
    ]
    embedding, readout = _normal(first, std, (width, n)), _normal(last, std, (n, width))
    return Transformer(embedding, tuple(layers), readout, clip)


def gradient_descent(
    n: int, eta: float, alphas: Sequence[float] = (), *, clip: float | None = 4.0
) -> ConstructedTransformer:
    """The network with constructed weights whose prediction is a step of gradient descent.

    Proposition 1: one layer, f_t = eta sum_{i<t} s_{i+1} (s_i . s_t). With `alphas`, Proposition 2:
    a layer for each of them first replaces a copy x of s_t by x - alpha S S' x, so that
    f_t = eta sum_{i<t} s_{i+1} (s_i . x). These are Richardson's iterations, whose residual x is.
    """
    meets = _placed(n, {KEY_QUERY[0]: 1.0})
    steps = [_placed(n, {(1, 3): -alpha}) for alpha in alphas]
    steps.append(_placed(n, {OUTPUT_VALUE[1]: eta}))
    return from_products([Products(meets, adds) for adds in steps], clip=clip)


def layer_products(model: ConstructedTransformer) -> list[Products]:
    """W_k' W_q and P W_v of each head, layer by layer."""
    return [products(layer.w_q, layer.w_k, layer.w_v, layer.p) for layer in model.layers]


def from_products(
    layers: Sequence[Products], *, clip: float | None = 4.0
) -> ConstructedTransformer:
    """The linear self-attention that acts by these products: compressed ones, or interpolated.

    Its keys are as long as tokens. `from_products(layer_products(model))` does what `model` does.
    """

    def layer(key_query, output_value):
        eye = jnp.broadcast_to(jnp.eye(key_query.shape[-1]), key_query.shape)
        return LinearAttention(w_q=key_query, w_k=eye, w_v=output_value, p=eye)

    return ConstructedTransformer(tuple(layer(*one) for one in layers), clip)


def attention_maps(
    model: ConstructedTransformer | Transformer, s: States
) -> list[Float[Array, "B heads T T"]]:
    """For each layer, the weight that the query of time t, a row, gives to the value of time i."""
    before = model.activations(s)[:-1]
    return [layer.weights(e) for layer, e in zip(model.layers, before, strict=True)]


# Layers ------------------------------------------------------------------------------------------


class Attention(eqx.Module):
    """Causal self-attention, sum_h P_h o_h: how a head mixes values is up to the subclass."""

    w_q: Float[Array, "heads key D"]
    w_k: Float[Array, "heads key D"]
    w_v: Float[Array, "heads key D"]
    p: Float[Array, "heads D key"]
    positions: Positions | None = None

    def __call__(self, e: Tokens) -> Tokens:
        o = self.mix(*self._project(e))
        o = o.reshape(len(e), -1, *o.shape[1:])
        return einsum("bhtk,hdk->btd", o, self.p)

    def weights(self, e: Tokens) -> Float[Array, "B heads T T"]:
        """What each value is multiplied by at each time, a row: the output if values are units."""
        q, k, _ = self._project(e)
        units = jnp.broadcast_to(jnp.eye(e.shape[1]), (len(q), e.shape[1], e.shape[1]))
        return self.mix(q, k, units).reshape(len(e), -1, *units.shape[1:])

    def mix(self, q: Heads, k: Heads, v: Float[Array, "N T dv"]) -> Float[Array, "N T dv"]:
        raise NotImplementedError

    def _project(self, e):
        q, k, v = (einsum("btd,hkd->bhtk", e, w) for w in (self.w_q, self.w_k, self.w_v))
        if self.positions is not None:
            to_q, to_k = self.positions(e.shape[1])
            q, k = q + to_q[None], k + to_k[None]
        return (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))


class LinearAttention(Attention):
    """o_t = sum_{i<=t} v_i (k_i . q_t)."""

    def mix(self, q: Heads, k: Heads, v: Float[Array, "N T dv"]) -> Float[Array, "N T dv"]:
        return linear_attention(q, k, v)


class SoftmaxAttention(Attention):
    """o_t = sum_{i<=t} v_i softmax_i(k_i . q_t / sqrt(key))."""

    def mix(self, q: Heads, k: Heads, v: Float[Array, "N T dv"]) -> Float[Array, "N T dv"]:
        return softmax_attention(q, k, v)


class MesaAttention(Attention):
    """o_t = Phi_t q_t, the ridge regression of values on keys so far: see `layer.mesa`."""

    log_lam: Float[Array, " heads"] = eqx.field(kw_only=True)

    def mix(self, q: Heads, k: Heads, v: Float[Array, "N T dv"]) -> Float[Array, "N T dv"]:
        lam = jnp.tile(jnp.exp(self.log_lam), len(q) // len(self.log_lam))
        return mesa(q, k, v, lam)


KINDS = {"linear": LinearAttention, "softmax": SoftmaxAttention, "mesa": MesaAttention}


class Positions(eqx.Module):
    """What a position adds to queries and keys: W PE_t, PE the sines of Vaswani et al. (2017).

    The paper's supplement concatenates PE_t to queries and keys instead. That adds the same number
    to all scores of a distance, in all heads, and no head can look at the time before.
    """

    to_q: Float[Array, "heads key D"]
    to_k: Float[Array, "heads key D"]

    def __call__(self, steps: int) -> Float[Array, "2 heads T key"]:
        half = self.to_q.shape[-1] // 2
        angles = np.arange(steps)[:, None] / 1e4 ** (np.arange(half) / half)
        waves = jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], 1), jnp.float32)
        return einsum("td,xhkd->xhtk", waves, jnp.stack([self.to_q, self.to_k]))


class Block(eqx.Module):
    """A layer of GPT-2: e + SA(LN e), then e + W_2 GELU(W_1 LN e), four times as wide inside."""

    attention: Attention
    norms: Float[Array, "2 2 D"]  # scale and offset, before the attention and after
    w_1: Float[Array, "hidden D"]
    w_2: Float[Array, "D hidden"]

    def __call__(self, e: Tokens) -> Tokens:
        looked = self.attention(_normalised(e, self.norms[0]))
        hidden = einsum("btd,hd->bth", _normalised(e + looked, self.norms[1]), self.w_1)
        return looked + einsum("bth,dh->btd", jax.nn.gelu(hidden), self.w_2)

    def weights(self, e: Tokens) -> Float[Array, "B heads T T"]:
        """The weights of its attention."""
        return self.attention.weights(_normalised(e, self.norms[0]))


def attention(
    key: PRNGKeyArray,
    kind: str,
    *,
    width: int,
    heads: int,
    key_size: int,
    std: float,
    positions: bool = False,
) -> Attention:
    """One layer with weights N(0, std^2); lambda of mesa heads starts at 1.

    Raises ValueError for a kind that is not in KINDS, and for an odd `width` with `positions`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known: use one of {', '.join(KINDS)}")
    if positions and width % 2:
        raise ValueError(f"width={width} must be even: half of the encoding is sines, half cosines")
    q, k, v, p, at_q, at_k = jax.random.split(key, 6)
    shape = (heads, key_size, width)
    known = Positions(_normal(at_q, std, shape), _normal(at_k, std, shape)) if positions else None
    return KINDS[kind](
        *(_normal(one, std, shape) for one in (q, k, v)),
        _normal(p, std, (heads, width, key_size)),
        known,
        **({"log_lam": jnp.zeros(heads)} if kind == "mesa" else {}),
    )


def block(key: PRNGKeyArray, kind: str, *, width: int, std: float, **sizes) -> Block:
    """One layer of GPT-2; the other arguments are those of `attention`."""
    looks, first, second = jax.random.split(key, 3)
    return Block(
        attention(looks, kind, width=width, std=std, **sizes),
        jnp.tile(jnp.array([[1.0], [0.0]]), (2, 1, width)),
        _normal(first, std, (4 * width, width)),
        _normal(second, std, (width, 4 * width)),
    )


def _residual_stream(layers, e, clip):
    stream = [e]
    for layer in layers:
        e = e + layer(e)
        e = e if clip is None else lax.clamp(-clip, e, clip)
        stream.append(e)
    return tuple(stream)


def _placed(n, blocks):
    """One head's matrix of 4 by 4 blocks, these of them multiples of the identity."""
    small = np.zeros((1, 4, 4), np.float32)
    for place, number in blocks.items():
        small[0][place] = number
    return jnp.kron(small, jnp.eye(n))


def _normalised(e, norm):
    """Layer normalisation."""
    e = e - e.mean(-1, keepdims=True)
    e = e * lax.rsqrt((e * e).mean(-1, keepdims=True) + np.float32(1e-5))
    return e * norm[0, None, None] + norm[1, None, None]


def _normal(key, std, shape):
    return np.float32(std) * jax.random.normal(key, shape)
