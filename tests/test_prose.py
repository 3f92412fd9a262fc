"""Numbers in prose: whole ones stay whole, and what was not measured is not a number."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from lib import prose


@pytest.mark.parametrize(
    "value, shown",
    [
        (3, "3"),
        (np.int64(3), "3"),
        (0.5, "0.5"),
        (np.float32(0.5), "0.5"),
        (jnp.asarray(0.5), "0.5"),
        ("±4", "'±4'"),
        (None, "nan"),
    ],
)
def test_what_the_prose_is_told(value, shown, monkeypatch):
    told = {}
    monkeypatch.setattr(prose, "glue", lambda name, value, display: told.update({name: value}))
    prose.tell("it", value)
    assert repr(told["it"]) == shown
    assert type(told["it"]) in (int, float, str)
    assert value is not None or math.isnan(told["it"])
