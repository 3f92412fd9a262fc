"""Notebooks for a course: without solutions for students, with them for instructors."""

from __future__ import annotations

import argparse
import ast
import functools
import itertools
import json
import re
import tomllib
import zipfile
from pathlib import Path

import jupytext
import nbformat
from pybtex.database import parse_file
from pybtex.richtext import Text

from chapters import ROOT, catalogue, current, executed, source, written

FIRST = """\
**The paper**: [{paper}](https://arxiv.org/abs/{arxiv}), by {authors}.

Set up once, in the folder of this notebook, with Python 3.11 or newer: \
`python -m pip install -r requirements.txt`; then `jupyter lab`. (In a checkout of the book its \
own `.venv` will do.) The notebook runs at scale `smoke`, in one to three minutes, to show how \
things work; the text and its numbers are those of the book's page, which ran at scale `laptop`. \
So a table or a figure here may show less, or at times the contrary: trainings are too short. To \
see what the text sees, set `scale = "laptop"` in the next cell of code and take a break of \
{minutes} minutes. Where the text says *(computed: name)*, a cell keeps a number under this name."""
README = """\
Executable Papers: notebooks for a course, with the code that they import in lib/.
Set up:   python3.11 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt
Open:     .venv/bin/jupyter lab
Run:      each notebook from top to bottom, in one to three minutes; nothing is downloaded then.
Licence:  code Apache-2.0 (see LICENSE), text and figures CC BY 4.0.
"""
ANSWER = "*Your prediction, if one is asked for, and your answer here.*"
CODE = "# Your code here."
GLUE = re.compile(r"\{glue(?::text)?\}`([^`:]*):?([^`]*)`")
SOLUTION = re.compile(r"```\{solution-(start|end)\}[^`]*```")
OPEN = re.compile(r"```\{exercise-end\}\n```(?!\s*```\{solution-start)")  # has no solution
CITED = re.compile(r"\{cite:([tp])\}`([^`]*)`")
BIBLIOGRAPHY = parse_file(ROOT / "book" / "references.bib", bib_format="bibtex").entries

# What the book's directives and roles become in a plain notebook.
PLAIN = [
    (r"^\([\w-]+\)=\n", ""),
    (r"```\{(?:paper-card|provenance)\}[^`]*```\n?", ""),
    (r"```\{exercise-start\} ?(.*)\n(?::.*\n)*```", r"**Exercise. \1**"),
    (r"```\{exercise-end\}\n```\n?", ""),
    (r"```\{math\}\n(?::label: (.*)\n)?\n?([^`]*)```", lambda found: equation(*found.groups())),
    (
        r"^(:::|```)\{prf:(\w+)\} ?(.*)\n(?::.*\n)*\n?([\s\S]*?)\n\1$",
        lambda found: stated(*found.groups()[1:]),
    ),
    (r"```\{code-block\} (\w+)", r"```\1"),
    (
        r"```\{literalinclude\} (?:\.\./)*(.*)\n:pyobject: (.*)\n(?::.*\n)*```",
        r"*(the code: `\2` in `\1`)*",
    ),
    (r"```\{glue\} (.*)\n```", r"*(here the page of the book has something to play with: \1)*"),
    (r":::\{(?:admonition|dropdown)\} (.*)\n(?::.*\n)*([^:]*(?::[^:]+)*?):::", r"**\1**\n\n\2"),
    (r"\{term\}`([^`<]*[^`<\s])\s*<[^`>]*>`", r"\1"),
    (r"\{term\}`([^`]*)`", r"\1"),
    (CITED.pattern, lambda found: cited(*found.groups())),
    (r"\{(?:ref|doc)\}`(?:([^`<]*) <)?([\w-]+)>?`", lambda found: linked(*found.groups())),
    (r"\[([^\]\n]+)\]\((\w+-[\w-]+)\)", lambda found: linked(*found.groups())),
    (r"\{(?:eq|numref)\}`([^`]*)`", lambda found: targets()[found[1]][0]),
    (r"\{[a-z:]+\}`([^`]*)`", r"`\1`"),
]


def hand_out(slug: str, solutions: bool) -> nbformat.NotebookNode:
    """A chapter as a plain notebook at smoke scale; `solutions` keeps the worked answers."""
    notebook = jupytext.read(source(slug))
    entry = next(chapter for chapter in catalogue() if chapter["slug"] == slug)
    first = FIRST.format(**entry, minutes=minutes(slug))
    cells, inside, known = [nbformat.v4.new_markdown_cell(first)], False, numbers(slug)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = cell.source.replace('scale = "laptop"', 'scale = "smoke"')
            if solutions or not inside:
                cells.append(cell)
                shown = cell.metadata.get("mystnb", {}).get("figure", {})
                if "name" in shown:
                    caption = f"**{targets()[shown['name']][0]}.** {shown.get('caption', '')}"
                    cells.append(nbformat.v4.new_markdown_cell(plain(caption)))
            continue
        asked = OPEN.sub(lambda end: f"{end[0]}\n\n{ANSWER}\n", cell.source)
        text, *marked = SOLUTION.split(asked)
        kept = [] if inside and not solutions else [text]
        for mark, text in zip(marked[::2], marked[1::2], strict=True):
            inside = mark == "start"
            if inside:
                kept += ["**Solution.**", text] if solutions else [ANSWER]
            else:
                kept.append(text)
        asked, *rest = "\n\n".join(kept).split(ANSWER)
        cells.append(nbformat.v4.new_markdown_cell(plain(filled(asked, known))))
        for text in rest:
            cells.append(nbformat.v4.new_markdown_cell(ANSWER))
            cells += [] if solutions else [nbformat.v4.new_code_cell(CODE)]
            cells.append(nbformat.v4.new_markdown_cell(plain(filled(text, known))))
    cells.append(nbformat.v4.new_markdown_cell(references(slug)))
    notebook.cells = [cell for cell in cells if cell.source.strip()]
    count = itertools.count(1)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{slug}-{number}"  # else it is drawn at random
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"\*\*Exercise\. ", lambda _: f"**Exercise {next(count)}. ", cell.source
            )
    return notebook


def pack(slugs: list[str], readers: str, folder: Path) -> Path:
    """Write the notebooks into a folder of their own, and a zip with all they need beside it."""
    (folder / readers).mkdir(parents=True, exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = ["-c constraints.txt", *project["dependencies"], "jupyterlab", "ipywidgets"]
    kernels = [path for path in (ROOT / "lib").rglob("*.*") if path.is_file()]
    files = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in [ROOT / "LICENSE", *kernels]
        if "__pycache__" not in path.parts and "unfinished" not in path.name
    }
    files |= {"README.txt": README.encode(), "requirements.txt": "\n".join([*needed, ""]).encode()}
    files["constraints.txt"] = (ROOT / "requirements.txt").read_bytes()
    for slug in slugs:
        text = nbformat.writes(hand_out(slug, solutions=readers == "instructor"))
        files[f"{slug}.ipynb"] = text.encode()
        (folder / readers / f"{slug}.ipynb").write_text(text, encoding="utf-8")
    with zipfile.ZipFile(folder / f"{readers}.zip", "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            info.external_attr, info.create_system = 0o644 << 16, 3
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED, 9)
    return folder / f"{readers}.zip"


def numbers(slug: str) -> dict[str, str]:
    """What the cells of the chapter's run at laptop scale glue, by name; empty without such a run.

    If something has changed since, these are no longer the chapter's numbers, and left out.
    """
    if not current(slug, "laptop"):
        return {}
    run = nbformat.read(executed(slug, "laptop"), 4)
    return {
        output.metadata["scrapbook"]["name"]: output.data["application/papermill.record/text/plain"]
        for cell in run.cells
        for output in cell.get("outputs", [])
        if "application/papermill.record/text/plain" in output.get("data", {})
    }


def filled(text: str, known: dict[str, str]) -> str:
    """The text with the numbers that are known in it; the others are named."""

    def number(found):
        name, spec = found.groups()
        if name not in known:
            return f"*(computed: {name})*"
        if known[name] == "nan":
            return "–"
        return format(ast.literal_eval(known[name]), spec)

    return GLUE.sub(number, text)


def minutes(slug: str) -> int:
    """A break while the chapter runs at laptop scale: its recorded time, but not less than two."""
    times = json.loads((ROOT / "book" / "recorded" / "times.json").read_text(encoding="utf-8"))
    known = times.get(slug, {}).get("laptop")
    return max(2, round(known["wall_seconds"] / 60)) if known else 5


def plain(text: str) -> str:
    """Directives and roles of the book as Markdown that any notebook shows."""
    for pattern, replacement in PLAIN:
        text = re.sub(pattern, replacement, text, flags=re.M)
    return text.strip()


def stated(kind: str, title: str, body: str) -> str:
    """A theorem, an algorithm and their like: kind and title in bold, then the body as a quote."""
    lines = (f"> {line}".rstrip() for line in body.strip().split("\n"))
    return f"**{kind.capitalize()}. {title}".rstrip() + "**\n\n" + "\n".join(lines)


def equation(label: str | None, formula: str) -> str:
    """A formula, with its number if it has a label."""
    tag = f"\\tag{{{targets()[label][0].strip('()')}}}\n" if label else ""
    return f"$$\n{formula}{tag}$$"


@functools.cache
def targets() -> dict[str, tuple[str, str]]:
    """What each label of the book names, and its address among the notebooks, if it has one."""
    found = {}
    for page in sorted((ROOT / "book").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        home = f"{page.stem}.ipynb" if page.stem in written() else ""
        found[page.stem] = re.search(r"^# (.*)$", text, re.M)[1], home
        for label, level, title in re.findall(r"^\(([\w-]+)\)=\n(#+) (.*)$", text, re.M):
            place = "#" + title.replace(" ", "-") if home and level != "#" else ""
            found[label] = title, home + place
        for title, label in re.findall(r"\{exercise-start\} ?(.*)\n:label: (.*)", text):
            found[label] = title, ""
        labels = re.findall(r"^```\{math\}\n:label: (.*)$", text, re.M)
        found |= {label: (f"({n})", "") for n, label in enumerate(labels, 1)}
        labels = re.findall(r"^ +name: (fig-[\w-]+)$", text, re.M)
        found |= {label: (f"Figure {n}", "") for n, label in enumerate(labels, 1)}
    return found


def linked(text: str | None, label: str) -> str:
    """A link to another section or notebook; the title of what is no section; or the text alone."""
    title, address = targets().get(label, ("", ""))
    if address:
        return f"[{text or title}]({address})"
    return f"{text} (*{title}*)" if text and title else text or f"*{title}*"


def named(key: str) -> tuple[str, str, str]:
    """Authors, year, and the address of a publication at arXiv, if it has one."""
    entry = BIBLIOGRAPHY[key]
    names = [[*p.prelast_names, *p.last_names] for p in entry.persons["author"]]
    names = [str(Text.from_latex(" ".join(parts))) for parts in names]
    who = f"{names[0]} et al." if len(names) > 2 or "others" in names else " and ".join(names)
    number = re.search(
        r"arXiv:([\w.]+)", f"{entry.fields.get('journal')} {entry.fields.get('note')}"
    )
    return who, entry.fields["year"], f"https://arxiv.org/abs/{number[1]}" if number else ""


def cited(kind: str, keys: str) -> str:
    """Author and year, as the page has them; a link where the publication is at arXiv."""
    words = []
    for who, year, address in map(named, re.split(r"\s*,\s*", keys)):
        text = f"{who} ({year})" if kind == "t" else f"{who}, {year}"
        words.append(f"[{text}]({address})" if address else text)
    return ", ".join(words) if kind == "t" else f"({'; '.join(words)})"


def references(slug: str) -> str:
    """What a chapter cites, as a list."""
    text = source(slug).read_text(encoding="utf-8")
    lines = []
    for key in {key.strip() for _, keys in CITED.findall(text) for key in keys.split(",")}:
        (who, year, address), fields = named(key), BIBLIOGRAPHY[key].fields
        where = address or next(
            (fields[name] for name in ("journal", "booktitle", "publisher") if name in fields), ""
        )
        lines.append(f"- {who} ({year}). *{Text.from_latex(fields['title'])}*. {where}")
    return "\n".join(["**Cited in this chapter**\n", *sorted(lines)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", choices=["student", "instructor"])
    bare = [slug for slug in written() if not current(slug, "laptop")]
    if bare:
        print(f"no run of today at scale laptop, so that texts lack its numbers: {', '.join(bare)}")
        print("make book runs them; then make this again")
    file = pack(written(), parser.parse_args().readers, ROOT / "_build")
    print(f"{file.with_suffix('').relative_to(ROOT)}/ and {file.relative_to(ROOT)}")
