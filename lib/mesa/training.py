"""Training of sequence models on fresh data: AdamW, as in von Oswald et al., arXiv 2309.05858v2.

Step t draws its sequences with the key `fold_in(key, t)`, so that a run does not depend on where it
is tested or interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Integer, Key, PRNGKeyArray, PyTree

Model = PyTree[Float[Array | np.ndarray, "..."]]
Generate = Callable[[PRNGKeyArray], Float[Array, "B T1 n"]]
Errors = Callable[[Any, Float[Array, "B T1 n"]], Float[Array, "B times n"]]
CHUNK = 512  # sequences that a model sees at a time when it is tested


class State(NamedTuple):
    """All that training needs to go on."""

    model: Model
    memory: PyTree  # the optimiser's
    done: int  # steps


class History(NamedTuple):
    """What `train` saw, and where it ended."""

    steps: Integer[np.ndarray, " tests"]
    mse: Float[np.ndarray, "tests *seeds"]  # on the test sequences, per dimension
    state: State


def next_states(model: Any, s: Float[Array, "B T1 n"]) -> Float[Array, "B T n"]:
    """f_t - s_{t+1} at all times."""
    return model(s[:, :-1]) - s[:, 1:]


def answers(model: Any, s: Float[Array, "B L n"]) -> Float[Array, "B pairs n"]:
    """f - y_i at the inputs x_i of few-shot sequences x_1, y_1, x_2, y_2, ..."""
    return model(s[:, :-1])[:, ::2] - s[:, 1::2]


def optimiser(lr: float | optax.Schedule, *, weight_decay: float) -> optax.GradientTransformation:
    """AdamW with the paper's settings; gradients are scaled down to a global norm of 1.

    `lr` may be a function of the step: `optax.warmup_cosine_decay_schedule` is the paper's.
    """
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lr, weight_decay=weight_decay))


def train(
    start: Model | State,
    generate: Generate,
    test: Float[Array | np.ndarray, "tests T1 n"],
    *,
    key: Key[Array, "*seeds"],
    at: Sequence[int],
    optimiser: optax.GradientTransformation,
    errors: Errors = next_states,
    learn: Callable[[Any], Any] = lambda model: model,
    progress: Any = None,
) -> History:
    """Minimise ``1/2 sum_t |error_t|^2``, averaged over sequences that are new at each step.

    `generate` draws a batch of sequences from a key. `at` are the steps after which the model is
    tested, the last of which ends the training. To go on, `start` is the state of an earlier
    history. `learn` picks the part of the model that is trained; the rest stays as it is.

    With a vector of keys, as many models train side by side, one for each seed: their arrays have
    the seeds first, as `jax.vmap` of a builder gives them. `progress` is a tqdm bar or None.

    Raises ValueError if `at` does not rise from the steps already done.
    """
    model, memory, done = start if isinstance(start, State) else (start, None, 0)
    at = [int(step) for step in at]
    if not at or list(at) != sorted(set(at)) or at[0] < done:
        raise ValueError(f"at={at} must be steps that rise, from {done} on: those are done")
    part = eqx.tree_at(learn, jax.tree.map(lambda _: False, model), replace_fn=lambda _: True)
    trained, frozen = eqx.partition(jax.tree.map(jnp.asarray, model), part)
    many = key.ndim == 1
    if memory is None:
        memory = (jax.vmap(optimiser.init) if many else optimiser.init)(trained)
    steps = {"generate": generate, "optimiser": optimiser, "errors": errors}
    scores = []
    for stop in at:
        trained, memory = _advance(trained, memory, frozen, key, done, stop, **steps)
        model = eqx.combine(trained, frozen)
        scores.append(mean_squared_error(model, test, errors=errors, seeds=many))
        if progress is not None:
            progress.update(stop - done)
            progress.set_postfix(mse=f"{np.mean(scores[-1]):.4f}")
        done = stop
    return History(np.array(at), np.array(scores), State(model, memory, done))


def mean_squared_error(
    model: Model,
    s: Float[Array | np.ndarray, "B T1 n"],
    *,
    errors: Errors = next_states,
    seeds: bool = False,
) -> Float[np.ndarray, "*seeds"]:
    """Mean squared error per dimension; with `seeds`, of each of several models side by side."""
    parts = [s[start : start + CHUNK] for start in range(0, len(s), CHUNK)]
    each = [len(part) * np.asarray(_mse(model, part, errors, seeds), np.float64) for part in parts]
    return np.asarray(sum(each) / len(s))


def predict(model: Model, s: Float[Array | np.ndarray, "B T n"]) -> Float[np.ndarray, "B T n"]:
    """What a model says, compiled, for as many sequences as you like."""
    parts = [s[start : start + CHUNK] for start in range(0, len(s), CHUNK)]
    return np.concatenate([np.asarray(_call(model, part)) for part in parts])


@jax.jit
def _call(model, s):
    return model(jnp.asarray(s))


@partial(jax.jit, static_argnames=("errors", "seeds"))
def _mse(model, s, errors, seeds):
    def one(model):
        return jnp.square(errors(model, s)).mean()

    return (jax.vmap(one) if seeds else one)(model)


@partial(jax.jit, static_argnames=("generate", "optimiser", "errors"))
def _advance(trained, memory, frozen, key, done, stop, *, generate, optimiser, errors):
    """Weights and the optimiser's memory after the steps done + 1 .. stop."""

    def advance(trained, memory, frozen, key):
        def loss(trained, s):
            wrong = errors(eqx.combine(trained, frozen), s)
            return jnp.square(wrong).sum() / (2 * len(s))

        def step(t, state):
            trained, memory = state
            slope = jax.grad(loss)(trained, generate(jax.random.fold_in(key, t)))
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
                change, memory = optimiser.update(slope, memory, trained)
            return optax.apply_updates(trained, change), memory

        return lax.fori_loop(done, stop, step, (trained, memory))

    return (jax.vmap(advance) if key.ndim else advance)(trained, memory, frozen, key)
