"""What the runs at paper scale would cost here: a few steps of each, times how many there are.

python benchmarks/paper_scale.py            everything; writes book/recorded/waiting.json
python benchmarks/paper_scale.py --quick    small models; writes nothing
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from side_by_side import RESULTS, shortened

from lib import checkpoints, fedavg, life, recorded
from lib.actionbert import paper_scale as actionbert
from lib.cooperation import paper_scale as cooperation
from lib.mesa import paper_scale as mesa

WRITTEN = Path(__file__).parents[1] / "book" / "recorded" / "waiting.json"
SECONDS = {"CPU seconds": 1.0, "ms of CPU": 1e-3, "µs of CPU": 1e-6}
CLIENTS, DIGITS = 10, 600  # that take part in a round of FedAvg, and what each of them has
SETTINGS = 17  # of the tag predictor in its chapter: n, m and policies
SOUPS, EPOCHS = 100, 16_000  # of a survival curve at paper scale, and how long each is watched
PAIRS = 8  # of a batch of ActionBert, as many as are timed here
LENGTHS = 1, 3  # of the blocks that are timed: their difference is two steps, without a test
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
    """CPU seconds of a step, with its share of the test that follows each block of steps."""
    recipes, block = dict(module.RECIPES), module.BLOCK
    short, long = LENGTHS
    try:
        found = {}
        for module.BLOCK in LENGTHS:
            changed = recipes[name]._replace(**{steps: 2 * module.BLOCK} | smaller)
            module.RECIPES[name] = changed
            found[module.BLOCK] = second_block(module, name)
    finally:
        module.RECIPES.update(recipes)
        module.BLOCK = block
    step = (found[long] - found[short]) / (long - short)
    return step + max(found[short] - short * step, 0) / block


def second_block(module: ModuleType, name: str) -> float:
    """CPU seconds of a training's second block, and of the test after it; the first compiles."""
    write, took = checkpoints.write, []

    def note(path, head, tree):
        if head:
            took.append(head["seconds"])
        write(path, head, tree)

    checkpoints.write = note
    try:
        with tempfile.TemporaryDirectory() as folder:
            module.fit(name, Path(folder))
    finally:
        checkpoints.write = write
    return took[1] - took[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that all works")
    quick = parser.parse_args().quick
    costs, facts = [], recorded.provenance()
    for cost in itertools.chain(chapters(), recipes(quick)):
        costs.append(cost)
        hours = cost.count * cost.seconds / 3600
        print(f"{cost.slug:<12}{cost.run:<56}{hours:>12,.1f} CPU-hours", flush=True)
        if quick:
            continue
        rows = [{k: shortened(v) for k, v in cost._asdict().items()} for cost in costs]
        text = json.dumps(facts | {"rows": rows}, indent=1, ensure_ascii=False)
        WRITTEN.write_text(text + "\n", encoding="utf-8")


def chapters() -> list[Cost]:
    """Parts of chapters at SCALE=paper, by what other benchmarks have measured."""
    digits = sum(
        CLIENTS * DIGITS * epochs * rounds
        for (epochs, _), columns in fedavg.TABLE_2.items()
        for rounds in columns
    )
    soups = SOUPS * (len(life.FIGURE_6) + 2)
    record = "make record CHAPTER="
    return [
        Cost(
            "fedavg", "the CNN of Table 2, by the paper's rounds, three rates", f"{record}fedavg",
            "ten digits", RATES * digits / 10, measured("fedavg_cnn_step_b10"),
        ),
        Cost(
            "fedselect", f"tags: {SETTINGS} settings, five trials of 1,500 rounds",
            f"{record}fedselect", "rounds", SETTINGS * 5 * 1500, measured("fedselect_n10000"),
        ),
        Cost(
            "life", f"rates of Fig. 6 and two controls: {soups} soups, none of them alive",
            f"{record}life", "epochs", soups * EPOCHS, measured("life_epoch"),
        ),
    ]  # fmt: skip


def recipes(quick: bool) -> Iterator[Cost]:
    """Models and agents that have a command of their own; the largest by smaller batches."""
    small = {
        mesa: dict(batch=8),
        cooperation: dict(seeds=1),
        actionbert: dict(width=12, layers=1),
    }
    few = dict(apps=9, batch=PAIRS)  # a test of one app is as long for a batch as the whole one
    wanted = [
        ("mesa", mesa, "softmax-7", "steps"),
        ("mesa", mesa, "few-shot", "steps"),
        ("cooperation", cooperation, "shaping-coala", "iterations"),
        ("cooperation", cooperation, "pool-coala", "iterations"),
        ("cooperation", cooperation, "cleanup-coala", "iterations"),
        ("actionbert", actionbert, "base-paper", "steps"),
        ("actionbert", actionbert, "large-paper", "steps"),
    ]
    for slug, module, name, steps in wanted:
        recipe = module.RECIPES[name]
        count, unit, smaller = getattr(recipe, steps), steps, {}
        if module is actionbert:
            count, unit, smaller = count * recipe.batch // PAIRS, f"{PAIRS} pairs", few
        smaller |= small[module] if quick else {}
        seconds = of_recipe(module, name, steps, **smaller)
        yield Cost(
            slug, name, f".venv/bin/python -m lib.{slug}.paper_scale {name}", unit, count, seconds
        )


if __name__ == "__main__":
    main()
