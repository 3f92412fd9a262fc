"""What a claim rests on, read off the code of a small chapter."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "book" / "_ext"))
import dataflow  # noqa: E402

CELLS = [
    "## Numbers",
    ("code", "import math\nscale, seed = 'smoke', 0\nfrom lib.claims import Claim, Claims, Test"),
    ("code", "x = 1\nrows = []\nfor row in range(3):\n    y = row\n    rows.append(y)"),
    "## Others",
    ("code", "other = math.pi\nrow = 5  # a loop elsewhere stores it before it is read"),
    ("code", "def later():\n    return told * x"),
    ("code", "told = 2"),
    ("code", "%matplotlib inline"),
    ("code", "drawn = [row for row in range(3)]"),
    "## Claims",
    ("code", "def when(value):\n    return value if scale else None"),
    ("code", "a = [Claim('A', 's', 'w', (Test('n', when(sum(rows)), low=0),), 't')]"),
    ("code", "a += [Claim('B', 's', 'w', (Test('n', later(), low=0),), 't')]"),
    ("code", "a += [Claim('C', 's', 'w', (Test('n', sum(row for row in [1]), 0),), 't')]"),
    ("code", "Claims(*a, slug='x', scale=scale)"),
]
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": cell}
        if isinstance(cell, str)
        else {"cell_type": "code", "source": cell[1]}
        for cell in CELLS
    ]
}


def test_the_section_of_a_claim_is_where_its_numbers_are_assigned():
    assert dataflow.origins(NOTEBOOK) == {"A": "Numbers", "B": "Others"}


@pytest.mark.parametrize(
    "claims, cells", [({"A"}, [0, 1, 7]), ({"B"}, [0, 1, 3, 4]), ({"A", "B"}, [0, 1, 3, 4, 7])]
)
def test_a_claim_needs_what_its_names_need_and_no_more(claims, cells):
    needed, last = dataflow.rests_on(NOTEBOOK, claims)
    assert needed == cells
    texts = [cell[1] for cell in CELLS if not isinstance(cell, str)]
    scope = {}
    for text in (*(texts[i] for i in needed), f"shown = {last}"):
        exec(text, scope)
    assert {claim.id for claim in scope["shown"].claims} == claims


def test_a_claim_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no cell says Claim\(id, ...\) of Z"):
        dataflow.rests_on(NOTEBOOK, {"A", "Z"})
