"""Run one chapter with papermill: all of it, or nothing that anybody could mistake for it."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import resource
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import papermill
from nbformat import NotebookNode

from chapters import ROOT, current, data_of, executed, key, seal, source, xla_flags


def execute(slug: str, scale: str, seed: int, parameters: dict) -> Path:
    """Execute a chapter and put its notebook, stamped with its key, where it belongs.

    All that a run leaves before its end lies in one folder, named by its key. The folder is locked:
    a run that was started twice, or outlived a killed `make`, computes once.
    """
    out = executed(slug, scale, seed, parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    today = key(slug, scale, seed, parameters)
    kept = ROOT / "_executed" / ".unfinished" / f"{slug}-{today[:16]}"
    kept.mkdir(parents=True, exist_ok=True)
    fcntl.flock(os.open(kept, os.O_RDONLY), fcntl.LOCK_EX)  # until this process ends, however
    if current(slug, scale, seed, parameters):
        return out
    out.with_suffix(".failed.ipynb").unlink(missing_ok=True)
    resumed = any(kept.iterdir())
    os.environ["EXECUTABLE_PAPERS_RESUME"] = str(kept)
    os.environ.setdefault("XLA_FLAGS", xla_flags(slug, scale))
    # XLA takes memory for each result and gives it back; in large pages that costs less
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    running = kept / out.name
    start = time.monotonic()
    try:
        notebook = run_notebook(
            jupytext.read(source(slug)),
            running,
            parameters={"scale": scale, "seed": seed} | located(parameters),
            kernel_name="python3",
            cwd=ROOT / "book",
            progress_bar=False,
            request_save_on_cell_execute=False,  # nobody reads a notebook that is not done
            autosave_cell_every=0,
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
        "resumed": resumed,  # then the times are those of the last part
        "wall_seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "memory_megabytes": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)),
        "data": datasets.state(data_of(slug, scale)) if scale != "smoke" else {},
    }
    notebook.metadata["executable_papers"]["seal"] = seal(notebook)
    papermill.iorw.write_ipynb(notebook, str(running))
    os.replace(running, out)
    shutil.rmtree(kept, ignore_errors=True)
    return out


def run_notebook(*files: Any, **options: Any) -> NotebookNode:
    """papermill's, once more if the kernel did not come up.

    Two kernels that start at the same time may want the same port; one of them then ends at once.
    """
    for last in (False, False, True):
        try:
            return papermill.execute_notebook(*files, **options)
        except RuntimeError as error:
            if last or "before replying" not in str(error):
                raise


def located(parameters: dict) -> dict:
    """The same values, but the paths of files that are there, seen from ROOT, absolute."""
    named = {name: ROOT / value for name, value in parameters.items() if isinstance(value, str)}
    return parameters | {name: str(path) for name, path in named.items() if path.exists()}


def _command(slug: str, scale: str, seed: int, parameters: dict) -> str:
    words = f"make chapter CHAPTER={slug} SCALE={scale} SEED={seed}"
    pairs = (f"{name}={shlex.quote(str(value))}" for name, value in parameters.items())
    extra = " ".join(pairs)
    return f'{words} PARAMETERS="{extra}"' if extra else words


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slug")
    parser.add_argument("scale")
    parser.add_argument("seed", type=int)
    parser.add_argument("parameters", type=json.loads)
    arguments = parser.parse_args()
    execute(arguments.slug, arguments.scale, arguments.seed, arguments.parameters)
