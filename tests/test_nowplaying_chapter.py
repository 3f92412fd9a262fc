"""A wrong kernel must change what the chapter says."""

import pytest

WRONG_KERNELS = {  # and the claims that must not survive
    "windows ten per cent too loud": (
        """
from lib.nowplaying import detector
window = detector.detector_window
detector.detector_window = lambda model, x: window(model, 1.1 * x)
""",
        {"C2"},
    ),
    "the phase of a query counted backwards": (
        """
import jax.numpy as jnp
from lib.nowplaying import matching
right = matching._align
def late(*arguments):
    found = right(*arguments)
    return found._replace(start=2 * jnp.ceil(found.start) - found.start)
matching._align = late
""",
        {"B2"},
    ),
    "half of the songs swapped with their neighbours": (
        """
import jax.numpy as jnp
from lib.nowplaying import matching
right = matching._judge
def swapped(candidates, score):
    answer = right(candidates, score)
    return answer._replace(song=jnp.where(answer.song % 4 < 2, answer.song ^ 1, answer.song))
matching._judge = swapped
""",
        {"C5"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-nowplaying")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("nowplaying", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
