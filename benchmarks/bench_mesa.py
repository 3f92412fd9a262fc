"""Times the mesa-layer against other ways to compute it; also its memory and its rounding.

python benchmarks/bench_mesa.py              everything; writes benchmarks/results/
python benchmarks/bench_mesa.py --quick      one round of each, small; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
from side_by_side import PEERS, Row, keep, measure, shortened, show

sys.path.append(str(PEERS))
from ours_mesa import FORMS, with_gradients  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
SIZES = [(256, 50, 20), (64, 256, 32), (16, 1024, 64)]  # N heads and examples, T, d
SMALL = [(8, 50, 20)]
STRENGTHS = (1.0, 1e2, 1e4)  # lam
SEED = 0
DATA = "computed from a seed: normal numbers, keys and queries of length about 1"

NAMES = {
    "innovations": "This book, by innovations",
    "refined": "This book, refined once",
    "sherman_morrison": "The paper's: Sherman-Morrison and back",
    "cg": "MesaNet's: 30 steps of conjugate gradients",
    "definition": "The definition: T matrices, Cholesky",
    "linear": "Linear attention, which solves nothing",
}
OURS = ("innovations", "refined")


def arrays(n: int, steps: int, d: int, lam: float = 1.0) -> dict[str, np.ndarray]:
    """The task of peers/mesa_task.py."""
    drawn = np.random.default_rng(SEED).normal(size=(4, n, steps, d)).astype(np.float32)
    drawn[:2] /= np.sqrt(d)
    return dict(zip("qkvw", drawn, strict=True), lam=np.full(n, lam, np.float32))


def timed_rows(what: str) -> list[Row]:
    """Who computes the output, or output and gradients, in milliseconds."""

    def torch(name, which):
        return Row(name, "torch", ("plain_torch_mesa.py", which, what), per=1e-3)

    return [
        Row(
            name, "book", ("ours_mesa.py", form, what), limit=form == "linear", per=1e-3,
            peer=form not in OURS,
        )
        for form, name in NAMES.items()
    ] + [
        torch("PyTorch, T matrices, linalg.solve", "plain"),
        torch("flash-linear-attention's reference", "fla"),
    ]  # fmt: skip


def compared(values: dict[str, float]) -> list[dict]:
    """Rows for numbers that were found once, as `measure` gives for times."""
    first = next(iter(values.values()))
    return [
        dict(name=NAMES[form], ours=form in OURS, limit=form == "linear", absent=None,
             ratio=shortened(x / first), digest=None, accuracy=None, version=None,
             **dict.fromkeys(("value", "min", "median", "first"), shortened(x)))
        for form, x in values.items()
    ]  # fmt: skip


def memory(n: int, steps: int, d: int) -> dict[str, float]:
    """Temporary memory of output and gradients, in MB, as XLA plans it."""
    task = arrays(n, steps, d)
    found = {}
    for form, f in FORMS.items():
        run = jax.jit(partial(with_gradients, f))
        analysis = run.lower(*(task[name] for name in ("w", "q", "k", "v", "lam"))).compile()
        found[form] = analysis.memory_analysis().temp_size_in_bytes / 1e6
    return found


def rounding(lam: float) -> dict[str, float]:
    """The worst relative error of output and gradients in float32, against float64."""
    names = ("w", "q", "k", "v", "lam")
    task = arrays(4, 200, 20, lam)
    with jax.enable_x64(True):
        double = (task[name].astype(np.float64) for name in names)
        true = jax.jit(partial(with_gradients, FORMS["definition"]))(*double)
        true = [np.asarray(x) for x in true]
    found = {}
    for form in NAMES.keys() - {"linear"}:
        ours = jax.jit(partial(with_gradients, FORMS[form]))(*(task[name] for name in names))
        found[form] = max(
            float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(ours, true, strict=True)
        )
    return {form: found[form] for form in NAMES if form in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that all works")
    quick = parser.parse_args().quick
    sizes, rounds = (SMALL, 1) if quick else (SIZES, ROUNDS)

    def finish(name, description, unit, rows, times):
        show(description, unit, rows)
        if not quick:
            keep(name, description, unit, DATA, times, rows)

    for n, steps, d in sizes:
        size = f"{n} sequences of {steps} keys of {d} numbers"
        for what, words in (("output", "The output"), ("gradient", "Output and gradients")):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                np.savez(folder / "mesa.npz", **arrays(n, steps, d))
                rows = measure(timed_rows(what), rounds, folder, "digest")
            finish(f"mesa_{what}_{steps}", f"{words} for {size}", "ms of CPU", rows, rounds)
        rows = compared(memory(n, steps, d))
        finish(f"mesa_memory_{steps}", f"Temporary memory for {size}", "MB", rows, 1)
    for lam in STRENGTHS:
        rows = compared(rounding(lam))
        described = f"Worst relative error of output and gradients in float32, lambda {lam:g}"
        finish(f"mesa_rounding_{lam:g}", described, "of the largest number", rows, 1)


if __name__ == "__main__":
    main()
