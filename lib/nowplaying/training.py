"""How both networks of Now Playing are trained: batch normalisation, Adam, steps that can resume.

Step t draws its examples with the key `fold_in(key, t)`, so that a run does not depend on where it
is interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int16, Integer, PRNGKeyArray, PyTree, Shaped

MOMENTUM = 0.9  # of the running statistics
EPSILON = 1e-3  # added to variances


class Clips(NamedTuple):
    """Recordings to train on, 8 kHz mono: int16 as in a WAV file (`pcm`), or floats -1..1."""

    songs: Shaped[Array | np.ndarray, "songs n"]
    sounds: Shaped[Array | np.ndarray, "sounds m"]  # no music in them
    rooms: Float[Array | np.ndarray, "rooms taps"]  # impulse responses


class Statistics(NamedTuple):
    """Mean and variance of each channel before a batch normalisation, a moving average."""

    mean: Float[Array, "*layers channels"]
    variance: Float[Array, "*layers channels"]


class State(NamedTuple):
    """All that training needs to go on."""

    model: PyTree
    statistics: Statistics | tuple[Statistics, ...]
    memory: PyTree  # the optimiser's
    done: int  # steps


class History(NamedTuple):
    """The loss and accuracy of each step on the examples of that step, and where it ended."""

    loss: Float[np.ndarray, " steps"]
    accuracy: Float[np.ndarray, " steps"]
    state: State


class Task(NamedTuple):
    """What a network learns; `draw` and `score` are functions of a module, or partials kept."""

    draw: Callable[..., Any]  # (key, clips) -> examples
    score: Callable[..., Any]  # (model, statistics, examples) -> loss, (statistics, accuracy)
    rate: float  # of Adam, falls to 0 along a cosine
    steps: int  # until then


def train(
    state: State, task: Task, clips: Clips, *, key: PRNGKeyArray, until: int, progress: Any = None
) -> History:
    """Go on with a task until so many steps are done. `progress` is a tqdm bar or None.

    Raises ValueError if `until` steps are already done, or are more than the task has.
    """
    if not state.done < until <= task.steps:
        raise ValueError(
            f"until={until} must lie after the {state.done} steps done and within the "
            f"steps={task.steps} of the training"
        )
    clips = Clips(*map(jnp.asarray, clips))
    arrays, seen = state[:3], []
    for step in range(state.done, until):
        # a compiled loop over steps would make XLA:CPU's convolutions many times slower
        arrays, scores = _step(arrays, clips, key, jnp.asarray(step), task=task)
        seen.append(scores)
        if progress is not None:
            progress.update(1)
    loss, accuracy = np.asarray(seen, np.float32).T
    return History(loss, accuracy, State(*arrays, until))


def start(model: PyTree, statistics: Statistics | tuple[Statistics, ...]) -> State:
    """A network before its first step."""
    return State(model, statistics, jax.jit(optax.scale_by_adam().init)(model), 0)


def count_params(model: PyTree) -> int:
    """How many numbers a network has."""
    return sum(leaf.size for leaf in jax.tree.leaves(model))


@partial(jax.jit, static_argnames=("shapes", "spreads"))
def normals(
    key: PRNGKeyArray, *, shapes: tuple[tuple[int, ...], ...], spreads: tuple[float, ...]
) -> list[Float[Array, "..."]]:
    """Normal weights of these shapes and standard deviations, as one compiled program."""
    sizes = [math.prod(shape) for shape in shapes]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    made = zip(parts, shapes, spreads, strict=True)
    return [np.float32(spread) * part.reshape(shape) for part, shape, spread in made]


def fresh_statistics(like: Float[Array, "*layers channels"]) -> Statistics:
    """Statistics before anything was seen: mean 0, variance 1."""
    nothing = np.zeros(like.shape, np.float32)
    return Statistics(jnp.asarray(nothing), jnp.asarray(nothing + 1))


def normalise(
    y: Float[Array, "*places channels"],
    scale: Float[Array, " channels"],
    shift: Float[Array, " channels"],
    statistics: Statistics,
) -> tuple[Float[Array, "*places channels"], Statistics]:
    """Batch normalisation by the statistics of this batch, and the moving averages after it.

    Ioffe and Szegedy (2015).
    """
    places = tuple(range(y.ndim - 1))
    mean, variance = y.mean(places), y.var(places)
    factor = scale * lax.rsqrt(variance + EPSILON)
    centre, factor, shift = (jnp.expand_dims(a, places) for a in (mean, factor, shift))
    moved = jax.tree.map(
        lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * lax.stop_gradient(new),
        statistics,
        Statistics(mean, variance),
    )
    return (y - centre) * factor + shift, moved


def folded(
    scale: Float[Array, "*layers channels"],
    shift: Float[Array, "*layers channels"],
    statistics: Statistics,
) -> tuple[Float[Array, "*layers channels"], Float[Array, "*layers channels"]]:
    """Factor and bias that do what a normalisation by the moving averages does."""
    factor = scale * lax.rsqrt(statistics.variance + EPSILON)
    return factor, shift - statistics.mean * factor


def pcm(x: Float[Array | np.ndarray, "*batch n"]) -> Int16[np.ndarray, "*batch n"]:
    """Floats -1..1 as 16-bit samples; what is louder is clipped."""
    return np.round(np.clip(np.asarray(x), -1, 1) * 32767).astype(np.int16)


def floats(x: Shaped[Array | np.ndarray, "*batch n"]) -> Float[Array | np.ndarray, "*batch n"]:
    """16-bit samples as floats -1..1; floats as they are."""
    return x.astype(np.float32) / np.float32(32767 if x.dtype == np.int16 else 1)


def crop(
    clips: Shaped[Array | np.ndarray, "clips n"],
    which: Integer[Array, " b"],
    begin: Integer[Array, " b"],
    length: int,
) -> Float[Array, "b length"]:
    """Cut `length` samples out of the clips `which`, from the samples `begin` on."""

    def cut(i, t):
        return lax.dynamic_slice(jnp.asarray(clips), (i, t), (1, length))[0]

    return floats(jax.vmap(cut)(which, begin))


def random_crops(
    key: PRNGKeyArray, clips: Shaped[Array | np.ndarray, "clips n"], count: int, length: int
) -> Float[Array, "count length"]:
    """Pieces of `length` samples from anywhere."""
    one, two = jax.random.split(key)
    which = jax.random.randint(one, (count,), 0, len(clips))
    begin = jax.random.randint(two, (count,), 0, clips.shape[1] - length + 1)
    return crop(clips, which, begin, length)


def check_clips(clips: Clips, shortest: int) -> None:
    """Raises ValueError if there are no songs, sounds or rooms, or if they are too short."""
    for name, array, least in zip(clips._fields, clips, (shortest, shortest, 1), strict=True):
        if array.ndim != 2 or not len(array) or array.shape[1] < least:
            raise ValueError(
                f"clips.{name} has shape {array.shape}: wanted (how many, samples), at least one "
                f"of at least {least} samples"
            )


@partial(jax.jit, static_argnames="task")
def _step(arrays, clips, key, step, *, task):
    model, statistics, memory = arrays
    examples = task.draw(jax.random.fold_in(key, step), clips)
    score = jax.value_and_grad(task.score, has_aux=True)
    (loss, (statistics, accuracy)), slope = score(model, statistics, examples)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
        change, memory = optax.scale_by_adam().update(slope, memory)
        rate = optax.cosine_decay_schedule(task.rate, task.steps)(step)
    model = jax.tree.map(lambda w, c: w - rate.astype(w.dtype) * c, model, change)
    return (model, statistics, memory), (loss, accuracy)
