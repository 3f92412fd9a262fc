"""What a trained network computes: linear probes of its activations, and products of its weights.

As in von Oswald et al., arXiv 2309.05858v2. A head with matrices W_q, W_k, W_v, P
acts through two products only: W_k' W_q, by which the token of time i meets that of time t, and
P W_v, which says what it adds. Tokens consist of blocks, each as long as a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Blocks = Sequence[tuple[int, int]]  # (row, column) of blocks
# Proposition 1 for tokens (0, s_t, s_t, s_{t-1}): s_{i-1} meets s_t, and s_i adds to the first
KEY_QUERY: Blocks = ((3, 1), (3, 2))
OUTPUT_VALUE: Blocks = ((0, 1), (0, 2))


class Products(NamedTuple):
    """How the heads of a layer act on tokens of D numbers."""

    key_query: Float[Array, "heads D D"]  # W_k' W_q: rows are the key token's
    output_value: Float[Array, "heads D D"]  # P W_v


def mse_by_position(
    f: Float[Array | np.ndarray, "B T n"],
    target: Float[Array | np.ndarray, "B T n"],
    *,
    clip: float | None = None,
) -> Float[Array, " T"]:
    """Mean squared error per dimension at each time; of predictions clipped to [-clip, clip]."""
    f = jnp.asarray(f, jnp.float32)
    return jnp.square((f if clip is None else jnp.clip(f, -clip, clip)) - target).mean((0, 2))


def few_shot_error(
    f: Float[Array | np.ndarray, "B T n"], s: Float[Array | np.ndarray, "B L n"]
) -> Float[Array, " pairs"]:
    """The error at each pair of a few-shot sequence: what f says at x_i, compared with y_i.

    Fig. 8. `f` comes from the inputs s[:, :-1] of the sequences `s` = x_1, y_1, x_2, y_2, ...

    Raises ValueError if `f` is not one shorter than `s`.
    """
    if f.shape[1] != s.shape[1] - 1:
        raise ValueError(
            f"f has {f.shape[1]} times and s has {s.shape[1]}: give predictions from s[:, :-1]"
        )
    return mse_by_position(f[:, ::2], s[:, 1::2])


def probe(
    features: Float[Array | np.ndarray, "B d"],
    targets: Float[Array | np.ndarray, "B *m"],
    *,
    train: int,
    penalty: float = 1e-6,
    winsor: float = 0.0,
) -> Float[np.ndarray, "*m"]:
    """How well a linear map of activations says the targets: 0 is perfectly, 1 is not at all.

    Ridge regression with an intercept on the first `train` sequences; squared error on the others,
    divided by the target's variance there. Each target is probed for itself. `penalty` is the
    ridge's, for standardised features and per example. `winsor` cuts that share of each target off
    at both ends, to its quantiles on the training part: preconditioned inputs have heavy tails.

    Raises ValueError unless both parts have two sequences at least and 0 <= `winsor` < 0.5.
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if not 2 <= train <= len(x) - 2:
        raise ValueError(f"train={train} must leave two of the {len(x)} sequences at least to test")
    if not 0 <= winsor < 0.5:
        raise ValueError(f"winsor={winsor} must be a share below a half, 0 for none")
    y = y.reshape(len(y), -1)
    y = np.clip(y, *np.quantile(y[:train], [winsor, 1 - winsor], axis=0)) if winsor else y
    centre, spread = x[:train].mean(0), x[:train].std(0)
    x = (x - centre) / np.where(spread > 0, spread, 1)
    gram = x[:train].T @ x[:train] + penalty * train * np.eye(x.shape[1])
    middle = y[:train].mean(0)
    slope = np.linalg.solve(gram, x[:train].T @ (y[:train] - middle))
    wrong = np.square(y[train:] - middle - x[train:] @ slope).mean(0)
    return (wrong / y[train:].var(0)).reshape(np.shape(targets)[1:])


def probe_past(
    features: Float[Array | np.ndarray, "B d"],
    s: Float[Array | np.ndarray, "B T n"],
    *,
    train: int,
) -> Float[np.ndarray, " T"]:
    """Which tokens the activations of one time hold: the error for each s_t', Fig. 2A.

    Raises ValueError as `probe` does.
    """
    return probe(features, s, train=train).mean(-1)


def products(
    w_q: Float[Array, "heads key D"],
    w_k: Float[Array, "heads key D"],
    w_v: Float[Array, "heads value D"],
    p: Float[Array, "heads D value"],
) -> Products:
    """W_k' W_q and P W_v of each head: all that linear self-attention depends on."""
    return Products(w_k.mT @ w_q, p @ w_v)


def compress(matrices: Float[Array, "*heads D D"], block: int) -> Float[Array, "*heads D D"]:
    """Each block becomes the mean of its diagonal times I: CompressedAlg, one number a block.

    `block` is n_s. Raises ValueError if it does not divide D.
    """
    means = diagonal_means(matrices, block)
    return jnp.kron(means, jnp.eye(block, dtype=matrices.dtype))


def diagonal_means(matrices: Float[Array, "*heads D D"], block: int) -> Float[Array, "*heads b b"]:
    """The mean of the diagonal of each block of `block` by `block`.

    Raises ValueError if `block` does not divide D.
    """
    return jnp.diagonal(_blocks(matrices, block), axis1=-2, axis2=-1).mean(-1)


def interpolate(a: Products, b: Products, share: float = 0.5) -> Products:
    """(1 - share) a + share b, of products and not of the single matrices, as in the paper.

    Raises ValueError if `share` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} must lie between 0, all a, and 1, all b")
    return Products(*((1 - share) * x + share * y for x, y in zip(a, b, strict=True)))


def diagonal_share(matrices: Float[Array, "heads D D"], block: int, places: Blocks) -> float:
    """How much of the squared norm lies on the diagonals of the blocks at these places.

    Fig. 13: for `key_query`, the places of Proposition 1 are `KEY_QUERY`, for `output_value` they
    are `OUTPUT_VALUE`.

    Raises ValueError if `block` does not divide D.
    """
    squares = jnp.square(jnp.diagonal(_blocks(matrices, block), axis1=-2, axis2=-1)).sum(-1)
    return float(sum(squares[:, row, column].sum() for row, column in places)) / float(
        jnp.square(matrices).sum()
    )


def effective_step(layer: Products, block: int) -> float:
    """The step size eta that the weights hold: what multiplies s_i (s_{i-1} . s_t), all heads.

    For constructed tokens. Raises ValueError if `block` does not divide D.
    """
    meets, adds = (diagonal_means(matrices, block) for matrices in layer)
    meets = sum(meets[:, row, column] for row, column in KEY_QUERY)
    adds = sum(adds[:, row, column] for row, column in OUTPUT_VALUE)
    return float((meets * adds).sum())


def _blocks(matrices, block):
    """(..., row block, column block, row, column)."""
    *heads, d, _ = matrices.shape
    if block < 1 or d % block:
        raise ValueError(f"block={block} must divide the tokens' D = {d}: it is a state's length")
    split = jnp.reshape(matrices, (*heads, d // block, block, d // block, block))
    return jnp.swapaxes(split, -3, -2)
