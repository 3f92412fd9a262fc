"""Training of ActionBert: AdamW on batches whose order does not depend on interruptions.

The paper (arXiv 2012.12350v2, section 4.2) trains with Adam at a rate of 1e-5 and batches of 128
for three days on 16 TPUs. At laptop scale small batches and a large rate leave the plateau of LCP
sooner: 32 pairs at 2e-3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Integer, PRNGKeyArray, PyTree

AXIS = "pairs"  # of a mesh over which batches are spread
ADAM = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(b1=0.9, b2=0.98, eps=1e-7),
)
DECAY = 0.01  # of weights
Loss = Callable[..., tuple[Float[Array, ""], Any]]  # (model, data, examples, key) -> loss, metrics


class Plan(NamedTuple):
    """How long and how fast: the rate rises linearly, then falls along a cosine to `last` of it."""

    steps: int
    rate: float = 2e-3
    batch: int = 32
    warm_up: int = 100
    last: float = 0.05


class State(NamedTuple):
    """All that training needs to go on."""

    model: PyTree
    memory: PyTree  # the optimiser's, of all weights in one row
    done: int  # steps


class History(NamedTuple):
    """What the loss function told at each step, and where training ended."""

    metrics: Any  # as the loss function gives them, steps first
    state: State


def start(model: PyTree) -> State:
    """A model before its first step."""
    zeros = np.zeros(sum(np.size(x) for x in jax.tree.leaves(model)), np.float32)
    adam = optax.ScaleByAdamState(np.zeros((), np.int32), zeros, zeros)
    return State(model, (optax.EmptyState(), adam), 0)


def train(
    state: State,
    loss: Loss,
    data: PyTree,
    examples: PyTree,
    plan: Plan,
    *,
    key: PRNGKeyArray,
    until: int | None = None,
    mesh: Mesh | None = None,
    progress: Any = None,
) -> History:
    """Take steps until `until` of the plan's are done, all by default.

    `examples` is a tree of arrays with as many rows as there are examples; batches of rows are
    drawn without replacement, pass by pass, in an order that `key` decides. `data` comes to the
    loss function as it is. `loss` must be one function that stays: see `objectives.objective`.

    With a mesh (axis AXIS) each device takes its share of the batch; the result is the same but for
    rounding. `progress` is a tqdm bar or None.

    Raises ValueError if `until` is not ahead or beyond the plan, if there are no examples, or if
    the batch cannot be shared out.
    """
    until = plan.steps if until is None else until
    if not state.done < until <= plan.steps:
        raise ValueError(
            f"until={until} must lie after the {state.done} steps done and within the "
            f"steps={plan.steps} of the plan"
        )
    examples = jax.tree.map(np.asarray, examples)
    count = len(jax.tree.leaves(examples)[0])
    if count < 1 or plan.batch < 1:
        raise ValueError(
            f"examples has {count} rows, batch={plan.batch}: wanted at least 1 of both"
        )
    if mesh is not None and plan.batch % mesh.size:
        raise ValueError(f"batch={plan.batch} must be a multiple of the {mesh.size} devices")
    model, memory = state.model, state.memory
    shared = None
    if mesh is not None:
        everywhere = NamedSharding(mesh, PartitionSpec())
        shared = NamedSharding(mesh, PartitionSpec(AXIS))
        model, memory, data = jax.device_put((model, memory, data), everywhere)
    seed, told = int(jax.random.bits(key)), []
    rates = learning_rates(plan)
    for step in range(state.done, until):
        rows = _rows(seed, count, step * plan.batch, plan.batch)
        batch = jax.tree.map(lambda x, rows=rows: x[rows], examples)
        if shared is not None:
            batch = jax.device_put(batch, shared)
        model, memory, metrics = _step(
            model, memory, data, batch, key, np.int32(step), rates[step], loss=loss
        )
        told.append(metrics)
        if progress is not None:
            progress.update(1)
    told = jax.tree.map(lambda *each: np.asarray(each, np.float32), *jax.device_get(told))
    return History(told, State(model, memory, until))


def learning_rates(plan: Plan) -> Float[np.ndarray, " steps"]:
    """The rate of each step of a plan."""
    step = np.arange(plan.steps)
    warm_up = max(min(plan.warm_up, plan.steps // 5), 1)
    falling = np.clip((step - warm_up) / max(plan.steps - warm_up, 1), 0, 1)
    cosine = plan.last + (1 - plan.last) * (1 + np.cos(np.pi * falling)) / 2
    return np.float32(plan.rate) * np.minimum((step + 1) / warm_up, cosine).astype(np.float32)


def in_batches(
    function: Callable[..., Any], rows: int, *, batch: int = 256
) -> Integer[np.ndarray, "rows ..."] | Float[np.ndarray, "rows ..."]:
    """`function(numbers)` for 0 .. rows - 1, asked for `batch` numbers at a time."""
    found = []
    for begin in range(0, rows, batch):
        numbers = np.minimum(np.arange(begin, begin + batch), rows - 1)
        found.append(np.asarray(function(numbers))[: rows - begin])
    return np.concatenate(found)


@partial(jax.jit, static_argnames="loss")
def _step(model, memory, data, batch, key, step, rate, *, loss):
    own = jax.random.fold_in(key, step)
    slopes = jax.value_and_grad(loss, has_aux=True)
    (_, metrics), slope = slopes(model, data, jax.tree.map(jnp.asarray, batch), own)
    # as one vector: a program for each of many small arrays would take seconds to compile
    weights, as_model = ravel_pytree(model)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
        change, memory = ADAM.update(ravel_pytree(slope)[0], memory)
    return as_model(weights - rate * (change + DECAY * weights)), memory, metrics


def _rows(seed, count, begin, length):
    """Numbers begin .. begin + length - 1 of an endless row of shuffled passes."""
    at = np.arange(begin, begin + length)
    return np.array([_order(seed, int(i // count), count)[i % count] for i in at])


@lru_cache(4)
def _order(seed, turn, count):
    return np.random.default_rng([seed, turn]).permutation(count)
