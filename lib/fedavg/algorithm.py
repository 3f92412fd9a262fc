"""Federated averaging: Algorithm 1 of McMahan et al. (2017), arXiv 1602.05629v4.

A model is any tree of arrays; a loss is a function `loss(model, x, y, mask) -> scalar`. Random
numbers of round t and client k come from `fold_in(fold_in(key, t), k)`, so that results depend
neither on the order of the clients nor on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Integer, PRNGKeyArray, PyTree, Shaped

from lib.fedavg.networks import accuracy, cross_entropy
from lib.fedavg.partitions import Federation
from lib.parallel import one_or_all

Model = PyTree[Float[Array | np.ndarray, "..."]]
Loss = Callable[..., Float[Array, ""]]
WAYS = ("auto", "scan", "vmap")


class History(NamedTuple):
    """What `train` saw, and the network that it ended with."""

    rounds: Integer[np.ndarray, " T"]  # after which the global model was tested, from 1
    accuracy: Float[np.ndarray, "T *grid"]
    model: Model


def client_update(
    model: Model,
    x: Shaped[Array | np.ndarray, "P ..."],
    y: Shaped[Array | np.ndarray, "P ..."],
    n: int | Integer[Array | np.ndarray | np.integer, ""],
    key: PRNGKeyArray,
    *,
    lr: float | Float[Array, ""],
    epochs: int,
    batch: int | None,
    loss: Loss = cross_entropy,
    proximal: float = 0.0,
) -> Model:
    """Train one client: `epochs` passes of minibatch SGD over its first `n` examples.

    ClientUpdate of Algorithm 1. Examples are shuffled anew for each pass; the last, smaller
    minibatch is masked, not dropped. `batch=None` is the paper's B = infinity. `proximal` is mu
    of FedProx, which adds mu/2 ||w - w_t||^2 to the loss (Li et al., 2020).

    Raises ValueError if `batch` or `epochs` < 1, `lr` <= 0, or x and y differ in length.
    """
    _check(lr=lr, epochs=epochs, batch=batch)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y {len(y)}: they must be as many")
    _check_fit(model, x, y, loss)
    model, x, y, n = jax.tree.map(jnp.asarray, (model, x, y, n))
    return _client(model, x, y, n, key, lr, epochs, batch, loss, proximal)


def fedavg_round(
    model: Model,
    federation: Federation,
    ids: Integer[Array | np.ndarray, " m"],
    key: PRNGKeyArray,
    *,
    lr: float | Float[Array, ""],
    epochs: int,
    batch: int | None,
    loss: Loss = cross_entropy,
    proximal: float = 0.0,
    clients: str = "auto",
    mesh: Mesh | None = None,
) -> Model:
    """One round: the clients `ids` train from `model`, and the server averages what they return.

    The body of Algorithm 1, with weights n_k / m_t. `clients` says how they run on one device:
    "scan", one after the other, which is faster on a CPU; "vmap", side by side, on a GPU; "auto"
    chooses. A one-dimensional `mesh` deals them out to its devices: meant for several GPUs, since
    XLA's virtual CPU devices share their threads and may wait for each other for ever.

    Raises ValueError as `client_update` does, and for an unknown `clients`.
    """
    _check(lr=lr, epochs=epochs, batch=batch, clients=clients)
    _check_fit(model, federation.x[0], federation.y[0], loss)
    setting = _Setting(epochs, batch, loss, proximal, one_or_all(clients), mesh)
    model, federation, ids = jax.tree.map(jnp.asarray, (model, Federation(*federation), ids))
    return _round(model, federation, ids, key, lr, setting)


def sample_clients(key: PRNGKeyArray, clients: int, fraction: float) -> Integer[Array, " m"]:
    """S_t: m = max(C K, 1) different clients, C = `fraction`, K = `clients`.

    Raises ValueError if `fraction` is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction} must lie between 0 and 1: C of the paper")
    return jax.random.choice(key, clients, (max(round(fraction * clients), 1),), replace=False)


def train(
    model: Model,
    federation: Federation,
    test: tuple[Any, Any],
    *,
    key: PRNGKeyArray,
    rounds: int,
    fraction: float,
    lr: float | Float[Array | np.ndarray, " grid"],
    epochs: int,
    batch: int | None,
    eval_every: int = 1,
    target: float | None = None,
    loss: Loss = cross_entropy,
    proximal: float = 0.0,
    server: optax.GradientTransformation | None = None,
    clients: str = "auto",
    mesh: Mesh | None = None,
    progress: Any = None,
) -> History:
    """Algorithm 1: up to `rounds` rounds, testing the global model every `eval_every`.

    Stops early once the accuracy on `test` = (x, y) reaches `target`. `lr` may be a vector: all
    its values then train side by side, and the first to reach the target stops them all. `server`
    replaces plain averaging: the mean drift w_t - w_{t+1} is handed to it as a gradient
    (FedOpt, Reddi et al., 2021). `progress` is a tqdm bar or None.

    Raises ValueError for settings out of range; the message says what was wanted.
    """
    _check(lr=lr, epochs=epochs, batch=batch, clients=clients)
    if rounds < 1 or eval_every < 1:
        raise ValueError(f"rounds={rounds} and eval_every={eval_every} must be at least 1")
    if len(federation.x) != len(federation.n) or len(federation.y) != len(federation.n):
        raise ValueError(
            f"federation has {len(federation.x)} clients in x, {len(federation.y)} in y and "
            f"{len(federation.n)} in n: they must be as many, use pack()"
        )
    _check_fit(model, federation.x[0], federation.y[0], loss)
    sample_clients(key, len(federation.n), fraction)
    setting = _Setting(epochs, batch, loss, proximal, one_or_all(clients), mesh)
    advance = partial(_advance, fraction=fraction, server=server, setting=setting)
    federation, test = jax.device_put((Federation(*federation), test))
    lr = jnp.asarray(lr, jnp.float32)
    state = jax.tree.map(jnp.asarray, (model, server.init(model) if server else ()))
    if lr.ndim:
        state = jax.tree.map(lambda w: jnp.repeat(w[None], len(lr), 0), state)
    score = jax.vmap(accuracy, (0, None, None)) if lr.ndim else accuracy
    seen, scores = [], []
    for done in range(0, rounds, eval_every):
        steps = min(eval_every, rounds - done)
        state = advance(state, federation, lr, key, done, steps=steps)
        seen.append(done + steps)
        scores.append(np.asarray(score(state[0], *test)))
        if progress is not None:
            progress.update(steps)
            progress.set_postfix(accuracy=f"{scores[-1].max():.3f}")
        if target is not None and scores[-1].max() >= target:
            break
    return History(np.array(seen), np.array(scores), state[0])


def rounds_to_target(rounds: Any, accuracy: Any, target: float) -> float | None:
    """Rounds until the best accuracy so far reaches `target`; None if it does not.

    Linear interpolation between the two tests around the crossing (section 3 of the paper). Whether
    the target is reached is asked in single precision, as `train` does, which measures in it.
    """
    best = np.maximum.accumulate(np.asarray(accuracy, float))
    at = int(np.searchsorted(best.astype(np.float32), np.float32(target)))
    if at == len(best):
        return None
    if at == 0:
        return float(rounds[0])
    share = min((target - best[at - 1]) / (best[at] - best[at - 1]), 1.0)
    return float(rounds[at - 1] + share * (rounds[at] - rounds[at - 1]))


def updates_per_round(n: int, clients: int, epochs: int, batch: int | None) -> float:
    """u = n E / (K B): local steps of the average client in a round; E if B is infinite."""
    return float(epochs) if batch is None else max(n / clients / batch, 1.0) * epochs


class _Setting(NamedTuple):
    """What the code of a round depends on, beside shapes."""

    epochs: int
    batch: int | None
    loss: Loss
    proximal: float
    clients: str
    mesh: Mesh | None


@partial(jax.jit, static_argnames=("epochs", "batch", "loss", "proximal"))
def _client(model, x, y, n, key, lr, epochs, batch, loss, proximal):
    size = len(x) if batch is None else min(batch, len(x))
    steps = (n + size - 1) // size

    def step(i, w, order):
        rows = lax.dynamic_slice_in_dim(order, i * size, size)
        mask = (i * size + jnp.arange(size) < n).astype(jnp.float32)
        slope = jax.grad(loss)(w, x[rows], y[rows], mask)
        if proximal:
            slope = jax.tree.map(lambda g, a, b: g + proximal * (a - b), slope, w, model)
        return jax.tree.map(lambda p, g: p - lr * g, w, slope)

    def epoch(e, w):
        if batch is None:
            return step(0, w, jnp.arange(size))
        order = _shuffled(jax.random.fold_in(key, e), n, len(x), size)
        return lax.fori_loop(0, steps, lambda i, w: step(i, w, order), w)

    return lax.fori_loop(0, jnp.where(n > 0, epochs, 0), epoch, model)


def _shuffled(key, n, length, size):
    """The n real examples in random order, filled up to whole minibatches."""
    draw = jnp.where(jnp.arange(length) < n, jax.random.uniform(key, (length,)), 2.0)
    return jnp.pad(jnp.argsort(draw), (0, -length % size))


@partial(jax.jit, static_argnames="setting")
def _round(model, federation, ids, key, lr, setting):
    ones = jnp.ones_like(ids)
    if setting.mesh is None:
        drifts, examples = _drifts(model, federation, key, lr, ids, ones, setting)
    else:
        (axis,), fill = setting.mesh.axis_names, -len(ids) % setting.mesh.size
        ids, ones = jnp.pad(ids, (0, fill)), jnp.pad(ones, (0, fill))
        share = len(ids) // setting.mesh.size

        def deal(model, federation, key, lr, *clients):
            start = lax.axis_index(axis) * share
            mine = [lax.dynamic_slice_in_dim(c, start, share) for c in clients]
            return lax.psum(_drifts(model, federation, key, lr, *mine, setting), axis)

        everywhere = PartitionSpec()
        deal = jax.shard_map(
            deal, mesh=setting.mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
        )
        drifts, examples = deal(model, federation, key, lr, ids, ones)
    return jax.tree.map(lambda w, d: w + d / jnp.maximum(examples, 1), model, drifts)


def _drifts(model, federation, key, lr, ids, counts, setting):
    """Sum of n_k (w_k - w) over the clients `ids`, and of n_k; a count of 0 leaves one out."""

    def drift(k, count):
        n = federation.n[k] * count
        own = client_update(
            model, federation.x[k], federation.y[k], n, jax.random.fold_in(key, k), lr=lr,
            epochs=setting.epochs, batch=setting.batch, loss=setting.loss,
            proximal=setting.proximal,
        )  # fmt: skip
        weight = n.astype(jnp.float32)
        return jax.tree.map(lambda a, b: weight * (a - b), own, model), weight

    if setting.clients == "vmap":
        return jax.tree.map(lambda a: a.sum(0), jax.vmap(drift)(ids, counts))
    zero = jax.tree.map(lambda w: jnp.zeros(w.shape, w.dtype), model), jnp.float32(0)
    return lax.scan(
        lambda total, client: (jax.tree.map(jnp.add, total, drift(*client)), None),
        zero,
        (ids, counts),
    )[0]


@partial(jax.jit, static_argnames=("fraction", "steps", "server", "setting"))
def _advance(state, federation, lr, key, done, *, fraction, steps, server, setting):
    """Model and server memory after `steps` more rounds, of which `done` are behind."""

    def one_round(state, t, lr):
        model, memory = state
        sampling, training = jax.random.split(jax.random.fold_in(key, t))
        ids = sample_clients(sampling, len(federation.n), fraction)
        new = _round(model, federation, ids, training, lr, setting)
        if server is not None:
            slope = jax.tree.map(jnp.subtract, model, new)
            updates, memory = server.update(slope, memory, model)
            new = optax.apply_updates(model, updates)
        return (new, memory), None

    def rounds(state, lr):
        times = done + jnp.arange(steps)
        return lax.scan(lambda s, t: one_round(s, t, lr), state, times)[0]

    return (jax.vmap(rounds) if lr.ndim else rounds)(state, lr)


def _check_fit(model, x, y, loss):
    """Say so if the model cannot read these examples, in one line rather than in XLA's many."""
    one = [jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype) for a in (x, y)]
    try:
        jax.eval_shape(loss, model, *one, jax.ShapeDtypeStruct((1,), jnp.float32))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the model does not fit examples of shape {x.shape[1:]} and labels of shape "
            f"{y.shape[1:]}: {str(error).splitlines()[0]}"
        ) from error


def _check(*, lr, epochs, batch, clients="auto"):
    """Say what is wrong with a setting before anything is compiled."""
    if not isinstance(lr, jax.core.Tracer) and not np.all(np.asarray(lr) > 0):
        raise ValueError(f"lr={lr} must be positive")
    if epochs < 1:
        raise ValueError(f"epochs={epochs} must be at least 1: E of the paper")
    if batch is not None and batch < 1:
        raise ValueError(f"batch={batch} must be at least 1, or None for the paper's B = infinity")
    if clients not in WAYS:
        raise ValueError(f"clients={clients!r} is not known: use one of {', '.join(WAYS)}")
