"""Times the logistic curves of many conditions against statsmodels and textbook JAX, in CPU time.

python benchmarks/bench_tradeoffs.py              everything; writes benchmarks/results/
python benchmarks/bench_tradeoffs.py --quick      one round of each, of few fits; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from side_by_side import PEERS, Row, keep, measure, show

from lib.tradeoffs import logistic
from lib.tradeoffs.counts import LEVELS, paper_counts

sys.path.append(str(PEERS))
from logits_task import CHECKED  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
FITS, FEW = 72_000, 2_400
SEED = 0
DATA = "computed from a seed and the paper's curves"
UNIT = "µs of CPU a fit"


def resamples(fits: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (fits, 10), and of how many, drawn from the paper's curves; none is separated."""
    counts = paper_counts()
    k, n = counts.chose[counts.varies], counts.valid[counts.varies]
    p = logistic.probability(logistic.fit_logit(LEVELS, k, n), LEVELS)
    drawn = logistic.draw_counts(jax.random.key(SEED), p, n, draws=fits // 20).reshape(-1, 10)
    valid = np.tile(n, (fits // 20, 1))
    good = ~logistic.fit_logit(LEVELS, drawn, valid).separated
    return drawn[good][:fits], valid[good][:fits]


def rows(fits: int) -> list[Row]:
    """Who fits the curves, each with its cost in microseconds a fit."""
    all_, some = fits * 1e-6, CHECKED * 1e-6

    def peer(name, *program, per=all_):
        return Row(name, "book", program, per=per, peer=True)

    return [
        Row("This book", "book", ("ours_logits.py",), per=all_),
        peer("Plain JAX, linalg.solve", "plain_logits.py", "solve"),
        peer("Plain JAX, linalg.inv", "plain_logits.py", "inv"),
        peer("statsmodels GLM, one by one", "with_statsmodels.py", per=some),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few fits, to see that all works")
    quick = parser.parse_args().quick
    fits, rounds = (FEW, 1) if quick else (FITS, ROUNDS)
    k, n = resamples(fits)
    description = f"A logistic curve of ten levels, {len(k):,} at once"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "counts.npz", x=LEVELS, k=k, n=n)
        results = measure(rows(len(k)), rounds, folder, "digest")
    show(description, UNIT, results)
    if not quick:
        keep("tradeoffs_logit", description, UNIT, DATA, rounds, results)


if __name__ == "__main__":
    main()
