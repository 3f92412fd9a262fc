"""What the benchmark page shows: complete, from a named machine, and of simulators that learn."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lib import life

FOLDER = Path(__file__).parents[1] / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))


@pytest.mark.parametrize("name", [path.stem for path in sorted(FOLDER.glob("bench_*.py"))])
def test_a_benchmark_can_be_imported(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    assert importlib.import_module(name).main


def test_the_benchmark_of_soups_hands_out_tapes_that_have_not_run(tmp_path, monkeypatch):
    """Paired and mutated: almost all bytes are those of the soup, in another order."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    bench = importlib.import_module("bench_life")
    soup = life.primordial(1, 2**8, tokens=True)
    assert bench.prepare(tmp_path, "small", soup, 1).startswith("256 programs at epoch 0")
    with np.load(tmp_path / "small.npz") as given:
        same = given["tapes"].reshape(-1, 64) == np.asarray(soup.programs)[given["order"]]
        assert 0.99 < same.mean() < 1


def test_there_are_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_result_says_what_was_measured_on_what_and_compares_like_with_like(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert all(result[k] for k in ("description", "unit", "date", "commit", "hardware", "versions"))
    measured = [row for row in result["rows"] if not row["absent"]]
    assert [row["ratio"] for row in measured if row["ours"]][0] == 1
    assert all(row["value"] > 0 for row in measured)
    assert any(not row["ours"] for row in measured), "a ratio needs a peer or a limit"
    told = {row["digest"] for row in measured if row.get("digest")}
    assert len(told) <= 1, f"rows did different work: {told}"
    learned = [row["accuracy"] for row in measured if row.get("accuracy")]
    more = [row["more"] for row in measured if row.get("more")]
    assert len(more) in (0, len(measured)), "a column needs a number of each row"
    assert all(facts.keys() == more[0].keys() for facts in more)
    # after few steps the order of the examples shows: rows that share it must learn the same
    alone = [a for a in learned if sum(abs(a - b) < 0.02 for b in learned) < 2]
    assert not alone, f"a row does other work: its accuracy {alone} is like no other's"
