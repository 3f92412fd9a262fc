"""Times the gradient through naive learning against solvers that are differentiated twice.

python benchmarks/bench_cooperation.py              everything; writes benchmarks/results/
python benchmarks/bench_cooperation.py --quick      one round of each, small; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import PEERS, Row, keep, measure, show

sys.path.append(str(PEERS))
from shaping_task import EPISODES, REPEATS  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
SIZES = (512, 16)  # pairs at once
SMALL = (16,)
SEED = 0
DATA = "computed from a seed: normal logits of players and learners, discount 0.95"
UNIT = "µs of CPU a pair"


def rows(pairs: int) -> list[Row]:
    """Who differentiates through the learning, in microseconds a pair."""
    per = pairs * REPEATS * 1e-6

    def plain(name, way):
        return Row(name, "book", ("plain_shaping.py", way), per=per, peer=True)

    return [
        Row("This book: blocks, the slope in closed form", "book", ("ours_shaping.py",), per=per),
        plain("PAX's way: linalg.inv, grad of grad", "inv"),
        plain("linalg.solve, grad of grad", "solve"),
        plain("Elimination written out, grad of grad", "eliminate"),
        Row("PyTorch, autograd of autograd", "torch", ("plain_torch_shaping.py",), per=per),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few pairs, to see that all works")
    quick = parser.parse_args().quick
    rounds = 1 if quick else ROUNDS
    for pairs in SMALL if quick else SIZES:
        logits = np.random.default_rng(SEED).normal(size=(2, pairs, 5)).astype(np.float32)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(folder / "shaping.npz", player=logits[0], learner=logits[1])
            results = measure(rows(pairs), rounds, folder, "digest")
        for row in results:
            if row["digest"] and row["digest"] != results[0]["digest"]:
                reason = "does other work: its gradients are others"
                row |= dict(value=None, ratio=None, absent=reason)
        description = f"The gradient through {EPISODES} steps of a naive learner, {pairs} at once"
        show(description, UNIT, results)
        if not quick:
            keep(f"cooperation_shaping_{pairs}", description, UNIT, DATA, rounds, results)


if __name__ == "__main__":
    main()
