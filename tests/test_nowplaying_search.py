"""Search and matching of fingerprints against SciPy, scikit-learn, faiss, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.cluster.vq import vq
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn import metrics
from sklearn.cluster import KMeans

from lib.nowplaying import matching, quantisation, search
from lib.parallel import device_mesh

KEY = jax.random.key(0)
D, SONGS, PARTITIONS, BLOCK = 24, 60, 16, 8
RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(20, 40, SONGS)
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)])


def normalised(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def walk(rng, steps):
    """A song as a random walk on the sphere, so that neighbours in time are similar."""
    x = rng.normal(size=(steps, D))
    for t in range(1, steps):
        x[t] = 0.6 * x[t - 1] + 0.8 * x[t]
    return normalised(x)


X = np.concatenate([walk(RNG, steps) for steps in LENGTHS])
QUERIES = normalised(X[::37] + RNG.normal(size=X[::37].shape) / 8)


@pytest.fixture(scope="module")
def database():
    return search.build(KEY, X, partitions=PARTITIONS, code_bytes=6, levels=32)


@pytest.fixture(scope="module")
def index(database):
    return search.lay_out(database, block=BLOCK)


@pytest.fixture(scope="module")
def decoded(database):
    return np.asarray(search.fingerprints(database, np.arange(len(X))))


def assert_nearest(hits, vectors, queries, allowed=None):
    """The hits are the nearest of the vectors (of those allowed to each query), and none else."""
    true = cdist(queries, vectors, "sqeuclidean")
    if allowed is not None:
        true = np.where(allowed, true, np.inf)
    k = hits.row.shape[1]
    np.testing.assert_allclose(hits.distance, np.sort(true, 1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(true, hits.row, 1), hits.distance, atol=1e-5)
    assert all(len(set(row)) == k for row in np.asarray(hits.row).tolist())


def shared_rows(one, two):
    """The smallest number of rows that two searches share; of the last, an equal may be chosen."""
    return min(len(np.intersect1d(*both)) for both in zip(one, two, strict=True))


# Quantisation ------------------------------------------------------------------------------------


def test_lloyd_ends_where_scikit_learn_ends():
    start = X[:: len(X) // 9][:9]
    theirs = KMeans(9, init=start, n_init=1, tol=0, algorithm="lloyd").fit(X)
    ours = quantisation.lloyd(X, start, steps=theirs.n_iter_)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, atol=1e-5)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-5)
    np.testing.assert_array_equal(quantisation.nearest(X, ours.centroids), theirs.labels_)


def test_a_centroid_without_vectors_finds_some():
    centres = np.float32([[0, 0], [9, 0], [0, 9], [9, 9]])
    x = np.concatenate([c + RNG.normal(size=(30, 2)).astype(np.float32) / 10 for c in centres])
    lost = np.concatenate([centres[:3], [[500, 500]]]).astype(np.float32)
    found = quantisation.lloyd(x, lost, steps=5).centroids
    np.testing.assert_allclose(found, x.reshape(4, 30, 2).mean(1), atol=1e-4)
    both = np.concatenate([centres[:2], np.full((2, 2), 500)]).astype(np.float32)
    found = quantisation.lloyd(x, both, steps=5).centroids
    assert np.bincount(quantisation.nearest(x, found), minlength=4).min() > 0


def test_normal_numbers_are_quantised_as_well_as_possible():
    """Table I of Max (1960), Quantizing for minimum distortion: 0.03454 with 8 levels."""
    p = (np.arange(20_000) + 0.5) / 20_000
    x = norm.ppf(p)[:, None].astype(np.float32)
    codebooks = quantisation.train_codebooks(KEY, x, code_bytes=1, levels=8, steps=60)
    back = quantisation.decode(codebooks, quantisation.encode(codebooks, x))
    np.testing.assert_allclose(np.square(x - back).mean(), 0.03454, rtol=0.01)


def test_codes_are_those_of_scipy_and_survive_decoding():
    errors = []
    for code_bytes in (6, 12):
        codebooks = quantisation.train_codebooks(KEY, X, code_bytes=code_bytes, levels=32)
        codes = quantisation.encode(codebooks, X)
        parts = np.split(X, code_bytes, 1)
        truth = np.stack([vq(part, book)[0] for part, book in zip(parts, codebooks, strict=True)])
        assert codes.dtype == jnp.uint8 and codes.shape == (len(X), code_bytes)
        np.testing.assert_array_equal(codes, truth.T)
        some = RNG.integers(0, 32, (500, code_bytes)).astype(np.uint8)
        again = quantisation.encode(codebooks, quantisation.decode(codebooks, some))
        np.testing.assert_array_equal(again, some)
        errors.append(np.square(X - quantisation.decode(codebooks, codes)).sum(1).mean())
    assert errors[1] < errors[0] < 1  # without a code, it would be 1


def test_many_vectors_are_cut_into_chunks_without_a_trace(monkeypatch):
    books = quantisation.train_codebooks(KEY, X, code_bytes=2, levels=4, steps=1)
    before = quantisation.encode(books, X), quantisation.nearest(X, X[:5])
    jax.clear_caches()
    monkeypatch.setattr(quantisation, "CHUNK", 100)
    np.testing.assert_array_equal(quantisation.encode(books, X), before[0])
    np.testing.assert_array_equal(quantisation.nearest(X, X[:5]), before[1])
    jax.clear_caches()


def test_a_song_of_250_seconds_has_3000_bytes_of_codes():
    assert quantisation.song_bytes(250) == (3000, 0)
    packed = quantisation.song_bytes(240, partitions=1024)
    assert packed == (2880, 300) and packed.total == 3180
    assert quantisation.song_bytes(10, code_bytes=8, partitions=1000, per_second=2) == (160, 25)


# Search ------------------------------------------------------------------------------------------


def test_an_exhaustive_search_is_that_of_the_decoded_fingerprints(index, decoded):
    hits = search.search(index, QUERIES, k=60, touch=1)
    assert_nearest(hits, decoded, QUERIES)
    np.testing.assert_array_equal(hits.touched, 1)


def test_an_exact_search_is_that_of_the_fingerprints():
    assert_nearest(search.search_exact(X, QUERIES, k=60), X, QUERIES)


@pytest.mark.parametrize("touch", [0.03, 0.1, 0.5])
def test_a_search_looks_at_the_blocks_of_the_nearest_partitions(index, database, decoded, touch):
    allowed = np.zeros((len(QUERIES), len(X)), bool)
    partition = np.asarray(database.partition)
    for seen, away in zip(allowed, cdist(QUERIES, database.centroids), strict=True):
        left = int(touch * len(X) / BLOCK)
        for p in np.argsort(away):
            rows = np.flatnonzero(partition == p)
            seen[rows[: left * BLOCK]] = True
            left = max(0, left - -(-len(rows) // BLOCK))
    hits = search.search(index, QUERIES, k=20, touch=touch)
    assert_nearest(hits, decoded, QUERIES, allowed)
    np.testing.assert_allclose(hits.touched, allowed.mean(1), rtol=1e-6)
    assert hits.touched.max() <= touch


def test_empty_partitions_do_not_count(database, index):
    unused = jnp.tile(database.centroids, (10, 1))  # as near as those that have members, and first
    more = jnp.concatenate([unused, database.centroids])
    holes = database._replace(centroids=more, partition=database.partition + len(unused))
    with_holes, without = (
        search.search(i, QUERIES, k=20, touch=0.03)
        for i in (search.lay_out(holes, block=BLOCK), index)
    )
    np.testing.assert_array_equal(with_holes.row, without.row)
    np.testing.assert_array_equal(with_holes.touched, without.touched)


def test_two_devices_find_what_one_finds(index, database):
    mesh = device_mesh("rows")
    shared = search.lay_out(database, block=BLOCK, mesh=mesh)
    assert {piece.data.shape[2] for piece in shared.codes.addressable_shards} == {BLOCK // 2}
    for touch, k in ((0.1, 20), (1, 60)):
        one, two = (search.search(i, QUERIES, k=k, touch=touch) for i in (index, shared))
        np.testing.assert_allclose(one.distance, two.distance, atol=1e-6)
        np.testing.assert_array_equal(one.touched, two.touched)
        assert shared_rows(one.row, two.row) >= k - 1
    with pytest.raises(ValueError, match="block=7 must be a positive multiple of the devices, 2"):
        search.lay_out(database, block=7, mesh=mesh)


def test_faiss_finds_the_same_with_our_tables(index, database):
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    centroids, codebooks = np.asarray(database.centroids), np.asarray(database.codebooks)
    m, levels, _ = codebooks.shape
    assert levels == 32
    quantiser = faiss.IndexFlatL2(D)
    quantiser.add(centroids)
    theirs = faiss.IndexIVFPQ(quantiser, D, PARTITIONS, m, 5)
    faiss.copy_array_to_vector(codebooks.ravel(), theirs.pq.centroids)
    theirs.is_trained = True
    theirs.add(X)
    theirs.nprobe = PARTITIONS
    distance, row = theirs.search(QUERIES, 50)
    ours = search.search(index, QUERIES, k=50, touch=1)
    np.testing.assert_allclose(ours.distance, distance, rtol=1e-5, atol=1e-6)
    assert shared_rows(ours.row, row) >= 49


# Matching ----------------------------------------------------------------------------------------

T = 6
PLACES = [(s, o) for s in range(SONGS) for o in range(-1, LENGTHS[s] - T + 2)]


def cut(song, start, *, phases=1, vectors=X):
    """A query of T fingerprints that starts there; phases between the rows are means of two."""
    rows = STARTS[song] + start + np.arange(T)
    late = np.arange(phases)[:, None, None] / phases
    return normalised((1 - late) * vectors[rows] + late * vectors[np.minimum(rows + 1, len(X) - 1)])


@pytest.fixture(scope="module", params=matching.SCORES)
def answer_to(request, index):
    def ask(queries, **setting):
        return matching.match(
            index, STARTS, np.stack(queries), k=60, touch=0.1, score=request.param, **setting
        )

    return ask


def test_a_clip_of_a_song_is_found_where_it_was_cut(answer_to):
    song, start = np.arange(SONGS), RNG.integers(0, LENGTHS - T + 1)
    found = answer_to([cut(s, o) for s, o in zip(song, start, strict=True)])
    np.testing.assert_array_equal(found.song, song)
    np.testing.assert_array_equal(found.start, start)
    assert found.margin.min() > 0


def test_a_query_between_two_rows_starts_there(answer_to):
    song = np.arange(SONGS)
    between = [[cut(s, 4, phases=2)[1], cut(s, 5)[0]] for s in song]
    found = answer_to(between)
    np.testing.assert_array_equal(found.song, song)
    np.testing.assert_array_equal(found.start, 4.5)


def test_a_query_may_stick_out_of_a_song_but_is_never_in_two(answer_to):
    stranger = normalised(RNG.normal(size=(1, D)))
    queries, starts = [], []
    for s in range(0, SONGS, 2):
        before = np.concatenate([stranger, X[STARTS[s] : STARTS[s] + T - 1]])
        after = np.concatenate([X[STARTS[s + 1] - T + 1 : STARTS[s + 1]], stranger])
        queries += [before[None], after[None]]
        starts += [-1, LENGTHS[s] - T + 1]
    found = answer_to(queries)
    np.testing.assert_array_equal(found.song, np.repeat(np.arange(0, SONGS, 2), 2))
    np.testing.assert_array_equal(found.start, starts)
    half = [X[None, end - T // 2 : end + T // 2] for end in STARTS[[1, *range(1, SONGS)]]]
    assert found.score.min() > answer_to(half).score.max()


def test_scores_are_those_of_their_formulas(index, decoded):
    queries = np.stack([cut(s, 3) for s in range(20)])
    queries = normalised(queries + RNG.normal(size=queries.shape) / 8)
    flat = queries.reshape(-1, D)
    hits = search.search(index, flat, k=60, touch=1)
    found = matching.align(hits, queries, STARTS, index.database)
    rank = np.sort(cdist(flat, decoded, "sqeuclidean"), 1)[:, 39:50].mean(1).reshape(-1, 1, T)
    np.testing.assert_allclose(found.stranger, np.broadcast_to(rank, found.stranger.shape), 1e-4)
    distance = np.stack([cdist(q[0], decoded, "sqeuclidean") for q in queries])
    for score in matching.SCORES:
        scores = np.full((len(queries), SONGS), -np.inf)
        for s, o in PLACES:
            inside = [t for t in range(T) if 0 <= o + t < LENGTHS[s]]
            d = distance[:, inside, [STARTS[s] + o + t for t in inside]]
            each = np.log(rank[:, 0, inside] / d) if score == "adaptive" else -d
            scores[:, s] = np.maximum(scores[:, s], each.mean(1))
        ours = matching.judge(found, score=score)
        np.testing.assert_array_equal(ours.song, scores.argmax(1))
        np.testing.assert_allclose(ours.score, scores.max(1), atol=1e-4)
        # the best other song may not have been a candidate: then the margin is too large
        margin = scores.max(1) - np.sort(scores, 1)[:, -2]
        assert (ours.margin >= margin - 1e-4).all()
        assert np.mean(np.abs(ours.margin - margin) < 1e-4) > 0.5


def test_without_another_song_a_stranger_takes_its_place():
    one = matching.Candidates(
        song=jnp.array([[3, 3, -1]]),
        start=jnp.array([[0.0, 7, 0]]),
        distance=jnp.array([[[0.1, 0.4], [0.5, 0.5], [0.0, 0.0]]]),
        inside=jnp.array([[[True, True], [True, True], [True, True]]]),
        stranger=jnp.array([[[0.8, 0.8], [0.8, 0.8], [0.8, 0.8]]]),
    )
    l2, adaptive = (matching.judge(one, score=score) for score in ("l2", "adaptive"))
    np.testing.assert_allclose([l2.score[0], l2.margin[0]], [-0.25, 0.55], rtol=1e-6)
    np.testing.assert_allclose([adaptive.score[0], adaptive.margin[0]], np.log(4), rtol=1e-6)
    none = matching.judge(one._replace(song=jnp.full((1, 3), -1)))
    assert none.song[0] == -1 and np.isnan(none.start[0])
    assert none.score[0] == none.margin[0] == -np.inf


def test_an_unsure_answer_is_none():
    found = matching.Answer(*map(jnp.asarray, ([4, 5, 6], [1.0, 2, 3], [0.1, 0.9, 0.5], [1.0] * 3)))
    sure = matching.accept(found, found.score, 0.5)
    np.testing.assert_array_equal(sure.song, [-1, 5, 6])
    np.testing.assert_array_equal(sure.start, [np.nan, 2, 3])
    np.testing.assert_array_equal(matching.accept(found, found.margin, 2).song, -1)


def test_unquantised_fingerprints_are_matched_likewise():
    queries = np.stack([cut(s, 2) for s in range(10)])
    hits = search.search_exact(X, queries.reshape(-1, D), k=50)
    found = matching.judge(matching.align(hits, queries, STARTS, X), score="l2")
    np.testing.assert_array_equal(found.song, np.arange(10))
    np.testing.assert_allclose(found.score, 0, atol=1e-5)


# Precision and recall ----------------------------------------------------------------------------

answers = st.integers(5, 40).flatmap(
    lambda n: st.tuples(
        st_numpy.arrays(np.int64, n, elements=st.integers(0, 8)),  # with ties
        st_numpy.arrays(bool, n),
        st_numpy.arrays(bool, n),
    )
)


@settings(max_examples=200, deadline=None)
@given(answers, st.sampled_from([0.5, 0.75, 0.9]))
def test_precision_and_recall_are_those_of_scikit_learn(answers, level):
    confidence, right, known = answers
    confidence, known = confidence / 8, np.append(known[:-2], [True, False])
    right = right & known
    share = right.sum() / known.sum()
    precision, recall = np.ones(1), np.zeros(1)
    if right.any():
        precision, recall, _ = metrics.precision_recall_curve(right, confidence)
    reached = recall[precision >= level - 1e-9].max() * share
    ours = matching.recall_at_precision(confidence, right, known, precision=level)
    np.testing.assert_allclose(ours, reached)


def test_the_bootstrap_has_the_closed_form_s_width():
    n = 400
    known = np.ones(n, bool)
    first, second = RNG.random((2, n)) < [[0.5], [0.7]]
    change = second.astype(float) - first

    def share(confidence, right, known):
        return float(right.mean())

    ways = ((np.zeros(n), first), (np.zeros(n), second))
    found = matching.paired_bootstrap(share, *ways, known, seed=0, draws=4000)
    half = 1.96 * change.std() / np.sqrt(n)
    np.testing.assert_allclose(found.value, change.mean(), atol=1e-12)
    np.testing.assert_allclose([found.low, found.high], change.mean() + [-half, half], atol=0.01)


def test_the_bootstrap_keeps_the_numbers_of_known_and_unknown_songs():
    known = np.arange(30) < 11
    seen = []

    def count(confidence, right, known):
        seen.append(known.sum())
        return 0.0

    way = (np.zeros(30), known)
    matching.paired_bootstrap(count, way, way, known, seed=0, draws=5)
    assert set(seen) == {11}


# Bad input ---------------------------------------------------------------------------------------

HITS = search.Hits(jnp.zeros((6, 50)), jnp.zeros((6, 50), jnp.int32), jnp.ones(6))
QUERY = np.zeros((1, 1, 6, D), np.float32)
TRUE, FALSE = np.ones(3, bool), np.zeros(3, bool)
WAY = np.zeros(3), TRUE
BAD = [
    (lambda i: quantisation.kmeans(KEY, X, 0), "k=0 must lie between 1 and"),
    (lambda i: quantisation.kmeans(KEY, X[:4], 5), "k=5 must lie between 1 and 4"),
    (lambda i: quantisation.lloyd(X, X[:2], steps=-1), "steps=-1 must be at least 0"),
    (lambda i: quantisation.lloyd(X[:2], X[:3], steps=1), "start has 3 centroids for 2 vectors"),
    (lambda i: quantisation.train_codebooks(KEY, X, code_bytes=5), "code_bytes=5 must divide 24"),
    (lambda i: quantisation.train_codebooks(KEY, X, levels=257), "levels=257 .* between 2 and 256"),
    (lambda i: quantisation.train_codebooks(KEY, X[:9]), "levels=256 .* between 2 and 9"),
    (
        lambda i: quantisation.encode(i.database.codebooks, X[:, :6]),
        "x has vectors of 6 numbers, but the codebooks are for 24",
    ),
    (lambda i: search.lay_out(i.database, block=0), "block=0 must be a positive multiple"),
    (lambda i: search.search(i, QUERIES[:, :5]), "queries have 5 numbers each, the .* 24"),
    (lambda i: search.search(i, QUERIES, k=0), "k=0 must be at least 1"),
    (lambda i: search.search(i, QUERIES, k=1, touch=1.5), "touch=1.5 must lie between .* and 1"),
    (lambda i: search.search(i, QUERIES, k=1, touch=1e-4), "touch=0.0001 must lie between"),
    (lambda i: search.search(i, QUERIES, k=60, touch=0.02), "touch=0.02 .* blocks of 8 for k=60"),
    (lambda i: search.search_exact(X[:9], QUERIES, k=10), "k=10 must be at most 9"),
    (
        lambda i: matching.align(HITS, QUERY[:, :, 1:], STARTS, X),
        "hits are for 6 fingerprints, the queries have 5",
    ),
    (
        lambda i: matching.align(jax.tree.map(lambda a: a[..., :6], HITS), QUERY, STARTS, X),
        "hits has k=6 each: search for 50 or more",
    ),
    (lambda i: matching.align(HITS, QUERY, STARTS[:-1], X), "starts goes from 0 to .* all rows"),
    (lambda i: matching.align(HITS, QUERY, STARTS, X, candidates=1), "candidates=1 must be at"),
    (
        lambda i: matching.match(i, STARTS, QUERY, k=60, touch=1, score="cosine"),
        "score='cosine': use one of adaptive, l2",
    ),
    (lambda i: matching.recall_at_precision(np.zeros(2), TRUE, TRUE), "lengths 2, 3 and 3"),
    (lambda i: matching.recall_at_precision(np.zeros(3), TRUE, FALSE), "known is false for all"),
    (lambda i: matching.recall_at_precision(np.full(3, np.nan), TRUE, TRUE), "confidence has NaN"),
    (
        lambda i: matching.paired_bootstrap(max, WAY, WAY, TRUE, seed=0, draws=0),
        "draws=0 must be at least 1",
    ),
]


@pytest.mark.parametrize("call, message", BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named_in_one_line(index, call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call(index)
    assert "\n" not in str(raised.value)
