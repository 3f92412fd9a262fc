"""Render the pages from what has been run; warnings are errors, a missing result is refused."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cachefill import fill
from chapters import ROOT, SCALES


def render(scale: str, output: Path = ROOT) -> int:
    """Fill the cache and build `output`/_build/html; return an exit code, say what went wrong."""
    (output / "_build").mkdir(parents=True, exist_ok=True)
    problems = fill(scale, output)
    for problem in problems:
        print(f"refused: {problem}", file=sys.stderr)
    if problems:
        return 1
    log = output / "_build" / "render.log"
    # --all: Sphinx forgets the warnings of a page that it does not read again
    book = Path(sys.executable).with_name("jupyter-book")
    command = [sys.executable, book, "build", ".", "-n", "-W", "--keep-going", "--all"]
    command += ["--path-output", output]
    with log.open("w", encoding="utf-8") as file:
        environment = os.environ | {"EXECUTABLE_PAPERS_BOOK": str(output / "_build" / "book.json")}
        code = subprocess.run(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment
        ).returncode
    text = log.read_text(encoding="utf-8")
    if code:
        wrong = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
        print("\n".join(wrong or text.splitlines()[-20:]), file=sys.stderr)
        print(f"rendering failed, see {log}", file=sys.stderr)
    else:
        print(f"the book is ready: {output / '_build' / 'html' / 'index.html'}")
    return code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="laptop", choices=SCALES)
    sys.path[:0] = [str(ROOT)]
    raise SystemExit(render(parser.parse_args().scale))
