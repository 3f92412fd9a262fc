"""Federated Select against plain NumPy, the paper's arithmetic, FedAvg, and its own identities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import furthest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit

from lib import fedavg
from lib.fedselect import keys, primitive, submodels, tags
from lib.fedselect.ledger import Ledger, ledger
from lib.fedselect.transformer import MiniTransformer

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SPACE = 7
CHOSEN = np.array([[6, 0, 3], [3, 3, 7], [7, 7, 7], [1, 3, 0]])  # 7 is padding, 3 is repeated


mean_under_jit = jax.jit(primitive.deselect_mean, static_argnames=("space", "normalise"))


# The primitive -----------------------------------------------------------------------------------


def test_select_serves_every_client_in_the_order_of_its_keys():
    x = {"w": RNG.normal(size=(SPACE, 2)).astype(np.float32), "id": np.arange(SPACE)}

    def quantised(x, k):
        return {"w": jnp.round(10 * x["w"][k]).astype(jnp.int8), "k": k}

    plain, coarse = primitive.fed_select(x, CHOSEN), primitive.fed_select(x, CHOSEN, quantised)
    assert coarse["w"].dtype == jnp.int8
    for n, k in np.ndindex(CHOSEN.shape):
        key = CHOSEN[n, k]
        w = x["w"][key] if key < SPACE else np.zeros(2)
        np.testing.assert_array_equal(plain["w"][n, k], w)
        np.testing.assert_array_equal(coarse["w"][n, k], np.round(10 * w))
        assert plain["id"][n, k] == coarse["k"][n, k] == (key if key < SPACE else 0)


def test_broadcast_is_a_selection_and_joins_one():
    x, y = jnp.arange(float(SPACE)), jnp.arange(3.0)
    np.testing.assert_array_equal(primitive.broadcast(y, 4), np.tile(y, (4, 1)))
    own = CHOSEN[[0, 3]]

    def both(xy, k):
        return primitive.row(xy[0], k), xy[1]

    slices, whole = primitive.fed_select((x, y), own, both, space=SPACE)
    np.testing.assert_array_equal(slices, primitive.fed_select(x, own))
    np.testing.assert_array_equal(whole[:, 0], primitive.broadcast(y, 2))


def test_two_selections_merge_into_one():
    x, y = jnp.arange(float(SPACE)), RNG.normal(size=(4, 2)).astype(np.float32)
    other = np.array([[1, 3, 0], [2, 4, 0], [0, 1, 2], [3, 3, 3]])
    merged = primitive.merge_keys(CHOSEN, other, (SPACE, 4))
    psi = primitive.merge_psi(primitive.row, primitive.row, 4)
    first, second = primitive.fed_select((x, y), merged, psi, space=SPACE * 4)
    real = (CHOSEN < SPACE) & (other < 4)
    np.testing.assert_array_equal(merged == SPACE * 4, ~real)
    np.testing.assert_array_equal(first, np.where(real, primitive.fed_select(x, CHOSEN), 0))
    truth = np.where(real[..., None], primitive.fed_select(y, other), 0)
    np.testing.assert_array_equal(second, truth)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, SPACE), min_size=20, max_size=20),
    st.sampled_from(primitive.NORMALISATIONS),
    st.booleans(),
)
def test_deselected_mean_equals_numpy(chosen, normalise, weighted):
    chosen = np.reshape(chosen, (4, 5))
    updates = np.random.default_rng(chosen.sum()).normal(size=(4, 5, 2)).astype(np.float32)
    weights = np.float32([1, 4, 2, 0.5]) if weighted else None
    each = np.ones(4) if weights is None else weights
    total, counts = np.zeros((SPACE + 1, 2)), np.zeros(SPACE + 1)
    for own, update, weight in zip(chosen, updates, each, strict=True):
        np.add.at(total, own, weight * update)  # a repeated key adds ...
        counts[np.unique(own)] += weight  # ... but its client counts once
    below = each.sum() if normalise == "cohort" else np.maximum(counts, 1e-9)[:SPACE, None]
    ours = mean_under_jit(updates, chosen, space=SPACE, normalise=normalise, weights=weights)
    np.testing.assert_allclose(ours, total[:SPACE] / below, atol=1e-5)


@pytest.mark.parametrize("normalise", primitive.NORMALISATIONS)
def test_deselect_undoes_select_on_what_was_selected(normalise):
    x = RNG.normal(size=(SPACE, 3)).astype(np.float32)
    own = np.array([[5, 1], [1, 4]])
    once = {"cohort": [0, 2, 0, 0, 1, 1, 0], "count": [0, 1, 0, 0, 1, 1, 0]}[normalise]
    clients = 2 if normalise == "cohort" else 1
    back = primitive.deselect_mean(primitive.fed_select(x, own), own, SPACE, normalise=normalise)
    np.testing.assert_allclose(back * clients, np.array(once)[:, None] * x, rtol=1e-6)


@pytest.mark.parametrize("bad", [-1, -SPACE, SPACE + 1, 2**31 - 1])
def test_keys_out_of_range_raise_and_bring_nothing_under_jit(bad):
    x, own = jnp.arange(1.0, SPACE + 1), np.array([[2, bad]], np.int32)
    with pytest.raises(ValueError, match=f"keys has {bad}, outside 0 .. 6"):
        primitive.fed_select(x, own)
    with pytest.raises(ValueError, match=f"keys has {bad}, outside 0 .. 6"):
        primitive.deselect_mean(jnp.ones((1, 2)), own, SPACE)
    np.testing.assert_array_equal(jax.jit(primitive.fed_select)(x, own), [[3, 0]])
    for normalise in primitive.NORMALISATIONS:
        mean = mean_under_jit(jnp.ones((1, 2)), own, space=SPACE, normalise=normalise)
        np.testing.assert_array_equal(mean, np.arange(SPACE) == 2)


def test_every_mean_divides_by_what_denominator_says(monkeypatch, bag):
    def means():
        jax.clear_caches()
        updates = jnp.ones((len(CHOSEN), 3))
        yield primitive.deselect_mean(updates, CHOSEN, SPACE, normalise="count")
        yield jax.tree.map(jnp.subtract, linear_round(normalise="count")[0], LINE)["w"]
        plain = optax.sgd(1.0)
        setting = dict(seed=0, rounds=1, m=3, cohort=4, server=plain, normalise="count")
        yield from tags.train_tagger(tags.group_clients(bag), bag, **setting).model

    right = list(means())
    true = primitive.denominator
    monkeypatch.setattr(primitive, "denominator", lambda *a: 2 * true(*a))
    for mean, halved in zip(right, means(), strict=True):
        assert float(jnp.abs(mean).max()) > 1e-3
        np.testing.assert_allclose(2 * halved, mean, atol=1e-6)
    jax.clear_caches()


# Keys --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts():
    """Thirty clients with up to 40 of 60 features."""
    rng = np.random.default_rng(1)
    table = rng.poisson(3, (30, 60)) * (rng.random((30, 60)) < np.linspace(0, 0.7, 30)[:, None])
    return table


def test_top_keys_are_the_most_frequent_of_a_client(counts):
    wanted = RNG.integers(1, 30, len(counts))
    ours = keys.top_keys(sparse.csr_array(counts), wanted)
    for own, row, m in zip(ours, counts, wanted, strict=True):
        truth = sorted(np.flatnonzero(row), key=lambda k: (-row[k], k))[:m]
        assert own[own < 60].tolist() == truth and (own[len(truth) :] == 60).all()
    np.testing.assert_array_equal(keys.top_keys(counts, 10), keys.top_keys(counts, 60)[:, :10])


@pytest.mark.parametrize("policy", ["random_top", "random_local", "random_global", "shared"])
def test_random_keys_are_different_ones_of_the_right_pool(counts, policy):
    wanted = np.where(np.arange(len(counts)) % 2, 4, 9)
    draw = partial(getattr(keys, policy), counts=counts)
    ours = draw(np.random.default_rng(1), m=wanted)
    for own, row, m in zip(ours, counts, wanted, strict=True):
        pool = {
            "random_top": sorted(np.flatnonzero(row), key=lambda k: (-row[k], k))[: 2 * m],
            "random_local": np.flatnonzero(row),
        }.get(policy, np.arange(60))
        real = own[own < 60]
        assert len(set(real)) == len(real) == min(m, len(pool)) and set(real) <= set(pool)
    many = np.stack([draw(np.random.default_rng(s), m=4)[-1] for s in range(400)])
    pool = {"random_top": 8, "random_local": (counts[-1] > 0).sum()}.get(policy, 60)
    hits = np.bincount(many.ravel(), minlength=61)[:60]
    assert (hits > 0).sum() == pool and np.abs(hits[hits > 0] / 400 - 4 / pool).max() < 0.2


def test_shared_keys_are_the_same_and_random_keys_a_clients_own():
    ids = np.array([3, 0, 8])
    draw = jax.jit(partial(keys.random_keys, KEY, space=50, m=np.array([5, 2, 4]), most=5))
    ours = np.asarray(draw(ids))
    np.testing.assert_array_equal((ours < 50).sum(1), [5, 2, 4])
    alone = keys.random_keys(KEY, np.array([8]), 50, 5)
    np.testing.assert_array_equal(ours[2, :4], alone[0, :4])
    same = keys.random_keys(KEY, ids, 50, 5, shared=True)
    assert (np.asarray(same) == np.asarray(same)[0]).all() and len(set(ours[0])) == 5
    assert set(ours[0]) != set(np.asarray(same)[0])


def test_local_ids_are_positions_among_the_keys():
    features = RNG.integers(0, SPACE + 1, (len(CHOSEN), 5, 2))
    ours = keys.local_ids(features, CHOSEN, SPACE)
    for n, own in enumerate(CHOSEN):
        where = {k: i for i, k in enumerate(own) if k < SPACE}
        truth = [[where.get(f, 3) for f in pair] for pair in features[n].tolist()]
        np.testing.assert_array_equal(ours[n], truth)
    assert keys.distinct(CHOSEN, SPACE) == 4


# What a round costs ------------------------------------------------------------------------------


def test_ledger_of_a_case_counted_by_hand():
    # two clients want 3 and 2 of 10 slices of 8 bytes, one in common; 4 bytes go to both
    case = dict(
        keys_per_client=np.array([3, 2]), space=10, distinct=4, slice_bytes=8, shared_bytes=4
    )
    sparse_up = 5 * 8 + 5 * 4 + 2 * 4
    assert ledger("broadcast", **case) == Ledger(168, sparse_up, 0, 0, 0, 0, 84.0, "nobody")
    assert ledger("on_demand", **case) == Ledger(48, sparse_up, 20, 5, 1, 0, 24.0, "the server")
    assert ledger("pregenerated", **case, aggregation="dense") == Ledger(
        48, 168, 20, 10, 0, 6, 24.0, "the cache"
    )


# Client models -----------------------------------------------------------------------------------

PAPER = [
    (fedavg.TwoNN, submodels.TWO_NN, {10: 22_512, 50: 61_912, 100: 111_162, 200: 209_662}),
    (
        fedavg.MnistCNN,
        submodels.MNIST_CNN,
        {4: 136_706, 8: 240_262, 16: 447_374, 32: 861_598, 64: 1_690_046},
    ),
]  # Tables 2 and 3: their relative sizes, counted out
RELATIVE = {10: 0.11, 50: 0.30, 100: 0.53, 4: 0.08, 8: 0.14, 16: 0.26, 32: 0.51}


@pytest.mark.parametrize("network, spec, sizes", PAPER)
def test_submodels_have_the_papers_sizes(network, spec, sizes):
    model = jax.eval_shape(partial(network, classes=62), KEY)
    group = spec[0].group
    for m, size in sizes.items():
        assert submodels.submodel_size(model, spec, {group: m}) == size
        relative = submodels.relative_size(model, spec, {group: m})
        assert round(relative, 2) == RELATIVE.get(m, 1.0)
    some = max(sizes) // 4
    own = np.arange(some)[None]
    cut = jax.eval_shape(lambda k: submodels.cut_models(network(k), spec, {group: own}), KEY)
    whole = jax.eval_shape(network, KEY)
    held = submodels.submodel_size(whole, spec, {group: some})
    assert fedavg.count_params(cut) == held


IMAGES = RNG.integers(0, 255, (5, 8, 8)).astype(np.uint8)
WORDS = RNG.integers(0, 30, (3, 6))
small_transformer = partial(
    MiniTransformer, vocab=30, embed=4, width=8, neurons=16, heads=2, length=6
)


@pytest.mark.parametrize(
    "network, spec, x, group, space",
    [
        (partial(fedavg.TwoNN, inputs=64, hidden=12), submodels.TWO_NN, IMAGES, "neurons", 12),
        (partial(fedavg.MnistCNN, side=8), submodels.MNIST_CNN, IMAGES, "filters", 64),
        (small_transformer, submodels.TRANSFORMER, WORDS, "neurons", 16),
    ],
)
def test_a_cut_model_speaks_as_the_whole_with_the_rest_silent(network, spec, x, group, space):
    model = jax.tree.map(lambda w: w + 0.1, network(KEY))  # biases start at zero
    chosen = [RNG.permutation(space)[:5], RNG.permutation(space)[:3]]
    cut = submodels.cut_models(model, spec, {group: primitive.pad_keys(chosen, space)})
    outgoing = [c.leaf for c in spec if c.outgoing and c.group == group]
    for n, own in enumerate(chosen):
        silent = np.ones(space)
        silent[own] = 0

        def hush(path, leaf, silent=silent):
            if path not in outgoing:
                return leaf
            return jnp.where(jnp.asarray(np.resize(silent, len(leaf)) > 0)[:, None], 0, leaf)

        truth = submodels._map_named(hush, model)(x)
        mine = jax.tree.map(lambda leaf, n=n: leaf[n], cut)
        np.testing.assert_allclose(mine(x), truth, rtol=1e-5, atol=1e-4)


def test_a_client_without_a_word_gives_it_no_probability():
    model = MiniTransformer(KEY, vocab=9, embed=4, width=8, neurons=6, heads=2, length=5)
    own = primitive.pad_keys([[4, 2, 7], [1]], 9)
    cut = submodels.cut_models(model, submodels.TRANSFORMER, {"words": own})
    x = np.array([[4, 2, 2, 9, 7]])
    local = keys.local_ids(np.concatenate([x, x]), own, 9)
    for n in range(2):
        scores = jax.tree.map(lambda leaf, n=n: leaf[n], cut)(local[n : n + 1])
        if n == 0:
            np.testing.assert_allclose(scores, model(x)[..., own[0]], atol=1e-5)
        else:
            assert np.asarray(jax.nn.softmax(scores))[..., 0].min() == 1


def test_transformer_sees_no_word_of_the_future():
    model = small_transformer(KEY)
    x = RNG.integers(0, 30, (4, 6))
    changed = x.copy()
    changed[:, 4] = (x[:, 4] + 1) % 30
    before, after = np.asarray(model(x)), np.asarray(model(changed))
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert np.abs(before[:, 4:] - after[:, 4:]).max((1, 2)).min() > 1e-3


@pytest.fixture(scope="module")
def digits():
    """Six equal clients with images of 6 x 6, and a small 2NN for them."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 10, 120).astype(np.uint8)
    x = (rng.integers(0, 60, (120, 6, 6)) + 15 * y[:, None, None]).astype(np.uint8)
    federation = fedavg.pack(x, y, np.split(np.arange(120), 6))
    return federation, fedavg.TwoNN(KEY, inputs=36, hidden=16), (x, y)


def two_nn(**options):
    return dict(spec=submodels.TWO_NN, lr=0.1, batch=8) | options


@pytest.mark.parametrize("normalise", primitive.NORMALISATIONS)
def test_with_all_keys_it_is_federated_averaging(digits, normalise):
    federation, model, _ = digits
    ids = np.array([4, 0, 3])
    setting = two_nn(random={"neurons": 16}, normalise=normalise)
    mean = submodels.submodel_round(model, federation, ids, KEY, **setting)
    training = jax.random.split(KEY)[1]
    truth = fedavg.fedavg_round(model, federation, ids, training, lr=0.1, epochs=1, batch=8)
    assert furthest(jax.tree.map(jnp.add, model, mean), truth) < 1e-5
    assert furthest(model, truth) > 1e-2


LINE = {"w": np.zeros(SPACE, np.float32)}


def linear_loss(model, x, y, mask):
    """Half the squared error of a sum of the weights that belong to features."""
    error = model["w"].at[x].get(mode="fill", fill_value=0).sum(1) - y[:, 0].astype(jnp.float32)
    return 0.5 * (mask * error**2).sum() / mask.sum()


def linear_round(**options):
    """A round of linear regression in which clients have words as keys; and its data."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, SPACE + 1, (4, 5, 3))
    y = rng.integers(0, SPACE, (4, 5, 1))
    federation = fedavg.Federation(x, y, np.full(4, 5, np.int32))
    setting = dict(
        spec=(submodels.Axis("w", "words", 0),), structured={"words": CHOSEN}, read="words",
        lr=0.1, batch=None, epochs=2, loss=linear_loss,
    )  # fmt: skip
    order = options.pop("ids", np.arange(4))
    return submodels.submodel_round(LINE, federation, order, KEY, **setting | options), x, y


@pytest.mark.parametrize("normalise", primitive.NORMALISATIONS)
def test_a_round_with_structured_keys_equals_numpy(normalise):
    mean, x, y = linear_round(normalise=normalise)
    total, counts = np.zeros(SPACE), np.zeros(SPACE)
    for own, words, targets in zip(CHOSEN, x, y, strict=True):
        own = own[own < SPACE]
        where = {k: i for i, k in enumerate(own)}  # the last of repeated keys, as `local_ids`
        bag = np.zeros((5, len(own)))
        for row, word in np.ndindex(words.shape):
            if words[row, word] in where:
                bag[row, where[words[row, word]]] += 1
        # a target that was not selected reads -1
        target = np.array([where.get(t, -1) for t in targets[:, 0]])
        w = np.zeros(len(own))
        for _ in range(2):
            w -= 0.1 * bag.T @ (bag @ w - target) / 5
        np.add.at(total, own, w)
        counts[np.unique(own)] += 1
    below = 4 if normalise == "cohort" else np.maximum(counts, 1)
    assert np.abs(total).max() > 0.1
    np.testing.assert_allclose(mean["w"], total / below, atol=1e-5)


def test_rounds_depend_neither_on_the_order_of_clients_nor_on_how_they_run(digits):
    federation, model, _ = digits
    m = np.array([3, 16, 5, 8, 1, 2])  # phones of many sizes
    setting = two_nn(random={"neurons": m}, normalise="count", rescale=True)
    run = partial(submodels.submodel_round, model, federation, key=KEY, **setting)
    mean = run(ids=np.array([0, 2, 4, 5]), clients="scan")
    assert furthest(mean, run(ids=np.array([5, 0, 4, 2]), clients="scan")) < 1e-6
    assert furthest(mean, run(ids=np.array([0, 2, 4, 5]), clients="vmap")) < 1e-5
    assert furthest(mean, jax.tree.map(jnp.zeros_like, mean)) > 1e-3


def test_shared_keys_move_the_same_neurons_of_all_clients(digits):
    federation, model, _ = digits
    ids, most = np.arange(6), {"neurons": 4}
    shared = {
        normalise: submodels.submodel_round(
            model, federation, ids, KEY,
            **two_nn(random=most, shared=True, normalise=normalise),
        )
        for normalise in primitive.NORMALISATIONS
    }  # fmt: skip
    assert furthest(*shared.values()) < 1e-6
    moved = np.abs(shared["count"].layers[1].weight).max(1) > 0
    assert 1 <= moved.sum() <= 4
    own = submodels.submodel_round(model, federation, ids, KEY, **two_nn(random=most))
    assert (np.abs(own.layers[1].weight).max(1) > 0).sum() > 4


def test_rescaling_multiplies_what_the_selected_neurons_say(digits):
    federation, model, _ = digits
    setting = two_nn(batch=None, epochs=3, random={"neurons": 4}, rescale=True)
    mean = submodels.submodel_round(model, federation, np.array([1]), KEY, **setting)
    selecting = jax.random.fold_in(jax.random.split(KEY)[0], 0)
    own = np.asarray(keys.random_keys(selecting, np.array([1]), 16, 4))[0]
    x = fedavg.networks.pixels(federation.x[1]).reshape(20, -1)
    labels = federation.y[1].astype(int)[:, None]

    def loss(first, bias, second, middle, last):
        h = jax.nn.relu(x @ first + bias[None])
        h = jax.nn.relu(4.0 * h @ second + middle[None])
        return -jnp.take_along_axis(jax.nn.log_softmax(last(h)), labels, 1).mean()

    def parts(tree):
        first, second, last = tree.layers
        return first.weight[:, own], first.bias[own], second.weight[own], second.bias, last

    truth = start = parts(model)
    for _ in range(3):
        slopes = jax.grad(loss, range(5))(*truth)
        truth = jax.tree.map(lambda w, g: w - 0.1 * g, truth, slopes)
    assert furthest(parts(mean), jax.tree.map(jnp.subtract, truth, start)) < 1e-5
    assert furthest(truth, start) > 0.01


def test_training_hands_the_mean_change_to_the_server(digits):
    federation, model, test = digits
    server = optax.chain(optax.trace(0.9), optax.scale(-0.5))
    setting = two_nn(random={"neurons": 5}, normalise="count")
    done = submodels.train_submodels(
        model, federation, test, key=KEY, rounds=5, cohort=3, eval_every=2, server=server, **setting
    )
    assert done.rounds.tolist() == [2, 4, 5]
    truth, memory = model, server.init(model)
    for t in range(5):
        sampling, rest = jax.random.split(jax.random.fold_in(KEY, t))
        ids = fedavg.sample_clients(sampling, 6, 0.5)
        mean = submodels.submodel_round(truth, federation, ids, rest, **setting)
        step, memory = server.update(jax.tree.map(jnp.negative, mean), memory)
        truth = optax.apply_updates(truth, step)
    assert furthest(done.model, truth) < 1e-5
    assert furthest(model, truth) > 0.01
    assert done.accuracy[-1] == pytest.approx(float(fedavg.accuracy(done.model, *test)))


def test_mixed_keys_train_a_transformer():
    model = MiniTransformer(KEY, vocab=12, embed=8, width=16, neurons=16, heads=2, length=6)
    start = RNG.integers(0, 6, (4, 10, 1))
    text = (start + np.arange(7)) % 6 + 6 * (np.arange(4) % 2)[:, None, None]  # two kinds of client
    federation = fedavg.Federation(text[..., :-1], text[..., 1:], np.full(4, 10, np.int32))
    words = np.stack([np.arange(6) + 6 * (k % 2) for k in range(4)])
    test = text[..., :-1].reshape(40, 6), text[..., 1:].reshape(40, 6)
    done = submodels.train_submodels(
        model, federation, test, key=KEY, rounds=80, cohort=4, spec=submodels.TRANSFORMER,
        random={"neurons": 8}, structured={"words": words}, read="words", lr=0.3, batch=5,
        normalise="count", eval_every=80,
    )  # fmt: skip
    assert done.accuracy[-1] > 0.95


# Tags --------------------------------------------------------------------------------------------


def zipf_corpus(seed, *, documents, vocab, topics, authors, length=17):
    """Authors who write about a few topics; each topic has its own order of the words."""
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(vocab) for _ in range(topics)])
    chance = 1 / np.arange(1, vocab + 1) ** 1.1
    author = np.sort(rng.zipf(1.6, documents) % authors)
    topic = (author + rng.integers(0, 3, documents)) % topics
    drawn = np.searchsorted(np.cumsum(chance / chance.sum()), rng.random((documents, length)))
    words = [np.unique(orders[t, row]) for t, row in zip(topic, drawn, strict=True)]
    pointer = np.concatenate([[0], np.cumsum([len(w) for w in words])])
    return np.concatenate(words), pointer, topic, np.arange(documents + 1), author


def documents_of(corpus, *, vocab, topics, n=None, chosen=None, length=64):
    tokens, pointer, topic, topic_ptr, author = corpus
    chosen = np.arange(len(author)) if chosen is None else chosen
    words = tags.most_frequent(tokens, pointer, chosen, vocab)
    return tags.read_documents(
        *corpus[:4], author, chosen, words=words, n=n or vocab, tag_count=topics, length=length
    )


@pytest.fixture(scope="module")
def bag():
    corpus = zipf_corpus(0, documents=150, vocab=90, topics=6, authors=9)
    return documents_of(corpus, vocab=90, topics=6)


def test_documents_are_the_frequent_words_of_the_chosen_ones():
    corpus = zipf_corpus(1, documents=40, vocab=50, topics=4, authors=5)
    tokens, pointer, topic, _, author = corpus
    chosen = np.arange(1, 40, 2)
    sets = [set(tokens[pointer[d] : pointer[d + 1]].tolist()) for d in chosen]
    held = np.array([sum(w in s for s in sets) for w in range(50)])
    frequent = sorted(range(50), key=lambda w: (-held[w], w))[:20]
    ours = documents_of(corpus, vocab=50, topics=4, n=20, chosen=chosen, length=6)
    for own, words, d, tag in zip(ours.words, sets, chosen, ours.tags, strict=True):
        truth = [i for i, w in enumerate(frequent) if w in words][:6]
        assert own[own < 20].tolist() == truth
        assert tag.tolist() == (np.arange(4) == topic[d]).tolist()
    clients = tags.group_clients(ours)
    for k, name in enumerate(np.unique(author[chosen])):
        mine = ours.bags.toarray()[author[chosen] == name].sum(0)
        np.testing.assert_array_equal(clients.counts.toarray()[k], mine)
        assert clients.start[k + 1] - clients.start[k] == (author[chosen] == name).sum()


def test_recall_counts_true_tags_of_all_documents_together():
    scores = np.float32([[5, 4, 3, 2], [1, 2, 3, 4], [0, 0, 0, 0]])
    true = np.array([[1, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0]], bool)
    assert tags.recall_at(scores, true, 1) == 1 / 5  # ties: the first tag
    assert tags.recall_at(scores, true, 2) == 2 / 5
    assert tags.recall_at(scores, true, 3) == 3 / 5
    assert tags.recall_at(scores, true, 4) == 1


@pytest.mark.parametrize("m", [5, 70, None])
def test_what_clients_change_equals_numpy(bag, m):
    clients = tags.group_clients(bag)
    x, y, count, who = tags.draw_round(clients, 0, 3, cohort=7, cap=11)
    own = tags.select_words(np.random.default_rng(0), clients.counts[who], m, None)
    own[2] = 90  # this client selects nothing, and trains the biases only
    model = tags.Tagger(*(RNG.normal(size=s).astype(np.float32) for s in ((90, 6), (6,))))
    total, bias = np.zeros((90, 6)), np.zeros(6)
    for n in range(7):
        w, b = model.weights.astype(float), model.bias.astype(float)
        kept = np.zeros(91)
        kept[own[n]] = 1
        bags = np.zeros((11, 91))
        np.put_along_axis(bags, x[n], 1, 1)
        bags = (bags * kept)[:, :90]
        for i in range(0, count[n], 4):
            rows = slice(i, min(i + 4, count[n]))
            slope = (expit(bags[rows] @ w + b) - y[n, rows]) / (rows.stop - i)
            w, b = w - 0.5 * bags[rows].T @ slope, b - 0.5 * slope.sum(0)
        total, bias = total + w - model.weights, bias + b - model.bias
    sizes = tags._sizes(90)
    work = tags.pack_round(x, y, count, own, n=90, sizes=sizes)
    ours = tags.client_changes(model, work, 0.5, sizes=sizes, batch=4)
    spread = np.zeros((91, 6))
    spread[work.union] = ours.weights
    np.testing.assert_allclose(spread[:90], total, atol=1e-5)
    np.testing.assert_allclose(ours.bias, bias, atol=1e-5)


def test_selecting_all_of_its_words_is_exact(bag):
    clients = tags.group_clients(bag)
    x, y, count, who = tags.draw_round(clients, 1, 0, cohort=8, cap=20)
    model = tags.Tagger(*(RNG.normal(size=s).astype(np.float32) for s in ((90, 6), (6,))))
    sizes, spread = tags._sizes(90), []
    everything = np.tile(np.arange(90, dtype=np.int32), (8, 1))
    own = tags.select_words(np.random.default_rng(0), clients.counts[who], None, None)
    for chosen, trim in ((own, True), (everything, False)):
        work = tags.pack_round(x, y, count, chosen, n=90, sizes=sizes, trim=trim)
        change = tags.client_changes(model, work, 1.0, sizes=sizes, batch=16)
        spread.append(jnp.zeros((90, 6)).at[work.union].set(change.weights, mode="drop"))
    assert (np.sort(work.keys[:, :90], 1) == np.arange(90)).all()
    assert furthest(*spread) <= 1e-6 < 1 < furthest(spread[0], 0 * spread[0])


@pytest.mark.parametrize("normalise", primitive.NORMALISATIONS)
def test_the_server_divides_each_word_by_those_who_selected_it(bag, normalise):
    clients = tags.group_clients(bag)
    x, y, count, who = tags.draw_round(clients, 5, 0, cohort=6, cap=20)
    own = tags.select_words(np.random.default_rng(0), clients.counts[who], 20, None)
    work = tags.pack_round(x, y, count, own, n=90, sizes=(64,))
    server = optax.sgd(1.0)
    start = tags.start_server(90, 6, server)
    total = tags.client_changes(start.model, work, 1.0, sizes=(64,), batch=16)
    below = np.bincount(own.ravel(), minlength=91)[:90] if normalise == "count" else np.full(90, 6)
    assert len(set(below)) > 3 or normalise == "cohort"
    truth = np.zeros((91, 6))
    truth[work.union] = total.weights
    state, _ = tags.tag_round(
        start, clients, 0, seed=5, m=20, cohort=6, cap=20, server=server, normalise=normalise
    )
    truth = truth[:90] / np.maximum(below, 1)[:, None]
    np.testing.assert_allclose(state.model.weights, truth, atol=1e-6)
    np.testing.assert_allclose(state.model.bias, total.bias / 6, atol=1e-6)


def test_first_step_of_adagrad_is_as_long_as_its_rate():
    small = jnp.array([[0.01, -0.02, 0.0]])
    server = tags.fed_adagrad(0.3)
    step, _ = server.update(small, server.init(small), small)
    np.testing.assert_allclose(step, [[-0.3, 0.3, 0]], rtol=1e-2)


@pytest.mark.parametrize("server", [optax.sgd(0.2), tags.fed_adagrad(0.3)])
def test_lazy_server_steps_equal_dense_ones(server):
    lazy = dense = jax.random.normal(KEY, (40, 3))
    memory = truth = server.init(dense)
    for t in range(4):
        rows = jnp.asarray(np.r_[RNG.permutation(40)[:12], 40, 40].astype(np.int32))
        slope = jax.random.normal(jax.random.fold_in(KEY, t), (14, 3))
        lazy, memory = tags.lazy_update(server, lazy, memory, rows, slope)
        whole = jnp.zeros((40, 3)).at[rows].set(slope, mode="drop")
        step, truth = server.update(whole, truth, dense)
        dense = dense + step
    assert furthest((lazy, memory), (dense, truth)) < 1e-6


def test_server_steps_that_count_keep_counting():
    server = optax.adam(0.1)
    memory, rows = server.init(jnp.ones((5, 2))), jnp.array([1, 5])
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types here
        _, memory = tags.lazy_update(server, jnp.ones((5, 2)), memory, rows, jnp.ones((2, 2)))
    assert memory[0].count == 1
    np.testing.assert_array_equal(np.asarray(memory[0].mu)[:, 0] > 0, np.arange(5) == 1)


@pytest.mark.computes
def test_more_words_a_client_help():
    size = dict(vocab=17_983, topics=220)
    corpus = zipf_corpus(2, documents=12_000, authors=400, **size)
    author, written = corpus[-1], np.bincount(corpus[-1])
    held_out = author % 5 == 0
    parts = [np.flatnonzero(part) for part in (~held_out & (written[author] >= 5), held_out)]
    words = tags.most_frequent(*corpus[:2], parts[0], 17_983)
    read = partial(tags.read_documents, *corpus, words=words, n=17_983, tag_count=220)
    clients, test = tags.group_clients(read(parts[0])), read(parts[1])
    run = partial(tags.train_tagger, clients, test, seed=0, rounds=4, eval_every=2)
    few, some = run(m=3), run(m=1_000)
    np.testing.assert_array_equal(run(m=1_000, rounds=2).recall, some.recall[:1])
    assert some.recall[-1] > few.recall[-1] + 0.05
    assert (few.keys <= 3).all() and (few.distinct <= few.keys.sum(1)).all()


# Bad input ---------------------------------------------------------------------------------------

TWO = fedavg.TwoNN(KEY, inputs=36, hidden=16)
TABLE = np.ones((2, 5), int)


@pytest.mark.parametrize(
    "call, complaint",
    [
        (lambda: primitive.fed_select({"a": jnp.ones(2), "b": jnp.ones(3)}, CHOSEN), "different"),
        (lambda: primitive.inside(np.array([[0]]), 0), "space=0"),
        (lambda: primitive.merge_keys(CHOSEN, CHOSEN, (2**20, 2**20)), "32 bits"),
        (lambda: primitive.pad_keys([[0], [7]], 7), r"keys\[1\] has a key outside 0 .. 6"),
        (
            lambda: primitive.denominator(jnp.asarray(CHOSEN), 7, jnp.ones(4), "none"),
            "normalise='none'",
        ),
        (lambda: keys.top_keys(TABLE, 0), "m=0"),
        (lambda: keys.random_global(RNG, TABLE, 6), "m=6 must lie between 1 and the K = 5"),
        (lambda: keys.shared(RNG, TABLE, 6), "m=6"),
        (lambda: keys.random_keys(KEY, np.arange(2), 5, 6), "m=6"),
        (lambda: count_costs("satellite"), "implementation='satellite'"),
        (lambda: count_costs("broadcast", aggregation="none"), "aggregation='none'"),
        (lambda: count_costs("broadcast", distinct=9), "distinct=9"),
        (lambda: submodels.key_spaces(TWO, submodels.MNIST_CNN), "spec cuts 'convolutions"),
        (lambda: cut_round(random={"filters": 3}), "name groups of"),
        (lambda: cut_round(random={"neurons": 17}), "must lie in 1 .. 16"),
        (lambda: cut_round(structured={"neurons": np.zeros((2, 3), int)}), "for 2 clients"),
        (lambda: cut_round(structured={"neurons": np.full((1, 3), 17)}), "keys has 17"),
        (lambda: cut_round(random={"neurons": 2}, clients="pool"), "clients='pool'"),
        (lambda: cut_round(random={"neurons": 2}, read="words"), "read='words'"),
        (lambda: cut_round(random={"neurons": 2}, batch=0), "batch=0"),
        (lambda: MiniTransformer(KEY, vocab=5, heads=3), "heads=3 must divide width=128"),
        (lambda: tags.recall_at(jnp.ones((1, 3)), np.ones((1, 3), bool), 4), "k=4"),
        (lambda: train_on_nothing(cohort=99), "cohort=99"),
        (lambda: train_on_nothing(m=None, policy=keys.shared), "policy needs m"),
        (lambda: train_on_nothing(rounds=0), "rounds=0"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def count_costs(implementation, **options):
    case = dict(keys_per_client=np.array([3, 2]), space=10, distinct=4, slice_bytes=8)
    return ledger(implementation, **case | options)


def cut_round(**options):
    one = fedavg.Federation(np.zeros((1, 2, 6, 6), np.uint8), np.zeros((1, 2), int), np.array([2]))
    return submodels.submodel_round(TWO, one, np.array([0]), KEY, **two_nn(**options))


def train_on_nothing(**options):
    corpus = zipf_corpus(0, documents=20, vocab=9, topics=2, authors=3)
    documents = documents_of(corpus, vocab=9, topics=2)
    setting = dict(seed=0, rounds=1, m=2, cohort=2) | options
    return tags.train_tagger(tags.group_clients(documents), documents, **setting)


# The chapter -------------------------------------------------------------------------------------

WRONG_KERNELS = {  # and the claims that must not survive
    "divides by those who selected a word": (
        """
from lib.fedselect import tags
right = tags._denominators
tags._denominators = lambda keys, n, normalise: right(keys, n, "count")
""",
        {"S1"},
    ),
    "serves slices in the wrong order, sizes ten per cent too large": (
        """
from lib import fedselect
from lib.fedselect import submodels
right, sized = fedselect.fed_select, submodels.submodel_size
fedselect.fed_select = lambda x, keys, *a, **k: right(x, keys[:, ::-1], *a, **k)
submodels.submodel_size = lambda *a: round(1.1 * sized(*a))
fedselect.submodel_size = submodels.submodel_size
""",
        {"S1", "S10"},
    ),
    "ignores how to divide": (
        """
from lib.fedselect import primitive
divide = primitive.denominator
primitive.denominator = lambda *a: divide(*a[:3], "cohort")
""",
        {"B1"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-fedselect")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("fedselect", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
