"""What the benchmark page shows: complete, from a named machine, and of simulators that learn."""

import json
from pathlib import Path

import pytest

RESULTS = sorted((Path(__file__).parents[1] / "benchmarks" / "results").glob("*.json"))


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
