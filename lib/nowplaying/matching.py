"""From similar fingerprints to a song, a position in it, and a reason to believe it.

The second stage of section 4 of Now Playing (Agüera y Arcas et al., 2017, arXiv 1711.10958): full
sequences of the promising songs are compared with the query, and the similarity makes up for what
the search has missed. The paper gives no formula. The adaptive score here is our reading of its
"local density", and the margin of its "set of similar sequences found".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from lib.nowplaying.search import Database, Hits, Index, fingerprints, search

RANKS = slice(39, 50)  # of the hits, 40 to 50: strangers, so their distance shows how dense it is
SCORES = ("adaptive", "l2")
NONE = np.iinfo(np.int32).max
CLOSEST = 1e-6  # squared distances below it are rounding

Starts = Integer[Array | np.ndarray, " songs_plus_1"]
Truths = Bool[Array | np.ndarray, " _"]
Confidence = Float[Array | np.ndarray, " _"]


class Candidates(NamedTuple):
    """Places in songs that each query may come from, by the votes of single fingerprints."""

    song: Integer[Array, "q c"]  # -1 where there were fewer
    start: Float[Array, "q c"]  # of the query in the song, in fingerprints; negative: before it
    distance: Float[Array, "q c t"]  # squared, of each fingerprint to the one that it would be
    inside: Bool[Array, "q c t"]  # whether the song has that one
    stranger: Float[Array, "q c t"]  # squared distance to the 40th to 50th nearest, the mean


class Answer(NamedTuple):
    """What is playing, for each query."""

    song: Integer[Array, " q"]  # -1: nothing that is known
    start: Float[Array, " q"]  # where in the song the query starts, in fingerprints; NaN likewise
    score: Float[Array, " q"]
    margin: Float[Array, " q"]  # over the best other song


class Difference(NamedTuple):
    """How much larger a statistic is for the second of two ways, with a bootstrap interval."""

    value: float
    low: float
    high: float


def match(
    index: Index,
    starts: Starts,
    queries: Float[Array | np.ndarray, "q phases t d"],
    *,
    k: int = 200,
    touch: float = 0.02,
    candidates: int = 64,
    score: str = "adaptive",
) -> Answer:
    """Name the song that is most similar to each query, however little that is.

    `starts` are the rows of the database at which the songs start, and the end. A query is t
    consecutive fingerprints, taken at `phases` offsets: those of phase p start p/phases later.

    Raises ValueError as `search`, `align` and `judge` do.
    """
    queries = jnp.asarray(queries)
    hits = search(index, queries.reshape(-1, queries.shape[-1]), k=k, touch=touch)
    return judge(align(hits, queries, starts, index.database, candidates=candidates), score=score)


def align(
    hits: Hits,
    queries: Float[Array | np.ndarray, "q phases t d"],
    starts: Starts,
    source: Database | Float[Array | np.ndarray, "n d"],
    *,
    candidates: int = 64,
) -> Candidates:
    """Collect the places that the hits agree on, and compare the query with all that is there.

    `hits` are those of all fingerprints of the queries, in their order; `source` is what they are
    rows of. A hit votes for the place that it implies with log(d_k^2/d^2), as much as it is nearer
    than the last. The places with the most votes are kept. The query may stick out of a song by
    one fingerprint.

    Raises ValueError if hits and queries differ in number, for fewer than 50 hits, if the songs do
    not end where the source does, and if `candidates` < 2.
    """
    q, phases, t, _ = queries.shape
    count, k = hits.row.shape
    n = len(source.codes if isinstance(source, Database) else source)
    if count != q * phases * t:
        raise ValueError(f"hits are for {count} fingerprints, the queries have {q * phases * t}")
    if k < RANKS.stop:
        raise ValueError(f"hits has k={k} each: search for {RANKS.stop} or more")
    if starts[0] != 0 or starts[-1] != n:
        raise ValueError(
            f"starts goes from {starts[0]} to {starts[-1]}, but must from 0 to {n}, all rows"
        )
    if candidates < 2:
        raise ValueError(f"candidates={candidates} must be at least 2, for a margin")
    return _align(hits, jnp.asarray(queries), jnp.asarray(starts, jnp.int32), source, candidates)


def judge(candidates: Candidates, *, score: str = "adaptive") -> Answer:
    """Choose the best candidate, and say how much better it is than the best of another song.

    "l2": minus the mean squared distance. "adaptive": the mean of log(r^2/d^2), with r^2 the
    squared distance to the query fingerprint's 40th to 50th neighbours, small where the database
    is dense. Where no other song is a candidate, a stranger at that distance is one.

    Raises ValueError for an unknown `score`.
    """
    if score not in SCORES:
        raise ValueError(f"score={score!r}: use one of {', '.join(SCORES)}")
    return _judge(candidates, score)


def accept(answer: Answer, confidence: Confidence, threshold: float) -> Answer:
    """The answers of which one can be sure, "no match" for the others: song -1, start NaN.

    `confidence` is what is compared with the threshold: the answers' score or their margin.
    """
    sure = jnp.asarray(confidence) >= threshold
    return answer._replace(
        song=jnp.where(sure, answer.song, -1), start=jnp.where(sure, answer.start, jnp.nan)
    )


def recall_at_precision(
    confidence: Confidence, right: Truths, known: Truths, *, precision: float = 0.99
) -> float:
    """Largest share of the known songs that is named rightly, while so many answers are right.

    Over all thresholds on the confidence. `right`: the answer is the song; `known`: the song is in
    the database, so that there is a right answer. 0 if no threshold reaches the precision.
    """
    hits, wrong, strangers = _curve(confidence, right, known)
    # a count that is exactly the wanted share must not fail by rounding
    reached = hits >= precision * (hits + wrong + strangers) - 1e-9
    return float(hits[reached].max(initial=0) / np.sum(known))


def paired_bootstrap(
    statistic: Callable[[Confidence, Truths, Truths], float],
    first: tuple[Confidence, Truths],
    second: tuple[Confidence, Truths],
    known: Truths,
    *,
    seed: int,
    draws: int = 2000,
    level: float = 0.95,
) -> Difference:
    """How much larger a statistic is for the second way to answer, and how sure that is.

    Both ways, each (confidence, right), have answered the same queries, which are drawn again with
    replacement, the known and the unknown ones apart.

    Raises ValueError if `draws` < 1 or `level` is not in (0, 1), and what the statistic raises.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws={draws} must be at least 1, and level={level} between 0 and 1")
    known = np.asarray(known)
    ways = [tuple(map(np.asarray, way)) for way in (first, second)]
    groups = [np.flatnonzero(known), np.flatnonzero(~known)]
    rng = np.random.default_rng(seed)

    def difference(some):
        before, after = (statistic(c[some], right[some], known[some]) for c, right in ways)
        return after - before

    drawn = [
        difference(np.concatenate([rng.choice(g, len(g)) for g in groups])) for _ in range(draws)
    ]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Difference(difference(np.concatenate(groups)), float(low), float(high))


@partial(jax.jit, static_argnames="candidates")
def _align(hits, queries, starts, source, candidates):
    q, phases, t, _ = queries.shape
    kept = min(candidates, phases * t * hits.row.shape[1])

    def one(args):
        query, distance, row = args
        found = jnp.isfinite(distance)
        last = jnp.where(found, distance, -jnp.inf).max(2, keepdims=True)
        distance = jnp.maximum(jnp.where(found, distance, last), CLOSEST)
        vote = jnp.log(distance[:, :, -1:] / distance)
        song, place, phase = _elect(row, jnp.where(found, vote, -jnp.inf), starts, kept)
        rows = place[:, None] + jnp.arange(t)[None]
        inside = (rows >= starts[song][:, None]) & (rows < starts[song + 1][:, None])
        there = fingerprints(source, jnp.clip(rows, 0, starts[-1] - 1))
        away = jnp.square(query[phase] - there).sum(2)
        start = (place - starts[song]).astype(jnp.float32) - phase.astype(jnp.float32) / phases
        return Candidates(song, start, away, inside, distance[:, :, RANKS].mean(2)[phase])

    shape = (q, phases, t, -1)
    return lax.map(one, (queries, hits.distance.reshape(shape), hits.row.reshape(shape)))


def _elect(row, vote, starts, kept):
    """The songs, rows of their start, and phases (kept,) with the most votes; -1 is no song."""
    phases, t, k = row.shape
    phase, late = (i[..., None] for i in jnp.indices((phases, t), jnp.int32))
    song = jnp.searchsorted(starts, row, side="right").astype(jnp.int32) - 1
    place = row - late
    shared = jnp.minimum(place + t, starts[song + 1]) - jnp.maximum(place, starts[song])
    # One number for the three; the place just before a song is not in the song before it
    name = (place + t * song) * phases + phase
    name = jnp.where((vote >= 0) & (shared >= t - 1), name, NONE).ravel()
    order = jnp.argsort(name)
    name = name[order]
    opens = jnp.concatenate([jnp.ones(1, bool), name[1:] != name[:-1]])
    group = jnp.cumsum(opens) - 1
    votes = jax.ops.segment_sum(vote.ravel()[order], group, len(name))[group]
    votes, best = lax.top_k(jnp.where(opens & (name != NONE), votes, -jnp.inf), kept)
    at = order[best]
    song = jnp.where(jnp.isfinite(votes), song.ravel()[at], -1)
    return song, place.ravel()[at], (at // (t * k)).astype(jnp.int32)


@partial(jax.jit, static_argnames="score")
def _judge(candidates, score):
    song, start, distance, inside, stranger = candidates
    if score == "l2":
        each, alone = -distance, -stranger
    else:
        each = jnp.log(stranger / jnp.maximum(distance, CLOSEST))
        alone = jnp.zeros_like(each)
    known = song >= 0
    scores = jnp.where(known, _mean(each, inside), -jnp.inf)
    best = scores.argmax(1, keepdims=True)

    def of_best(x):
        return jnp.take_along_axis(x, best, 1)[:, 0]

    other = jnp.where(song != of_best(song)[:, None], scores, -jnp.inf).max(1)
    other = jnp.where(jnp.isfinite(other), other, of_best(_mean(alone, inside)))
    nothing = ~known.any(1)
    return Answer(
        of_best(song),
        jnp.where(nothing, jnp.nan, of_best(start)),
        of_best(scores),
        jnp.where(nothing, -jnp.inf, of_best(scores) - other),
    )


def _mean(x, mask):
    """Mean over the last axis, of what the mask lets pass."""
    return jnp.where(mask, x, 0).sum(-1) / jnp.maximum(mask.sum(-1, dtype=x.dtype), 1)


def _curve(confidence, right, known):
    """Right answers, wrong ones to known songs, and answers to others, as confidence falls."""
    confidence, right, known = map(np.asarray, (confidence, right, known))
    if not len(confidence) == len(right) == len(known):
        raise ValueError(
            f"confidence, right and known have lengths {len(confidence)}, {len(right)} and "
            f"{len(known)}: give one of each for each query"
        )
    if not known.any():
        raise ValueError("known is false for all: recall needs queries that are in the database")
    if np.isnan(confidence).any():
        raise ValueError("confidence has NaN: use -inf where there is no answer")
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    counted = np.stack([right & known, known & ~right, ~known])[:, order]
    return counted.cumsum(1)[:, ends]
