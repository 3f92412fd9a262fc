"""Times ActionBert's training step, its laboratory's pictures, and crops out of screenshots.

python benchmarks/bench_actionbert.py              everything; writes benchmarks/results/
python benchmarks/bench_actionbert.py --quick      one round of each, small; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import PEERS, Row, keep, measure, show

sys.path.append(str(PEERS))
from actionbert_task import BATCH, LAYERS, LENGTH, SIZE, WIDTH, arrays  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
SEED = 0
GLYPHS, BOXES = 16_384, 2_000
DATA = "computed from a seed: normal numbers, random strokes and boxes"
STEP = (
    f"A training step: {BATCH} pairs of {LENGTH} tokens, {LAYERS} layers {WIDTH} wide; ours with "
    "embeddings and all three objectives"
)


def ours(name: str, what: str, per: float) -> Row:
    return Row(name, "book", ("ours_actionbert.py", what), per=per)


def plain(name: str, what: str, per: float) -> Row:
    return Row(name, "book", ("plain_actionbert.py", what), per=per, peer=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that all works")
    quick = parser.parse_args().quick
    glyphs, boxes, rounds = (500, 50, 1) if quick else (GLYPHS, BOXES, ROUNDS)
    ten_steps, every_glyph, every_box = 10e-3, glyphs * 1e-6, boxes * 1e-6
    theirs = Row(
        "Hugging Face, BertModel", "transformers", ("with_transformers.py",), per=ten_steps
    )
    glyph = f"A glyph on {SIZE} x {SIZE} pixels and its 80 features"
    benchmarks = [
        ("step", STEP, "ms of CPU", None, [
            ours("This book, UniStream", "step", ten_steps),
            theirs,
        ]),
        ("drawing", glyph, "µs of CPU", "digest", [
            ours("This book, one compiled program", "drawing", every_glyph),
            plain("NumPy", "drawing", every_glyph),
        ]),
        ("boxes", f"A crop of a screenshot, on {SIZE} x {SIZE} pixels", "µs of CPU", "digest", [
            ours("This book, crop_and_resize", "boxes", every_box),
            plain("SciPy, map_coordinates", "boxes", every_box),
        ]),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "actionbert.npz", **arrays(SEED, glyphs, boxes))
        for what, description, unit, tells, rows in benchmarks:
            found = measure(rows, rounds, folder, tells)
            show(description, unit, found)
            if not quick:
                keep(f"actionbert_{what}", description, unit, DATA, rounds, found)


if __name__ == "__main__":
    main()
