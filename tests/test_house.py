"""How chapters are run: keys, failures, interruptions, bad requests; in a small book of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import chapters
import execute as executing
import run as requests
from lib import datasets

ROOT = Path(__file__).resolve().parent.parent
HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A small chapter

Prose.
"""
CELLS = {
    "alpha": """
```{code-cell} ipython3
:tags: [parameters]

scale = "laptop"
seed = 0
size = 3
text = None
```

```{code-cell} ipython3
from pathlib import Path

from lib import recorded, shapes
```

```{code-cell} ipython3
def compute():
    with Path("../ran").open("a") as file:
        file.write("x")
    return {"area": shapes.area(size) + seed}


first = recorded.resumable("first", compute)
while Path("../wait").exists():
    pass
```

```{code-cell} ipython3
:name: claims
:tags: [claims, nbval-check-output]

said = f"area {first['area']} {text!r}"
claim = {"id": "C1", "verdict": "HOLDS" if first["area"] == size**2 else "FAILS"}
claim |= {"sentence": said, "tests": []}
display({"text/plain": repr(said)}, raw=True, metadata={"claims": [claim]})
```
""",
    "beta": """
```{code-cell} ipython3
:tags: [parameters]

scale = "laptop"
seed = 0
```

```{code-cell} ipython3
def late():
    import lib.lonely

    return lib.lonely.NUMBER
```

```{code-cell} ipython3
:name: claims
:tags: [claims, nbval-check-output]

late()
```
""",
}
FILES = {
    "lib/shapes/__init__.py": "from .square import area\n",
    "lib/shapes/square.py": "def area(a):\n    from lib import deep\n\n    return deep.power(a)\n",
    "lib/shapes/unused.py": "",
    "lib/deep.py": "def power(a):\n    return a**2\n",
    "lib/shapes/sizes.csv": "a,b\n",
    "lib/lonely.py": "NUMBER = 7\n",
    # what execute.py asks of the datasets, and of JAX, which takes long to start
    "lib/datasets.py": "def state(names):\n    return dict.fromkeys(names, 'absent')\n",
    "jax.py": "def local_devices():\n    return []\n",
    "_toc.yml": "parts: [{chapters: [{file: book/alpha}, {file: book/beta}]}]\n",
    "book/chapters.yml": "[{slug: alpha, data: [points]}, {slug: beta}, {slug: later}]\n",
}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A book with two chapters, in a folder whose name has a space and an é."""
    root = tmp_path / "un été à Paris"
    shutil.copytree(ROOT / "book" / "_run", root / "book" / "_run")
    shutil.copytree(ROOT / "profiles", root / "profiles")
    (root / "lib" / "shapes").mkdir(parents=True)
    for name in (
        "Makefile",
        "Snakefile",
        "requirements.txt",
        "lib/__init__.py",
        "lib/recorded.py",
        "lib/scale.py",
        "lib/wording.py",
    ):
        shutil.copy(ROOT / name, root / name)
    for name, text in FILES.items():
        (root / name).write_text(text)
    for slug, cells in CELLS.items():
        (root / "book" / f"{slug}.md").write_text(HEAD + cells)
    monkeypatch.setattr(chapters, "ROOT", root)
    monkeypatch.setattr(datasets, "state", lambda names: dict.fromkeys(names, "absent"))
    return root


def run(house: Path, *words: str, script: str = "run.py") -> subprocess.CompletedProcess:
    """Run one of the scripts in a house, as make does."""
    command = [sys.executable, house / "book" / "_run" / script, *words]
    environment = os.environ | {"PYTHONPATH": str(house)}
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def keys() -> dict[str, str]:
    return {slug: chapters.key(slug, "laptop") for slug in ("alpha", "beta")}


def test_prose_and_time_stamps_are_not_in_the_key(house):
    before = keys()
    edit(house / "book" / "alpha.md", "Prose.", "Better prose, with `code` in it.")
    for path in house.rglob("*.*"):
        os.utime(path)
    assert keys() == before


@pytest.mark.parametrize(
    "file, importing",
    [
        ("lib/shapes/__init__.py", {"alpha"}),
        ("lib/shapes/square.py", {"alpha"}),  # through the package
        ("lib/deep.py", {"alpha"}),  # inside a function of a module
        ("lib/recorded.py", {"alpha"}),
        ("lib/lonely.py", {"beta"}),  # inside a function of the chapter
        ("lib/__init__.py", {"alpha", "beta"}),
        ("lib/shapes/unused.py", set()),
        ("lib/shapes/sizes.csv", {"alpha"}),  # a table that comes with the package
        ("requirements.txt", {"alpha", "beta"}),
    ],
)
def test_one_byte_changes_the_key_of_exactly_the_importing_chapters(house, file, importing):
    before = keys()
    with (house / file).open("a") as stream:
        stream.write(" ")
    after = keys()
    assert {slug for slug in before if after[slug] != before[slug]} == importing


def test_code_scale_seed_parameters_and_data_are_in_the_key(house, monkeypatch):
    runs = [
        ("alpha", "laptop"),
        ("alpha", "smoke"),
        ("alpha", "laptop", 1),
        ("alpha", "laptop", 0, {"size": 4}),
        ("alpha", "laptop", 0, {"size": 4, "text": "a"}),
    ]
    found = [chapters.key(*run) for run in runs]
    assert len(set(found)) == len(runs)
    assert chapters.key("alpha", "laptop", 0, {"text": "a", "size": 4}) == found[-1]
    own = [chapters.key("alpha", "laptop", 0, {"text": "own.jsonl"})]
    for line in ("1", "2"):  # a file that a parameter names
        (house / "own.jsonl").write_text(line)
        own.append(chapters.key("alpha", "laptop", 0, {"text": "own.jsonl"}))
    (house.parent / "music").mkdir()
    for name in ("a.ogg", "b.ogg"):  # a folder, elsewhere
        (house.parent / "music" / name).write_text("la")
        own.append(chapters.key("alpha", "laptop", 0, {"text": str(house.parent / "music")}))
    assert len(set(own)) == 5
    monkeypatch.setattr(datasets, "state", lambda names: dict.fromkeys(names, "here"))
    assert chapters.key("alpha", "laptop") != found[0]
    assert chapters.key("alpha", "smoke") == found[1], "smoke never looks at real data"
    edit(house / "book" / "alpha.md", "seed = 0", "seed = 0 ")
    assert chapters.key("alpha", "smoke") != found[1]


def test_what_xla_is_asked_for_is_in_the_key(house):
    laptop, smoke = keys(), chapters.key("alpha", "smoke")
    entries = "[{slug: alpha, data: [points], optimise: less}, {slug: beta}, {slug: later}]\n"
    (house / "book" / "chapters.yml").write_text(entries, encoding="utf-8")
    assert chapters.xla_flags("alpha", "laptop") and not chapters.xla_flags("beta", "laptop")
    assert keys()["alpha"] != laptop["alpha"] and keys()["beta"] == laptop["beta"]
    assert chapters.key("alpha", "smoke") == smoke
    (house / "book" / "chapters.yml").write_text("[{slug: alpha, optimise: much}]", "utf-8")
    with pytest.raises(ValueError, match="optimise='much' is not known: use fully, less or least"):
        chapters.key("alpha", "laptop")


def test_recorded_results_are_in_the_key_of_a_chapter_that_reads_them(house):
    before = keys() | {"paper": chapters.key("alpha", "paper")}
    for slug in CELLS:
        (house / "book" / "recorded").mkdir(exist_ok=True)
        (house / "book" / "recorded" / f"{slug}.json").write_text("{}")
    after = keys() | {"paper": chapters.key("alpha", "paper")}
    assert {name for name in before if after[name] != before[name]} == {"alpha"}


def test_a_cell_that_python_cannot_parse_depends_on_all_modules(house):
    edit(house / "book" / "beta.md", "    import lib.lonely\n", "    import lib.lonely\n\n!date\n")
    edit(house / "book" / "beta.md", "\nlate()\n", "\nfiles = !ls\nlate()\n")
    before = keys()
    with (house / "lib" / "shapes" / "unused.py").open("a") as stream:
        stream.write("# more")
    assert keys()["beta"] != before["beta"]
    assert keys()["alpha"] == before["alpha"]


def test_a_run_a_no_op_and_a_changed_result(house):
    request = ["--scale", "smoke", "--chapters", "alpha", "--parameters", "size=1e1 text='a b/c',é"]
    first = run(house, *request, "--show")
    assert first.returncode == 0, first.stderr
    assert "2 of 2 chapter runs done" in first.stdout
    assert "area 100.0 'a b/c'" in first.stdout and "area 100.0 'é'" in first.stdout
    assert "alpha: verdicts over 2 of 2 runs\nC1  HOLDS 2\n" in first.stdout
    assert (house / "ran").read_text() == "xx"
    assert not list((house / "_executed" / ".unfinished").iterdir())
    shutil.rmtree(house / ".snakemake")
    assert "2 of 2 chapter runs are up to date" in run(house, *request).stdout
    assert (house / "ran").read_text() == "xx"
    path = chapters.executed("alpha", "smoke", 0, {"size": 10.0, "text": "é"})
    for before, after in [("area 100", "area 101"), ('"executable_papers"', '"other"')]:
        original = path.read_text()
        path.write_text(original.replace(before, after))
        assert not chapters.current("alpha", "smoke", 0, {"size": 10.0, "text": "é"})
        path.write_text(original)
    assert chapters.current("alpha", "smoke", 0, {"size": 10.0, "text": "é"})
    path.write_text("{")
    assert not chapters.current("alpha", "smoke", 0, {"size": 10.0, "text": "é"})


def test_a_run_is_compared_with_that_of_the_chapter_as_it_is(house, monkeypatch, capsys):
    """Which verdicts moved; that there is nothing to compare with; nothing for the usual run."""
    usual, other = ("alpha", "smoke", 0, {}), ("alpha", "smoke", 3, {"size": 2})
    requests.compare(other)  # it has failed
    assert not capsys.readouterr().out
    for run in (usual, other):
        chapters.executed(*run).parent.mkdir(parents=True, exist_ok=True)
        chapters.executed(*run).touch()
    requests.compare(other)  # the usual one is not today's
    assert "make chapter CHAPTER=alpha SCALE=smoke" in capsys.readouterr().out
    told = {chapters.executed(*usual): {"C1": "HOLDS", "C2": "FAILS"}}
    told[chapters.executed(*other)] = {"C1": "HOLDS", "C2": "PARTLY"}
    monkeypatch.setattr(requests, "verdicts_of", told.get)
    monkeypatch.setattr(requests, "current", lambda *run: True)
    requests.compare(other)
    assert capsys.readouterr().out.endswith(": C2 FAILS → PARTLY\n")
    told[chapters.executed(*other)]["C2"] = "FAILS"
    requests.compare(other)
    requests.compare(usual)
    assert capsys.readouterr().out.endswith("PARAMETERS: no verdict differs\n")


def test_a_kernel_that_does_not_come_up_is_started_again(monkeypatch):
    said = ["Kernel died before replying to kernel_info"] * 2
    tried = []

    def start(*files, **options):
        tried.append(files)
        if said:
            raise RuntimeError(said.pop())
        return "done"

    monkeypatch.setattr(executing.papermill, "execute_notebook", start)
    assert executing.run_notebook("a", b=1) == "done" and len(tried) == 3
    for words, count in ((["Kernel died before replying"] * 3, 3), (["Kernel died"], 1)):
        said[:] = words
        tried.clear()
        with pytest.raises(RuntimeError, match="Kernel died"):
            executing.run_notebook("a")
        assert len(tried) == count


def test_a_path_is_seen_from_the_checkout(house, monkeypatch):
    monkeypatch.setattr(executing, "ROOT", house)
    asked = {"a": "lib/deep.py", "b": "absent", "c": 3, "d": str(house / "lib")}
    assert executing.located(asked) == asked | {"a": str(house / "lib" / "deep.py")}


def execute(house: Path, slug: str) -> subprocess.CompletedProcess:
    """Run one chapter without Snakemake, which takes half of the time."""
    return run(house, slug, "smoke", "0", "{}", script="execute.py")


def test_old_and_invented_results_are_refused(house):
    for slug in CELLS:
        done = execute(house, slug)
        assert done.returncode == 0, done.stderr
    fill = ["--scale", "smoke", "--output", str(house)]
    (house / "_build").mkdir()
    assert run(house, *fill, script="cachefill.py").returncode == 0
    with (house / "lib" / "deep.py").open("a") as stream:
        stream.write("# newer")
    edit(chapters.executed("beta", "smoke"), '"7"', '"8"')
    refused = run(house, *fill, script="cachefill.py")
    assert refused.returncode == 1
    assert "smoke/alpha.ipynb is not" in refused.stderr
    assert "smoke/beta.ipynb is not" in refused.stderr
    assert '"chapters": {}' in (house / "_build" / "book.json").read_text()
    assert "beta has not been run" in run(house, script="cachefill.py").stderr


def test_a_failing_cell_stays_red_and_leaves_no_result(house):
    edit(house / "lib" / "lonely.py", "7", "1 / 0")
    for _ in range(2):
        failed = run(house, "--scale", "smoke")
        assert failed.returncode == 1
        assert "Log: _executed/smoke/beta.log" in failed.stderr
        assert "ZeroDivisionError" in failed.stderr
        assert not chapters.executed("beta", "smoke").exists()
        assert chapters.current("alpha", "smoke"), "one failure does not stop the others"
        assert (house / "_executed" / "smoke" / "beta.failed.ipynb").exists()
    assert (house / "ran").read_text() == "x"


def start(house: Path) -> subprocess.Popen:
    """Start chapter alpha, which waits after its first part; return when it is there."""
    (house / "wait").touch()
    command = [sys.executable, house / "book" / "_run" / "run.py", "--scale", "smoke"]
    started = subprocess.Popen(
        [*command, "--chapters", "alpha"],
        cwd=house,
        env=os.environ | {"PYTHONPATH": str(house)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(house.glob("_executed/.unfinished/alpha-*/first.json")):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    return started


def test_an_interrupted_run_goes_on_and_computes_each_part_once(house):
    started = start(house)
    os.kill(started.pid, signal.SIGINT)
    assert "stopped" in started.communicate(timeout=60)[0].decode()
    assert started.returncode == 130
    started = start(house)
    os.kill(started.pid, signal.SIGKILL)  # what it started lives on, and is waited for
    started.communicate()
    assert not chapters.executed("alpha", "smoke").exists()
    (house / "wait").unlink()
    done = run(house, "--scale", "smoke", "--chapters", "alpha")
    assert done.returncode == 0, done.stderr
    assert chapters.current("alpha", "smoke")
    assert (house / "ran").read_text() == "x", "the first part was kept"
    assert not list((house / "_executed" / ".unfinished").glob("alpha-*")), "and then removed"


def test_a_run_killed_outright_completes_next_time(house):
    (house / "wait").touch()
    command = [sys.executable, house / "book" / "_run" / "execute.py", "alpha", "smoke", "0", "{}"]
    environment = os.environ | {"PYTHONPATH": str(house)}
    killed = subprocess.Popen(command, cwd=house, env=environment, stderr=subprocess.DEVNULL)
    while not list(house.glob("_executed/.unfinished/alpha-*/first.json")):
        assert killed.poll() is None
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    assert not chapters.executed("alpha", "smoke").exists()
    (house / "wait").unlink()
    assert execute(house, "alpha").returncode == 0
    assert chapters.current("alpha", "smoke")
    assert (house / "ran").read_text() == "x"


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["--scale", "huge"], "smoke, laptop, paper"),
        (["--chapters", "later"], "alpha, beta"),
        (["--chapters", "alhpa"], "did you mean alpha? use one of alpha, beta"),
        (["--chapters", "", "--show"], "alpha, beta"),
        (["--seeds", "x"], "whole numbers"),
        (["--seeds", "²"], "whole numbers"),
        (["--seeds", ""], "whole numbers"),
        (["--parameters", "size"], "name=value"),
        (["--chapters", "alpha", "--parameters", "text='a b"], "No closing quotation"),
        (["--chapters", "alpha", "--parameters", "sise=4"], "size, text"),
        (["--chapters", "alpha", "--parameters", "seed=4"], "size, text"),
        (["--chapters", "beta", "--parameters", "size=4"], "it has none"),
        (["--profile", "cloud"], "kubernetes, laptop, slurm"),
        (["--profile", ""], "kubernetes, laptop, slurm"),
    ],
)
def test_a_bad_request_is_answered_in_one_line(house, monkeypatch, capsys, words, wanted):
    monkeypatch.setattr(requests, "ROOT", house)
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with pytest.raises(SystemExit) as refused:
        requests.main()
    said = capsys.readouterr()
    assert refused.value.code == 2
    assert wanted in said.err and len(said.err.splitlines()) == 1 and not said.out
    assert not (house / "_executed").exists()


def test_verdicts_are_compared_and_never_with_nothing(house):
    """A reference that differs fails; one that is empty, or of other cells, is an error."""
    (house / "tests" / "reference").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", house / "tests")
    (house / "pytest.ini").write_text("[pytest]\n")
    (house / "jax.py").write_text(FILES["jax.py"] + "class config:\n    update = print\n")
    for slug in CELLS:
        assert execute(house, slug).returncode == 0
    expected = [
        ("area 10 None", "7", ["1 failed, 1 passed"], 1),
        ("", '7", "more": "7', ["alpha.smoke.json has []", "has ['claims', 'more']"], 2),
    ]
    for alpha, beta, says, code in expected:
        for slug, text in (("alpha", alpha), ("beta", beta)):
            path = house / "tests" / "reference" / f"{slug}.smoke.json"
            path.write_text(f'{{"claims": "{text}"}}')
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"],
            cwd=house,
            env=os.environ | {"PYTHONPATH": str(house)},
            capture_output=True,
            text=True,
        )
        assert all(said in done.stdout for said in says), done.stdout
        assert done.returncode == code


def test_the_package_is_committed_and_installed():
    ignored = subprocess.run(["git", "check-ignore", "lib/__init__.py"], cwd=ROOT)
    assert ignored.returncode == 1
    code = "import lib; assert lib.__file__"
    subprocess.run([sys.executable, "-c", code], cwd="/usr", check=True)


def test_a_snakemake_that_does_not_start_is_reported_with_what_it_says(house):
    edit(house / "profiles" / "laptop" / "config.yaml", "keep-going: true", "executor: nowhere")
    failed = run(house, "--scale", "smoke", "--chapters", "beta")
    assert failed.returncode == 1
    assert "beta FAILED. Log: _executed/snakemake.log" in failed.stderr
    assert "nowhere" in failed.stderr
