"""Notebooks for a course: without solutions for students, with them for instructors."""

from __future__ import annotations

import argparse
import re

import jupytext
import nbformat

from chapters import ROOT, catalogue, source, written

FIRST = (
    "Open this notebook with `make lab` in the folder of the book, which sets up Python, JAX and "
    "the data. It runs at scale `smoke`; the numbers of the page are those of scale `laptop`."
)
ANSWER = "*Your answer here.*"
SOLUTION = re.compile(r"```\{solution-(start|end)\}[^`]*```")
OPEN = re.compile(r"```\{exercise-end\}\n```(?!\s*```\{solution-start)")  # has no solution

# What the book's directives and roles become in a plain notebook.
PLAIN = [
    (r"^\([\w-]+\)=\n", ""),
    (r"```\{(?:paper-card|provenance)\}[^`]*```\n?", ""),
    (r"```\{exercise-start\} ?(.*)\n(?::.*\n)*```", r"**Exercise. \1**"),
    (r"```\{exercise-end\}\n```\n?", ""),
    (r"```\{math\}\n(?::.*\n)*\n?([^`]*)```", r"$$\n\1$$"),
    (
        r"^(:::|```)\{prf:(\w+)\} ?(.*)\n(?::.*\n)*\n?([\s\S]*?)\n\1$",
        lambda found: stated(*found.groups()[1:]),
    ),
    (r"```\{code-block\} (\w+)", r"```\1"),
    (
        r"```\{literalinclude\} (?:\.\./)*(.*)\n:pyobject: (.*)\n(?::.*\n)*```",
        r"*(the code: `\2` in `\1`)*",
    ),
    (r"```\{glue\} (.*)\n```", r"*(computed: \1)*"),
    (r":::\{(?:admonition|dropdown)\} (.*)\n(?::.*\n)*([^:]*(?::[^:]+)*?):::", r"**\1**\n\n\2"),
    (r"\{glue(?::text)?\}`([^`:]*)[^`]*`", r"*(computed: \1)*"),
    (r"\{(?:ref|term)\}`([^`<]*[^`<\s])\s*<[^`>]*>`", r"\1"),
    (r"\{term\}`([^`]*)`", r"\1"),
    (r"\{ref\}`ch-(\w+)`", lambda found: titled(found[1])),
    (r"\{[a-z:]+\}`([^`]*)`", r"`\1`"),
]


def hand_out(slug: str, solutions: bool) -> nbformat.NotebookNode:
    """A chapter as a plain notebook at smoke scale; `solutions` keeps the worked answers."""
    notebook = jupytext.read(source(slug))
    cells, inside = [nbformat.v4.new_markdown_cell(FIRST)], False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = cell.source.replace('scale = "laptop"', 'scale = "smoke"')
            if solutions or not inside:
                cells.append(cell)
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
        cells.append(nbformat.v4.new_markdown_cell(plain("\n\n".join(kept))))
    notebook.cells = [cell for cell in cells if cell.source.strip()]
    return notebook


def plain(text: str) -> str:
    """Directives and roles of the book as Markdown that any notebook shows."""
    for pattern, replacement in PLAIN:
        text = re.sub(pattern, replacement, text, flags=re.M)
    return text.strip()


def stated(kind: str, title: str, body: str) -> str:
    """A theorem, an algorithm and their like: kind and title in bold, then the body as a quote."""
    lines = (f"> {line}".rstrip() for line in body.strip().split("\n"))
    return f"**{kind.capitalize()}. {title}".rstrip() + "**\n\n" + "\n".join(lines)


def titled(slug: str) -> str:
    """The title of a chapter, for a reference to it."""
    return next(f"*{entry['title']}*" for entry in catalogue() if entry["slug"] == slug)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", choices=["student", "instructor"])
    readers = parser.parse_args().readers
    folder = ROOT / "_build" / readers
    folder.mkdir(parents=True, exist_ok=True)
    for slug in written():
        file = folder / f"{slug}.ipynb"
        nbformat.write(hand_out(slug, solutions=readers == "instructor"), file)
        print(file.relative_to(ROOT))
