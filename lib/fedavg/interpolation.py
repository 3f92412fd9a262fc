"""Walking from one network to another: Fig. 1 of McMahan et al. (2017), and what lies behind it."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped
from scipy.optimize import linear_sum_assignment

from lib.fedavg.networks import Dense, TwoNN, pixels


@jax.jit
def interpolate_loss(
    first: TwoNN,
    second: TwoNN,
    thetas: Float[Array | np.ndarray, " T"],
    x: Shaped[Array | np.ndarray, "n ..."],
    y: Integer[Array | np.ndarray, " n"],
) -> Float[Array, " T"]:
    """Cross-entropy of theta first + (1 - theta) second for each theta, on all examples.

    The first layer is linear in theta, so that its two products with the images are made once.
    """
    x = pixels(x).reshape(len(x), -1)
    products = first.layers[0](x), second.layers[0](x)
    label = jnp.asarray(y, jnp.int32)[:, None]

    def loss(theta):
        hidden = theta * products[0] + (1 - theta) * products[1]
        rest = jax.tree.map(
            lambda a, b: theta * a + (1 - theta) * b, first.layers[1:], second.layers[1:]
        )
        for layer in rest:
            hidden = layer(jax.nn.relu(hidden))
        return -jnp.take_along_axis(jax.nn.log_softmax(hidden), label, 1).mean()

    return jax.lax.map(loss, jnp.asarray(thetas))


def align_hidden_units(reference: TwoNN, model: TwoNN) -> TwoNN:
    """Permute the hidden units of `model` to resemble `reference`; its function stays the same.

    Weight matching of Ainsworth et al. (2023): one layer's units at a time are assigned by the
    Hungarian method, for the largest sum of products of weights, until nothing changes.
    """
    layers = list(model.layers)
    for _ in range(100):
        before = layers
        for i in range(len(layers) - 1):
            here, there = reference.layers[i], reference.layers[i + 1]
            likeness = (
                here.weight.T @ layers[i].weight
                + jnp.outer(here.bias, layers[i].bias)
                + there.weight @ layers[i + 1].weight.T
            )
            order = linear_sum_assignment(np.asarray(likeness), maximize=True)[1]
            layers = _permuted(layers, i, order)
        if all(map(_same, before, layers)):
            break
    return eqx.tree_at(lambda m: m.layers, model, tuple(layers))


def _permuted(layers: Sequence[Dense], i: int, order: Integer[np.ndarray, " units"]) -> list[Dense]:
    """The same network with the units of layer i in another order."""
    here, there = layers[i], layers[i + 1]
    here = eqx.tree_at(
        lambda d: (d.weight, d.bias), here, (here.weight[:, order], here.bias[order])
    )
    there = eqx.tree_at(lambda d: d.weight, there, there.weight[order])
    return [*layers[:i], here, there, *layers[i + 2 :]]


def _same(a: Dense, b: Dense) -> bool:
    return bool((a.weight == b.weight).all())
