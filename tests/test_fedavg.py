"""Federated averaging against NumPy, SciPy's and scikit-learn's answers, and its own invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import furthest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from sklearn.metrics import log_loss

from lib import fedavg
from lib.fedavg import experiments, networks
from lib.parallel import device_mesh

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def squared_error(w, x, y, mask):
    """Half the mean squared error of x w, over the examples whose mask is 1."""
    return 0.5 * (mask * (x @ w - y) ** 2).sum() / jnp.maximum(mask.sum(), 1)


@pytest.fixture(scope="module")
def line():
    """A linear regression on three clients of 4, 5 and 11 examples."""
    x = RNG.normal(size=(20, 3)).astype(np.float32)
    y = (x @ np.float32([1, -2, 3]) + 1).astype(np.float32)
    return x, y, [np.arange(4), np.arange(4, 9), np.arange(9, 20)]


@pytest.fixture(scope="module")
def digits():
    """Eleven uneven clients with images of 6 x 6 and a small 2NN for them."""
    rng = np.random.default_rng(0)  # its own: tests may come in any order
    y = rng.integers(0, 10, 300).astype(np.uint8)
    x = (rng.integers(0, 60, (300, 6, 6)) + 15 * y[:, None, None]).astype(np.uint8)
    parts = [p for p in fedavg.partition_dirichlet(0, y, 11, alpha=0.5) if len(p)]
    return fedavg.pack(x, y, parts), fedavg.TwoNN(KEY, inputs=36, hidden=16), (x, y), parts


# Networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, count",
    [
        (fedavg.TwoNN, 199_210),
        (fedavg.MnistCNN, 1_663_370),
        (fedavg.CifarCNN, 1_068_298),
        (fedavg.CharLSTM, 866_578),
        (fedavg.WordLSTM, 4_950_544),
    ],
)
def test_networks_have_the_papers_counts(model, count):
    assert fedavg.count_params(jax.eval_shape(model, KEY)) == count


def test_convolution_as_a_product_equals_xlas():
    conv = networks.Conv(KEY, 3, 4)
    x = jax.random.normal(KEY, (2, 9, 8, 3))
    kernel = conv.weight.reshape(5, 5, 3, 4)
    layout = ("NHWC", "HWIO", "NHWC")
    truth = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    np.testing.assert_allclose(conv(x), truth, atol=1e-5)
    model = fedavg.MnistCNN(KEY, side=8)
    images = RNG.integers(0, 255, (3, 8, 8)).astype(np.uint8)
    np.testing.assert_allclose(model(images), model.outside_loops(images), atol=1e-5)


def test_training_on_a_cpu_has_no_convolution_in_its_loops():
    packed = fedavg.pack(np.zeros((4, 8, 8), np.uint8), np.zeros(4, np.uint8), [np.arange(4)])
    text = str(
        jax.make_jaxpr(
            lambda m: fedavg.fedavg_round(m, packed, np.arange(1), KEY, lr=0.1, epochs=1, batch=2)
        )(fedavg.MnistCNN(KEY, side=8))
    )
    assert "while" in text and "conv_general_dilated" not in text


@pytest.mark.parametrize("peephole", [False, True])
def test_lstm_equals_a_loop_in_numpy(peephole):
    cell = networks.LSTM(KEY, 2, 3, peephole)
    if peephole:
        cell = jax.tree.map(lambda w: w + 0.3, cell)  # peepholes start at zero
    x = RNG.normal(size=(4, 5, 2)).astype(np.float32)
    h, c, states = np.zeros((4, 3)), np.zeros((4, 3)), []
    p = np.asarray(cell.peephole) if peephole else np.zeros((3, 3))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for t in range(5):
        z = x[:, t] @ np.asarray(cell.input.weight) + np.asarray(cell.input.bias)
        i, f, g, o = np.split(z + h @ np.asarray(cell.recurrent), 4, 1)
        c = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
        h = sigmoid(o + p[2] * c) * np.tanh(c)
        states.append(h)
    np.testing.assert_allclose(cell(jnp.asarray(x)), np.stack(states, 1), atol=1e-5)


def test_loss_is_scikit_learns_and_skips_what_is_masked(digits):
    federation, model, (x, y), _ = digits
    mask = (np.arange(len(y)) % 3 > 0).astype(np.float32)
    probability = np.asarray(jax.nn.softmax(model(x)), np.float64)
    probability /= probability.sum(1, keepdims=True)
    kept = mask > 0
    truth = log_loss(y[kept], probability[kept], labels=range(10))
    assert float(fedavg.cross_entropy(model, x, y, mask)) == pytest.approx(truth, abs=1e-5)


def test_accuracy_counts_labels_in_chunks_and_skips_padding(monkeypatch):
    model = fedavg.CharLSTM(KEY, vocab=7, hidden=4, layers=1, peephole=False)
    x = RNG.integers(0, 7, (23, 6)).astype(np.int16)
    y = RNG.integers(-1, 7, (23, 6)).astype(np.int16)
    truth = (np.asarray(model(x).argmax(-1)) == y).sum() / (y >= 0).sum()
    monkeypatch.setattr(networks, "CHUNK", 10)
    assert float(fedavg.accuracy(model, x, y)) == pytest.approx(truth, abs=1e-6)


# The algorithm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", ["scan", "vmap"])
def test_rounds_of_full_batches_equal_numpy(line, clients):
    x, y, parts = line
    ours = fedavg.fedavg_round(
        np.zeros(3, np.float32), fedavg.pack(x, y, parts), np.arange(3), KEY,
        lr=0.1, epochs=4, batch=None, loss=squared_error, clients=clients,
    )  # fmt: skip
    total = np.zeros(3)
    for part in parts:
        w = np.zeros(3)
        for _ in range(4):
            w -= 0.1 * x[part].T @ (x[part] @ w - y[part]) / len(part)
        total += len(part) * w
    np.testing.assert_allclose(ours, total / 20, atol=1e-6)


def test_the_last_smaller_minibatch_counts_as_it_is():
    """Whatever the shuffle, minibatches of 2 out of 3 equal examples and one left over agree."""
    x = np.ones((3, 1), np.float32)
    y = np.full(3, 2.0, np.float32)
    w = fedavg.client_update(
        np.zeros(1, np.float32), x, y, 3, KEY, lr=0.1, epochs=1, batch=2, loss=squared_error
    )
    assert float(w[0]) == pytest.approx(2 * (1 - 0.9**2), abs=1e-6)  # two steps, not 1.5


def test_each_epoch_sees_each_example_once():
    """With one-hot inputs and B = 1 each weight moves by its own example only."""
    x, y = np.eye(6, dtype=np.float32), np.arange(1.0, 7, dtype=np.float32)
    w = fedavg.client_update(
        np.zeros(6, np.float32), x, y, 6, KEY, lr=0.5, epochs=3, batch=1, loss=squared_error
    )
    np.testing.assert_allclose(w, y * (1 - 0.5**3), atol=1e-6)


def test_shuffling_depends_on_the_key_and_the_epoch(line):
    x, y, _ = line
    runs = [
        fedavg.client_update(
            np.zeros(3, np.float32), x, y, 20, jax.random.key(k), lr=0.1, epochs=2, batch=3,
            loss=squared_error,
        )
        for k in (1, 1, 2)
    ]  # fmt: skip
    assert furthest(runs[0], runs[1]) == 0 < furthest(runs[0], runs[2])
    first = fedavg.client_update(
        np.zeros(3, np.float32), x, y, 20, jax.random.key(1), lr=0.1, epochs=1, batch=3,
        loss=squared_error,
    )  # fmt: skip
    again = fedavg.client_update(
        first, x, y, 20, jax.random.key(1), lr=0.1, epochs=1, batch=3, loss=squared_error
    )
    assert furthest(runs[0], again) > 0  # the second epoch has an order of its own


def test_fedsgd_is_one_step_on_the_pooled_data(digits):
    federation, model, (x, y), parts = digits
    asked = np.array([0, 3, 4])
    ours = fedavg.fedavg_round(model, federation, asked, KEY, lr=0.5, epochs=1, batch=None)
    pooled = np.concatenate([parts[k] for k in asked])
    slope = jax.grad(fedavg.cross_entropy)(
        model, x[pooled], y[pooled], np.ones(len(pooled), np.float32)
    )
    assert furthest(ours, jax.tree.map(lambda w, g: w - 0.5 * g, model, slope)) <= 1e-6


@pytest.mark.parametrize("clients", ["scan", "vmap"])
def test_results_depend_neither_on_devices_nor_on_order_nor_on_padding(digits, clients):
    federation, model, _, _ = digits
    assert jax.local_device_count() == 2
    ids, setting = np.array([4, 0, 2]), dict(lr=0.1, epochs=2, batch=7)
    once = fedavg.fedavg_round(model, federation, ids, KEY, **setting)
    wide = fedavg.Federation(
        np.pad(federation.x, ((0, 0), (0, 9), (0, 0), (0, 0)), constant_values=99),
        np.pad(federation.y, ((0, 0), (0, 9)), constant_values=7),
        federation.n,
    )
    mesh = device_mesh("clients")
    others = [
        fedavg.fedavg_round(model, federation, ids, KEY, clients=clients, mesh=mesh, **setting),
        fedavg.fedavg_round(model, federation, ids[::-1].copy(), KEY, clients=clients, **setting),
        fedavg.fedavg_round(model, wide, ids, KEY, clients=clients, **setting),
    ]
    assert max(furthest(once, other) for other in others) <= 1e-5
    # a second round starts from what the first left on both devices
    fedavg.fedavg_round(others[0], federation, ids, KEY, clients=clients, mesh=mesh, **setting)


def test_training_counts_rounds_stops_at_the_target_and_runs_a_grid(digits):
    federation, model, test, _ = digits
    setting = dict(key=KEY, fraction=0.3, epochs=1, batch=10)
    rates = np.float32([0.05, 0.2])
    both = fedavg.train(model, federation, test, rounds=7, eval_every=3, lr=rates, **setting)
    assert both.rounds.tolist() == [3, 6, 7] and both.accuracy.shape == (3, 2)
    for i, lr in enumerate(rates):
        one = fedavg.train(model, federation, test, rounds=7, eval_every=3, lr=float(lr), **setting)
        np.testing.assert_allclose(one.accuracy, both.accuracy[:, i], atol=0.01)
        assert furthest(one.model, jax.tree.map(lambda w, i=i: w[i], both.model)) <= 1e-5
    level = float(one.accuracy.max()) - 0.02  # within rounding, of some of 300 examples
    early = fedavg.train(model, federation, test, rounds=7, lr=0.2, target=level, **setting)
    assert early.accuracy[-1] >= level and (early.accuracy[:-1] < level).all()


def test_training_is_a_loop_of_rounds_with_new_clients_and_new_orders(digits):
    """Algorithm 1 written out: round t draws from `fold_in(key, t)`."""
    federation, model, test, _ = digits
    setting = dict(lr=0.1, epochs=1, batch=10)
    done = fedavg.train(model, federation, test, key=KEY, rounds=3, fraction=0.3, **setting)
    w, asked = model, []
    for t in range(3):
        sampling, training = jax.random.split(jax.random.fold_in(KEY, t))
        ids = np.asarray(fedavg.sample_clients(sampling, len(federation.n), 0.3))
        w = fedavg.fedavg_round(w, federation, ids, training, **setting)
        asked.append(frozenset(ids.tolist()))
    assert furthest(w, done.model) <= 1e-5 and len(set(asked)) > 1


def test_a_server_optimiser_of_rate_one_is_plain_averaging(digits):
    federation, model, test, _ = digits
    setting = dict(key=KEY, rounds=3, fraction=0.5, epochs=1, batch=10, lr=0.1)
    plain = fedavg.train(model, federation, test, **setting)
    served = fedavg.train(model, federation, test, server=optax.sgd(1.0), **setting)
    assert furthest(plain.model, served.model) <= 1e-6


def test_a_strong_proximal_term_keeps_clients_at_home(line):
    x, y, _ = line
    start = np.zeros(3, np.float32)
    setting = dict(lr=0.1, epochs=50, batch=None, loss=squared_error)
    free = fedavg.client_update(start, x, y, 20, KEY, **setting)
    # the minimum of F(w) + mu/2 |w|^2 solves (X'X/n + mu I) w = X'y/n
    held = fedavg.client_update(start, x, y, 20, KEY, proximal=5.0, **setting)
    truth = np.linalg.solve(x.T @ x / 20 + 5 * np.eye(3), x.T @ y / 20)
    np.testing.assert_allclose(held, truth, atol=1e-4)
    assert np.linalg.norm(held) < np.linalg.norm(free) / 2


def test_one_client_is_asked_when_the_fraction_is_zero():
    assert [len(fedavg.sample_clients(KEY, 40, c)) for c in (0.0, 0.1, 1.0)] == [1, 4, 40]
    assert len(set(np.asarray(fedavg.sample_clients(KEY, 40, 1.0)).tolist())) == 40


# Partitions --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9), st.integers(1, 30), st.floats(0.01, 50))
def test_partitions_lose_and_repeat_nothing(seed, clients, alpha):
    y = np.random.default_rng(seed).integers(0, 5, 60).astype(np.uint8)
    ways = [
        fedavg.partition_iid(seed, 60, clients),
        fedavg.partition_dirichlet(seed, y, clients, alpha),
    ]
    if 60 % (2 * clients) == 0:
        ways.append(fedavg.partition_shards(seed, y, clients))
    for parts in ways:
        assert len(parts) == clients
        assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    sizes = [len(part) for part in ways[0]]
    assert max(sizes) - min(sizes) <= 1


def test_shards_are_pathological():
    y = RNG.integers(0, 10, 60_000).astype(np.uint8)
    parts = fedavg.partition_shards(0, y, 100)
    held = (fedavg.label_histogram(y, parts, 10) > 0).sum(1)
    assert held.max() <= 4 and (held <= 2).mean() >= 0.8
    assert {len(part) for part in parts} == {600}


def test_groups_become_clients_if_they_are_large_enough():
    parts = fedavg.partition_by_group(np.array([7, 3, 7, 9, 3, 7]), min_size=2)
    assert [sorted(part.tolist()) for part in parts] == [[1, 4], [0, 2, 5]]


def test_packing_keeps_types_and_pads_with_zeros():
    x, y = np.arange(1, 5, dtype=np.uint8)[:, None], np.arange(1, 5, dtype=np.uint8)
    packed = fedavg.pack(x, y, [np.array([2]), np.array([0, 3])])
    assert packed.x.dtype == packed.y.dtype == np.uint8 and packed.n.tolist() == [1, 2]
    assert packed.y.tolist() == [[3, 0], [1, 4]]


# Measures ----------------------------------------------------------------------------------------


def test_rounds_to_target_are_interpolated_on_the_best_so_far():
    assert fedavg.rounds_to_target([1, 2, 3], [0.5, 0.96, 0.98], 0.97) == pytest.approx(2.5)
    assert fedavg.rounds_to_target([2, 4, 6, 8], [0.5, 0.9, 0.2, 1.0], 0.95) == pytest.approx(7)
    assert fedavg.rounds_to_target([5, 10], [0.99, 0.1], 0.97) == 5
    assert fedavg.rounds_to_target([1, 2], [0.5, 0.6], 0.97) is None
    just = np.array([0.5, 0.9], np.float32)  # 0.9 in single precision is less than in double
    assert fedavg.rounds_to_target([1, 2], just, 0.9) == pytest.approx(2)


def test_local_updates_are_those_of_the_papers_tables():
    rows = {(1, None): 1, (20, None): 20, (1, 50): 12, (1, 10): 60, (20, 10): 1200}
    assert {r: fedavg.updates_per_round(60_000, 100, *r) for r in rows} == rows


def test_the_fastest_learning_rate_of_a_grid_is_kept(digits, monkeypatch):
    monkeypatch.delenv("EXECUTABLE_PAPERS_RESUME", raising=False)
    federation, model, test, _ = digits
    options = dict(key=KEY, fraction=0.5, epochs=1, batch=10, rounds=40, target=0.3)
    grid = fedavg.learning_curve(
        model, federation, test, name="grid", lrs=(1e-6, 0.1, 1e-5), **options
    )
    alone = fedavg.learning_curve(model, federation, test, name="one", lrs=(0.1,), **options)
    assert grid.lr == 0.1 and grid.interior is False and alone.interior is None
    assert grid.to_target == pytest.approx(alone.to_target, abs=0.5)
    never = experiments.Curve([1, 2], [0.1, 0.2], None, 0.1, None)
    assert fedavg.speedup(never, alone) == pytest.approx(2 / alone.to_target)
    assert fedavg.speedup(alone, never) == 0 and never.shown == "> 2"


def test_loss_on_a_line_is_the_loss_of_the_mixed_networks(digits):
    _, model, (x, y), _ = digits
    other = fedavg.TwoNN(jax.random.key(5), inputs=36, hidden=16)
    thetas = np.float32([-0.2, 0.0, 0.5, 1.0])
    ours = fedavg.interpolate_loss(model, other, thetas, x, y)
    for theta, value in zip(thetas, ours, strict=True):
        mixed = jax.tree.map(lambda a, b, t=float(theta): t * a + (1 - t) * b, model, other)
        truth = fedavg.cross_entropy(mixed, x, y, np.ones(len(y), np.float32))
        assert float(value) == pytest.approx(float(truth), abs=1e-4)


def test_alignment_undoes_a_permutation_and_keeps_the_function(digits):
    _, model, (x, _), _ = digits
    order = RNG.permutation(16)
    first, second, last = model.layers
    shuffled = jax.tree.map(lambda w: w, model)
    layers = (
        type(first).__new__(type(first)), type(first).__new__(type(first)), last,
    )  # fmt: skip
    object.__setattr__(layers[0], "weight", first.weight[:, order])
    object.__setattr__(layers[0], "bias", first.bias[order])
    object.__setattr__(layers[1], "weight", second.weight[order])
    object.__setattr__(layers[1], "bias", second.bias)
    object.__setattr__(shuffled, "layers", layers)
    assert furthest(fedavg.align_hidden_units(model, shuffled), model) == 0
    other = fedavg.TwoNN(jax.random.key(5), inputs=36, hidden=16)
    matched = fedavg.align_hidden_units(model, other)
    np.testing.assert_allclose(matched(x), other(x), atol=1e-4)


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, says",
    [
        (dict(batch=0), "batch=0 must be at least 1"),
        (dict(epochs=0), "epochs=0 must be at least 1"),
        (dict(lr=-1.0), "lr=-1.0 must be positive"),
        (dict(clients="both"), "clients='both' is not known: use one of auto, scan, vmap"),
        (dict(fraction=2.0), "fraction=2.0 must lie between 0 and 1"),
        (dict(rounds=0), "rounds=0 and eval_every=1 must be at least 1"),
    ],
)
def test_bad_settings_say_what_was_wanted(digits, bad, says):
    federation, model, test, _ = digits
    good = dict(key=KEY, rounds=1, fraction=0.1, lr=0.1, epochs=1, batch=5)
    with pytest.raises(ValueError, match=says):
        fedavg.train(model, federation, test, **good | bad)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda x, y: fedavg.pack(x, y[:-1], [np.arange(2)]), "x has 300 examples and y 299"),
        (lambda x, y: fedavg.pack(x, y, []), "no examples"),
        (lambda x, y: fedavg.partition_iid(0, 5, 6), "clients=6 must lie between 1 and"),
        (lambda x, y: fedavg.partition_shards(0, y, 7), "must divide the 300 examples"),
        (lambda x, y: fedavg.partition_dirichlet(0, y, 3, 0.0), "alpha=0.0 must be positive"),
        (lambda x, y: fedavg.partition_by_group(np.arange(4), min_size=2), "lower it"),
    ],
)
def test_bad_partitions_say_what_was_wanted(digits, make, says):
    with pytest.raises(ValueError, match=says):
        make(*digits[2])


def test_shapes_that_do_not_match_are_one_clear_line(digits):
    federation, model, test, _ = digits
    setting = dict(lr=0.1, epochs=1, batch=5)
    wide = fedavg.TwoNN(KEY, inputs=49, hidden=16)
    with pytest.raises(ValueError, match="does not fit examples of shape"):
        fedavg.fedavg_round(wide, federation, np.arange(2), KEY, **setting)
    torn = fedavg.Federation(federation.x, federation.y, federation.n[:-1])
    with pytest.raises(ValueError, match="use pack"):
        fedavg.train(model, torn, test, key=KEY, rounds=1, fraction=0.1, **setting)
    with pytest.raises(ValueError, match="lrs is empty"):
        fedavg.learning_curve(
            model, federation, test, name="x", key=KEY, lrs=(), target=1.0, rounds=1,
            fraction=0.1, epochs=1, batch=5,
        )  # fmt: skip


# The chapter -------------------------------------------------------------------------------------

WRONG_KERNELS = {  # and the claims that must not survive
    "steps ten per cent too long": (
        """
from lib.fedavg import algorithm
right = algorithm.client_update
algorithm.client_update = lambda *a, lr, **k: right(*a, lr=1.1 * lr, **k)
""",
        {"C8"},
    ),
    "clients counted equally": (
        """
import jax
import jax.numpy as jnp
from lib.fedavg import algorithm
right = algorithm._drifts
def equally(model, federation, *rest):
    weighed = right(model, federation, *rest)
    one = jax.tree.map(jnp.zeros_like, weighed)
    key, lr, ids, counts, setting = rest
    for k in range(ids.shape[0]):
        total, n = right(model, federation, key, lr, ids[k:k+1], counts[k:k+1], setting)
        one = jax.tree.map(jnp.add, one, (jax.tree.map(lambda t: t / n, total), n / n))
    return one
algorithm._drifts = equally
""",
        {"C8"},
    ),
    "local steps ignored": (
        """
from lib import fedavg
from lib.fedavg import algorithm
algorithm.client_update = fedavg.client_update = lambda model, *a, **k: model
""",
        {"C1", "C2", "C3", "C8"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-fedavg")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("fedavg", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
