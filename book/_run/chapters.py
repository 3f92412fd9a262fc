"""Which chapters there are, and the key that says whether a result is still today's."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import jupytext
import nbformat
import yaml
from jsonschema import ValidationError

ROOT = Path(__file__).resolve().parents[2]
# How much XLA optimises. Where compiling is much of a run, less than all makes the run shorter.
OPTIMISE = {"fully": "", "less": "--xla_backend_optimization_level=1"}
OPTIMISE["least"] = (
    OPTIMISE["less"] + " --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)


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


def data_of(slug: str, scale: str) -> list[str]:
    """The names of the datasets that a chapter uses at a scale."""
    entry = next(c for c in catalogue() if c["slug"] == slug)
    fields = ("data", "paper_data") if scale == "paper" else ("data",)
    return [name for field in fields for name in entry.get(field) or []]


def xla_flags(slug: str, scale: str) -> str:
    """What XLA is asked for: a smoke run is mostly compiling, a laptop run as its entry says.

    Raises ValueError if book/chapters.yml has a word that is not in OPTIMISE.
    """
    entry = next(c for c in catalogue() if c["slug"] == slug)
    asked = {"smoke": "least", "laptop": entry.get("optimise", "fully"), "paper": "fully"}[scale]
    if asked not in OPTIMISE:
        raise ValueError(f"{slug}: optimise={asked!r} is not known: use fully, less or least")
    return OPTIMISE[asked]


def executed(slug: str, scale: str, seed: int = 0, parameters: dict | None = None) -> Path:
    """Where the executed notebook of a run lies: a folder per seed and per set of parameters."""
    folder = ROOT / "_executed" / scale
    if seed:
        folder /= f"seed{seed}"
    if parameters:
        words = (f"{name}={parameters[name]}" for name in sorted(parameters))
        folder /= ",".join(words).replace("/", "_")
    return folder / f"{slug}.ipynb"


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that run, without the one in which papermill injects parameters."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def parameters_of(slug: str) -> set[str]:
    """The names that a chapter's parameters cell sets, `scale` and `seed` among them."""
    cells = code_cells(jupytext.read(source(slug)))
    texts = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    assigned = [n for n in ast.walk(ast.parse("\n".join(texts))) if isinstance(n, ast.Assign)]
    return {target.id for node in assigned for target in node.targets}


def library(cells: list[str]) -> list[Path]:
    """The modules of lib/ that the cells import, directly or through another, in a fixed order."""
    found: set[Path] = set()
    pending = set().union(*(_imports(cell, package="") for cell in cells))
    while pending:
        module = pending.pop()
        for path in _files(module):
            if path not in found:
                found.add(path)
                package = ".".join(path.relative_to(ROOT).parent.parts)
                pending |= _imports(path.read_text(encoding="utf-8"), package)
    return sorted(found)


def key(slug: str, scale: str, seed: int = 0, parameters: dict | None = None) -> str:
    """Changes exactly when a run could: code, lib, data, parameters, versions, records, flags."""
    cells = [cell.source for cell in code_cells(jupytext.read(source(slug)))]
    run = json.dumps([cells, scale, seed, parameters or {}, xla_flags(slug, scale)], sort_keys=True)
    digest = hashlib.sha256(run.encode())
    modules = library(cells)
    tables = {table for module in modules for table in module.parent.glob("*.csv")}
    kept = {one for module in modules for one in module.parent.glob("weights/*.*")}
    tables |= {one for one in kept if "unfinished" not in one.name}
    files = [*modules, *sorted(tables), ROOT / "requirements.txt"]
    recorded = ROOT / "book" / "recorded" / f"{slug}.json"
    if ROOT / "lib" / "recorded.py" in files and recorded.exists() and scale != "paper":
        files.append(recorded)  # shown beside a smaller run; a paper run is what it was made from
    for path in files:
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    texts = [value for value in (parameters or {}).values() if isinstance(value, str) and value]
    for own in (ROOT / Path(text).expanduser() for text in texts):  # a file or a folder, perhaps
        inside = sorted(own.rglob("*")) if own.is_dir() else [own]
        for path in filter(Path.is_file, inside):
            digest.update(path.relative_to(own).as_posix().encode() + path.read_bytes())
    if scale != "smoke":  # smoke never looks at real data
        from lib import datasets

        digest.update(json.dumps(datasets.state(data_of(slug, scale)), sort_keys=True).encode())
    return digest.hexdigest()


def seal(notebook: nbformat.NotebookNode) -> str:
    """A digest of a notebook's cells as stored, which an output changed by hand no longer fits."""
    stored = nbformat.reads(nbformat.writes(notebook), 4)
    return hashlib.sha256(json.dumps(stored.cells, sort_keys=True).encode()).hexdigest()


def current(slug: str, scale: str, seed: int = 0, parameters: dict | None = None) -> bool:
    """Whether the notebook of a run is there, bears the key of today, and is as it was written."""
    try:
        done = nbformat.read(executed(slug, scale, seed, parameters), 4)
        stamp = done.metadata["executable_papers"]
        unchanged = stamp["seal"] == seal(done)
    except (OSError, LookupError, AttributeError, TypeError, ValueError, ValidationError):
        return False  # no notebook, or no longer one: it is made anew
    return unchanged and stamp["key"] == key(slug, scale, seed, parameters)


def _imports(code: str, package: str) -> set[str]:
    """Names of lib modules that `code`, inside `package`, may import; some may be no modules."""
    try:
        tree = ast.parse("\n".join(s for s in code.splitlines() if s[:1] not in ("%", "!")))
    except SyntaxError:  # IPython's own syntax, or a mistake: it might import anything
        modules = sorted((ROOT / "lib").rglob("*.py"))
        return {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in modules}
    names = set()
    for node in ast.walk(tree):
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
