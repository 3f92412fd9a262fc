"""A wrong kernel must change what the chapter says."""

import json
from pathlib import Path

import pytest

# The present without its 1/B, with sums that go on over the end of an inner episode; or a mean over
# copies where a sum belongs, with a sum of futures where a mean belongs. Of each estimator the
# chapter is shown the one that is nearer to the truth, so that it must see either. And CD and DC
# are not exchanged for the second player
WRONG = """
from unittest.mock import patch
import numpy as np
from lib.cooperation import estimators, exact, ipd
compare, method = exact.compare, estimators.method
returns, mean = estimators.batch_lambda_returns, estimators._mean
yes, no = np.asarray(True), np.asarray(False)
NAMES = "coala", "baseline"

def coala(**flags):
    return lambda name: method(name)._replace(**flags) if name == "coala" else method(name)

def endless(*arguments, average_future, **options):
    return returns(*arguments, average_future=no, **options)

undivided = dict(method=coala(normalise_current=no), batch_lambda_returns=endless)
summed = dict(method=coala(mean_over_copies=yes), _mean=lambda x: mean(x) * x.shape[-1])

def either(world, **options):
    found = []
    for wrong in (undivided, summed):
        with patch.multiple(estimators, **wrong):
            found.append(compare(world, **options))
    def off(gradient):
        return abs(gradient - world.gradient).max()

    coala, baseline = (min((getattr(one, name) for one in found), key=off) for name in NAMES)
    return found[0]._replace(coala=coala, baseline=baseline)

exact.compare = either
ipd.SWAPPED = np.sort(ipd.SWAPPED)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-cooperation")
def test_wrong_kernels_flip_verdicts(run_mutated):
    pinned = Path(__file__).parent / "reference" / "cooperation.smoke.json"
    right = json.loads(pinned.read_text(encoding="utf-8"))["claims"].splitlines()
    wrong = run_mutated("cooperation", WRONG)["claims"].splitlines()
    flipped = {a.split()[0] for a, b in zip(right, wrong, strict=True) if a != b}
    assert flipped >= {"C1", "C2", "C22"}
