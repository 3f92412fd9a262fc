"""A wrong kernel must change what the chapter says."""

import pytest

WRONG_KERNELS = {  # and the claims that must not survive
    "the present without its 1/B": (
        """
import numpy as np
from lib.cooperation import estimators
weights = estimators.weights
def undivided(rewards, method, *, steps):
    return weights(rewards, method._replace(normalise_current=np.asarray(False)), steps=steps)
estimators.weights = undivided
""",
        {"C1", "C4", "C5"},
    ),
    "sums that go on over the end of an inner episode": (
        """
import numpy as np
from lib.cooperation import estimators
returns = estimators.batch_lambda_returns
def endless(*arguments, average_future, **options):
    return returns(*arguments, average_future=np.asarray(False), **options)
estimators.batch_lambda_returns = endless
""",
        {"C2"},
    ),
    "means over copies ten per cent too large": (
        """
from lib.cooperation import estimators
mean = estimators._mean
estimators._mean = lambda x: 1.1 * mean(x)
""",
        {"C2"},
    ),
    "CD and DC not exchanged for the second player": (
        """
import numpy as np
from lib.cooperation import ipd
ipd.SWAPPED = np.sort(ipd.SWAPPED)
""",
        {"C22"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-cooperation")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("cooperation", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
