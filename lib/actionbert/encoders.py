"""Fixed encoders of the laboratory of ActionBert in place of BERT and ResNet, and one that learns.

The paper (arXiv 2012.12350v2, section 3.1) embeds the text of a component by BERT and its picture
by ResNet-50, both pre-trained. Here words are hashed, and pictures become histograms of oriented
gradients: both are the same everywhere and cost nothing to train.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Integer, PRNGKeyArray, UInt8

TEXT = 64  # numbers of a sentence embedding, and its squared length
ORIENTATIONS = 4
SPELLING = 0.35  # weight of each trigram of characters, in a word whose own vector has weight 1


def word_vectors(
    words: Sequence[str], topics: Sequence[str] = (), *, related: float = 1.0
) -> Float32[np.ndarray, "words 64"]:
    """A vector for each word: its own, and those of its trigrams of letters and of its topic.

    All are normal numbers whose seeds are checksums, so that words look alike if they are spelled
    alike or have the same of `topics` (one for each word, "" for none; `related` is their weight).

    Raises ValueError if there are not as many topics as words.
    """
    if topics and len(topics) != len(words):
        raise ValueError(
            f"topics has {len(topics)} entries: give one for each of {len(words)} words"
        )
    vectors = np.zeros((len(words), TEXT))
    for i, word in enumerate(words):
        spelled = f"^{word}$"
        parts = [("word", word, 1.0)]
        parts += [("letters", spelled[j : j + 3], SPELLING) for j in range(len(word))]
        if topics and topics[i]:
            parts.append(("topic", topics[i], related))
        for kind, text, weight in parts:
            seed = zlib.crc32(f"{kind}:{text}".encode())
            vectors[i] += weight * np.random.default_rng(seed).standard_normal(TEXT)
    return vectors.astype(np.float32)


def sentences(
    vectors: Float32[np.ndarray, "words d"], numbers: Integer[np.ndarray, "*batch length"]
) -> Float32[np.ndarray, "*batch d"]:
    """Embed sentences of numbered words: the sum of their vectors, scaled to squared length d.

    With that length 0.01 times the squared error of section 3.2 weighs what it does with BERT's 768
    numbers, each of size 1. Word 0 adds nothing; a sentence without words is 0.
    """
    total = np.zeros((*numbers.shape[:-1], vectors.shape[1]), np.float32)
    for j in range(numbers.shape[-1]):
        total += vectors[numbers[..., j]]
    length = np.sqrt(np.square(total).sum(-1, keepdims=True))
    return total * (np.float32(vectors.shape[1] ** 0.5) / np.maximum(length, 1e-6))


def hog(
    crops: UInt8[Array | np.ndarray, "k size size"], *, cells: int = 4
) -> Float32[Array, "k features"]:
    """Describe square pictures by histograms of oriented gradients, after Dalal and Triggs (2005).

    In each of cells x cells squares: the length of gradients in 4 orientations, and the mean grey;
    square roots of all, scaled to mean 0 and deviation 1 in each picture. 5 cells^2 numbers.
    """
    x = jnp.asarray(crops).astype(jnp.float32)  # whole numbers: angles of 45 degrees are exact
    k, size, _ = x.shape
    dx = jnp.pad(x[:, :, 2:] - x[:, :, :-2], ((0, 0), (0, 0), (1, 1)))
    dy = jnp.pad(x[:, 2:] - x[:, :-2], ((0, 0), (1, 1), (0, 0)))
    length = jnp.sqrt(dx * dx + dy * dy)
    up = jnp.where(dy < 0, -1.0, jnp.where((dy == 0) & (dx < 0), -1.0, 1.0))
    dx, dy = dx * up, dy * up  # a gradient and its opposite count alike
    eighth = jnp.where(dx > 0, jnp.where(dy < dx, 0, 1), jnp.where(dy > -dx, 2, 3))

    def pooled(image):
        part = size // cells
        return image.reshape(k, cells, part, cells, part).sum((2, 4)).reshape(k, cells * cells)

    found = [pooled(jnp.where(eighth == o, length, 0.0)) for o in range(ORIENTATIONS)]
    found = jnp.sqrt(jnp.concatenate([*found, pooled(x) / (size // cells) ** 2], 1) / 255)
    found = found - found.mean(1, keepdims=True)
    return found / (found.std(1, keepdims=True) + 1e-3)


class PatchEncoder(eqx.Module):
    """A small vision encoder that learns: two layers over patches, then over their outputs.

    Convolutions whose windows do not overlap, as products of matrices.
    """

    patches: Float[Array | np.ndarray, "pixels hidden"]
    joined: Float[Array | np.ndarray, "all features"]
    size: int = eqx.field(static=True)
    patch: int = eqx.field(static=True)

    def __call__(self, pixels: Float[Array, "*batch pixels"]) -> Float[Array, "*batch features"]:
        """Pixels 0..1 of square pictures, row by row."""
        across = self.size // self.patch
        x = pixels.reshape(-1, across, self.patch, across, self.patch) - 0.5
        x = jnp.swapaxes(x, 2, 3).reshape(-1, across * across, self.patch * self.patch)
        hidden = jax.nn.gelu(x @ self.patches)
        found = hidden.reshape(len(x), -1) @ self.joined
        return found.reshape(*pixels.shape[:-1], -1)


def patch_encoder(
    key: PRNGKeyArray, *, size: int = 16, patch: int = 4, hidden: int = 32, features: int = 80
) -> PatchEncoder:
    """A vision encoder for pictures of size x size pixels, with He's initial weights.

    Raises ValueError if patches do not fill the picture.
    """
    if size % patch:
        raise ValueError(f"patch={patch} must divide the size={size} of pictures")
    inside, count = patch * patch, (size // patch) ** 2
    rows = (inside * hidden, count * hidden * features)
    drawn = np.asarray(jax.random.normal(key, (sum(rows),)))
    first = 2 * (2 / inside) ** 0.5 * drawn[: rows[0]].reshape(inside, hidden)
    last = (2 / (count * hidden)) ** 0.5 * drawn[rows[0] :].reshape(count * hidden, features)
    return PatchEncoder(first.astype(np.float32), last.astype(np.float32), size, patch)
