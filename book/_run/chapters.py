"""Which chapters there are, and the key that says whether a result is still today's."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCALES = ("smoke", "laptop", "paper")


def catalogue() -> list[dict]:
    """The entries of book/chapters.yml, in the order of the book, written or not."""
    return yaml.safe_load((ROOT / "book" / "chapters.yml").read_text(encoding="utf-8"))


def written() -> list[str]:
    """The slugs of the chapters that are in the table of contents, in the order of the book."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = {c["file"] for part in toc["parts"] for c in part["chapters"]}
    return [c["slug"] for c in catalogue() if f"book/{c['slug']}" in files]


def source(slug: str) -> Path:
    """The chapter as it is written."""
    return ROOT / "book" / f"{slug}.md"


def data_of(slug: str) -> list[str]:
    """The names of the datasets that a chapter uses."""
    return next(c.get("data") or [] for c in catalogue() if c["slug"] == slug)


def executed(slug: str, scale: str, seed: int = 0, parameters: dict | None = None) -> Path:
    """Where the executed notebook of a run lies: a folder per seed and per set of parameters."""
    folder = ROOT / "_executed" / scale
    if seed:
        folder /= f"seed{seed}"
    if parameters:
        folder /= ",".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    return folder / f"{slug}.ipynb"


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that run, without the one in which papermill injects parameters."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def library(code: str) -> list[Path]:
    """The modules of lib/ that `code` imports, directly or through another, in a fixed order."""
    found: set[Path] = set()
    pending = _imports(code, package="")
    while pending:
        module = pending.pop()
        for path in _files(module):
            if path not in found:
                found.add(path)
                package = ".".join(path.relative_to(ROOT).parent.parts)
                pending |= _imports(path.read_text(encoding="utf-8"), package)
    return sorted(found)


def key(slug: str, scale: str, seed: int = 0, parameters: dict | None = None) -> str:
    """Changes exactly when a run could change: code, lib, data, parameters, locked versions."""
    cells = [cell.source for cell in code_cells(jupytext.read(source(slug)))]
    digest = hashlib.sha256(json.dumps([cells, scale, seed, parameters or {}]).encode())
    code = "\n".join(line for c in cells for line in c.splitlines() if line[:1] not in ("%", "!"))
    for path in [*library(code), ROOT / "requirements.txt"]:
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    if scale != "smoke":  # smoke never looks at real data
        from lib import datasets

        digest.update(json.dumps(datasets.state(data_of(slug)), sort_keys=True).encode())
    return digest.hexdigest()


def _imports(code: str, package: str) -> set[str]:
    """Names of lib modules that `code`, inside `package`, may import; some may be no modules."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join(base) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "lib"}


def _files(module: str) -> list[Path]:
    """The files that importing `module` runs: its own and the packages around it."""
    parts = module.split(".")
    files = [ROOT.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    files.append(ROOT.joinpath(*parts).with_suffix(".py"))
    return [path for path in files if path.exists()]
