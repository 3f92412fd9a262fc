"""Run one chapter with papermill: all of it, or nothing that anybody could mistake for it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import jupytext
import papermill

from chapters import ROOT, data_of, executed, key, source


def execute(slug: str, scale: str, seed: int, parameters: dict) -> Path:
    """Execute a chapter and put its notebook, stamped with its key, where it belongs."""
    out = executed(slug, scale, seed, parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    today = key(slug, scale, seed, parameters)
    kept = ROOT / "_executed" / ".unfinished" / f"{slug}-{today[:16]}"
    os.environ["EXECUTABLE_PAPERS_RESUME"] = str(kept)
    running = out.with_suffix(".running.ipynb")
    start = time.monotonic()
    try:
        notebook = papermill.execute_notebook(
            jupytext.read(source(slug)),
            running,
            parameters={"scale": scale, "seed": seed} | parameters,
            kernel_name="python3",
            cwd=ROOT / "book",
            progress_bar=False,
        )
    except papermill.PapermillExecutionError:
        os.replace(running, out.with_suffix(".failed.ipynb"))
        raise
    from lib import datasets
    from lib.recorded import provenance

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    notebook.metadata["executable_papers"] = provenance() | {
        "slug": slug,
        "scale": scale,
        "seed": seed,
        "parameters": parameters,
        "key": today,
        "command": _command(slug, scale, seed, parameters),
        "wall_seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "memory_megabytes": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)),
        "data": datasets.state(data_of(slug)) if scale != "smoke" else {},
    }
    papermill.iorw.write_ipynb(notebook, str(running))
    os.replace(running, out)
    out.with_suffix(".failed.ipynb").unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    return out


def _command(slug: str, scale: str, seed: int, parameters: dict) -> str:
    words = f"make chapter CHAPTER={slug} SCALE={scale} SEED={seed}"
    extra = " ".join(f"{name}={value}" for name, value in parameters.items())
    return f'{words} PARAMETERS="{extra}"' if extra else words


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slug")
    parser.add_argument("scale")
    parser.add_argument("seed", type=int)
    parser.add_argument("parameters", type=json.loads)
    arguments = parser.parse_args()
    execute(arguments.slug, arguments.scale, arguments.seed, arguments.parameters)
