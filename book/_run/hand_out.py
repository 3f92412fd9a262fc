"""Notebooks for a course: without solutions for students, with them for instructors."""

from __future__ import annotations

import argparse
import re

import jupytext
import nbformat

from chapters import ROOT, source, written

INSTALL = (
    "Run this once, in the folder of the book: `make lab`. It sets up Python, JAX and the data."
)
ANSWER = "*Your answer here.*"


def hand_out(slug: str, solutions: bool) -> nbformat.NotebookNode:
    """A chapter as a plain notebook at smoke scale; `solutions` keeps the worked answers."""
    notebook = jupytext.read(source(slug))
    cells, inside = [], False
    for cell in notebook.cells:
        text = cell.source
        if cell.cell_type == "markdown":
            if "{solution-start}" in text:
                before, _, text = text.partition("```{solution-start}")
                cells.append(nbformat.v4.new_markdown_cell(before + ("" if solutions else ANSWER)))
                inside, text = True, "**Solution.** " + text.partition("```")[2]
            if "{solution-end}" in text:
                own, _, after = text.partition("```{solution-end}\n```")
                if solutions:
                    cells.append(nbformat.v4.new_markdown_cell(own))
                inside, text = False, after
            if inside and not solutions:
                continue
            cells.append(nbformat.v4.new_markdown_cell(text))
        elif solutions or not inside:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = cell.source.replace('scale = "laptop"', 'scale = "smoke"')
            cells.append(cell)
    notebook.cells = [nbformat.v4.new_markdown_cell(INSTALL)]
    notebook.cells += [cell for cell in map(plain, cells) if cell.source.strip()]
    return notebook


def plain(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Directives and roles of the book as Markdown that any notebook shows."""
    if cell.cell_type == "markdown":
        text = re.sub(r"^\(.*\)=\n", "", cell.source, flags=re.M)
        text = re.sub(r"```\{exercise(?:-start)?\} ?(.*)\n(?::.*\n)*", r"**Exercise. \1**\n", text)
        text = re.sub(r"```\{exercise-end\}\n```", "", text)
        text = re.sub(r"```\{(?:paper-card|provenance)\}[^`]*```", "", text)
        text = re.sub(r"\{glue(?::text)?\}`([^`:]*)[^`]*`", r"(*\1*, computed below)", text)
        text = re.sub(r"```\{math\}\n(?::label: .*\n)?\n?(.*?)```", r"$$\1$$", text, flags=re.S)
        cell.source = re.sub(r"\{[a-z:]+\}`([^`]*)`", r"`\1`", text)
    return cell


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
