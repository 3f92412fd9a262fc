"""A wrong kernel must change what the chapter says."""

import json
from pathlib import Path

import pytest

# The phase of a query counted backwards; windows normalised one by one; half of the songs' numbers
# swapped with their neighbours'
WRONG_PHASE_WINDOWS_AND_SONGS = """
import jax.numpy as jnp
from lib.nowplaying import detector, matching
right_align, right_judge, window = matching._align, matching._judge, detector.detector_window

def late(*arguments):
    found = right_align(*arguments)
    return found._replace(start=2 * jnp.ceil(found.start) - found.start)

def swapped(candidates, score):
    answer = right_judge(candidates, score)
    return answer._replace(song=jnp.where(answer.song % 4 < 2, answer.song ^ 1, answer.song))

def normalised(model, x):
    return window(model, (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True))

matching._align, matching._judge, detector.detector_window = late, swapped, normalised
"""


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-nowplaying")
def test_wrong_kernels_flip_verdicts(run_mutated):
    pinned = Path(__file__).parent / "reference" / "nowplaying.smoke.json"
    right = json.loads(pinned.read_text(encoding="utf-8"))["claims"].splitlines()
    wrong = run_mutated("nowplaying", WRONG_PHASE_WINDOWS_AND_SONGS)["claims"].splitlines()
    flipped = {a.split()[0] for a, b in zip(right, wrong, strict=True) if a != b}
    assert flipped >= {"C2", "C5", "B2"}
