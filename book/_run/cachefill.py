"""Hand the executed notebooks to the pages: store their outputs under the key of their source.

jupyter-book finds outputs by the source notebook's hash, which papermill's notebook does not have.
A notebook whose own key is not today's, or that was changed by hand, is refused: a page never
shows an old result or an invented one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.config import NbParserConfig
from myst_nb.core.read import create_nb_reader
from myst_parser.config.main import MdParserConfig

from chapters import ROOT, code_cells, current, executed, source, written


def fill(scale: str, output: Path) -> list[str]:
    """Store every chapter's outputs below `output`/_build; return what is wrong, if anything."""
    cache = get_cache(output / "_build" / ".jupyter_cache")
    notebooks, wrong = {}, []
    for slug in written():
        path = executed(slug, scale)
        if not path.exists():
            wrong.append(f"{slug} has not been run at scale {scale}")
            continue
        if not current(slug, scale):
            wrong.append(f"{path.relative_to(ROOT)} is not the result of today's code and data")
            continue
        done = nbformat.read(path, 4)
        text = source(slug).read_text(encoding="utf-8")
        reader = create_nb_reader(str(source(slug)), MdParserConfig(), NbParserConfig(), text)
        page = reader.read(text)
        for cell, ran in zip(code_cells(page), code_cells(done), strict=True):
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        seconds = {"execution_seconds": done.metadata.executable_papers.wall_seconds}
        bundle = CacheBundleIn(page, str(source(slug)), data=seconds)
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        notebooks[slug] = path.relative_to(ROOT).as_posix()
    book = {"scale": scale, "chapters": notebooks}
    (output / "_build" / "book.json").write_text(json.dumps(book, indent=1), encoding="utf-8")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="laptop")
    parser.add_argument("--output", type=Path, default=ROOT, help="the folder above _build")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT)]
    problems = fill(arguments.scale, arguments.output)
    for problem in problems:
        print(f"refused: {problem}; run `make book`", file=sys.stderr)
    raise SystemExit(bool(problems))
