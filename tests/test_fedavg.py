"""Federated averaging against a plain NumPy version, the paper's counts, and its own invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lib import fedavg

KEY = jax.random.key(0)


def linear_loss(w, x, y, mask):
    """Half the mean squared error of x w, over the examples whose mask is 1."""
    return 0.5 * (mask * (x @ w - y) ** 2).sum() / jnp.maximum(mask.sum(), 1)


def small_federation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    parts = [np.arange(4), np.arange(4, 9), np.arange(9, 20)]
    return x, (x @ np.float32([1, -2, 3]) + 1).astype(np.float32), parts


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
def test_parameter_counts(model, count):
    assert fedavg.count_params(jax.eval_shape(model, KEY)) == count


@pytest.mark.parametrize("clients", ["scan", "vmap"])
def test_full_batch_round_equals_numpy(clients):
    x, y, parts = small_federation()
    ours = fedavg.fedavg_round(
        np.zeros(3, np.float32), fedavg.pack(x, y, parts), np.arange(3), KEY,
        lr=0.1, epochs=4, batch=None, loss=linear_loss, clients=clients,
    )  # fmt: skip
    total = np.zeros(3)
    for part in parts:
        w = np.zeros(3)
        for _ in range(4):
            w -= 0.1 * x[part].T @ (x[part] @ w - y[part]) / len(part)
        total += len(part) * w
    np.testing.assert_allclose(ours, total / 20, atol=1e-6)


def test_rounds_to_target_interpolates():
    assert fedavg.rounds_to_target([1, 2, 3], [0.5, 0.96, 0.98], 0.97) == pytest.approx(2.5)
    assert fedavg.rounds_to_target([1, 2], [0.5, 0.6], 0.97) is None


def test_shards_are_pathological():
    y = np.random.default_rng(0).integers(0, 10, 60_000)
    parts = fedavg.partition_shards(0, y, 100)
    labels = [len(np.unique(y[p])) for p in parts]
    assert max(labels) <= 4 and np.mean(np.array(labels) <= 2) >= 0.8
    assert len(np.unique(np.concatenate(parts))) == 60_000


@pytest.mark.parametrize("bad", [{"batch": 0}, {"epochs": 0}, {"lr": 0.0}, {"clients": "loop"}])
def test_bad_settings(bad):
    x, y, parts = small_federation()
    good = {"lr": 0.1, "epochs": 1, "batch": 2, "loss": linear_loss}
    with pytest.raises(ValueError, match=next(iter(bad))):
        fedavg.fedavg_round(
            np.zeros(3, np.float32), fedavg.pack(x, y, parts), np.arange(3), KEY, **{**good, **bad}
        )
