"""Client models cut from the server's model by keys: neurons, filters or words.

Algorithm 2 of Charles et al. (2022), arXiv 2208.09432. A description says of each array along
which axis a group of keys cuts it; arrays that it leaves out go to every client whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from lib.fedavg.algorithm import (
    WAYS,
    Federation,
    History,
    Loss,
    Model,
    client_update,
    sample_clients,
)
from lib.fedavg.networks import accuracy, cross_entropy
from lib.fedselect import primitive
from lib.fedselect.keys import random_keys
from lib.parallel import one_or_all

NOTHING = -1e9  # the score of a word that a client did not select: its probability is zero


class Axis(NamedTuple):
    """One array is cut along one axis. If the axis is longer than K, it holds blocks of K."""

    leaf: str  # the path of the array in the model
    group: str  # of keys
    axis: int
    outgoing: bool = False  # whether what the selected units say leaves through this array
    fill: float = 0.0  # what stands where a key is padding


Spec = tuple[Axis, ...]
Keyed = Mapping[str, Any]  # keys by group

TWO_NN: Spec = (
    Axis("layers.0.weight", "neurons", 1),
    Axis("layers.0.bias", "neurons", 0),
    Axis("layers.1.weight", "neurons", 0, outgoing=True),
)
MNIST_CNN: Spec = (
    Axis("convolutions.1.weight", "filters", 1),
    Axis("convolutions.1.bias", "filters", 0),
    Axis("layers.0.weight", "filters", 0, outgoing=True),  # 49 places of 64 filters
)
TRANSFORMER: Spec = (
    Axis("embedding", "words", 0),
    Axis("output.weight", "words", 1),
    Axis("output.bias", "words", 0, fill=NOTHING),
    Axis("feed.0.weight", "neurons", 1),
    Axis("feed.0.bias", "neurons", 0),
    Axis("feed.1.weight", "neurons", 0, outgoing=True),
)


def key_spaces(model: Any, spec: Spec) -> dict[str, int]:
    """K of each group of keys: the shortest of the axes that it cuts.

    Raises ValueError for an array that the model has not, or a longer axis that is no multiple.
    """
    shapes = {path: leaf.shape for path, leaf in _named(model)}
    lengths: dict[str, list[int]] = {}
    for cut in spec:
        if cut.leaf not in shapes:
            raise ValueError(f"spec cuts {cut.leaf!r}, but the model has {', '.join(shapes)}")
        lengths.setdefault(cut.group, []).append(shapes[cut.leaf][cut.axis])
    for group, found in lengths.items():
        if any(length % min(found) for length in found):
            raise ValueError(f"spec cuts axes of {found} for {group!r}: not multiples of one K")
    return {group: min(found) for group, found in lengths.items()}


def submodel_size(model: Any, spec: Spec, m: Mapping[str, int]) -> int:
    """How many numbers a client holds that selects m keys of each group; all of those not named.

    Needs shapes only: `jax.eval_shape` gives a model that is large enough.
    """
    spaces, size, cuts = key_spaces(model, spec), 0, {cut.leaf: cut for cut in spec}
    for path, leaf in _named(model):
        group = cuts[path].group if path in cuts else None
        size += leaf.size * m[group] // spaces[group] if group in m else leaf.size
    return size


def relative_size(model: Any, spec: Spec, m: Mapping[str, int]) -> float:
    """The client's model as a share of the server's: "relative model size" of section 5."""
    return submodel_size(model, spec, m) / submodel_size(model, spec, {})


def cut_models(model: Model, spec: Spec, keys: Keyed) -> Model:
    """The models of N clients, from keys (N, m) for some groups: every array gains a first axis.

    Equation (4) with psi that takes all that belongs to a neuron, a filter or a word. Groups
    without keys are not cut. Padding gives zeros, or what the description says.

    Raises ValueError for keys out of range, as `fed_select` does.
    """
    model = jax.tree.map(jnp.asarray, model)
    spaces, cuts = key_spaces(model, spec), _cuts(spec, keys)
    clients = len(next(iter(keys.values())))

    def cut(path, leaf):
        if path not in cuts:
            return primitive.broadcast(leaf, clients)
        how = cuts[path]
        space = spaces[how.group]
        own = primitive.inside(keys[how.group], space)
        slices = primitive.fed_select(_rows(leaf, how.axis, space), own)
        if how.fill:
            padding = primitive.along_first(own == space, slices.ndim)
            slices = jnp.where(padding, how.fill, slices)
        return jax.vmap(partial(_unrows, axis=how.axis))(slices)

    return _map_named(cut, model)


def deselect_models(
    updates: Model,
    spec: Spec,
    keys: Keyed,
    spaces: Mapping[str, int],
    *,
    normalise: str = "cohort",
    weights: Float[Array | np.ndarray, " N"] | None = None,
) -> Model:
    """The mean of the clients' updates in the places of the server's model.

    Equation (5): `cut_models` backwards. See `deselect_mean` for `normalise` and `weights`; arrays
    that were not cut are always divided by the whole cohort.
    """
    cuts = _cuts(spec, keys)
    clients = len(next(iter(keys.values())))
    everyone = np.zeros((clients, 1), np.int32)

    def put_back(path, leaf):
        if path not in cuts:
            mean = primitive.deselect_mean(leaf[:, None], everyone, 1, weights=weights)
            return mean[0]
        how = cuts[path]
        slices = jax.vmap(lambda u: _rows(u, how.axis, keys[how.group].shape[1]))(leaf)
        mean = primitive.deselect_mean(
            slices, keys[how.group], spaces[how.group], normalise=normalise, weights=weights
        )
        return _unrows(mean, axis=how.axis)

    return _map_named(put_back, updates)


def submodel_round(
    model: Model,
    federation: Federation,
    ids: Integer[Array | np.ndarray, " N"],
    key: PRNGKeyArray,
    *,
    spec: Spec,
    random: Mapping[str, Any] | None = None,
    structured: Mapping[str, Any] | None = None,
    lr: float | Float[Array, ""],
    batch: int | None,
    epochs: int = 1,
    loss: Loss = cross_entropy,
    shared: bool = False,
    normalise: str = "cohort",
    rescale: bool = False,
    read: str | None = None,
    clients: str = "auto",
) -> Model:
    """One round of Algorithm 2: what the clients `ids` would change of the model, on average.

    `random` is how many random keys of a group a client takes, one number or one for each client
    of the federation; `structured` are keys (clients, m) that do not change from round to round;
    both together are the paper's mixed keys. `shared` gives all clients the same random keys.
    `rescale` multiplies what the selected units say by K / m while a client trains, as dropout
    does. `read` is the group that x and y are made of, words say: they are read as positions among
    the client's keys, and a word that was not selected is zeros in x and does not count in y.

    Raises ValueError for settings out of range, for groups that the description has not, and what
    `client_update` raises.
    """
    random, structured = dict(random or {}), dict(structured or {})
    _check(model, spec, random, structured, federation, shared, read, clients)
    setting = _Setting(
        spec, epochs, batch, loss, shared, normalise, rescale, read, one_or_all(clients),
        tuple((group, int(np.max(m))) for group, m in random.items()),
    )  # fmt: skip
    arrays = jax.tree.map(jnp.asarray, (model, Federation(*federation), random, structured, ids))
    return _round(*arrays, key, lr, setting)


def train_submodels(
    model: Model,
    federation: Federation,
    test: tuple[Any, Any],
    *,
    key: PRNGKeyArray,
    rounds: int,
    cohort: int,
    spec: Spec,
    random: Mapping[str, Any] | None = None,
    structured: Mapping[str, Any] | None = None,
    lr: float | Float[Array, ""],
    batch: int | None,
    epochs: int = 1,
    loss: Loss = cross_entropy,
    shared: bool = False,
    normalise: str = "cohort",
    rescale: bool = False,
    read: str | None = None,
    server: optax.GradientTransformation | None = None,
    eval_every: int = 1,
    clients: str = "auto",
    progress: Any = None,
) -> History:
    """Federated training in which clients hold parts of the model: Algorithm 2 of the paper.

    See `submodel_round` for what a round does. `cohort` clients take part in each, drawn without
    replacement; the draws depend on `key` alone, not on the keys that clients select. The mean
    change is added to the model, or its negative handed to `server` as a gradient. The whole model
    is tested on `test` = (x, y) every `eval_every` rounds. `progress` is a tqdm bar or None.

    Raises ValueError for settings out of range; the message says what was wanted.
    """
    random, structured = dict(random or {}), dict(structured or {})
    _check(model, spec, random, structured, federation, shared, read, clients)
    if rounds < 1 or eval_every < 1:
        raise ValueError(f"rounds={rounds} and eval_every={eval_every} must be at least 1")
    if not 1 <= cohort <= len(federation.n):
        raise ValueError(f"cohort={cohort} must lie between 1 and the {len(federation.n)} clients")
    setting = _Setting(
        spec, epochs, batch, loss, shared, normalise, rescale, read, one_or_all(clients),
        tuple((group, int(np.max(m))) for group, m in random.items()),
    )  # fmt: skip
    data = jax.device_put((Federation(*federation), random, structured))
    test = jax.device_put(test)
    state = jax.tree.map(jnp.asarray, (model, server.init(model) if server else ()))
    seen, scores = [], []
    for done in range(0, rounds, eval_every):
        steps = min(eval_every, rounds - done)
        state = _advance(
            state, data, lr, key, done, steps=steps, cohort=cohort, server=server, setting=setting
        )
        seen.append(done + steps)
        scores.append(np.asarray(accuracy(state[0], *test)))
        if progress is not None:
            progress.update(steps)
            progress.set_postfix(accuracy=f"{scores[-1].max():.3f}")
    return History(np.array(seen), np.array(scores), state[0])


class _Setting(NamedTuple):
    """What the code of a round depends on, beside shapes."""

    spec: Spec
    epochs: int
    batch: int | None
    loss: Loss
    shared: bool
    normalise: str
    rescale: bool
    read: str | None
    clients: str
    most: tuple[tuple[str, int], ...]  # random keys of the client that takes most, by group


@dataclass(frozen=True)
class _Rescaled:
    """A loss of (model, factors by group): outgoing weights count that many times."""

    loss: Loss
    spec: Spec

    def __call__(self, model, x, y, mask):
        model, factors = model
        fixed = {group: lax.stop_gradient(factor) for group, factor in factors.items()}
        outgoing = {cut.leaf: cut.group for cut in self.spec if cut.outgoing}

        def scaled(path, leaf):
            return leaf * fixed[outgoing[path]] if outgoing.get(path) in fixed else leaf

        return self.loss(_map_named(scaled, model), x, y, mask)


@partial(jax.jit, static_argnames="setting")
def _round(model, federation, random, structured, ids, key, lr, setting):
    spaces = key_spaces(model, setting.spec)
    keys = {group: chosen[ids] for group, chosen in structured.items()}
    selecting, training = jax.random.split(key)
    factors = {}
    for i, (group, most) in enumerate(setting.most):
        wanted = jnp.broadcast_to(random[group], (len(federation.n),))[ids]
        own = jax.random.fold_in(selecting, i)
        space = spaces[group]
        keys[group] = random_keys(own, ids, space, wanted, most=most, shared=setting.shared)
        factors[group] = space / wanted.astype(jnp.float32)
    slices = cut_models(model, setting.spec, keys)

    def change(client):
        own, k, keys, factors = client
        x, y = federation.x[k], federation.y[k]
        if setting.read:
            x, y = _read(x, y, keys[setting.read], spaces[setting.read])
        loss = setting.loss
        start = (own, factors) if setting.rescale else own
        if setting.rescale:
            loss = _Rescaled(loss, setting.spec)
        trained = client_update(
            start, x, y, federation.n[k], jax.random.fold_in(training, k),
            lr=lr, epochs=setting.epochs, batch=setting.batch, loss=loss,
        )  # fmt: skip
        return jax.tree.map(jnp.subtract, trained[0] if setting.rescale else trained, own)

    run = jax.vmap(change) if setting.clients == "vmap" else partial(lax.map, change)
    updates = run((slices, ids, keys, factors))
    return deselect_models(updates, setting.spec, keys, spaces, normalise=setting.normalise)


@partial(jax.jit, static_argnames=("steps", "cohort", "server", "setting"))
def _advance(state, data, lr, key, done, *, steps, cohort, server, setting):
    """Model and server memory after `steps` more rounds, of which `done` are behind."""
    federation, random, structured = data
    clients = len(federation.n)

    def one_round(state, t):
        model, memory = state
        sampling, rest = jax.random.split(jax.random.fold_in(key, t))
        ids = sample_clients(sampling, clients, cohort / clients)
        mean = _round(model, federation, random, structured, ids, rest, lr, setting)
        if server is None:
            return (jax.tree.map(jnp.add, model, mean), memory), None
        slope = jax.tree.map(jnp.negative, mean)
        updates, memory = server.update(slope, memory, model)
        return (optax.apply_updates(model, updates), memory), None

    return lax.scan(one_round, state, done + jnp.arange(steps))[0]


def _read(
    x: Integer[Array, "P ..."], y: Integer[Array, "P ..."], keys: Integer[Array, " m"], space: int
) -> tuple[Integer[Array, "P ..."], Integer[Array, "P ..."]]:
    """Words as positions among the keys; others are m in x, which reads as zeros, and -1 in y."""
    m = len(keys)
    where = jnp.full(space + 1, -1, jnp.int32).at[keys].max(jnp.arange(m, dtype=jnp.int32))
    where = jnp.where(where < 0, m, where).at[space].set(m)
    x, y = x.astype(jnp.int32), y.astype(jnp.int32)
    target = where[jnp.where(y < 0, space, y)]
    return where[x], jnp.where(target == m, -1, target)


def _rows(leaf, axis, space):
    """The array with its key first and, where the axis has blocks of K, the block second."""
    leaf = jnp.moveaxis(leaf, axis, 0)
    return jnp.moveaxis(leaf.reshape(-1, space, *leaf.shape[1:]), 1, 0)


def _unrows(rows, axis):
    """`_rows` backwards."""
    rows = jnp.moveaxis(rows, 0, 1)
    return jnp.moveaxis(rows.reshape(-1, *rows.shape[2:]), 0, axis)


def _cuts(spec, keys):
    return {cut.leaf: cut for cut in spec if cut.group in keys}


def _named(model):
    """The arrays of a model with their paths, as a description names them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(model)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def _map_named(change, model):
    changed = [change(path, leaf) for path, leaf in _named(model)]
    return jax.tree.unflatten(jax.tree.structure(model), changed)


def _check(model, spec, random, structured, federation, shared, read, clients):
    """Say what is wrong with a setting before anything is compiled."""
    spaces = key_spaces(model, spec)
    both = [*random, *structured]
    if not both or set(both) - set(spaces) or set(random) & set(structured):
        raise ValueError(
            f"random and structured have keys for {both}: name groups of {sorted(spaces)}, each in "
            "one of the two, one at least"
        )
    for group, m in random.items():
        if np.min(m) < 1 or np.max(m) > spaces[group]:
            raise ValueError(f"random[{group!r}]={m} must lie in 1 .. {spaces[group]}")
    for group, keys in structured.items():
        if len(keys) != len(federation.n):
            raise ValueError(
                f"structured[{group!r}] has keys for {len(keys)} clients, the federation has "
                f"{len(federation.n)}: give one row of keys for each"
            )
        primitive.inside(keys, spaces[group])
    if shared and not random:
        raise ValueError("shared=True needs random keys: structured keys are a client's own")
    if read is not None and read not in both:
        raise ValueError(f"read={read!r} must be one of the groups with keys, {both}")
    if clients not in WAYS:
        raise ValueError(f"clients={clients!r} is not known: use one of {', '.join(WAYS)}")
