"""An environment for each peer, made once: `.venv-bench/<name>`.

A peer that is no Python package is a program built from its sources: git+URL@COMMIT.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-bench"


class Absent(Exception):
    """A peer that cannot be timed; the message is the reason."""


def python_of(name: str) -> Path | str:
    """The interpreter of a peer's environment, installed first if need be; "book" is this one.

    Raises Absent, with pip's last error, if it cannot be installed.
    """
    if name == "book":
        return sys.executable
    wanted = sections()[name]
    if wanted[0].startswith("git+"):
        built(name)
        return sys.executable  # of the program that drives it
    folder = FOLDER / name
    python, done, failed = folder / "bin" / "python", folder / ".done", folder / ".failed"
    stamp = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()
    for mark in (done, failed):
        if mark.exists():
            kept, _, reason = mark.read_text(encoding="utf-8").partition("\n")
            if kept == stamp and mark is failed:
                raise Absent(reason)
            if kept == stamp:
                return python
    print(f"installing {', '.join(wanted)} into {folder.relative_to(ROOT)} (once)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
    run = subprocess.run(pip, capture_output=True, text=True)
    if run.returncode:
        errors = re.findall(r"^ERROR: (.*)", run.stderr, re.MULTILINE) or ["pip failed"]
        reason = f"cannot be installed: {errors[-1].strip()}"
        failed.write_text(f"{stamp}\n{reason}", encoding="utf-8")
        raise Absent(reason)
    done.write_text(stamp, encoding="utf-8")
    return python


def built(name: str) -> tuple[Path, str]:
    """The folder of a peer's program and its version: fetched with git, made with `make CUDA=0`.

    An environment variable of its name in capitals, CUBFF for one, may name a folder that holds it,
    and a file VERSION in there say what it is.
    Raises Absent, with the last error, if it cannot be fetched or built.
    """
    url, _, commit = sections()[name][0].removeprefix("git+").rpartition("@")
    own = os.environ.get(name.upper())
    folder = Path(own) if own else FOLDER / f"{name}-{commit}"
    if not (folder / "bin" / "main").exists():
        if not own and not (folder / ".git").exists():
            _do("git", "clone", "-q", url, folder)
            _do("git", "-C", folder, "checkout", "-q", commit)
        for part in ("build", "bin"):
            (folder / part).mkdir(exist_ok=True)
        _do("make", "-C", folder, "CUDA=0")
    if not own:
        return folder, commit
    says = folder / "VERSION"
    return folder, says.read_text().strip() if says.exists() else f"(a copy in ${name.upper()})"


def _do(*command: str | Path) -> None:
    try:
        run = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Absent(f"cannot be built: there is no {command[0]}") from None
    if run.returncode:
        said = run.stderr.strip().splitlines() or [f"{command[0]} failed"]
        raise Absent(f"cannot be built: {said[-1]}")


def sections() -> dict[str, list[str]]:
    """The requirements of each peer, from requirements-bench.txt."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements-bench.txt").read_text(encoding="utf-8").splitlines():
        if head := re.fullmatch(r"# \[(\w+)\]", line):
            current = found.setdefault(head[1], [])
        elif line and not line.startswith("#"):
            current.append(line)
    return found
