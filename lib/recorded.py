"""Results that outlive a run: recorded at a large scale, kept while a run is interrupted."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy")


def load(slug: str, folder: str | Path = "recorded") -> dict:
    """The recorded results of a chapter: claims, runs and provenance; empty if there are none.

    A chapter runs inside `book/`, where `recorded/<slug>.json` lies.
    """
    path = Path(folder) / f"{slug}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def resumable(name: str, compute: Callable[[], dict]) -> dict:
    """What `compute()` returns, a dictionary of plain JSON; kept, so that a stopped run goes on.

    While a chapter runs, the folder in EXECUTABLE_PAPERS_RESUME holds what it has finished; it
    belongs to exactly this code, data and these parameters, and goes when the chapter is done.
    Without that variable nothing is kept.
    """
    folder = os.environ.get("EXECUTABLE_PAPERS_RESUME")
    if not folder:
        return compute()
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        text = json.dumps(compute(), allow_nan=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    return json.loads(path.read_text(encoding="utf-8"))


class Checkpoint:
    """The arrays of one long computation, kept under `name` as `resumable` keeps results."""

    def __init__(self, name: str):
        folder = os.environ.get("EXECUTABLE_PAPERS_RESUME")
        self._path = Path(folder) / f"{name}.npz" if folder else None

    def load(self) -> dict[str, np.ndarray]:
        """What was saved last; empty if nothing was."""
        if not self._path or not self._path.exists():
            return {}
        with np.load(self._path) as arrays:
            return dict(arrays)

    def save(self, **arrays: np.ndarray) -> None:
        """Replace what was saved; a run that is stopped meanwhile leaves the old."""
        if not self._path:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})
        unfinished.replace(self._path)


class Runs:
    """Series of this run that `make record` may keep, by name; shown as a list of the names."""

    def __init__(self, **series: dict):
        self.series = series

    def __repr__(self) -> str:
        return "series of this run: " + ", ".join(self.series)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": repr(self)}, {"recorded_runs": self.series}


def provenance() -> dict:
    """Where and with what this process computes: hardware, devices, versions, commit, date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "hardware": _hardware(),
        "devices": [d.device_kind for d in jax.local_devices()],
        "versions": {"python": platform.python_version()}
        | {p: metadata.version(p) for p in PACKAGES},
    }


def _commit() -> str:
    """The checkout's commit, with a plus sign when it has been edited since."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return (
            commit + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))
            if commit
            else "unknown"
        )
    except OSError:
        return "unknown"


def _hardware() -> str:
    """Processor model, core count and system."""
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = f"{len(names)} × {names[0]}" if names else model
    return f"{model}, {platform.system()} {platform.machine()}"
