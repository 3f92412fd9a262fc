"""A wrong kernel must change what the chapter says."""

import pytest

WRONG_KERNELS = {  # and the claims that must not survive
    "gradient of another sign": (
        """
from lib.mesa import layer
right = layer._implicit_gradients
def wrong(solver, saved, do):
    dq, dk, dv, dlam = right(solver, saved, do)
    return dq, -dk, dv, dlam
layer.implicit.defvjp(layer._forward, wrong)
""",
        {"B2"},
    ),
    "answers ten per cent too large": (
        """
from lib.mesa import layer
right = layer.mesa
layer.mesa = lambda *a, **k: 1.1 * right(*a, **k)
""",
        {"B2"},
    ),
    "steps of half as much again": (
        """
from lib.mesa import baselines
step = baselines.gradient_step
baselines.gradient_step = lambda s, eta: step(s, 1.5 * eta)
""",
        {"C3"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-mesa")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("mesa", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
