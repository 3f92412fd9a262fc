"""A wrong kernel must change what the chapter says."""

import json
from pathlib import Path

import pytest

# The clicked component is said to be the next one; masked texts are seen; functions' labels are
# permuted
SHIFTED_LEAKING_AND_PERMUTED = """
import numpy as np
from lib.actionbert import model, screens, tasks
right_pairs, right_icons, right_call = screens.pair_up, tasks.icons, model.UniStream.__call__

def shifted(*arguments, **options):
    found = right_pairs(*arguments, **options)
    return found._replace(clicked=np.where(found.clicked < 0, -1, (found.clicked + 1) % 10))

def leaking(self, a, b=None, *, mask_a=None, mask_b=None, attention=False):
    return right_call(self, a, b, attention=attention)

def permuted(*arguments):
    found = right_icons(*arguments)
    return found._replace(label=(found.label + 1) % 24)

screens.pair_up, tasks.icons, model.UniStream.__call__ = shifted, permuted, leaking
"""


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-actionbert")
def test_wrong_kernels_flip_verdicts(run_mutated):
    pinned = Path(__file__).parent / "reference" / "actionbert.smoke.json"
    right = json.loads(pinned.read_text(encoding="utf-8"))["claims"].splitlines()
    wrong = run_mutated("actionbert", SHIFTED_LEAKING_AND_PERMUTED)["claims"].splitlines()
    flipped = {a.split()[0] for a, b in zip(right, wrong, strict=True) if a != b}
    assert flipped >= {"L1", "L2", "L3"}
