"""Strict JAX for the unit tests; chapters' verdicts as tests; chapters run with a wrong kernel."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jupytext
import nbformat
import numpy as np
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "book" / "_run"
# Chromium's own calls home would be mistaken for a page's
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
sys.path[:0] = [str(RUN)]
import chapters  # noqa: E402
import reference  # noqa: E402

os.environ.setdefault("XLA_FLAGS", chapters.OPTIMISE["least"])
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax_tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_num_cpu_devices", 2)  # what runs over several devices is tested on two
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def furthest(a, b) -> float:
    """Largest difference between two trees of arrays."""
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(abs(x - y).max()), a, b)))


class Verdicts(IPyNbFile):
    """tests/reference/<slug>.smoke.json: what the checked cells of a smoke run must say."""

    outputs: list | None = None

    def setup(self):  # nbval would start a kernel here, but the chapter runs as it does in the book
        self.setup_sanitize_files()
        self.skip_compare += ("text/html",)

    def collect(self):
        slug = self.path.name.removesuffix(".smoke.json")
        expected = json.loads(self.path.read_text(encoding="utf-8"))
        if slug not in chapters.written():
            raise self.CollectError(f"{self.path.name}: there is no chapter {slug}")
        cells = chapters.code_cells(jupytext.read(chapters.source(slug)))
        checked = {
            cell.metadata.get("name", f"unnamed cell {number}"): number
            for number, cell in enumerate(cells)
            if "nbval-check-output" in cell.metadata.get("tags", [])
        }
        empty = [name for name, text in expected.items() if not text.strip()]
        if not expected or empty or checked.keys() != expected.keys():
            raise self.CollectError(
                f"{self.path.name} has {sorted(expected.keys() - set(empty))}, the chapter "
                f"checks {sorted(checked)}: look at the chapter, then make reference CHAPTER={slug}"
            )
        for name, number in checked.items():
            text = {"text/plain": expected[name]}
            # nbval compares nothing without an execution count
            output = nbformat.v4.new_output("execute_result", text, execution_count=1)
            cell = nbformat.from_dict(cells[number] | {"outputs": [output], "execution_count": 1})
            item = Verdict.from_parent(
                self, name=name, cell_num=number, cell=cell, options={"check": True}
            )
            item.add_marker(pytest.mark.xdist_group(f"chapter-{slug}"))
            yield item

    def fresh(self) -> list:
        """The outputs of each code cell of today's smoke run, which runs only if it must."""
        if self.outputs is None:
            path = smoke_run(self.path.name.removesuffix(".smoke.json"))
            cells = chapters.code_cells(nbformat.read(path, 4))
            self.outputs = [cell.outputs for cell in cells]
        return self.outputs


class Verdict(IPyNbCell):
    """One checked cell: nbval compares what it says now with the reference."""

    def setup(self):
        pass

    def runtest(self):
        if not self.compare_outputs(self.parent.fresh()[self.cell_num], self.cell.outputs):
            self.raise_cell_error("Cell outputs differ", "\n".join(self.comparison_traceback))


@pytest.fixture(autouse=True)
def same_draws(request):
    """Each test begins with the same random numbers, whatever ran before it in this process."""

    def anew():  # also after a test: fixtures of a whole module draw in between
        if hasattr(request.module, "RNG"):
            request.module.RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state

    anew()
    yield
    anew()


def check_going_on(paper_scale, folder, patches, capsys, *, says: str, done: Callable, at: int):
    """Train the recipe "tiny"; again, stopped at a step; and on from there: the same comes out.

    `says` is in what the command prints, `done` gives the step of a row of the curve. The second
    training lies in `folder`.
    """
    from lib import checkpoints

    assert paper_scale.main(["tiny", "--folder", str(folder / "whole")]) == 0
    assert says in capsys.readouterr().out
    whole, right = paper_scale.load("tiny", folder / "whole"), checkpoints.write

    def stop(path, head, tree):
        right(path, head, tree)
        if head and done(head["curve"][-1]) == at:
            raise KeyboardInterrupt

    with patches.context() as patch:
        patch.setattr(checkpoints, "write", stop)
        assert paper_scale.main(["tiny", "--folder", str(folder)]) == 1
    assert "stopped: the same command goes on" in capsys.readouterr().err
    assert paper_scale.load("tiny", folder) is None, "nothing half-finished is kept"
    with pytest.raises(ValueError, match="was begun with seed=0, wanted seed=1: go on with"):
        paper_scale.fit("tiny", folder, seed=1)
    again = paper_scale.fit("tiny", folder)
    jax.tree.map(np.testing.assert_array_equal, again.model, whole.model)
    settled = ("cpu_seconds", "date", "command")  # of each run its own
    told, before = ({k: v for k, v in x.about.items() if k not in settled} for x in (again, whole))
    assert told == before and len(told["curve"]) == 3
    assert sorted(path.name for path in folder.glob("tiny*")) == ["tiny.eqx", "tiny.json"]
    with pytest.raises(ValueError, match="has tiny already: name another folder"):
        paper_scale.fit("tiny", folder)


def pytest_collect_file(file_path, parent):
    if file_path.parent.name == "reference" and file_path.name.endswith(".smoke.json"):
        return Verdicts.from_parent(parent, path=file_path)


def pytest_collection_modifyitems(items):
    """Long ones first, or one worker waits for the other's: chapters, then the pages of these."""
    items.sort(key=lambda item: (not isinstance(item, Verdict), item.path.name != "test_pages.py"))


def smoke_run(slug: str) -> Path:
    """The notebook of a chapter's smoke run, which runs if it is not today's.

    Without Snakemake, which starts slowly: test_house.py has runs with it.
    """
    if not chapters.current(slug, "smoke"):
        command = [sys.executable, RUN / "execute.py", slug, "smoke", "0", "{}"]
        environment = os.environ | {"XLA_FLAGS": chapters.OPTIMISE["least"]}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"chapter {slug} does not run:\n{done.stdout}{done.stderr}"
    return chapters.executed(slug, "smoke")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """XLA optimises nothing but for tests marked `computes`.

    Most of a unit test is compilation, which then takes two thirds of the time.
    """
    computes = item.get_closest_marker("computes") is not None
    jax.config.update("jax_disable_most_optimizations", not computes)


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Two workers with the programs of all modules would need ten gigabytes."""
    yield
    jax.clear_caches()


# A module may hold a function of another by its own name: all are imported again
ANEW = """
import sys
import jax
for name in [name for name in sys.modules if name.split(".")[0] == "lib"]:
    del sys.modules[name]
jax.clear_caches()
for _name in [name for name in globals() if name not in _first and not name.startswith("_")]:
    del globals()[_name]
"""


@pytest.fixture
def flipped(tmp_path):
    """Call `flipped(slug, wrong, name)`: claims whose verdict a wrong kernel flips.

    `wrong` has all wrong kernels of the chapter: for each name its code, and the claims that must
    flip. One notebook at smoke runs them all, one after the other, since half of a short run is
    getting ready. First come the cells that the claims rest on as they are, which must give the
    pinned verdicts; then after each code those that its claims rest on. What came out is kept until
    something changes that it depends on. Such a test belongs in the group of its chapter:
    `@pytest.mark.xdist_group("chapter-<slug>")`. Names of an earlier run are gone, so that a cell
    that is missing is an error and not an old number.
    """

    sys.path.append(str(ROOT / "book" / "_ext"))
    import dataflow

    def flips(slug: str, wrong: dict[str, tuple[str, set[str]]], name: str) -> set[str]:
        whole = jupytext.read(chapters.source(slug))
        every = chapters.code_cells(whole)
        settings = next(c for c in every if "parameters" in c.metadata.get("tags", []))
        tested = set().union(*(claims for _, claims in wrong.values()))
        # figures are made but not drawn, since nobody looks at them
        quiet = "%config InlineBackend.figure_formats = []"
        cells = [_cell(quiet), settings, _cell('_first = {*globals(), "_first"}')]

        def add(name, claims):
            needed, last = dataflow.rests_on(whole, claims)
            chosen = (every[number] for number in needed)
            cells.extend(_cell(cell.source) for cell in chosen if cell is not settings)
            cells.append(_cell(last, tags=["nbval-check-output"], name=name))

        add("right", tested)
        for one, (code, claims) in wrong.items():
            # in a namespace of its own: what it defines is not the chapter's
            cells.append(_cell(f"{ANEW}exec({code!r}, {{}})"))
            add(one, claims)
        notebook = nbformat.v4.new_notebook(metadata=whole.metadata, cells=cells)
        said = _kept(slug, notebook, tmp_path, f"{slug} with wrong kernels")
        pinned = ROOT / "tests" / "reference" / f"{slug}.smoke.json"
        pinned = verdicts(json.loads(pinned.read_text(encoding="utf-8"))["claims"])
        right = {one: pinned[one] for one in tested}
        assert verdicts(said["right"]) == right, "the cells left out matter"
        found = verdicts(said[name])
        return {one for one in wrong[name][1] if found[one] != pinned[one]}

    return flips


def _cell(source: str, **metadata) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def _kept(slug: str, notebook: nbformat.NotebookNode, folder: Path, name: str) -> dict[str, str]:
    """The text of each checked cell, from an earlier run of the same cells if nothing changed."""
    sources = json.dumps([cell.source for cell in chapters.code_cells(notebook)])
    depends_on = (chapters.key(slug, "smoke") + sources).encode()
    return kept(depends_on, lambda: reference.checked(run_smoke(notebook, folder, name)))


def kept(depends_on: bytes, compute: Callable[[], dict]) -> dict:
    """What `compute()` returns, plain JSON, from an earlier run if nothing has changed since."""
    digest = hashlib.sha256(depends_on + Path(__file__).read_bytes()).hexdigest()
    path = ROOT / ".cache" / "tests" / f"{digest[:32]}.json"
    if not path.exists():
        text = json.dumps(compute())
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return json.loads(path.read_text(encoding="utf-8"))


def verdicts(text: str) -> dict[str, str]:
    """The claims table as text, by claim."""
    return dict(line.split(maxsplit=1) for line in text.splitlines())


def run_smoke(
    notebook: nbformat.NotebookNode, folder: Path, name: str, cwd: Path | None = None
) -> nbformat.NotebookNode:
    """The notebook, executed at smoke scale as a chapter is, in `cwd`, else in book/."""
    before, after = folder / "before.ipynb", folder / "after.ipynb"
    nbformat.write(notebook, before)
    command = [sys.executable, "-m", "papermill", before, after, "-k", "python3"]
    command += ["-p", "scale", "smoke", "--cwd", cwd or ROOT / "book", "--no-progress-bar"]
    command += ["--no-request-save-on-cell-execute", "--autosave-cell-every", "0"]
    environment = os.environ | {
        "EXECUTABLE_PAPERS_OFFLINE": "1",
        "XLA_FLAGS": chapters.OPTIMISE["least"],
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment.pop("EXECUTABLE_PAPERS_RESUME", None)
    for _ in range(3):  # as in execute.py: two kernels that start at once may want the same port
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if "Kernel died before replying" not in done.stderr:
            break
    assert done.returncode == 0, f"{name}:\n{done.stderr[-4000:]}"
    return nbformat.read(after, 4)


@pytest.fixture(scope="session")
def browser():
    """Chromium, for all tests of a worker: a second driver in the same process does not start."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    path = path or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser: apt install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()
