"""Claims of a paper, each beside the number that tests it and the verdict that follows."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Sequence
from typing import Any

from lib import recorded
from lib.scale import check
from lib.wording import NOT_TESTED, SIGNS, accepts, interval, judged, number, typeset


@dataclasses.dataclass(frozen=True)
class Test:
    """One number and the interval in which the claim is accepted.

    `ours` is a number, a sequence with one number per seed (its mean is judged, its smallest and
    largest value are shown), or None where this scale does not measure it. `low` and `high` are
    inclusive, in the unit of the statistic; None leaves that side open. `paper` is the paper's own
    number, as text.

    Raises ValueError if no bound is given, if they are in the wrong order, or if a number is not
    finite.
    """

    __test__ = False  # pytest: not a test case

    statistic: str
    ours: float | Sequence[float] | None
    low: float | None = None
    high: float | None = None
    paper: str = ""

    def __post_init__(self):
        if self.low is None and self.high is None:
            raise ValueError(f"test {self.statistic!r} can never fail: give `low`, `high` or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"test {self.statistic!r}: low={self.low} is above high={self.high}")
        if self.ours is not None and not (self.values and all(map(math.isfinite, self.values))):
            raise ValueError(
                f"test {self.statistic!r}: ours={self.ours!r} is not finite; pass None if it was "
                "not measured, a bound if it was never reached"
            )

    @property
    def values(self) -> tuple[float, ...]:
        """One number per seed."""
        if self.ours is None:
            return ()
        if hasattr(self.ours, "__len__"):
            return tuple(float(v) for v in self.ours)
        return (float(self.ours),)

    @property
    def mean(self) -> float | None:
        """The number that is judged."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def holds(self) -> bool | None:
        """Whether the mean lies in the accepted interval; None if it was not measured."""
        if self.mean is None:
            return None
        return accepts(self.low, self.high, self.mean)

    @property
    def interval(self) -> str:
        """The accepted interval in words."""
        return interval(self.low, self.high)

    def as_dict(self) -> dict:
        """What the scoreboard reads: plain JSON, no infinities."""
        spread = [min(self.values), max(self.values)] if len(self.values) > 1 else None
        return {
            "statistic": self.statistic,
            "paper": self.paper,
            "ours": self.mean,
            "spread": spread,
            "low": self.low,
            "high": self.high,
            "holds": self.holds,
        }


def when(measured: bool, value: Any | Callable[[], Any]) -> Any:
    """The `value` of a Test, or None where this scale does not measure it.

    A function is called only where it is measured: elsewhere what it needs may not be there.
    """
    if not measured:
        return None
    return value() if callable(value) else value


@dataclasses.dataclass(frozen=True)
class Claim:
    """One checkable sentence of a paper, where it stands, and the tests that decide it.

    `source` says where the accepted intervals come from: the paper, theory, or measured noise.
    """

    id: str
    sentence: str
    where: str
    tests: tuple[Test, ...]
    source: str

    def __post_init__(self):
        if not self.tests:
            raise ValueError(f"claim {self.id!r} has no test: give at least one")

    @property
    def verdict(self) -> str:
        """HOLDS if every test does, FAILS if none does, PARTLY in between.

        A test that this scale does not measure keeps the claim from holding in full; with none
        measured the claim is NOT TESTED.
        """
        results = [t.holds for t in self.tests]
        if all(r is None for r in results):
            return NOT_TESTED
        return "HOLDS" if all(results) else "PARTLY" if any(results) else "FAILS"

    def as_dict(self) -> dict:
        """What the scoreboard reads."""
        return {
            "id": self.id,
            "sentence": self.sentence,
            "where": self.where,
            "source": self.source,
            "verdict": self.verdict,
            "tests": [t.as_dict() for t in self.tests],
        }


class Claims:
    """The table that ends a chapter: text for checks, HTML for readers, JSON for the scoreboard.

    Raises ValueError if two claims share an id or if `scale` is unknown.
    """

    def __init__(self, *claims: Claim, slug: str, scale: str, seed: int = 0):
        ids = [c.id for c in claims]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(
                f"claim ids must be unique, these stand twice: {', '.join(twice)} (after "
                "a change, run all the cells of the claims again, from the first)"
            )
        self.claims, self.slug, self.scale, self.seed = claims, slug, check(scale), seed

    def as_dicts(self) -> list[dict]:
        """The claims as plain JSON."""
        where = {"slug": self.slug, "scale": self.scale, "seed": self.seed}
        return [c.as_dict() | where for c in self.claims]

    def __repr__(self) -> str:
        width = max(len(c.id) for c in self.claims)
        return "\n".join(f"{c.id:<{width}}  {c.verdict}" for c in self.claims)

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"text/plain": repr(self), "text/html": self._html()}
        return data, {"claims": self.as_dicts()}

    def _html(self) -> str:
        past = {c["id"]: c for c in recorded.load(self.slug).get("claims", [])}
        heads = ["Claim", "Statistic", "Paper", f"Here ({self.scale})", "Accepted", "Verdict"]
        if past:
            heads.insert(4, "Recorded")
        rows = "".join(
            self._rows(c, past.get(c.id) if past else None, bool(past)) for c in self.claims
        )
        head = "".join(f"<th scope='col'>{h}</th>" for h in heads)
        return (
            "<div class='claims-box' tabindex='0' role='region' aria-label='Claims and verdicts'>"
            f"<table class='claims'><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )

    def _rows(self, claim: Claim, past: dict | None, recorded_column: bool) -> str:
        """One table row per test; the claim and its verdict span them."""
        span = f" rowspan='{len(claim.tests)}'"
        anchor = f"claim-{self.slug}-{claim.id.lower()}"
        sentence = (
            f"<td class='claim'{span}><strong>{claim.id}</strong> {html.escape(claim.sentence)} "
            f"<span class='where'>{html.escape(claim.where)}</span></td>"
        )
        verdict = f"<td class='verdict'{span} data-label='Verdict'>{badge(claim.verdict)}</td>"
        before = {t["statistic"]: t for t in (past or {}).get("tests", [])}
        rows = []
        for i, test in enumerate(claim.tests):
            cells = [
                ("Statistic", html.escape(typeset(test.statistic))),
                ("Paper", html.escape(test.paper) or "–"),
                (f"Here ({self.scale})", shown(test.as_dict())),
            ]
            if recorded_column:
                kept = shown(before.get(test.statistic, {}))
                if kept != "–":
                    kept += f" <span class='where'>{past['provenance']['scale']} scale</span>"
                cells.append(("Recorded", kept))
            source = f" <span class='where'>{html.escape(claim.source)}</span>" if i == 0 else ""
            cells.append(("Accepted", test.interval + source))
            body = "".join(f"<td data-label='{name}'>{text}</td>" for name, text in cells)
            first = f"<tr id='{anchor}'>" + sentence if i == 0 else "<tr>"
            rows.append(first + body + (verdict if i == 0 else "") + "</tr>")
        return "".join(rows)


def shown(test: dict) -> str:
    """Our number with its spread over seeds or trainings, from a test's dictionary."""
    if test.get("ours") is None:
        return "–"
    text = f"<strong>{judged(test['ours'], test['low'], test['high'])}</strong>"
    low, high = map(number, test.get("spread") or (0, 0))
    if low != high:
        text += f" <span class='where'>{low} to {high} over runs</span>"
    return text


def badge(verdict: str, text: str = "") -> str:
    """A verdict, or a `text` about it, with a sign of its own: it does not depend on colour."""
    words = f"<span aria-hidden='true'>{SIGNS[verdict]}</span> {text or verdict.lower()}"
    return f"<span class='badge-{verdict.split()[0].lower()}'>{words}</span>"
