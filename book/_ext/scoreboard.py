"""What pages show of the runs behind them: scoreboard, cards, provenance, costs, benchmarks.

Everything is read when a page is read, from the executed notebooks that _build/book.json names, so
that no page can show a verdict that no run has given.
"""

from __future__ import annotations

import html
import json
import os
import re
from importlib import metadata
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from dataflow import origins
from lib.claims import badge, shown
from lib.scale import SCALES
from lib.wording import NOT_TESTED, SIGNS, VERDICTS, clock, interval, number, typeset

WORDS = dict(zip(VERDICTS, ("hold", "partly", "fail", "not tested"), strict=True))
BEYOND = "beyond the paper"  # where a claim stands that is ours
NOT_RUN = "Nothing has been run yet: <code>make book</code> runs the chapters and fills this in."


class BookDirective(SphinxDirective):
    """A directive that shows results; its page is read again when they change."""

    def root(self) -> Path:
        return Path(self.env.srcdir)

    def read(self, path: Path) -> dict:
        """A JSON file as a dependency of this page; empty if it is not there."""
        self.env.note_dependency(str(path))
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def book(self) -> dict:
        """The scale of this build, and the executed notebook of each chapter."""
        file = os.environ.get("EXECUTABLE_PAPERS_BOOK", self.root() / "_build" / "book.json")
        book = self.read(Path(file))
        runs = {s: self.read(self.root() / p) for s, p in book.get("chapters", {}).items()}
        return {"scale": book.get("scale"), "runs": {s: r for s, r in runs.items() if r}}

    def recorded(self, name: str) -> dict:
        return self.read(self.root() / "book" / "recorded" / f"{name}.json")

    def catalogue(self) -> list[dict]:
        path = self.root() / "book" / "chapters.yml"
        self.env.note_dependency(str(path))
        return yaml.safe_load(path.read_text(encoding="utf-8"))

    def href(self, slug: str) -> str:
        """A link to a chapter from this page; both lie in book/."""
        return f"{slug}.html"

    def show(self, text: str) -> list[nodes.Node]:
        return [nodes.raw("", text, format="html")]


def claims_of(notebook: dict) -> list[dict]:
    """The claims that an executed notebook carries in the metadata of its outputs."""
    return [
        claim
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        for claim in output.get("metadata", {}).get("claims", [])
    ]


def facts_of(notebook: dict) -> dict:
    return notebook["metadata"]["executable_papers"]


def count(claims: list[dict]) -> dict[str, int]:
    return {v: sum(c["verdict"] == v for c in claims) for v in VERDICTS}


def sentence(claims: list[dict], short: bool = False) -> str:
    """ "7 of 9 tested claims hold", or in short "7 of 9" """
    counts = count(claims)
    tested = len(claims) - counts[NOT_TESTED]
    if short:
        return f"{counts['HOLDS']} of {tested}"
    if not tested:
        return "No claim is tested at this scale"
    return f"{counts['HOLDS']} of {tested} tested claims hold"


def table(name: str, head: list[str], rows: list[list[str]], kind: str = "results") -> str:
    """A table in a box of its own that scrolls on a narrow screen; cells are HTML."""
    top = "".join(f"<th scope='col'>{h}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f"<div class='results-box' tabindex='0' role='region' aria-label='{name}'>"
        f"<table class='{kind}'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class Scoreboard(BookDirective):
    """{scoreboard}: every claim of every chapter.

    With :summary:, one line for all and a picture: a square for each claim, which leads to it.
    """

    option_spec = {"summary": directives.flag}

    def run(self) -> list[nodes.Node]:
        book = self.book()
        if not book["runs"]:
            return self.show(f"<p class='not-run'>{NOT_RUN}</p>")
        live = {slug: claims_of(run) for slug, run in book["runs"].items()}
        if "summary" in self.options:
            everything = [claim for claims in live.values() for claim in claims]
            chapters = f"{len(live)} chapter" + "s" * (len(live) > 1)
            of_papers = [c for c in everything if c["where"] != BEYOND]
            ours = [c for c in everything if c["where"] == BEYOND]
            theirs, own = sentence(of_papers, short=True), sentence(ours, short=True)
            text = (
                f"Of the papers' claims <strong>{theirs}</strong> that were tested hold, "
                f"in {chapters}; of our own, on what the papers do not say, {own}."
            )
            rows = "".join(self.squares(slug, claims) for slug, claims in live.items())
            key = " ".join(badge(v, WORDS[v]) for v in VERDICTS)
            if book["scale"] == "smoke":
                text += " At scale smoke most claims are not tested; <code>make book</code> does."
            return self.show(
                f"<p class='verdict-line'>{text}</p><div class='squares'>{rows}</div>"
                f"<p class='where'>A square is a claim: {key}. A claim has one number or several; "
                "<em>partly</em> means that some lie where they should; the others do not, or wait "
                "for a larger scale. This is one run, "
                f"at scale {book['scale']}, mostly of one seed; "
                "where a chapter has a recorded run of several, its verdicts stand beside.</p>"
            )
        return [node for slug, claims in live.items() for node in self.chapter(slug, claims, book)]

    def squares(self, slug: str, claims: list[dict]) -> str:
        entry = next(c for c in self.catalogue() if c["slug"] == slug)
        links = "".join(
            f"<a class='badge-{c['verdict'].split()[0].lower()}' "
            f"href='{self.href(slug)}#claim-{slug}-{c['id'].lower()}' "
            f"title='{html.escape(c['id'] + ': ' + c['sentence'], quote=True)}'>"
            f"<span class='visually-hidden'>{c['id']} {c['verdict'].lower()}</span>"
            f"<span aria-hidden='true'>{SIGNS[c['verdict']]}</span></a>"
            for c in claims
        )
        return f"<p><a href='{self.href(slug)}'>{entry['title']}</a></p><div>{links}</div>"

    def chapter(self, slug: str, claims: list[dict], book: dict) -> list[nodes.Node]:
        entry = next(c for c in self.catalogue() if c["slug"] == slug)
        past = {c["id"]: c for c in self.recorded(slug).get("claims", [])}
        counts = " ".join(badge(v, f"{n} {WORDS[v]}") for v, n in count(claims).items() if n)
        rows = [
            [
                f"<a href='{self.href(slug)}#claim-{slug}-{c['id'].lower()}'>{c['id']}</a>",
                html.escape(c["sentence"]),
                badge(c["verdict"]),
                badge(past[c["id"]]["verdict"])
                + f" <span class='where'>({past[c['id']]['scale']} scale)</span>"
                if c["id"] in past
                else "",
            ]
            for c in claims
        ]
        head = ["Claim", "What is claimed", f"This build ({book['scale']})", "Recorded run"]
        title = (
            f"<p class='board-title'><a href='{self.href(slug)}'>{entry['title']}</a> {counts}</p>"
        )
        return self.show(title + table(f"Claims of {entry['title']}", head, rows, "claims board"))


class Outcomes(BookDirective):
    """{outcomes} found | failed: claims with their numbers, and where those are computed.

    "found": what is beyond the papers and holds, in full or partly. "failed": what the papers say
    and does not hold in full here, with the tests that it misses.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] not in ("found", "failed"):
            raise self.error(f"outcomes {self.arguments[0]!r} is not known: say found or failed")
        book = self.book()
        if not book["runs"]:
            return self.show(f"<p class='not-run'>{NOT_RUN}</p>")
        parts = [f"<p class='verdict-line'>From the run at scale {book['scale']}.</p>"]
        for entry in self.catalogue():
            run = book["runs"].get(entry["slug"])
            items = self.items(entry["slug"], run, self.arguments[0] == "found") if run else []
            if items:
                title = f"<a href='{self.href(entry['slug'])}'>{html.escape(entry['title'])}</a>"
                parts.append(f"<p class='board-title'>{title}</p><ul>{''.join(items)}</ul>")
        return self.show("".join(parts))

    def items(self, slug: str, run: dict, found: bool) -> list[str]:
        sections, items = origins(run), []
        past = {c["id"]: c["verdict"] for c in self.recorded(slug).get("claims", [])}
        wanted = ("HOLDS", "PARTLY") if found else ("PARTLY", "FAILS")
        for claim in claims_of(run):
            if (claim["where"] == BEYOND) != found or claim["verdict"] not in wanted:
                continue
            measured = [t for t in claim["tests"] if t["holds"] is not None]
            told = [test_line(t) for t in measured if found or not t["holds"]]
            if not told:  # it only waits for what this scale does not measure
                continue
            waiting = len(claim["tests"]) - len(measured)
            if waiting:
                told.append(
                    f"{waiting} more {'wait' if waiting > 1 else 'waits'} for another scale"
                )
            section = sections.get(claim["id"])
            if section:
                anchor = f"{self.href(slug)}#{nodes.make_id(section)}"
                told.append(f"computed in <a href='{anchor}'>{section}</a>")
            link = f"{self.href(slug)}#claim-{slug}-{claim['id'].lower()}"
            before = past.get(claim["id"], claim["verdict"])
            other = f" recorded run: {badge(before)}" if before != claim["verdict"] else ""
            items.append(
                f"<li><a href='{link}'>{claim['id']}</a> {html.escape(claim['sentence'])} "
                f"{badge(claim['verdict'])}{other}"
                f"<br><span class='where'>{'; '.join(told)}</span></li>"
            )
        return items


def test_line(test: dict) -> str:
    """ "accuracy .91 (accepted ≥ .9, paper .93)", or "(missed ≥ .95)" """
    word = "accepted" if test["holds"] else "<strong>missed</strong>"
    accepted = f"{word} {interval(test['low'], test['high'])}"
    paper = f", paper {html.escape(test['paper'])}" if test["paper"] else ""
    spread = ""
    if test.get("spread"):
        low, high = map(number, test["spread"])
        spread = f", runs {low} to {high}" if low != high else ""
    ours = shown(test | {"spread": None})
    return f"{html.escape(typeset(test['statistic']))}: {ours} ({accepted}{paper}{spread})"


class ChapterCards(BookDirective):
    """{chapter-cards}: all chapters of the book in their parts, the unwritten ones marked so."""

    def run(self) -> list[nodes.Node]:
        book, parts = self.book(), {}
        for entry in self.catalogue():
            parts.setdefault(entry["part"], []).append(self.card(entry, book))
        return self.show(
            "".join(
                f"<p class='part-title'>{part}</p><div class='cards'>{''.join(cards)}</div>"
                for part, cards in parts.items()
            )
        )

    def card(self, entry: dict, book: dict) -> str:
        slug, title = entry["slug"], html.escape(entry["title"])
        written = f"book/{slug}" in self.env.found_docs
        if written:
            title = f"<a href='{self.href(slug)}'>{title}</a>"
        state = "<span class='where'>not yet written</span>"
        if slug in book["runs"]:
            facts = facts_of(book["runs"][slug])
            times = {facts["scale"]: facts} | self.recorded("times").get(slug, {})
            lasts = [f"{s} {clock(times[s]['wall_seconds'])}" for s in SCALES if s in times]
            state = f"{sentence(claims_of(book['runs'][slug]))}<br>{', '.join(lasts)}"
            state = f"<span class='where'>{state}</span>"
        elif written:
            state = "<span class='where'>not yet run</span>"
        kind = "card-paper" if written else "card-paper unwritten"
        return (
            f"<div class='{kind}'><p class='card-title'>{title}</p>"
            f"<p>{html.escape(entry['question'])}</p>"
            f"<p class='where'>{html.escape(entry['paper'])}</p><p>{state}</p></div>"
        )


class PaperCard(BookDirective):
    """{paper-card} slug: the paper, how long the chapter runs, how many of its claims hold."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        slug = self.arguments[0]
        entry = next((c for c in self.catalogue() if c["slug"] == slug), None)
        if entry is None:
            raise self.error(f"{slug} is not in book/chapters.yml: add its entry there")
        book, times = self.book(), self.recorded("times").get(slug, {})
        run = book["runs"].get(slug)
        link = f"https://arxiv.org/abs/{entry['arxiv']}"
        paper = (
            f"{html.escape(entry['authors'])}. <em>{html.escape(entry['paper'])}</em>. "
            f"<a href='{link}'>arXiv {entry['arxiv']}</a>"
        )
        here = {(facts := facts_of(run))["scale"]: facts} if run else {}
        lasted = []
        for scale in SCALES:
            if facts := times.get(scale) or here.get(scale):
                how = "recorded alone" if scale in times else "this build"
                text = f"{facts['cpu_seconds']:.0f} CPU-s, {how}"
                text = f"{clock(facts['wall_seconds'])} <span class='where'>({text})</span>"
            else:
                text = "<span class='where'>not yet recorded</span>"
            lasted.append(f"{scale}: {text}")
        verdict = sentence(claims_of(run)) if run else "not yet run"
        smoke = (
            "<p class='smoke-note'><strong>This page shows the smoke run</strong>, with "
            "<code>scale = &quot;smoke&quot;</code> in its first cell: small sizes and short "
            "trainings, to check that all works. The text is written for the run at scale laptop, "
            "so that a number, a table or a figure may be missing here (–), or say the contrary. "
            "<code>make book</code> shows the real thing.</p>"
            if run and book["scale"] == "smoke"
            else ""
        )
        cells = (("The paper", paper), ("Runs in", "<br>".join(lasted)), ("Verdict", verdict))
        body = "".join(
            f"<div><p class='card-title'>{name}</p><p>{text}</p></div>" for name, text in cells
        )
        return self.show(f"<div class='paper-card'>{body}</div>{smoke}")


class Provenance(BookDirective):
    """{provenance} slug: where and with what the numbers of a chapter were computed."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        slug = self.arguments[0]
        run, past = self.book()["runs"].get(slug), self.recorded(slug)
        lines = [("This page", facts_of(run))] if run else []
        grouped: dict[str, list] = {}
        for claim in past.get("claims", []):
            key = json.dumps(claim["provenance"], sort_keys=True)
            grouped.setdefault(key, [claim["provenance"]]).append(claim["id"])
        lines += [(f"Recorded: {', '.join(ids)}", facts) for facts, *ids in grouped.values()]
        lines += [
            (f"Recorded series: {n}", s["provenance"]) for n, s in past.get("runs", {}).items()
        ]
        if not lines:
            return self.show(f"<p class='not-run'>{NOT_RUN}</p>")
        return self.show(
            "".join(f"<p class='provenance'>{provenance_line(*line)}</p>" for line in lines)
        )


def provenance_line(name: str, facts: dict) -> str:
    lasted = f"{clock(facts['wall_seconds'])} ({facts['cpu_seconds']:.0f} CPU-s)"
    lasted += ", the rest of an interrupted run," if facts["resumed"] else ""
    versions = ", ".join(f"{package} {v}" for package, v in facts["versions"].items())
    return (
        f"<strong>{html.escape(name)}</strong>: <code>{html.escape(facts['command'])}</code>, "
        f"scale {facts['scale']}, seed {facts['seed']}, {facts['date'][:10]}, "
        f"commit {facts['commit']}, {lasted} on "
        f"{html.escape(facts['hardware'])} with {versions}."
    )


class BuildStatus(BookDirective):
    """{build-status}: run times, memory, hardware and versions of this build."""

    def run(self) -> list[nodes.Node]:
        runs = {slug: facts_of(run) for slug, run in self.book()["runs"].items()}
        if not runs:
            return self.show(f"<p class='not-run'>{NOT_RUN}</p>")
        head = ["Chapter", "Scale", "Wall", "CPU", "Memory", "Date", "Commit", "Hardware"]
        rows = [
            [
                f"<a href='{self.href(slug)}'>{slug}</a>",
                f["scale"],
                clock(f["wall_seconds"]) + (" (resumed)" if f["resumed"] else ""),
                f"{f['cpu_seconds']:.0f} CPU-s",
                f"{f['memory_megabytes']:,} MB",
                f["date"][:16].replace("T", " "),
                f["commit"],
                html.escape(f["hardware"]),
            ]
            for slug, f in runs.items()
        ]
        names = ("jax", "equinox", "optax", "numpy", "scipy", "scikit-learn", "matplotlib")
        names += ("snakemake", "papermill", "jupyter-book", "myst-nb", "sphinx")
        packages = [[name, metadata.version(name)] for name in names]
        return self.show(
            table("Runs of this build", head, rows, "results facts")
            + table("Versions", ["Package", "Version"], packages)
        )


class Parameters(BookDirective):
    """{parameters}: what can be set in each chapter beside scale and seed, from its first cell."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for slug in (entry["slug"] for entry in self.catalogue()):
            source = self.root() / "book" / f"{slug}.md"
            if f"book/{slug}" not in self.env.found_docs:
                continue
            self.env.note_dependency(str(source))
            text = source.read_text(encoding="utf-8")
            cell = re.search(r"^:tags: \[parameters\]\n([\s\S]*?)^```", text, re.M)[1]
            for name, value, told in re.findall(r"^(\w+) = (.*?)  # (.*)$", cell, re.M):
                if name not in ("scale", "seed"):
                    code = f"<code>{name}</code>", f"<code>{html.escape(value)}</code>"
                    link = f"<a href='{self.href(slug)}'>{slug}</a>"
                    rows.append(
                        [link, *code, re.sub(r"`(.*?)`", r"<code>\1</code>", html.escape(told))]
                    )
        head = ["Chapter", "Parameter", "As it is", "What it is"]
        return self.show(table("Parameters of the chapters", head, rows))


class Waiting(BookDirective):
    """{waiting}: what this build does not measure, by claim, and what the runs that do would cost.

    Rows of claims that a recorded run has measured are left out.
    """

    def run(self) -> list[nodes.Node]:
        book = self.book()
        if not book["runs"]:
            return self.show(f"<p class='not-run'>{NOT_RUN}</p>")
        costs = self.recorded("waiting")
        more = ", which also waits for what a laptop measures" * (book["scale"] == "smoke")
        parts = [f"<p class='verdict-line'>Seen from the run at scale {book['scale']}{more}.</p>"]
        for entry in self.catalogue():
            slug = entry["slug"]
            items = self.items(slug, claims_of(book["runs"].get(slug, {"cells": []})))
            rows = [self.cost(row) for row in costs.get("rows", []) if row["slug"] == slug]
            if items or rows:
                link = f"<a href='{self.href(slug)}'>{html.escape(entry['title'])}</a>"
                parts.append(f"<p class='board-title'>{link}</p><ul>{''.join(items)}</ul>")
            if rows:
                head = ["Run", "All of it", "Work", "One takes here", "Command"]
                parts.append(table(f"What waits in {slug}, and its cost", head, rows))
        if costs:
            facts = f"{costs['date'][:10]}, commit {costs['commit']}, {costs['hardware']}"
            parts.append(f"<p class='provenance'>{html.escape(facts)}</p>")
        return self.show("".join(parts))

    def items(self, slug: str, claims: list[dict]) -> list[str]:
        past = {c["id"]: c for c in self.recorded(slug).get("claims", [])}
        found = []
        for claim in claims:
            known = {
                t["statistic"]
                for t in past.get(claim["id"], {}).get("tests", [])
                if t["holds"] is not None
            }
            waits = [
                html.escape(typeset(t["statistic"]))
                for t in claim["tests"]
                if t["holds"] is None and t["statistic"] not in known
            ]
            if waits:
                link = f"{self.href(slug)}#claim-{slug}-{claim['id'].lower()}"
                found.append(
                    f"<li><a href='{link}'>{claim['id']}</a> {html.escape(claim['sentence'])} "
                    f"<span class='where'>{'; '.join(waits)}</span></li>"
                )
        return found

    def cost(self, row: dict) -> list[str]:
        hours = row["count"] * row["seconds"] / 3600
        return [
            html.escape(row["run"]),
            f"{amount(hours)} CPU-hours",
            f"{amount(row['count'])} {html.escape(row['unit'])}",
            f"{amount(row['seconds'])} CPU-s",
            f"<code>{html.escape(row['command'])}</code>",
        ]


class ChapterCosts(BookDirective):
    """{chapter-costs}: what a run of each chapter cost last at each scale, from recorded times."""

    def run(self) -> list[nodes.Node]:
        times = self.recorded("times")
        head = ["Chapter", "Scale", "CPU", "Wall", "Memory", "Date", "Commit", "Hardware"]
        rows = [
            [
                f"<a href='{self.href(entry['slug'])}'>{entry['slug']}</a>",
                scale,
                f"{facts['cpu_seconds']:,.0f} CPU-s",
                clock(facts["wall_seconds"]),
                f"{facts['memory_megabytes']:,} MB",
                facts["date"][:10],
                facts["commit"],
                html.escape(facts["hardware"]),
            ]
            for entry in self.catalogue()
            for scale in SCALES
            if (facts := times.get(entry["slug"], {}).get(scale))
        ]
        sums = [
            f"{scale} {sum(of[scale]['cpu_seconds'] for of in times.values() if scale in of):,.0f}"
            for scale in SCALES
            if any(scale in of for of in times.values())
        ]
        told = f"<p>These together, in CPU-seconds: {', '.join(sums)}.</p>" if sums else ""
        return self.show(table("What each chapter costs", head, rows, "results facts") + told)


class Benchmarks(BookDirective):
    """{benchmarks} slug: what `make bench` measured last for a chapter, as ratios."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        results = self.root() / "benchmarks" / "results"
        files = sorted(results.glob(f"{self.arguments[0]}_*.json"))
        if not files:
            return self.show(
                "<p class='not-run'>Nothing measured yet: <code>make bench</code>.</p>"
            )
        return self.show("".join(self.one(self.read(file)) for file in files))

    def one(self, result: dict) -> str:
        told = [row["more"] for row in result["rows"] if row.get("more")]
        more = list(told[0]) if told else []  # columns of their own
        rows = []
        for row in result["rows"]:
            version = f" ({row['version']})" if row.get("version") else ""
            name = html.escape(row["name"] + version)
            if row.get("absent"):
                rows.append([name, "absent", html.escape(row["absent"]), *["" for _ in more]])
                continue
            name = f"<strong>{name}</strong>" if row["ours"] else name
            note = f", accuracy {row['accuracy']:.3f}" if row.get("accuracy") else ""
            cost = [f"{row['ratio']:.2f} ×", f"{amount(row['value'])} {result['unit']}{note}"]
            facts = row.get("more") or {}
            rows.append([name, *cost, *(amount(facts.get(column)) for column in more)])
        title = html.escape(result["description"])
        line = (
            f"{result['date'][:10]}, commit {result['commit']}, {html.escape(result['hardware'])}"
        )
        head = ["Implementation", "Cost, ours = 1", "Measured", *map(html.escape, more)]
        return (
            f"<p class='board-title'>{title}</p>"
            + table(title, head, rows)
            + f"<p class='provenance'>{line}</p>"
        )


def amount(x: float | None) -> str:
    """A number of a few digits for a cell; nothing for what was not told."""
    if x is None:
        return ""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def setup(app):
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("outcomes", Outcomes)
    app.add_directive("chapter-cards", ChapterCards)
    app.add_directive("paper-card", PaperCard)
    app.add_directive("provenance", Provenance)
    app.add_directive("build-status", BuildStatus)
    app.add_directive("parameters", Parameters)
    app.add_directive("waiting", Waiting)
    app.add_directive("chapter-costs", ChapterCosts)
    app.add_directive("benchmarks", Benchmarks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
