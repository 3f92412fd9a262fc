"""A wrong kernel must change what the chapter says."""

import json
from pathlib import Path

import pytest

# The present without its 1/B; sums that go on over the end of an inner episode; CD and DC not
# exchanged for the second player
NO_SHARE_NO_RESET_NO_SWAP = """
import numpy as np
from lib.cooperation import estimators, ipd
weights, returns = estimators.weights, estimators.batch_lambda_returns

def undivided(rewards, method, *, steps):
    return weights(rewards, method._replace(normalise_current=np.asarray(False)), steps=steps)

def endless(*arguments, average_future, **options):
    return returns(*arguments, average_future=np.asarray(False), **options)

estimators.weights, estimators.batch_lambda_returns = undivided, endless
ipd.SWAPPED = np.sort(ipd.SWAPPED)
"""


# What comes after an inner episode summed over the copies, not averaged
SUM_FOR_MEAN = """
from lib.cooperation import estimators
mean = estimators._mean
estimators._mean = lambda x: mean(x) * x.shape[-1]
"""


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-cooperation")
@pytest.mark.parametrize(
    "wrong_kernel, flips",
    [(NO_SHARE_NO_RESET_NO_SWAP, {"C1", "C2", "C4", "C5", "C22"}), (SUM_FOR_MEAN, {"C2"})],
    ids=["share, reset, swap", "sum for mean"],
)
def test_wrong_kernels_flip_verdicts(run_mutated, wrong_kernel, flips):
    pinned = Path(__file__).parent / "reference" / "cooperation.smoke.json"
    right = json.loads(pinned.read_text(encoding="utf-8"))["claims"].splitlines()
    wrong = run_mutated("cooperation", wrong_kernel)["claims"].splitlines()
    assert {a.split()[0] for a, b in zip(right, wrong, strict=True) if a != b} >= flips
