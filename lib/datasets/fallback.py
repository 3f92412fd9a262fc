"""The rule for what stands in where real data is not at hand, and the banner that says so."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from typing import TypeVar

from lib.datasets import store
from lib.datasets.registry import REGISTRY
from lib.scale import check

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Banner:
    """A warning that readers cannot miss: these are not the data that the text speaks of."""

    text: str

    def __str__(self) -> str:
        return f"FALLBACK DATA: {self.text}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return (
            "<div class='admonition warning'><p class='admonition-title'>Fallback data</p>"
            f"<p>{html.escape(self.text)}</p></div>"
        )


def real_or_embedded(
    name: str,
    files: Sequence[str],
    scale: str,
    *,
    real: Callable[..., T],
    embedded: Callable[[Banner], T],
    instead: str,
) -> T:
    """`real(*paths)` where the files of a dataset are at hand, else `embedded(banner)`.

    smoke is always embedded: no look at folder, cache or network. laptop takes what it can get,
    paper insists on the real data. `instead` says in the banner what stands in for it.

    Raises DatasetUnavailable (paper), ChecksumError for a damaged local file (laptop, paper).
    """
    if check(scale) == "smoke":
        return embedded(_banner(name, instead, "at scale smoke nothing is read or downloaded"))
    try:
        paths = [store.fetch_file(name, file) for file in files]
    except store.DatasetUnavailable:
        if scale == "paper":
            raise
        return embedded(_banner(name, instead, "it is not here and could not be downloaded"))
    return real(*paths)


def _banner(name: str, instead: str, reason: str) -> Banner:
    how = f"To get the real data: .venv/bin/python -m lib.datasets get {name}."
    if not any(file.urls for file in REGISTRY[name].values()):
        how = "The real data cannot be downloaded; the page Rerun says how to come by them."
    return Banner(
        f"The dataset {name} is replaced by {instead}. What follows shows how things work; it "
        f"neither confirms nor refutes numbers of the paper, which belong to {name}. {how} "
        f"Reason: {reason}."
    )
