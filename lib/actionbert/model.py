"""ActionBert's encoder of pairs of user interfaces: He et al. (2021), arXiv 2012.12350v2, Fig. 5.

Every component is two tokens, one for its text and one for its picture. A pair of screens is

    [CLS] A's texts [SEP] B's texts [SEP] A's pictures [SEP] B's pictures [END]

and each token is the sum of four embeddings, of text, picture, position and segment, each a linear
layer and a layer normalisation (section 3.1). A Transformer lets all tokens see all others.

A screen alone is [CLS] A's texts [SEP] A's pictures [END]: B's tokens and the separators before
them are left out, which is the same as a B without components.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from lib.actionbert.encoders import TEXT, PatchEncoder
from lib.actionbert.screens import WHOLE, Apps

CLS, SEP, IMG, END, MASK = range(5)  # special tokens, in the space of texts
A_TEXT, B_TEXT, A_VISION, B_VISION = range(4)  # segments; padding needs none, it is masked
POSITION = 9
Matrix = Float[Array | np.ndarray, "inputs outputs"]
Vector = Float[Array | np.ndarray, " outputs"]


class View(NamedTuple):
    """What a model sees of b screens of n components each; b may be left out."""

    text: Float[Array | np.ndarray, "*b n 64"]
    vision: Float[Array | np.ndarray, "*b n features"]
    position: Float[Array | np.ndarray, "*b n 9"]
    present: Bool[Array | np.ndarray, "*b n"]
    screenshot: Float[Array | np.ndarray, "*b features"]

    def take(self, screens: Integer[Array | np.ndarray, " k"]) -> View:
        """Some of the screens, by number."""
        return View(*(array[screens] for array in self))


class Encoded(NamedTuple):
    """What an encoder makes of b screens A, or pairs (A, B): text half first, picture half last."""

    cls: Float[Array, "b d"]
    a: Float[Array, "b n 2*d"]
    b: Float[Array, "b m 2*d"] | None = None
    attention: tuple[Float[Array, "b heads L L"], ...] = ()  # of each layer, rows look at columns
    cls_b: Float[Array, "b d"] | None = None  # of `Bag` only


def views(apps: Apps, *, text: bool = True, vision: bool = True, pixels: bool = False) -> View:
    """What a model sees of all screens of some apps; its arrays on the device.

    Without `text` or `vision` these are zeros. With `pixels`, vision is the pictures themselves,
    0..1, for a model with a `PatchEncoder`.
    """
    seen, whole = apps.vision, apps.screenshot
    if pixels:
        seen = apps.crops.reshape(*apps.present.shape, -1).astype(np.float32) / 255
        area = apps.position[..., 8:]
        whole = (seen * area).sum(1) / area.sum(1)
    arrays = (
        apps.text if text else np.zeros_like(apps.text),
        seen if vision else np.zeros_like(seen),
        apps.position,
        apps.present,
        whole if vision else np.zeros_like(whole),
    )
    return View(*(jnp.asarray(array) for array in arrays))


class UniStream(eqx.Module):
    """ActionBert's encoder. Layers normalise their input, not their output as in BERT."""

    embeddings: tuple[Linear, Linear, Linear]  # of text, vision, position
    norms: tuple[Norm, Norm, Norm, Norm]  # of text, vision, position, segment
    segments: Float[Array | np.ndarray, "4 d"]
    special: Float[Array | np.ndarray, "5 64"]
    layers: tuple[Layer, ...]
    last: Norm
    patches: PatchEncoder | None

    def __call__(
        self,
        a: View,
        b: View | None = None,
        *,
        mask_a: Bool[Array, "batch n"] | None = None,
        mask_b: Bool[Array, "batch m"] | None = None,
        attention: bool = False,
    ) -> Encoded:
        """Encode screens, or pairs of screens; the texts where a mask is true become [MASK]."""
        x, seen, places = self._tokens([a] if b is None else [a, b], [mask_a, mask_b])
        maps = []
        for layer in self.layers:
            x, weights = layer(x, seen)
            maps.append(weights)
        x = self.last(x)
        pairs = [
            jnp.concatenate([x[:, text], x[:, vision]], -1)
            for text, vision in zip(places[::2], places[1::2], strict=True)
        ]
        return Encoded(
            x[:, 0], pairs[0], pairs[1] if b is not None else None, tuple(maps) * attention
        )

    def _tokens(self, screens, masks):
        """Embedded tokens, which of them there are, and where texts and pictures lie."""
        as_text, as_vision, as_place = self.embeddings
        norm_text, norm_vision, norm_place, norm_segment = self.norms
        segment = norm_segment(self.segments)
        special = norm_text(as_text(self.special))
        whole = norm_place(as_place(jnp.array(WHOLE)[None]))[0]
        texts, pictures, wholes = [], [], []
        for i, (screen, mask) in enumerate(zip(screens, masks[: len(screens)], strict=True)):
            vision, screenshot = screen.vision, screen.screenshot
            if self.patches is not None:
                vision, screenshot = self.patches(vision), self.patches(screenshot)
            words = norm_text(as_text(screen.text))
            if mask is not None:
                words = jnp.where(mask[..., None], special[MASK][None, None], words)
            place = norm_place(as_place(screen.position))
            wholes.append(norm_vision(as_vision(screenshot))[:, None])
            texts.append(words + wholes[i] + place + segment[A_TEXT + i][None, None])
            picture = norm_vision(as_vision(vision)) + place
            pictures.append(picture + (special[IMG] + segment[A_VISION + i])[None, None])

        def token(which, number, screen):
            return wholes[screen] + (special[which] + whole + segment[number])[None, None]

        present = [screen.present for screen in screens]
        always = jnp.ones_like(present[0][:, :1])
        there = present[-1].any(1, keepdims=True)  # separators before B go where B goes
        start, end = token(CLS, A_TEXT, 0), token(END, B_VISION, 0)
        if len(screens) == 1:
            parts = [start, texts[0], token(SEP, A_TEXT, 0), pictures[0], end]
            seen = [always, present[0], always, present[0], always]
        else:
            parts = [
                start, texts[0], token(SEP, A_TEXT, 0), texts[1], token(SEP, B_TEXT, 1),
                pictures[0], token(SEP, A_VISION, 0), pictures[1], end,
            ]  # fmt: skip
            seen = [
                always, present[0], always, present[1], there,
                present[0], there, present[1], always,
            ]  # fmt: skip
        ends = np.cumsum([0, *(part.shape[1] for part in parts)])
        order = [1, 3] if len(screens) == 1 else [1, 5, 3, 7]
        places = [slice(int(ends[i]), int(ends[i + 1])) for i in order]
        return jnp.concatenate(parts, 1), jnp.concatenate(seen, 1), places


class Bag(eqx.Module):
    """The paper's baseline "ResNet+BERT": components side by side, none sees another (section 5).

    A component is its embedded text and its embedded picture, a screen the mean of an MLP of those.
    """

    embeddings: tuple[Linear, Linear]
    norms: tuple[Norm, Norm]
    whole: Perceptron

    def __call__(self, a: View, b: View | None = None) -> Encoded:
        parts = [part for screen in ((a,) if b is None else (a, b)) for part in self._one(screen)]
        components, cls = parts[::2], parts[1::2]
        return Encoded(
            cls[0], components[0], *((components[1], (), cls[1]) if b is not None else ())
        )

    def _one(self, screen):
        texts, pictures = (
            norm(embed(x))
            for embed, norm, x in zip(
                self.embeddings, self.norms, (screen.text, screen.vision), strict=True
            )
        )
        components = jnp.concatenate([texts, pictures], -1)
        there = screen.present[..., None]
        total = jnp.where(there, self.whole(components), 0).sum(1)
        return components, total / jnp.maximum(there.sum(1), 1).astype(total.dtype)


def uni_stream(
    key: PRNGKeyArray,
    *,
    vision: int = 80,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    patches: PatchEncoder | None = None,
) -> UniStream:
    """An encoder with Glorot's initial weights (section 4.2). BASE has 6 layers, LARGE 12, both
    width 768; `vision` is how many numbers describe a picture.

    Raises ValueError if `heads` do not divide `width`, or `layers` < 1.
    """
    if layers < 1 or heads < 1 or width % heads:
        raise ValueError(
            f"layers={layers}, heads={heads} and width={width}: wanted at least one layer, and "
            "heads that divide the width"
        )
    shapes = [(TEXT, width), (vision, width), (POSITION, width)]
    each = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    *drawn, segments, special = _normal(key, [*shapes, *each * layers, (4, width), (5, TEXT)])
    linear = [_linear(w) for w in drawn]
    stack = tuple(
        Layer(
            *linear[i : i + 2],
            Perceptron(*linear[i + 2 : i + 4]),
            _norm(width),
            _norm(width),
            heads,
        )
        for i in range(3, len(linear), 4)
    )
    norms = tuple(_norm(width) for _ in range(4))
    return UniStream(tuple(linear[:3]), norms, segments, special, stack, _norm(width), patches)


def bag(key: PRNGKeyArray, *, vision: int = 80, width: int = 64) -> Bag:
    """A baseline with Glorot's initial weights."""
    shapes = [(TEXT, width), (vision, width), (2 * width, 2 * width), (2 * width, width)]
    text, picture, first, second = (_linear(w) for w in _normal(key, shapes))
    return Bag((text, picture), (_norm(width), _norm(width)), Perceptron(first, second))


def perceptron(key: PRNGKeyArray, inputs: int, hidden: int, outputs: int) -> Perceptron:
    """Two linear layers, GELU between them, with Glorot's initial weights."""
    return Perceptron(*map(_linear, _normal(key, [(inputs, hidden), (hidden, outputs)])))


# Layers ------------------------------------------------------------------------------------------


class Linear(eqx.Module):
    """x W + b"""

    weight: Matrix
    bias: Vector

    def __call__(self, x: Float[Array | np.ndarray, "*b inputs"]) -> Float[Array, "*b outputs"]:
        return x @ self.weight + self._bias(x.ndim)

    def _bias(self, dimensions):
        return jnp.asarray(self.bias).reshape((1,) * (dimensions - 1) + (-1,))


class Norm(eqx.Module):
    """Layer normalisation."""

    scale: Vector
    shift: Vector

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        x = x - x.mean(-1, keepdims=True)
        x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)


class Perceptron(eqx.Module):
    """Two linear layers, GELU between them."""

    first: Linear
    second: Linear

    def __call__(self, x: Float[Array, "*b inputs"]) -> Float[Array, "*b outputs"]:
        return self.second(jax.nn.gelu(self.first(x)))


class Layer(eqx.Module):
    """x + SA(LN x), then y + MLP(LN y); every token sees all that are there."""

    to_qkv: Linear
    output: Linear
    inside: Perceptron
    before: Norm
    between: Norm
    heads: int = eqx.field(static=True)

    def __call__(
        self, x: Float[Array, "b L d"], seen: Bool[Array, "b L"]
    ) -> tuple[Float[Array, "b L d"], Float[Array, "b heads L L"]]:
        # Rows of tokens, not batches of screens, and one head after the other: a processor spends
        # two thirds of the time on it that it takes for one large product over all heads.
        batch, length, width = x.shape
        rows = x.reshape(-1, width)
        inputs = self.to_qkv(self.before(rows)).reshape(batch, length, 3 * width)
        parts = jnp.split(inputs, 3 * self.heads, -1)
        unseen = jnp.where(seen, 0.0, -1e9)[:, None]
        scale = np.float32((width // self.heads) ** -0.5)
        mixed, maps = [], []
        for q, k, v in zip(*(parts[i * self.heads :][: self.heads] for i in range(3)), strict=True):
            scores = jnp.einsum("bid,bjd->bij", q * scale, k) + unseen
            shares = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
            total = shares.sum(-1, keepdims=True)
            mixed.append(jnp.einsum("bij,bjd->bid", shares, v) / total)
            maps.append(shares / total)
        rows = rows + self.output(jnp.concatenate(mixed, -1).reshape(rows.shape))
        rows = rows + self.inside(self.between(rows))
        return rows.reshape(x.shape), jnp.stack(maps, 1)


def _normal(key: PRNGKeyArray, shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Normal numbers, matrices of them scaled as Glorot's: variance 2 / (inputs + outputs).

    Segments and special tokens, whose rows are few, are left as they are.
    """
    sizes = [a * b for a, b in shapes]
    drawn = np.split(np.asarray(jax.random.normal(key, (sum(sizes),))), np.cumsum(sizes)[:-1])
    return [
        part.reshape(shape) * np.float32((2 / sum(shape)) ** 0.5 if shape[0] > 5 else 1)
        for part, shape in zip(drawn, shapes, strict=True)
    ]


def _linear(weight):
    return Linear(weight, np.zeros(weight.shape[1], np.float32))


def _norm(width):
    return Norm(np.ones(width, np.float32), np.zeros(width, np.float32))
