"""Tag prediction by federated logistic regression: clients select the words that they use.

Section 5.1 of Charles et al. (2022): documents are sets of words, a document has several tags, and
each tag has its own logistic regression. The keys of a client are words: a slice is one word's row
of weights. The biases go to every client.

A client trains on at most `cap` documents a round, so that only the rows of the words in them can
change. The simulation leaves all others out, which changes nothing (section 2.3); what would be
sent is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer
from scipy import sparse

from lib.fedselect import primitive
from lib.fedselect.keys import distinct, local_ids, top_keys

SIZES = 4  # how much larger each kind of client is than the last: 64, 256, 1024 words, ...
SMALLEST = 64
Policy = Callable[[np.random.Generator, Any, Any], Integer[np.ndarray, "N m"]]


class Documents(NamedTuple):
    """D documents as sets of words 0 .. n-1, the most frequent first, and sets of tags."""

    words: Int32[np.ndarray, "D length"]  # n where there is none
    tags: Bool[np.ndarray, "D t"]
    client: Int32[np.ndarray, " D"]
    n: int

    @property
    def bags(self) -> sparse.csr_array:
        """One row a document, one column a word, ones."""
        rows, places = np.nonzero(self.words < self.n)
        ones = np.ones(len(rows), np.float32)
        return sparse.csr_array((ones, (rows, self.words[rows, places])), (len(self.words), self.n))


class Clients(NamedTuple):
    """The documents of each client side by side, and how many of them have each word."""

    words: Int32[np.ndarray, "D length"]
    tags: Bool[np.ndarray, "D t"]
    start: Integer[np.ndarray, " K_plus_1"]  # client k has the documents start[k] .. start[k+1]
    counts: sparse.csr_array  # (K, n)


class Tagger(NamedTuple):
    """The logistic regressions, all tags together."""

    weights: Float[Array | np.ndarray, "n t"]
    bias: Float[Array | np.ndarray, " t"]


class ServerState(NamedTuple):
    """What the server holds between rounds: the regressions, and its optimiser's memory."""

    model: Tagger
    of_weights: Any
    of_bias: Any


class TagHistory(NamedTuple):
    """What `train_tagger` saw, and the regressions that it ended with."""

    rounds: Integer[np.ndarray, " T"]  # after which the server's model was tested, from 1
    recall: Float[np.ndarray, " T"]
    model: Tagger
    keys: Integer[np.ndarray, "R N"]  # how many keys each client of each round selected
    distinct: Integer[np.ndarray, " R"]  # how many different ones these were


def most_frequent(
    tokens: Integer[np.ndarray, " W"],
    token_ptr: Integer[np.ndarray, " D_plus_1"],
    chosen: Integer[np.ndarray, " d"],
    vocab: int,
) -> Integer[np.ndarray, " vocab"]:
    """All words, those first that occur in most of the `chosen` documents, then by number."""
    seen = tokens[np.isin(_owner(token_ptr), chosen)]
    return np.argsort(-np.bincount(seen, minlength=vocab), kind="stable")


def read_documents(
    tokens: Integer[np.ndarray, " W"],
    token_ptr: Integer[np.ndarray, " D_plus_1"],
    tags: Integer[np.ndarray, " V"],
    tag_ptr: Integer[np.ndarray, " D_plus_1"],
    author: Integer[np.ndarray, " D"],
    chosen: Integer[np.ndarray, " d"],
    *,
    words: Integer[np.ndarray, " vocab"],
    n: int,
    tag_count: int,
    length: int = 64,
) -> Documents:
    """The `chosen` documents with the first `n` of `words` only, at most `length` of each.

    Words come numbered by their place in `words`; of a long document the rare ones are left out.

    Raises ValueError if `n` is not in 1 .. the number of words.
    """
    if not 1 <= n <= len(words):
        raise ValueError(f"n={n} must lie between 1 and the {len(words)} words there are")
    rank = np.empty(len(words), np.int32)
    rank[words] = np.arange(len(words))
    place = np.full(len(author), -1)
    place[chosen] = np.arange(len(chosen))

    def kept(values, pointer):
        row = place[_owner(pointer)]
        return row[row >= 0], values[row >= 0]

    row, word = kept(rank[tokens], token_ptr)
    row, word = row[word < n], word[word < n]
    order = np.lexsort((word, row))
    row, word = row[order], word[order]
    first = np.searchsorted(row, np.arange(len(chosen)))
    at = np.arange(len(row)) - first[row]
    short = at < length
    table = np.full((len(chosen), length), n, np.int32)
    table[row[short], at[short]] = word[short]
    tagged = np.zeros((len(chosen), tag_count), bool)
    tagged[kept(tags, tag_ptr)] = True
    return Documents(table, tagged, author[chosen].astype(np.int32), n)


def group_clients(documents: Documents) -> Clients:
    """Put the documents of a client side by side, clients in the order of their numbers."""
    order = np.argsort(documents.client, kind="stable")
    _, start = np.unique(documents.client[order], return_index=True)
    start = np.append(start, len(order))
    bags = documents._replace(words=documents.words[order]).bags
    owner = np.repeat(np.arange(len(start) - 1), np.diff(start))
    ones = np.ones(len(order), np.float32)
    members = sparse.csr_array((ones, (owner, np.arange(len(order)))))
    counts = (members @ bags).astype(np.int32)
    return Clients(documents.words[order], documents.tags[order], start, counts)


def tag_scores(model: Tagger, bags: sparse.csr_array) -> Float[np.ndarray, "D t"]:
    """Score of each tag for each document: the sum of its words' weights, and the bias."""
    return bags @ np.asarray(model.weights) + np.asarray(model.bias)


def recall_at(
    scores: Float[Array | np.ndarray, "D t"], tags: Bool[np.ndarray, "D t"], k: int = 5
) -> float:
    """Recall@k: the share of all true tags that are among the k highest scores of their document.

    The "micro" definition, true tags of all documents together. Of equal scores the tag with the
    smaller number comes first.

    Raises ValueError if there is no true tag, or `k` is not in 1 .. t.
    """
    if not 1 <= k <= tags.shape[1] or not tags.any():
        raise ValueError(f"k={k} must lie in 1 .. {tags.shape[1]}, and one tag at least be true")
    best = np.asarray(lax.top_k(jnp.asarray(scores), k)[1])
    return float(np.take_along_axis(tags, best, 1).sum() / tags.sum())


@cache
def fed_adagrad(rate: float) -> optax.GradientTransformation:
    """FedAdagrad with the rate eta: sums of squares start at zero, not at optax's 0.1.

    The mean over a cohort of what a word's row changes is small, since few clients have the word:
    beside 0.1 its squares would count for nothing (Reddi et al., 2021, discuss this constant).
    """
    return optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-7)


def start_server(
    n: int, tags: int, server: optax.GradientTransformation | None = None
) -> ServerState:
    """Weights and biases of zero, and what the optimiser remembers at the start."""
    server = fed_adagrad(0.3) if server is None else server
    model = Tagger(jnp.zeros((n, tags)), jnp.zeros(tags))
    return ServerState(model, server.init(model.weights), server.init(model.bias))


def tag_round(
    state: ServerState,
    clients: Clients,
    done: int,
    *,
    seed: int,
    m: int | None,
    policy: Policy | None = None,
    cohort: int = 50,
    cap: int = 128,
    lr: float = 1.0,
    batch: int = 16,
    server: optax.GradientTransformation | None = None,
    normalise: str = "cohort",
) -> tuple[ServerState, Integer[np.ndarray, "N m"]]:
    """One round, of which `done` are behind: the new state, and the keys that clients selected.

    `cohort` clients make one epoch of SGD with the rate `lr` (gamma) over at most `cap` of their
    documents, drawn anew, in minibatches of `batch`. A client has m keys, or all words that it has
    if m is None; `policy` draws them from counts, `policy(rng, counts, m)`, and takes the most
    frequent unless told otherwise. The server makes a step of `server`, `fed_adagrad(0.3)` unless
    told otherwise, with the mean change as its negative gradient; only rows that were selected are
    touched, see `lazy_update`. Cohorts and documents depend on `seed` and `done` alone. The arrays
    of the old state are given up.

    Raises ValueError for settings out of range.
    """
    many, n = clients.counts.shape
    _check(cap=cap, batch=batch, cohort=cohort)
    if cohort > many:
        raise ValueError(f"cohort={cohort} must be at most the {many} clients")
    if m is None and policy is not None:
        raise ValueError("policy needs m: without it a client selects all words that it has")
    server = fed_adagrad(0.3) if server is None else server
    vocabulary = int(np.diff(clients.counts.indptr).max())
    sizes = _sizes(min(vocabulary, cap * clients.words.shape[1]))
    x, y, documents, who = draw_round(clients, seed, done, cohort=cohort, cap=cap)
    keys = select_words(np.random.default_rng((seed, done, 1)), clients.counts[who], m, policy)
    below = _denominators(keys, n, normalise)
    work = pack_round(x, y, documents, keys, n=n, sizes=sizes)
    return _advance(state, work, below, lr, sizes=sizes, batch=batch, server=server), keys


def train_tagger(
    clients: Clients,
    test: Documents,
    *,
    seed: int,
    rounds: int,
    m: int | None,
    server: optax.GradientTransformation | None = None,
    eval_every: int = 25,
    k: int = 5,
    progress: Any = None,
    **setting: Any,
) -> TagHistory:
    """Federated logistic regression of tags on words, with m keys a client: section 5.1.

    Each round is a `tag_round`, which also says what else can be set. Recall@k on `test` is
    measured every `eval_every` rounds. `progress` is a tqdm bar or None.

    Raises ValueError for settings out of range.
    """
    _check(rounds=rounds, eval_every=eval_every)
    n = clients.counts.shape[1]
    state = start_server(n, clients.tags.shape[1], server)
    bags, seen, recall, sent, different = test.bags, [], [], [], []
    for done in range(rounds):
        state, keys = tag_round(state, clients, done, seed=seed, m=m, server=server, **setting)
        sent.append((keys < n).sum(1))
        different.append(distinct(keys, n))
        if progress is not None:
            progress.update(1)
        if (done + 1) % eval_every == 0 or done + 1 == rounds:
            seen.append(done + 1)
            recall.append(recall_at(tag_scores(state.model, bags), test.tags, k))
            if progress is not None:
                progress.set_postfix(recall=f"{recall[-1]:.3f}")
    return TagHistory(
        np.array(seen), np.array(recall), state.model, np.array(sent), np.array(different)
    )


class Work(NamedTuple):
    """What the clients of a round need, the client with most keys first."""

    x: Integer[Array | np.ndarray, "N cap length"]  # words, as positions among the client's keys
    y: Bool[Array | np.ndarray, "N cap t"]
    documents: Integer[Array | np.ndarray, " N"]
    keys: Integer[Array | np.ndarray, "N M"]  # of the words in x, as positions in `union`
    union: Integer[Array | np.ndarray, " U"]  # words that any client trains; n is padding
    until: Integer[Array | np.ndarray, " sizes"]  # clients that need this size, or a larger one


def draw_round(
    clients: Clients, seed: int, done: int, *, cohort: int, cap: int
) -> tuple[Int32[np.ndarray, "N cap length"], Bool[np.ndarray, "N cap t"], Any, Any]:
    """The cohort of a round and its documents: words, tags, how many, and whose they are.

    The order of the documents is random, and so is the choice among more than `cap`.
    """
    rng = np.random.default_rng((seed, done))
    many = len(clients.start) - 1
    who = np.sort(rng.choice(many, cohort, replace=False))
    owned = np.diff(clients.start)[who]
    rows = np.full((cohort, cap), -1)
    for i, (k, count) in enumerate(zip(who, owned, strict=True)):
        own = clients.start[k] + rng.permutation(count)[:cap]
        rows[i, : len(own)] = own
    documents = np.minimum(owned, cap).astype(np.int32)
    x = np.where((rows < 0)[..., None], clients.counts.shape[1], clients.words[rows])
    return x.astype(np.int32), clients.tags[rows], documents, who


def select_words(
    rng: np.random.Generator, counts: sparse.csr_array, m: int | None, policy: Policy | None
) -> Integer[np.ndarray, "N m"]:
    """Keys for each client: by the policy, its m most frequent words, or all that it has."""
    if policy is not None:
        return policy(rng, counts, m)
    return top_keys(counts, max(counts.shape[1], 1) if m is None else m)


def pack_round(
    x: Int32[np.ndarray, "N cap length"],
    y: Bool[np.ndarray, "N cap t"],
    documents: Int32[np.ndarray, " N"],
    keys: Integer[np.ndarray, "N m"],
    *,
    n: int,
    sizes: tuple[int, ...],
    trim: bool = True,
) -> Work:
    """Order the clients by size, and leave out keys whose words are not in their documents.

    `trim=False` keeps all keys: with all n words as keys of all clients, it is a broadcast.
    """
    if trim:
        keys = _compact(keys, _present(x, n), n)
    used = (keys < n).sum(1)
    order = np.argsort(-used, kind="stable")
    keys, used = keys[order], used[order]
    keys = np.pad(keys, ((0, 0), (0, max(sizes[-1] - keys.shape[1], 0))), constant_values=n)
    keys = keys[:, : sizes[-1]]
    flags = np.zeros(n + 1, bool)
    flags[keys] = True
    union = np.flatnonzero(flags[:n])
    place = np.full(n + 1, len(union), np.int32)
    place[union] = np.arange(len(union))
    size = max(1 << int(len(union)).bit_length(), SMALLEST)
    until = np.searchsorted(-used, -np.array((-1, *sizes[:-1])))
    padded = np.pad(union, (0, size - len(union)), constant_values=n).astype(np.int32)
    placed = np.where(keys < n, place[keys], size).astype(np.int32)
    local = local_ids(x[order], keys, n)
    return Work(local, y[order], documents[order], placed, padded, until.astype(np.int32))


@partial(jax.jit, static_argnames=("sizes", "batch"))
def client_changes(
    model: Tagger, work: Work, lr: float | Float[Array, ""], *, sizes: tuple[int, ...], batch: int
) -> Tagger:
    """Sum of what the clients of a round change of the words in `work.union`, and of the biases.

    One client after the other, those of one size in one loop, since a loop has fixed shapes.
    """
    rows = model.weights.at[work.union].get(mode="fill", fill_value=0)
    total = jax.tree.map(jnp.zeros_like, Tagger(rows, model.bias))
    # what is left of the loop over clients of a size begins where larger ones end
    bounds = [*work.until[1:], 0]
    for size, start, end in zip(sizes, bounds, work.until, strict=True):

        def one(i, total, size=size):
            places = work.keys[i, :size]
            own = Tagger(rows.at[places].get(mode="fill", fill_value=0), model.bias)
            new = _one_epoch(own, work.x[i], work.y[i], work.documents[i], lr, batch)
            changed = total.weights.at[places].add(new.weights - own.weights, mode="drop")
            return Tagger(changed, total.bias + (new.bias - own.bias))

        total = lax.fori_loop(start, end, one, total)
    return total


def lazy_update(
    server: optax.GradientTransformation,
    values: Float[Array, "n t"],
    memory: Any,
    rows: Integer[Array, " U"],
    slope: Float[Array, "U t"],
) -> tuple[Float[Array, "n t"], Any]:
    """A server step that touches only some rows of the values and of the optimiser's memory.

    The same as a step on all rows, with a gradient of zero for the others, if such a step changes
    nothing: true of SGD and Adagrad, not of momentum or Adam, where rows that are not selected
    then wait. `rows` of n or more are padding.
    """

    def some(a):
        return a.at[rows].get(mode="fill", fill_value=0)

    def back(has_rows, old, new):
        return old.at[rows].set(new, mode="drop") if has_rows else new

    mirrors = partial(optax.tree_utils.tree_map_params, server)
    step, of_rows = server.update(slope, mirrors(some, memory), some(values))
    has_rows = mirrors(lambda _: True, memory, transform_non_params=lambda _: False)
    memory = jax.tree.map(back, has_rows, memory, of_rows)
    return values.at[rows].add(step, mode="drop"), memory


@partial(jax.jit, static_argnames=("sizes", "batch", "server"), donate_argnames="state")
def _advance(state, work, below, lr, *, sizes, batch, server):
    """The server's state after a round."""
    weights, bias = state.model
    total = client_changes(state.model, work, lr, sizes=sizes, batch=batch)
    of_words, cohort = below
    if of_words.ndim:
        of_words = of_words.at[work.union].get(mode="fill", fill_value=0)
    slope = -primitive.divide(total.weights, of_words)
    weights, of_weights = lazy_update(server, weights, state.of_weights, work.union, slope)
    slope = -primitive.divide(total.bias, cohort)
    step, of_bias = server.update(slope, state.of_bias, bias)
    return ServerState(Tagger(weights, bias + step), of_weights, of_bias)


def _denominators(keys, n, normalise):
    """What the sums over the cohort are divided by, of words and of biases."""
    wide = max(keys.shape[1] - 1, 1).bit_length()  # of few widths, since each is compiled
    keys = np.pad(keys, ((0, 0), (0, (1 << wide) - keys.shape[1])), constant_values=n)
    keys, ones = jnp.asarray(keys), jnp.ones(len(keys))
    cohort = primitive.denominator(keys, n, ones, "cohort")
    words = primitive.denominator(keys, n, ones, normalise) if normalise != "cohort" else cohort
    return words, cohort


def _one_epoch(model, x, y, documents, lr, batch):
    """Minibatch SGD over the first `documents`; the loss is summed over tags."""
    x = jnp.pad(x, ((0, -len(x) % batch), (0, 0)), constant_values=len(model.weights))
    y = jnp.pad(y, ((0, -len(y) % batch), (0, 0)))

    def step(i, own):
        words = lax.dynamic_slice_in_dim(x, i * batch, batch)
        true = lax.dynamic_slice_in_dim(y, i * batch, batch).astype(jnp.float32)
        real = (i * batch + jnp.arange(batch) < documents).astype(jnp.float32)
        scores = own.weights.at[words].get(mode="fill", fill_value=0).sum(1) + own.bias[None]
        slope = (jax.nn.sigmoid(scores) - true) * (real / jnp.maximum(real.sum(), 1))[:, None]
        return Tagger(
            own.weights.at[words].add(-lr * slope[:, None], mode="drop"),
            own.bias - lr * slope.sum(0),
        )

    return lax.fori_loop(0, (documents + batch - 1) // batch, step, model)


def _present(x, n):
    """Which words each client's documents have."""
    present = np.zeros((len(x), n + 1), bool)
    present[np.arange(len(x))[:, None, None], x] = True
    present[:, n] = False
    return present


def _compact(keys, present, n):
    """The keys that are present, in their order, without gaps."""
    client, at = np.nonzero(np.take_along_axis(present, keys, 1))
    start = np.searchsorted(client, np.arange(len(keys)))
    place = np.arange(len(client)) - start[client]
    kept = np.full((len(keys), int(place.max(initial=0)) + 1), n, np.int32)
    kept[client, place] = keys[client, at]
    return kept


def _sizes(most: int) -> tuple[int, ...]:
    """Powers that reach the largest number of keys a client can have."""
    sizes = [SMALLEST]
    while sizes[-1] < most:
        sizes.append(sizes[-1] * SIZES)
    return tuple(sizes)


def _owner(pointer):
    return np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))


def _check(**settings):
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
