"""Render the pages from what has been run; warnings are errors, a missing result is refused."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cachefill import fill
from chapters import ROOT, executed, written
from lib.scale import SCALES


def render(scale: str, output: Path = ROOT) -> int:
    """Build `output`/_build/html, if anything changed; return an exit code, say what went wrong.

    The pages are built aside and put in their place when all are there.
    """
    build, aside = output / "_build", output / "_build" / ".unfinished"
    stamp, today = build / "html" / ".made_from", made_from(scale)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == today:
        print(f"nothing has changed: {build / 'html' / 'index.html'}")
        return 0
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "_build").mkdir(parents=True)
    problems = fill(scale, aside)
    for problem in problems:
        print(f"refused: {problem}", file=sys.stderr)
    if problems:
        return 1
    log = build / "render.log"
    # --all: Sphinx forgets the warnings of a page that it does not read again
    book = Path(sys.executable).with_name("jupyter-book")
    command = [sys.executable, book, "build", ".", "-n", "-W", "--keep-going", "--all"]
    command += ["--path-output", aside]
    with log.open("w", encoding="utf-8") as file:
        environment = os.environ | {"EXECUTABLE_PAPERS_BOOK": str(aside / "_build" / "book.json")}
        code = subprocess.run(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment
        ).returncode
    text = log.read_text(encoding="utf-8")
    if code:
        wrong = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
        print("\n".join(wrong or text.splitlines()[-20:]), file=sys.stderr)
        print(f"rendering failed, see {log}", file=sys.stderr)
        return code
    html = aside / "_build" / "html"
    (html / stamp.name).write_text(today, encoding="utf-8")
    if (build / "html").exists():
        (build / "html").replace(aside / "before")
    html.replace(build / "html")
    shutil.rmtree(aside)
    print(f"the book is ready: {build / 'html' / 'index.html'}")
    return 0


def made_from(scale: str) -> str:
    """A digest of all that pages are made from: text, results, code that they show or that runs."""
    files = [path for name in ("book", "lib") for path in (ROOT / name).rglob("*")]
    files += (ROOT / "benchmarks" / "results").glob("*.json")
    files += [ROOT / name for name in ("_config.yml", "_toc.yml", "requirements.txt")]
    files += [executed(slug, scale) for slug in written()]
    digest = hashlib.sha256(scale.encode())
    for path in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="laptop", choices=SCALES)
    sys.path[:0] = [str(ROOT)]
    raise SystemExit(render(parser.parse_args().scale))
