"""Results of runs that are too large for a laptop, and where every result comes from."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import jax

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy")


def load(slug: str, folder: str | Path = "recorded") -> dict:
    """The recorded results of a chapter: claims, runs and provenance; empty if there are none.

    A chapter runs inside `book/`, where `recorded/<slug>.json` lies.
    """
    path = Path(folder) / f"{slug}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


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
    """Processor model and core count, and memory where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = f"{len(names)} × {names[0]}" if names else model
    return f"{model}, {platform.system()} {platform.machine()}"
