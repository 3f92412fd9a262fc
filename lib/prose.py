"""Numbers of a run, put into a chapter's prose."""

from __future__ import annotations

import math
import numbers
from typing import SupportsFloat

from myst_nb import glue


def tell(name: str, value: SupportsFloat | str | None) -> None:
    """Keep a number or a word under `name`; the prose shows it with ``{glue:text}`name:.2f```.

    None, which is a number that this scale does not measure, is shown as a dash.
    """
    if value is None:
        value = math.nan
    elif isinstance(value, numbers.Integral):
        value = int(value)
    elif not isinstance(value, str):
        value = float(value)
    glue(name, value, display=False)
