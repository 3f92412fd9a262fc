"""Times a round of federated averaging against its peers, side by side, in CPU seconds.

    python benchmarks/bench_fedavg.py            everything; writes benchmarks/results/
    python benchmarks/bench_fedavg.py --only fedjax torch    these and ours; writes nothing

All implementations run as processes that wait for orders; the rounds take turns, so that a change
of the machine's speed meets all of them. Each peer has its own environment, made by the first run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import psutil
from environments import ROOT, Absent, python_of

from lib import datasets, fedavg, recorded

PEERS = ROOT / "benchmarks" / "peers"
RESULTS = ROOT / "benchmarks" / "results"
ROUNDS, CNN_ROUNDS = 20, 5  # timed, after a first one that compiles
PATIENCE = 300  # seconds until a silent process counts as hung
CNN_STEPS = 4  # local steps in a timed round of the CNN, as in peers/worker.py


class Row(NamedTuple):
    """One implementation: its name, its environment, its program with arguments."""

    name: str
    environment: str
    program: tuple[str, ...] = ()
    limit: bool = False  # a bound of the machine, not an implementation

    @property
    def ours(self) -> bool:
        return self.environment == "book" and not self.limit


ROUND = [
    Row("This book, clients one after the other", "book", ("ours.py", "scan")),
    Row("This book, clients side by side (vmap)", "book", ("ours.py", "vmap")),
    Row("This book, on two devices", "book", ("ours.py", "sharded")),
    Row("fedjax", "fedjax", ("with_fedjax.py",)),
    Row("PyTorch, a plain loop", "torch", ("plain_torch.py",)),
    Row("pfl-research", "pfl", ("with_pfl.py",)),
    Row("Flower, simulation with ray", "flower", ("with_flower.py", str(1 + ROUNDS))),
    Row("TensorFlow Federated", "tff"),
    Row("Limit: its matrix products alone, NumPy", "book", ("bare_products.py", "skinny"), True),
    Row("Limit: as much arithmetic at full speed", "book", ("bare_products.py", "peak"), True),
]


def cnn_rows(batch: str) -> list[Row]:
    return [
        Row("This book, one matrix product a layer", "book", ("ours_cnn.py", batch, "im2col")),
        Row("XLA's convolution in a compiled loop", "book", ("ours_cnn.py", batch, "lax")),
        Row("XLA's convolution, loop in Python", "book", ("ours_cnn.py", batch, "stepwise")),
        Row("PyTorch, a plain loop", "torch", ("plain_torch_cnn.py", batch)),
    ]


class Worker:
    """A process that does one round for each order."""

    def __init__(self, row: Row, folder: Path):
        """Start it; raises Absent if it cannot be installed or does not get ready."""
        python = python_of(row.environment)
        if not row.program:
            raise Absent("installs, but no program here times it")
        program, *arguments = row.program
        self.log = open(folder / f"{'-'.join(row.program)}.log", "w+", encoding="utf-8")
        self.process = psutil.Popen(
            [python, PEERS / program, folder, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env=environment(),
        )  # fmt: skip
        try:
            self.version = self._reply()["version"]
        except Absent:
            self.stop()
            raise

    def order(self, what: str) -> dict:
        """Have it do a "round" or tell its "accuracy"; raises Absent if it fails."""
        try:
            print(what, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # it has died: the reply below says of what
        return self._reply()

    def stop(self) -> None:
        """End it and all that it started."""
        try:
            family = self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        self.process.stdin.close()
        psutil.wait_procs([self.process], timeout=20)
        for process in [self.process, *family]:
            if process.is_running():
                process.kill()
        self.process.wait()
        self.log.close()

    def _reply(self) -> dict:
        watch = threading.Timer(PATIENCE, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        watch.cancel()
        if line:
            return json.loads(line)
        self.log.seek(0)
        said = [text.strip() for text in self.log if text.strip()] or ["it ended without a word"]
        errors = [text for text in said if re.match(r"[\w.]*(Error|Exception)\b", text)]
        raise Absent(f"fails: {(errors or said)[-1][:200]}")


def environment() -> dict[str, str]:
    """One thread each, on the processor, telling nobody."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return inherited | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(PEERS),
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


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


def measure(rows: list[Row], rounds: int, per: int, folder: Path, real: bool) -> list[dict]:
    """Let the rows take turns; return what each took, in CPU seconds divided by `per`."""
    results = [
        dict(name=row.name, ours=row.ours, limit=row.limit, value=None, ratio=None, min=None,
             median=None, first=None, wall=None, accuracy=None, version=None, absent=None)
        for row in rows
    ]  # fmt: skip
    workers: dict[int, Worker] = {}
    took: dict[int, list[dict]] = {i: [] for i in range(len(rows))}

    def attempt(i, act):
        try:
            return act()
        except Absent as reason:
            results[i]["absent"] = str(reason)
            if i in workers:
                workers.pop(i).stop()

    try:
        for i, row in enumerate(rows):
            if worker := attempt(i, lambda row=row: Worker(row, folder)):
                workers[i] = worker
                results[i]["version"] = worker.version
        for t in range(1 + rounds):
            progress(f"round {t} of {rounds}")
            for i, worker in list(workers.items()):
                if reply := attempt(i, lambda worker=worker: worker.order("round")):
                    took[i].append(reply)
        for i, worker in list(workers.items()):
            if real and not rows[i].limit:
                if reply := attempt(i, lambda worker=worker: worker.order("accuracy")):
                    results[i]["accuracy"] = round(reply["accuracy"], 4)
    finally:
        for worker in workers.values():
            worker.stop()
    for i, result in enumerate(results):
        if result["absent"] is None:
            first, *later = [reply["cpu"] / per for reply in took[i]]
            result |= dict(value=min(later), min=min(later), median=statistics.median(later),
                           first=first, wall=min(r["wall"] / per for r in took[i][1:]))  # fmt: skip
        results[i] = result
    for result in results:
        if result["value"] is not None and results[0]["value"] is not None:
            result["ratio"] = result["value"] / results[0]["value"]
    return [{k: shortened(v) for k, v in result.items()} for result in results]


def shortened(value):
    """Four significant digits are more than a timing has."""
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value


def progress(text: str) -> None:
    """One line that renews itself, where somebody looks."""
    if sys.stdout.isatty():
        print(f"\r{text:<40}", end="", flush=True)


def show(title: str, rows: list[dict]) -> None:
    """A table for the terminal."""
    print(f"\r{title}\n{'':<42}{'CPU s':>9}{'median':>9}{'ratio':>8}{'first':>8}{'accuracy':>10}")
    for row in rows:
        if row["absent"]:
            print(f"{row['name']:<42}  absent: {row['absent']}")
            continue
        cells = [f"{row[k]:.4f}" for k in ("min", "median")] + [f"{row['ratio']:.2f}"]
        cells += [f"{row['first']:.2f}", f"{row['accuracy'] or math.nan:.3f}"]
        widths = (9, 9, 8, 8, 10)
        print(
            f"{row['name']:<42}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = sorted({row.environment for row in ROUND} - {"book"})
    parser.add_argument("--only", nargs="+", choices=known, help="time these peers and ours")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = prepare(folder)
        data = "MNIST" if real else "random numbers of MNIST's shape (MNIST is not at hand)"
        plan = [
            (
                "fedavg_round",
                "One round of federated averaging: the 2NN, 100 equal clients of which 10 take "
                f"part, one epoch in minibatches of 10, 600 local steps in all; {data}",
                ROUND, ROUNDS, 1,
            ),
            *(
                (
                    f"fedavg_cnn_step_b{batch}",
                    f"One local step of the CNN on a minibatch of {batch}; {data}",
                    cnn_rows(str(batch)), CNN_ROUNDS, CNN_STEPS,
                )
                for batch in (10, 50)
            ),
        ]  # fmt: skip
        for name, description, rows, rounds, per in plan:
            rows = [row for row in rows if not only or row.environment in ("book", *only)]
            results = measure(rows, rounds, per, folder, real)
            show(description, results)
            if not only:
                result = dict(benchmark=name, description=description, unit="CPU seconds",
                              data=data, rounds=rounds)  # fmt: skip
                result |= recorded.provenance() | {"rows": results}
                text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
                RESULTS.mkdir(exist_ok=True)
                (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
