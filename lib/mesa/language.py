"""Small language models of bytes, whose attention is linear, a mesa-layer, or softmax.

Appendix G of von Oswald et al. (2024), arXiv 2309.05858v2, in small: bytes instead of word pieces,
windows of 128 instead of 1024. At each byte of a window a model says how likely each byte is to
come next. Losses are in nats per byte.

The paper divides queries and keys by their norm, and maps them to DPFP features for linear
attention and the mesa-layer. Softmax attention here takes them as they are: a softmax of cosines
would be nearly flat. Chosen here: sinusoids, added to the bytes and then learned, tell positions,
and how large weights are at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Integer, PRNGKeyArray, UInt8

from lib.mesa.layer import linear_attention, mesa, softmax_attention

Bytes = Integer[Array | np.ndarray, "b t"]
Text = UInt8[Array | np.ndarray, " n"]
Heads = Float[Array, "N t d"]  # one of the N is one head of one window
KINDS = ("linear", "mesa", "softmax")
SYMBOLS = 256
SIZE = 0.3  # of bytes and positions at the start
BLOCK = 50  # steps of training that are compiled as one
CHUNK = 64  # windows that are scored at a time
OPTIMISER = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(0.9, 0.95),
    optax.add_decayed_weights(0.1),
)


class ByteLM(eqx.Module):
    """Bytes in, scores of the next byte out: embedding, layers, output.

    One kind of attention for each layer. The paper has three families. (kind,) with `shift`: keys
    come one byte late, so that a single layer can look up what followed a byte before. ("softmax",
    kind): the first layer may learn to do that. ("softmax", kind, kind, kind) with `mlp`.
    """

    embedding: Float[Array, "256 width"]
    place: Float[Array, "length width"]
    layers: tuple[Layer, ...]
    output: Float[Array, "width 256"]

    def __init__(
        self,
        key: PRNGKeyArray,
        kinds: Sequence[str],
        *,
        shift: bool = False,
        mlp: bool = False,
        nu: int = 1,
        width: int = 64,
        heads: int = 4,
        length: int = 128,
    ):
        """A model that is not trained; `nu` as in `dpfp`.

        Raises ValueError for other kinds or none, if `heads` does not divide `width` into even
        parts, and if `nu` is too large for them.
        """
        if isinstance(kinds, str) or not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"kinds={kinds!r} must be a tuple with one of {KINDS} for each layer")
        if width % (2 * heads):
            raise ValueError(f"width={width} must be a multiple of 2 heads = {2 * heads}")
        _check_nu(nu, width // heads)
        keys = jax.random.split(key, 2 + len(kinds))
        self.embedding = SIZE * jax.random.normal(keys[0], (SYMBOLS, width))
        self.place = SIZE * _sinusoids(length, width)
        self.output = 0.02 * jax.random.normal(keys[1], (width, SYMBOLS))
        self.layers = tuple(
            Layer(k, kind, shift=shift, mlp=mlp, nu=nu, width=width, heads=heads, depth=len(kinds))
            for k, kind in zip(keys[2:], kinds, strict=True)
        )

    def __call__(self, x: Bytes) -> Float[Array, "b t 256"]:
        """Scores of each byte to come next, at each position.

        Raises ValueError for more bytes than the model has positions.
        """
        if x.shape[1] > len(self.place):
            raise ValueError(
                f"x has {x.shape[1]} bytes a window, the model reads {len(self.place)}"
            )
        h = self.embedding[jnp.asarray(x, jnp.int32)] + self.place[None, : x.shape[1]]
        for layer in self.layers:
            h = layer(h)
        return _normalised(h) @ self.output


class Layer(eqx.Module):
    """Attention, then perhaps a ReLU network four times as wide; both behind a normalisation."""

    project: Float[Array, "width qkv"]  # to queries, keys and values
    join: Float[Array, "width width"]
    log_lam: Float[Array, " heads"] | None  # of the mesa-layer, as in `lib.mesa.layer`
    mlp: tuple[Float[Array, "width hidden"], Float[Array, "hidden width"]] | None
    kind: str = eqx.field(static=True)
    shift: bool = eqx.field(static=True)
    nu: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        kind: str,
        *,
        shift: bool,
        mlp: bool,
        nu: int,
        width: int,
        heads: int,
        depth: int,
    ):
        self.kind, self.shift, self.nu, self.heads = kind, shift, nu, heads
        keys = jax.random.split(key, 4)
        small = (2 * depth) ** -0.5  # what is added to the stream, so that it does not grow
        self.project = _weights(keys[0], width, 3 * width)
        self.join = small * _weights(keys[1], width, width)
        self.log_lam = jnp.zeros(heads) if kind == "mesa" else None
        self.mlp = None
        if mlp:
            up, down = _weights(keys[2], width, 4 * width), _weights(keys[3], 4 * width, width)
            self.mlp = (up, small * down)

    def __call__(self, x: Float[Array, "b t width"]) -> Float[Array, "b t width"]:
        x = x + self._attend(_normalised(x)) @ self.join
        if self.mlp is None:
            return x
        up, down = self.mlp
        return x + jax.nn.relu(_normalised(x) @ up) @ down

    def _attend(self, x):
        b, t, width = x.shape
        split = (x @ self.project).reshape(b, t, 3, self.heads, width // self.heads)
        q, k, v = split.transpose(2, 0, 3, 1, 4).reshape(3, b * self.heads, t, -1)
        if self.shift:
            k = shift_keys(k)
        if self.kind == "softmax":
            o = softmax_attention(q, k, v)
        else:
            q, k = (dpfp(_unit(a), self.nu) for a in (q, k))
            if self.kind == "mesa":
                o = mesa(q, k, v, jnp.tile(jnp.exp(self.log_lam), b))
            else:
                o = linear_attention(q, k, v)
        return o.reshape(b, self.heads, t, -1).swapaxes(1, 2).reshape(b, t, width)


# Attention ---------------------------------------------------------------------------------------


def shift_keys(k: Heads) -> Heads:
    """Give each position the key of the one before; the first gets zeros.

    A query like an earlier key then finds the value of what came after it: an induction head in one
    layer, which otherwise takes two (appendix G).
    """
    return jnp.pad(k[:, :-1], ((0, 0), (1, 0), (0, 0)))


def dpfp(x: Float[Array | np.ndarray, "*batch d"], nu: int) -> Float[Array, "*batch features"]:
    """Deterministic parameter-free projection: 2 d nu products of what is positive in x and in -x.

    Schlag et al. (2021), arXiv 2102.11174, section 5.3: with r = ReLU([x, -x]), the products of
    r_i and r_{i+j} for each i and j = 1 .. `nu`, round the end. `nu` = 0 leaves x as it is.

    Raises ValueError unless 0 <= `nu` < 2 d: at 2 d each r_i would meet itself.
    """
    x = jnp.asarray(x)
    _check_nu(nu, x.shape[-1])
    if nu == 0:
        return x
    r = jax.nn.relu(jnp.concatenate([x, -x], -1))
    return jnp.concatenate([r * jnp.roll(r, -j, -1) for j in range(1, nu + 1)], -1)


# Training ----------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A model, and the loss of each step on the windows of that step."""

    model: ByteLM
    losses: Float[np.ndarray, " steps"]  # nats per byte


def train(
    key: PRNGKeyArray,
    model: ByteLM,
    text: Text,
    *,
    steps: int,
    batch: int = 32,
    rate: float = 1e-2,
) -> Trained:
    """Teach a model to predict the bytes of a text, in `batch` random windows a step.

    AdamW as in appendix G: beta (0.9, 0.95), weight decay 0.1, gradients cut to norm 1. The rate
    rises to `rate` in a tenth of the steps and falls to 0 as a cosine does.

    Raises ValueError if `steps` or `batch` < 1, and for a text shorter than a window.
    """
    if steps < 1 or batch < 1:
        raise ValueError(f"steps={steps} and batch={batch} must be at least 1")
    _check_text(text, len(model.place) + 1)
    starts = jax.random.randint(key, (steps, batch), 0, len(text) - len(model.place))
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, steps // 10), steps)
    rates = schedule(jnp.arange(1.0, steps + 1.0))
    text, state, losses = jnp.asarray(text), OPTIMISER.init(model), []
    for first in range(0, steps, BLOCK):
        part = slice(first, first + BLOCK)
        model, state, loss = _train(model, state, text, starts[part], rates[part])
        losses.append(loss)
    return Trained(model, np.concatenate(losses))


@jax.jit
def _train(model, state, text, starts, rates):
    """Some steps; that neither their number in all nor the rate is static saves compilations."""

    def step(carry, now):
        model, state = carry
        starts, rate = now
        windows = _cut(text, starts, len(model.place))
        loss, slope = jax.value_and_grad(lambda m: byte_losses(m, windows).mean())(model)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
            update, state = OPTIMISER.update(slope, state, model)
        return (jax.tree.map(lambda w, u: w - rate * u, model, update), state), loss

    (model, state), losses = lax.scan(step, (model, state), (starts, rates))
    return model, state, losses


# What a model has learned ------------------------------------------------------------------------


def byte_losses(model: ByteLM, windows: Bytes) -> Float[Array, "b predicted"]:
    """The loss at each byte but the first of each window, in nats, given those before it."""
    x = jnp.asarray(windows, jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(model(x[:, :-1]), x[:, 1:])


def text_losses(
    model: ByteLM, text: Text, *, windows: int = 1024
) -> Float[np.ndarray, "windows length"]:
    """Losses in `windows` parts of a text, evenly spread; their mean is a curve by position.

    At position 0 a byte is predicted from one byte, at position length - 1 from `length`.

    Raises ValueError if `windows` < 1 and for a text shorter than a window.
    """
    length = len(model.place)
    return _scored(model, text, _spread(text, length + 1, windows))


def in_context_scores(
    model: ByteLM, text: Text, *, windows: int = 1024, early: int = 8, band: int = 16
) -> Float[np.ndarray, " windows"]:
    """How much lower the loss is with much context than with little: late minus early, in nats.

    The in-context score of Olsson et al. (2022), arXiv 2209.11895: negative where context helps.
    They compare positions of the same windows. Here the same bytes, `band` of them for each of
    `windows`, are predicted twice: at the end of a window, and from position `early` of another.
    So a score differs from 0 by its context alone.

    Raises ValueError if the two bands overlap or there are none, if `windows` < 1, and for a text
    too short for both windows.
    """
    length = len(model.place)
    more = length - band - early  # bytes of context
    if early < 0 or band < 1 or more < band:
        raise ValueError(
            f"early={early} and band={band}: positions {early} to {early + band} must come before "
            f"the last {band} of {length}"
        )
    starts = _spread(text, length + more + 1, windows)
    late = _scored(model, text, starts)[:, length - band :]
    return (late - _scored(model, text, starts + more)[:, early : early + band]).mean(1)


def _scored(model, text, starts):
    """The losses in the windows that begin at `starts`."""
    parts = [starts[i : i + CHUNK] for i in range(0, len(starts), CHUNK)]
    text = jnp.asarray(text)
    return np.concatenate([_losses_at(model, text, part) for part in parts])


@jax.jit
def _losses_at(model, text, starts):
    return byte_losses(model, _cut(text, starts, len(model.place)))


def _cut(text, starts, length):
    """Windows of length + 1 bytes: all but the last are read, all but the first predicted."""
    return text[starts[:, None] + jnp.arange(length + 1, dtype=starts.dtype)[None]]


def _spread(text, span, windows):
    """Where windows begin that are spread evenly, from the first to the last `span` bytes."""
    _check_text(text, span)
    if windows < 1:
        raise ValueError(f"windows={windows} must be at least 1")
    return np.linspace(0, len(text) - span, windows).astype(np.int32)


def _check_text(text, least):
    if len(text) < least:
        raise ValueError(f"text has {len(text)} bytes: give it at least {least}")


def _check_nu(nu, d):
    if not 0 <= nu < 2 * d:
        raise ValueError(f"nu={nu} must be from 0, no feature map, to {2 * d - 1} for d={d}")


def _weights(key, inputs, outputs):
    return jax.random.normal(key, (inputs, outputs)) / np.float32(np.sqrt(inputs))


def _sinusoids(length, width):
    """Positions as angles, sines then cosines, from one radian a byte to one in `length` bytes."""
    speed = length ** -np.linspace(0, 1, width // 2, endpoint=False)
    angle = np.arange(length)[:, None] * speed
    return jnp.asarray(np.concatenate([np.sin(angle), np.cos(angle)], 1), jnp.float32)


def _normalised(x):
    """Layer normalisation without weights: a linear map comes next, which has them."""
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def _unit(x):
    """Vectors divided by their norm; zero stays zero."""
    return x * lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6)
