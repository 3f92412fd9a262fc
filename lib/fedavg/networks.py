"""The five networks of McMahan et al. (2017), and how they are scored.

Every array of a network is trained; examples come first. Weights start as N(0, 1 / inputs) and
biases at zero, since the paper does not say how they start.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, PRNGKeyArray, Shaped

CHUNK = 500  # examples that are scored at a time


class TwoNN(eqx.Module):
    """The 2NN: two hidden layers of 200 ReLU units; 199,210 weights for MNIST (section 3)."""

    layers: tuple[Dense, ...]

    def __init__(
        self, key: PRNGKeyArray, *, inputs: int = 784, hidden: int = 200, classes: int = 10
    ):
        sizes = (inputs, hidden, hidden, classes)
        keys = jax.random.split(key, 3)
        self.layers = tuple(map(Dense, keys, sizes[:-1], sizes[1:]))

    def __call__(self, x: Shaped[Array | np.ndarray, "b ..."]) -> Float[Array, "b classes"]:
        """Scores of the classes for images of any shape, bytes or floats."""
        first, second, last = self.layers
        x = pixels(x).reshape(len(x), -1)
        return last(jax.nn.relu(second(jax.nn.relu(first(x)))))


class MnistCNN(eqx.Module):
    """Two 5x5 convolutions (32, 64) with 2x2 pooling and a layer of 512: 1,663,370 weights.

    Section 3. That a ReLU follows each convolution is assumed.
    """

    convolutions: tuple[Conv, ...]
    layers: tuple[Dense, ...]

    def __init__(self, key: PRNGKeyArray, *, side: int = 28, classes: int = 10):
        keys = jax.random.split(key, 4)
        self.convolutions = (Conv(keys[0], 1, 32), Conv(keys[1], 32, 64))
        flat = (side // 4) ** 2 * 64
        self.layers = (Dense(keys[2], flat, 512), Dense(keys[3], 512, classes))

    def __call__(self, x: Shaped[Array | np.ndarray, "b side side"]) -> Float[Array, "b classes"]:
        """Scores of the classes."""
        return self._scores(x, Conv.__call__)

    def outside_loops(
        self, x: Shaped[Array | np.ndarray, "b side side"]
    ) -> Float[Array, "b classes"]:
        """The same scores, by XLA's own convolution."""
        return self._scores(x, Conv.outside_loops)

    def _scores(self, x, convolve):
        x = pixels(x)[..., None]
        for layer in self.convolutions:
            x = _halve(jax.nn.relu(convolve(layer, x)))
        hidden, last = self.layers
        return last(jax.nn.relu(hidden(x.reshape(len(x), -1))))


class CifarCNN(eqx.Module):
    """TensorFlow's tutorial network for 24x24 colour crops: 1,068,298 weights, "about 10^6".

    Two 5x5 convolutions of 64 with 3x3 pooling and local response normalisation, layers of 384
    and 192 (section 3).
    """

    convolutions: tuple[Conv, ...]
    layers: tuple[Dense, ...]

    def __init__(self, key: PRNGKeyArray):
        keys = jax.random.split(key, 5)
        self.convolutions = (Conv(keys[0], 3, 64), Conv(keys[1], 64, 64))
        sizes = (6 * 6 * 64, 384, 192, 10)
        self.layers = tuple(map(Dense, keys[2:], sizes[:-1], sizes[1:]))

    def __call__(self, x: Shaped[Array | np.ndarray, "b 24 24 3"]) -> Float[Array, "b 10"]:
        """Scores of the ten kinds of object."""
        return self._scores(x, Conv.__call__)

    def outside_loops(self, x: Shaped[Array | np.ndarray, "b 24 24 3"]) -> Float[Array, "b 10"]:
        """The same scores, by XLA's own convolution."""
        return self._scores(x, Conv.outside_loops)

    def _scores(self, x, convolve):
        first, second = self.convolutions
        x = _response_norm(_pool3(jax.nn.relu(convolve(first, pixels(x)))))
        x = _pool3(_response_norm(jax.nn.relu(convolve(second, x))))
        x = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


class CharLSTM(eqx.Module):
    """Characters in, the next character out: 866,578 weights as in the paper (section 3).

    That count needs 258 symbols and peephole connections, which is our inference.
    """

    embedding: Float[Array, "vocab embed"]
    cells: tuple[LSTM, ...]
    output: Dense

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        vocab: int = 258,
        embed: int = 8,
        hidden: int = 256,
        layers: int = 2,
        peephole: bool = True,
    ):
        keys = jax.random.split(key, layers + 2)
        self.embedding = jax.random.normal(keys[0], (vocab, embed))
        sizes = (embed, *[hidden] * layers)
        self.cells = tuple(
            LSTM(k, i, o, peephole)
            for k, i, o in zip(keys[1:], sizes[:-1], sizes[1:], strict=False)
        )
        self.output = Dense(keys[-1], hidden, vocab)

    def __call__(self, x: Integer[Array | np.ndarray, "b time"]) -> Float[Array, "b time vocab"]:
        """Scores of each symbol to come next, at each position."""
        h = self.embedding[x]
        for cell in self.cells:
            h = cell(h)
        return self.output(h)


class WordLSTM(eqx.Module):
    """Words in, the next word out: 4,950,544 weights as in the paper (section 3, Fig. 5).

    That count needs a full output layer of 256 x 10,000, which is our inference.
    """

    embedding: Float[Array, "vocab embed"]
    cell: LSTM
    output: Dense

    def __init__(
        self, key: PRNGKeyArray, *, vocab: int = 10_000, embed: int = 192, hidden: int = 256
    ):
        keys = jax.random.split(key, 3)
        self.embedding = jax.random.normal(keys[0], (vocab, embed))
        self.cell = LSTM(keys[1], embed, hidden, peephole=True)
        self.output = Dense(keys[2], hidden, vocab)

    def __call__(self, x: Integer[Array | np.ndarray, "b time"]) -> Float[Array, "b time vocab"]:
        """Scores of each word to come next, at each position."""
        return self.output(self.cell(self.embedding[x]))


def count_params(model: eqx.Module) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(model))


def cross_entropy(
    model: eqx.Module,
    x: Shaped[Array | np.ndarray, "b ..."],
    y: Integer[Array | np.ndarray, "b ..."],
    mask: Float[Array | np.ndarray, " b"],
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels of those examples whose mask is 1.

    For text, the mean is over characters; y = -1 marks none.
    """
    logp = jax.nn.log_softmax(model(x))
    label = jnp.asarray(y, jnp.int32)
    picked = jnp.take_along_axis(logp, jnp.maximum(label, 0)[..., None], -1)[..., 0]
    weight = mask.reshape(-1, *[1] * (label.ndim - 1)) * (label >= 0).astype(jnp.float32)
    return -(weight * picked).sum() / jnp.maximum(weight.sum(), 1)


def accuracy(
    model: eqx.Module,
    x: Shaped[Array | np.ndarray, "n ..."],
    y: Integer[Array | np.ndarray, "n ..."],
) -> Float[Array, ""]:
    """Share of the labels that get the highest score; y = -1 does not count."""
    parts = [slice(start, start + CHUNK) for start in range(0, len(x), CHUNK)]
    right, counted = zip(*(_right(model, x[part], y[part]) for part in parts), strict=True)
    return sum(right) / sum(counted)


@jax.jit
def _right(model, x, y):
    """How many labels get the highest score, and how many count."""
    scores = getattr(model, "outside_loops", model)(jnp.asarray(x))
    label = jnp.asarray(y, jnp.int32)
    hits = (scores.argmax(-1) == label).sum(dtype=jnp.float32)
    return hits, (label >= 0).sum(dtype=jnp.float32)


def pixels(x: Shaped[Array | np.ndarray, "b ..."]) -> Float[Array, "b ..."]:
    """Bytes 0..255 as floats 0..1; floats as they are."""
    x = jnp.asarray(x)
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


class Dense(eqx.Module):
    """x W + b."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int):
        self.weight = jax.random.normal(key, (inputs, outputs)) / np.float32(np.sqrt(inputs))
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        return x @ self.weight + jnp.expand_dims(self.bias, range(x.ndim - 1))


class Conv(Dense):
    """A 5x5 convolution that keeps the size of the image; its weight is (25 channels, outputs)."""

    def __init__(self, key: PRNGKeyArray, channels: int, outputs: int):
        super().__init__(key, 25 * channels, outputs)

    def __call__(self, x: Float[Array, "b h w channels"]) -> Float[Array, "b h w outputs"]:
        # Inside a compiled loop, and training is one, XLA:CPU runs a convolution 13 to 28 times
        # slower than outside. As one matrix product over 25 shifted copies it is as fast.
        if jax.default_backend() == "cpu":
            return super().__call__(_shifted(x))
        return self.outside_loops(x)

    def outside_loops(self, x: Float[Array, "b h w channels"]) -> Float[Array, "b h w outputs"]:
        """The same by XLA's own convolution, faster where no loop is compiled around it."""
        kernel = self.weight.reshape(5, 5, x.shape[-1], -1)
        layout = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
        return y + self.bias[None, None, None]


class LSTM(eqx.Module):
    """A layer of long short-term memory cells, with or without peepholes; states start at zero.

    Hochreiter and Schmidhuber (1997); peepholes: Gers and Schmidhuber (2000).
    """

    input: Dense  # gates in the order input, forget, candidate, output
    recurrent: Float[Array, "hidden gates"]
    peephole: Float[Array, "3 hidden"] | None

    def __init__(self, key: PRNGKeyArray, inputs: int, hidden: int, peephole: bool):
        keys = jax.random.split(key)
        self.input = Dense(keys[0], inputs, 4 * hidden)
        self.recurrent = jax.random.normal(keys[1], (hidden, 4 * hidden)) / np.float32(
            np.sqrt(hidden)
        )
        self.peephole = jnp.zeros((3, hidden)) if peephole else None

    def __call__(self, x: Float[Array, "b time inputs"]) -> Float[Array, "b time hidden"]:
        hidden = len(self.recurrent)
        looks = jnp.zeros((3, 1, hidden)) if self.peephole is None else self.peephole[:, None]
        driven = jnp.moveaxis(self.input(x), 1, 0)  # one product for all times

        def step(state, drive):
            h, c = state
            i, f, g, o = jnp.split(drive + h @ self.recurrent, 4, -1)
            i, f = jax.nn.sigmoid(i + looks[0] * c), jax.nn.sigmoid(f + looks[1] * c)
            c = f * c + i * jnp.tanh(g)
            h = jax.nn.sigmoid(o + looks[2] * c) * jnp.tanh(c)
            return (h, c), h

        rest = jnp.zeros((len(x), hidden))
        return jnp.moveaxis(lax.scan(step, (rest, rest), driven)[1], 0, 1)


def _shifted(x: Float[Array, "b h w c"]) -> Float[Array, "b h w patch"]:
    """The 5x5 neighbourhood of each pixel, zero outside the image, as its channels."""
    h, w = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return jnp.concatenate([wide[:, i : i + h, j : j + w] for i in range(5) for j in range(5)], -1)


def _halve(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Largest of each 2x2 block."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def _pool3(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Largest of each 3x3 block, every second pixel."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


def _response_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Local response normalisation over nine channels, with the tutorial's constants."""
    wide = jnp.pad(x * x, ((0, 0),) * 3 + ((4, 4),))
    near = sum(wide[..., i : i + x.shape[-1]] for i in range(9))
    return x / (1 + 0.001 / 9 * near) ** 0.75
