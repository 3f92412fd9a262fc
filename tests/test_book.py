"""What every written chapter must have, and what the house forbids, read from the sources."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jupytext
import nbformat
import pytest
from conftest import kept, run_smoke

import chapters
import hand_out
import reference

ROOT = Path(__file__).resolve().parent.parent
LIB = sorted((ROOT / "lib").rglob("*.py"))
# one paper's module may import another's only here: the second paper continues the first
CONTINUES = {"fedselect": {"fedavg"}}

every_chapter = pytest.mark.parametrize("slug", chapters.written())
every_module = pytest.mark.parametrize(
    "path", LIB, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def code(slug: str) -> list:
    return chapters.code_cells(jupytext.read(chapters.source(slug)))


def tagged(slug: str, tag: str) -> list:
    return [cell for cell in code(slug) if tag in cell.metadata.get("tags", [])]


@every_chapter
def test_verdicts_are_pinned(slug):
    checked = [cell.metadata.get("name") for cell in tagged(slug, "nbval-check-output")]
    assert "claims" in checked
    path = ROOT / "tests" / "reference" / f"{slug}.smoke.json"
    assert path.exists(), f"make reference CHAPTER={slug}"
    reference = json.loads(path.read_text(encoding="utf-8"))
    assert set(reference) == set(checked) and all(text.strip() for text in reference.values())
    ids = [line.split()[0] for line in reference["claims"].splitlines()]
    assert len(ids) == len(set(ids))


def check_something_to_change(text: str) -> None:
    """A reader wants something to change, and to know what it is; one is a number."""
    cell = re.search(r"^:tags: \[parameters\]\n([\s\S]*?)^```", text, re.M)[1]
    more = set(re.findall(r"^(\w+) = .*  # \S", cell, re.M)) - {"scale", "seed"}
    assert more == set(re.findall(r"^(\w+) =", cell, re.M)) - {"scale", "seed"}
    assert more & set(re.findall(r"\bwithin\(.*?\b(\w+)=\1\)", text))


@every_chapter
def test_parameters_are_scale_seed_and_more_and_say_what_they_are(slug):
    (cell,) = tagged(slug, "parameters")
    assert {"scale", "seed"} <= chapters.parameters_of(slug)
    assert 'scale = "laptop"' in cell.source and "seed = 0" in cell.source
    check_something_to_change(chapters.source(slug).read_text(encoding="utf-8"))


@every_chapter
def test_each_figure_has_an_alternative_text(slug):
    for cell in code(slug):
        if re.search(r"plt\.(subplots|figure)\(|figures\.animation\(", cell.source):
            image = cell.metadata.get("mystnb", {}).get("image", {})
            assert len(image.get("alt", "")) > 20, cell.source


@every_chapter
def test_cells_are_short(slug):
    for cell in code(slug):
        lines = cell.source.splitlines()
        assert len(lines) <= 25, f"{len(lines)} lines: {lines[0]}"
        assert max(map(len, lines)) <= 88, max(lines, key=len)
    imports = next(cell for cell in code(slug) if re.search("^(import|from) ", cell.source, re.M))
    assert len(imports.source.splitlines()) <= 12


@every_chapter
def test_what_is_drawn_is_seen(slug):
    """A notebook shows the value of a cell's last line only; a table before it would be lost."""
    for cell in code(slug):
        lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
        for line in ast.parse("\n".join(lines)).body[:-1]:
            call = ast.unparse(line) if isinstance(line, ast.Expr) else ""
            assert not call.startswith("figures.") or call == "figures.use_style()", call


@every_chapter
def test_chapter_survives_the_way_to_a_notebook_and_back(slug):
    before = jupytext.read(chapters.source(slug))
    notebook = nbformat.reads(nbformat.writes(before), 4)
    after = jupytext.reads(jupytext.writes(notebook, "md:myst"), "md:myst")
    for cell, again in zip(before.cells, after.cells, strict=True):
        assert (cell.cell_type, cell.metadata) == (again.cell_type, again.metadata)
        assert cell.source.strip() == again.source.strip()


@every_chapter
def test_students_get_no_solutions_and_instructors_all(slug):
    text = chapters.source(slug).read_text(encoding="utf-8")
    solutions = re.findall(r"```\{solution-start\}.*?```\n(.*?)```\{solution-end\}", text, re.S)
    assert solutions, "a chapter has exercises with solutions"
    student = "\n".join(cell.source for cell in hand_out.hand_out(slug, solutions=False).cells)
    instructor = hand_out.hand_out(slug, solutions=True)
    told = "\n".join(cell.source for cell in instructor.cells)
    for solution in solutions:
        lines = {line.strip() for line in solution.splitlines()}
        lines = [s for s in lines if len(s) > 40 and text.count(s) == 1 and "{" not in s]
        assert not [line for line in lines if line in student]
        assert all(line in told for line in lines)
    exercises = text.count("{exercise-start}")
    assert student.count(hand_out.ANSWER) == exercises >= len(solutions)
    assert student.count(hand_out.CODE) == exercises
    assert f"**Exercise {exercises}. " in student
    as_smoke = [cell.source.replace('"laptop"  #', '"smoke"  #') for cell in code(slug)]
    ran = [
        cell.source.replace('"laptop"  #', '"smoke"  #') for cell in chapters.code_cells(instructor)
    ]
    assert ran == as_smoke, "instructors run what the page shows"


def test_the_exercises_that_have_solutions_are_many():
    texts = [chapters.source(slug).read_text(encoding="utf-8") for slug in chapters.written()]
    assert sum(text.count("{solution-start}") for text in texts) >= 40


def test_a_zip_is_the_same_each_time_and_holds_what_its_notebooks_need(tmp_path):
    first, again = (hand_out.pack(["life"], name, tmp_path) for name in ("student", "again"))
    assert first.read_bytes() == again.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert names == sorted(names) and len(names) == len(set(names))
    assert {"life.ipynb", "README.txt", "LICENSE", "requirements.txt", "lib/figures.py"} <= {*names}
    assert not [name for name in names if "__pycache__" in name]
    assert len(zipfile.ZipFile(first).read("README.txt").splitlines()) == 5


ALONE = """
import os, socket
os.environ.pop("OPENAI_API_KEY", None)
right = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and address[0] != "127.0.0.1":
        raise AssertionError(f"the chapter calls {address}")
    return right(self, address)
socket.socket.connect = connect
"""


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-tradeoffs")
def test_an_instructors_notebook_runs_outside_the_checkout_and_talks_to_this_machine_only(tmp_path):
    """From the zip, the chapter that asks models; that the others have the page's cells is above.

    It needs no key.
    """
    packed, folder = hand_out.pack(["tradeoffs"], "instructor", tmp_path), tmp_path / "zip"
    zipfile.ZipFile(packed).extractall(folder)
    notebook = nbformat.read(folder / "tradeoffs.ipynb", 4)
    where = f"import lib\n\nassert {str(folder)!r} in str(lib.__path__)"

    def run():
        notebook.cells.insert(0, nbformat.v4.new_code_cell(ALONE))
        notebook.cells.append(nbformat.v4.new_code_cell(where))
        return reference.checked(run_smoke(notebook, tmp_path, "tradeoffs from the zip", folder))

    pinned = ROOT / "tests" / "reference" / "tradeoffs.smoke.json"
    depends_on = packed.read_bytes() + ALONE.encode()
    assert kept(depends_on, run) == json.loads(pinned.read_text(encoding="utf-8"))


def test_the_wheel_has_all_of_lib(tmp_path):
    """Weights and tables too, so that a notebook runs where `pip install .` was all."""
    command = [sys.executable, "-m", "uv", "build", "-q", "--wheel", "-o", tmp_path, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    tracked = subprocess.run(["git", "ls-files", "lib"], cwd=ROOT, capture_output=True, text=True)
    assert set(tracked.stdout.splitlines()) <= set(zipfile.ZipFile(wheel).namelist())
    assert any(name.endswith(".eqx") for name in tracked.stdout.splitlines())


def test_the_skeleton_of_a_chapter_runs(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    skeleton = re.search(r"^````markdown\n(.*?)^````$", text, re.MULTILINE | re.DOTALL).group(1)
    check_something_to_change(skeleton)
    done = run_smoke(jupytext.reads(skeleton, fmt="md:myst"), tmp_path, "the skeleton")
    assert reference.checked(done) == {"claims": "C1  HOLDS"}


def test_numbers_come_from_todays_run_or_are_named():
    text = "one {glue:text}`a:.1f`, {glue}`b` and {glue:text}`c:.2f`, {glue:text}`d:,.0f`"
    known = {"a": "0.25", "b": "'two'", "d": "nan"}
    assert hand_out.filled(text, known) == "one 0.2, two and *(computed: c)*, –"


@every_chapter
def test_citations_and_links_of_a_notebook_say_where_they_lead(slug):
    cells = hand_out.hand_out(slug, solutions=True).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert not [key for key in hand_out.BIBLIOGRAPHY if f"`{key}`" in text]
    assert not re.findall(r"`(?:ch|ex|eq|fig)-[\w-]+`", text)
    files = {target.partition("#")[0] for target in re.findall(r"\]\(([\w-]+\.ipynb[^)]*)\)", text)}
    assert files <= {f"{other}.ipynb" for other in chapters.written()}


LEFT_OVER = re.compile(
    r"^[ >]*(?::::|```\{|:[\w-]+:(?: |$)|\([\w-]+\)=$).*|\{[a-z][\w:+-]*\}`[^`]*`?", re.M
)


@every_chapter
@pytest.mark.parametrize("solutions", [False, True], ids=["student", "instructor"])
def test_no_directive_or_role_of_the_book_is_left_in_a_notebook(slug, solutions):
    """A fence with a name in braces, its end or an option, a label, a role: Jupyter shows none."""
    assert LEFT_OVER.search(chapters.source(slug).read_text(encoding="utf-8"))
    for cell in hand_out.hand_out(slug, solutions).cells:
        if cell.cell_type == "markdown":
            assert not LEFT_OVER.findall(cell.source)
            assert cell.source.count("```") % 2 == 0, "a fence that nobody closes"


@pytest.mark.parametrize("fence", [":::", "```"])
@pytest.mark.parametrize("kind", ["theorem", "proposition", "definition", "remark", "algorithm"])
def test_what_is_stated_becomes_a_heading_and_a_quote(fence, kind):
    text = (
        f"Before.\n\n{fence}{{prf:{kind}}} Of `this`: $a$\n:label: x\n\nIf: a.\n\n1. So.\n{fence}\n"
    )
    stated = f"**{kind.capitalize()}. Of `this`: $a$**\n\n> If: a.\n>\n> 1. So."
    assert hand_out.plain(text + "\nAfter.") == f"Before.\n\n{stated}\n\nAfter."
    without = hand_out.plain(f"{fence}{{prf:{kind}}}\nSo.\n{fence}")
    assert without == f"**{kind.capitalize()}.**\n\n> So."


@pytest.mark.parametrize(
    "book, notebook",
    [
        ("a {term}`client` trains", "a client trains"),
        ("**{term}`Keys <key (select)>`** and", "**Keys** and"),
        ("{ref}`it <ex-fedavg-secure>` is", "it (*A secure sum*) is"),
        ("see {ref}`ch-mesa`.", "see [The optimiser inside the Transformer](mesa.ipynb)."),
    ],
)
def test_words_become_plain_and_references_links(book, notebook):
    assert hand_out.plain(book) == notebook


def words() -> dict[str, str]:
    """The terms of the glossary, with what it says about them."""
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    (entries,) = re.findall(r"```\{glossary\}\n(.*?)```", text, re.S)
    return dict(re.findall(r"^(\S.*)\n((?:  .*\n)+)", entries, re.M))


def test_the_glossary_has_words_that_its_chapters_use():
    """In the order of the alphabet, and each in the text of every chapter that its entry names."""
    terms = words()
    assert list(terms) == sorted(terms, key=str.casefold)
    for term, said in terms.items():
        word = re.sub(r" \(.*", "", term).casefold()
        for slug in re.findall(r"\{ref\}`ch-(\w+)`", said):
            text = chapters.source(slug).read_text(encoding="utf-8").casefold()
            assert word in " ".join(text.split()), f"{term}: not in {slug}"


def test_letters_of_the_glossary_are_letters_of_the_chapters():
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    slugs = [re.search(r"<ch-(\w+)>", cell)[1] for cell in head[1:]]
    assert slugs == chapters.written()
    for cell, *meanings in rows:
        assert sum(map(bool, meanings)) > 1, f"{cell} has one meaning"
        letter = cell.strip("$")
        alone = "" if letter.startswith("\\") else r"(?<![a-zA-Z\\])"
        here = re.compile(rf"{alone}{re.escape(letter)}(?![a-zA-Z])")
        for slug, meaning in zip(slugs, meanings, strict=True):
            source = chapters.source(slug).read_text(encoding="utf-8")
            if not letter.isupper():  # a small letter in prose is a word, or part of one
                source = "".join(re.findall(r"\$[^$]+\$|```\{math\}.*?```", source, re.S))
            assert not meaning or here.search(source), f"{letter}: not in {slug}"


@every_module
def test_arrows_point_down(path):
    """A paper's modules import the shared ones and each other, not another paper's."""
    slugs = {chapter["slug"] for chapter in chapters.catalogue()}
    own = path.relative_to(ROOT / "lib").with_suffix("").parts[0]
    allowed = {own} | CONTINUES.get(own, set())
    package = ".".join(path.relative_to(ROOT).parent.parts)
    names = chapters._imports(path.read_text(encoding="utf-8"), package)
    papers = {part for name in names for part in name.split(".")[1:2] if part in slugs}
    assert papers <= allowed, f"{path.name} imports another paper's module"


@every_module
def test_modules_do_not_print_or_draw(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    quiet = [n for n in tree.body if getattr(n, "name", "") != "main"]  # a command speaks
    quiet = [n for top in quiet for n in ast.walk(top) if isinstance(n, ast.Call)]
    calls = {getattr(n.func, "id", "") for n in quiet}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    if 'if __name__ == "__main__"' not in path.read_text(encoding="utf-8"):
        assert "print" not in calls
    if path.name != "figures.py":
        assert not [name for name in imported if name.split(".")[0] == "matplotlib"]


def test_no_machine_paths():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    for name in tracked.splitlines():
        if name.endswith((".md", ".py", ".yml", ".toml", ".json")) and (ROOT / name).exists():
            text = (ROOT / name).read_text(encoding="utf-8")
            found = re.search(r"(?<![\w.])/(?:home|root|Users|tmp)/\w+", text)
            assert not found, f"{name}: {found}"
