"""What the runs at paper scale would cost here: a few steps of each, times how many there are.

python benchmarks/bench_paper_scale.py            everything; writes book/recorded/waiting.json
python benchmarks/bench_paper_scale.py --quick    small models; writes nothing
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from side_by_side import RESULTS, shortened

from lib import checkpoints, fedavg, recorded
from lib.actionbert import paper_scale as actionbert
from lib.cooperation import paper_scale as cooperation
from lib.mesa import paper_scale as mesa

WRITTEN = Path(__file__).parents[1] / "book" / "recorded" / "waiting.json"
SECONDS = {"CPU seconds": 1.0, "ms of CPU": 1e-3, "µs of CPU": 1e-6}
CLIENTS, DIGITS = 10, 600  # that take part in a round of FedAvg, and what each of them has
RATES = 3  # learning rates that the chapter tries for the CNN at paper scale


class Cost(NamedTuple):
    """A run that waits: how many units of work it is, and what one takes here."""

    slug: str
    run: str
    command: str
    unit: str
    count: float
    seconds: float  # of CPU, for one unit


def measured(name: str, row: int = 0) -> float:
    """CPU seconds that another benchmark of this folder has found for its unit."""
    kept = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return kept["rows"][row]["value"] * next(s for u, s in SECONDS.items() if u in kept["unit"])


def of_recipe(module: ModuleType, name: str, steps: str, **smaller: int) -> float:
    """CPU seconds of a step: the second of two, with the test that follows; the first compiles."""
    recipes, block, write, took = dict(module.RECIPES), module.BLOCK, checkpoints.write, []
    recipe = module.RECIPES[name]._replace(**{steps: 2} | smaller)

    def note(path, head, tree):
        write(path, head, tree)
        if head:
            took.append(head["seconds"])

    module.RECIPES[name], module.BLOCK, checkpoints.write = recipe, 1, note
    try:
        with tempfile.TemporaryDirectory() as folder:
            module.fit(name, Path(folder))
    finally:
        module.RECIPES.update(recipes)
        module.BLOCK, checkpoints.write = block, write
    return took[1] - took[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that all works")
    quick = parser.parse_args().quick
    costs = [*chapters(), *recipes(quick)]
    for cost in costs:
        hours = cost.count * cost.seconds / 3600
        print(f"{cost.slug:<12}{cost.run:<44}{hours:>12,.0f} CPU-hours")
    if not quick:
        rows = [{k: shortened(v) for k, v in cost._asdict().items()} for cost in costs]
        kept = recorded.provenance() | {"rows": rows}
        text = json.dumps(kept, indent=1, ensure_ascii=False)
        WRITTEN.write_text(text + "\n", encoding="utf-8")


def chapters() -> list[Cost]:
    """Parts of chapters at SCALE=paper, by what other benchmarks have measured."""
    digits = sum(
        CLIENTS * DIGITS * epochs * rounds
        for (epochs, _), columns in fedavg.TABLE_2.items()
        for rounds in columns
    )
    record = "make record CHAPTER="
    return [
        Cost(
            "fedavg", "the CNN of Table 2, by the paper's rounds, three rates", f"{record}fedavg",
            "ten digits", RATES * digits / 10, measured("fedavg_cnn_step_b10"),
        ),
        Cost(
            "fedselect", "tags: 17 settings, five trials of 1,500 rounds", f"{record}fedselect",
            "rounds", 17 * 5 * 1500, measured("fedselect_n10000"),
        ),
        Cost(
            "life", "Fig. 5 and its controls: 2,300 soups of 16,000 epochs", f"{record}life",
            "epochs", 2300 * 16_000, measured("life_epoch"),
        ),
    ]  # fmt: skip


def recipes(quick: bool) -> list[Cost]:
    """Models and agents that have a command of their own."""
    small: dict[ModuleType, dict[str, int]] = {
        mesa: dict(batch=8),
        cooperation: dict(seeds=1),
        actionbert: dict(width=12, layers=1, apps=20, batch=8),
    }
    wanted = [
        ("mesa", mesa, "softmax-7", "steps", "steps"),
        ("mesa", mesa, "few-shot", "steps", "steps"),
        ("cooperation", cooperation, "shaping-coala", "iterations", "iterations"),
        ("cooperation", cooperation, "pool-coala", "iterations", "iterations"),
        ("cooperation", cooperation, "cleanup-coala", "iterations", "iterations"),
        ("actionbert", actionbert, "base-paper", "steps", "steps"),
        ("actionbert", actionbert, "large-paper", "steps", "steps"),
    ]
    return [
        Cost(
            slug, name, f".venv/bin/python -m lib.{slug}.paper_scale {name}", unit,
            getattr(module.RECIPES[name], field),
            of_recipe(module, name, field, **(small[module] if quick else {})),
        )
        for slug, module, name, field, unit in wanted
    ]  # fmt: skip


if __name__ == "__main__":
    main()
