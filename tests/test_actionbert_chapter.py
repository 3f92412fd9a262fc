"""A wrong kernel must change what the chapter says."""

import pytest

WRONG_KERNELS = {  # and the claims that must not survive
    "one click in ten leads elsewhere": (
        """
import numpy as np
from lib.actionbert import screens
right = screens.pair_up
def astray(*arguments, **options):
    found = right(*arguments, **options)
    lost = (np.arange(len(found.clicked)) % 10 == 0) & (found.clicked >= 0)
    return found._replace(clicked=np.where(lost, (found.clicked + 1) % 10, found.clicked))
screens.pair_up = astray
""",
        {"L1"},
    ),
    "the clicked component is said to be the next one": (
        """
import numpy as np
from lib.actionbert import screens
right = screens.pair_up
def shifted(*arguments, **options):
    found = right(*arguments, **options)
    return found._replace(clicked=np.where(found.clicked < 0, -1, (found.clicked + 1) % 10))
screens.pair_up = shifted
""",
        {"L1"},
    ),
    "masked texts are seen": (
        """
from lib.actionbert import model
right = model.UniStream.__call__
def leaking(self, a, b=None, *, mask_a=None, mask_b=None, attention=False):
    return right(self, a, b, attention=attention)
model.UniStream.__call__ = leaking
""",
        {"L2"},
    ),
    "functions' labels are permuted": (
        """
from lib.actionbert import tasks
right = tasks.icons
def permuted(*arguments):
    found = right(*arguments)
    return found._replace(label=(found.label + 1) % 24)
tasks.icons = permuted
""",
        {"L3"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-actionbert")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("actionbert", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
