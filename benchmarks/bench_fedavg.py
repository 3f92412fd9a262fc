"""Times a round of federated averaging against its peers, side by side, in CPU seconds.

python benchmarks/bench_fedavg.py            everything; writes benchmarks/results/
python benchmarks/bench_fedavg.py --only fedjax torch    these and ours; writes nothing
python benchmarks/bench_fedavg.py --quick    one round of each; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from side_by_side import PEERS, Row, keep, measure, show

from lib import datasets, fedavg

sys.path.append(str(PEERS))
from fedavg_task import CNN_STEPS  # noqa: E402

ROUNDS, CNN_ROUNDS = 20, 5  # timed, after a first one that compiles

ROUND = [
    Row("This book, clients one after the other", "book", ("ours_fedavg.py", "scan")),
    Row("This book, clients side by side (vmap)", "book", ("ours_fedavg.py", "vmap")),
    Row("This book, on two devices", "book", ("ours_fedavg.py", "sharded")),
    Row("fedjax", "fedjax", ("with_fedjax.py",)),
    Row("PyTorch, a plain loop", "torch", ("plain_torch_fedavg.py",)),
    Row("pfl-research", "pfl", ("with_pfl.py",)),
    Row("Flower, simulation with ray", "flower", ("with_flower.py", str(1 + ROUNDS))),
    Row("TensorFlow Federated", "tff"),
    Row("Limit: its matrix products alone, NumPy", "book", ("bare_products.py", "skinny"), True),
    Row("Limit: as much arithmetic at full speed", "book", ("bare_products.py", "peak"), True),
]


def cnn_rows(batch: str) -> list[Row]:
    def ours(name, convolution):
        return Row(name, "book", ("ours_cnn.py", batch, convolution), per=CNN_STEPS)

    return [
        ours("This book, one matrix product a layer", "im2col"),
        ours("XLA's convolution in a compiled loop", "lax"),
        ours("XLA's convolution, loop in Python", "stepwise"),
        Row("PyTorch, a plain loop", "torch", ("plain_torch_cnn.py", batch), per=CNN_STEPS),
    ]


def prepare(folder: Path) -> bool:
    """Write data and starting weights for all; False if the data are random for want of MNIST."""
    images = datasets.mnist("laptop")
    real = images.source == "real"
    if not real:
        rng = np.random.default_rng(0)
        shape = {"train_x": (60000, 28, 28), "test_x": (10000, 28, 28)}
        images = images._replace(
            **{name: rng.integers(0, 256, size, np.uint8) for name, size in shape.items()},
            train_y=rng.integers(0, 10, 60000, np.uint8),
            test_y=rng.integers(0, 10, 10000, np.uint8),
        )
    parts = fedavg.partition_iid(0, 60000, 100)
    federation = fedavg.pack(images.train_x, images.train_y, parts)
    np.save(folder / "x.npy", federation.x)
    np.save(folder / "y.npy", federation.y)
    np.save(folder / "test_x.npy", images.test_x)
    np.save(folder / "test_y.npy", images.test_y)
    key = jax.random.key(0)
    for name, network in (("twonn", fedavg.TwoNN(key)), ("cnn", fedavg.MnistCNN(key))):
        np.savez(folder / name, *map(np.asarray, jax.tree.leaves(network)))
    return real


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = sorted({row.environment for row in ROUND} - {"book"})
    parser.add_argument("--only", nargs="+", choices=known, help="time these peers and ours")
    parser.add_argument("--quick", action="store_true", help="one round, to see that all works")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = prepare(folder)
        data = "MNIST" if real else "random numbers of MNIST's shape (MNIST is not at hand)"
        plan = [
            (
                "fedavg_round",
                "One round of federated averaging: the 2NN, 100 equal clients of which 10 take "
                f"part, one epoch in minibatches of 10, 600 local steps in all; {data}",
                ROUND, ROUNDS,
            ),
            *(
                (
                    f"fedavg_cnn_step_b{batch}",
                    f"One local step of the CNN on a minibatch of {batch}; {data}",
                    cnn_rows(str(batch)), CNN_ROUNDS,
                )
                for batch in (10, 50)
            ),
        ]  # fmt: skip
        for name, description, rows, rounds in plan:
            if given.only:
                rows = [row for row in rows if row.environment in ("book", *given.only)]
            results = measure(
                rows, 1 if given.quick else rounds, folder, "accuracy" if real else None
            )
            show(description, "CPU seconds", results)
            if not (given.only or given.quick):
                keep(name, description, "CPU seconds", data, rounds, results)


if __name__ == "__main__":
    main()
