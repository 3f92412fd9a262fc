"""Processes that take turns: what all benchmarks share.

Each implementation is a process that waits for orders; the rounds take turns, so that a change of
the machine's speed meets all of them. Each peer has its own environment, made by the first run.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import psutil
from environments import ROOT, Absent, python_of

from lib import recorded

PEERS = ROOT / "benchmarks" / "peers"
RESULTS = ROOT / "benchmarks" / "results"
PATIENCE = 300  # seconds until a silent process counts as hung


class Row(NamedTuple):
    """One implementation: its name, its environment, its program with arguments."""

    name: str
    environment: str
    program: tuple[str, ...] = ()
    limit: bool = False  # a bound of the machine, not an implementation
    per: float = 1  # what a round's cost is divided by
    peer: bool = False  # somebody else's way of doing it, if in the book's environment

    @property
    def ours(self) -> bool:
        return self.environment == "book" and not self.limit and not self.peer


class Worker:
    """A process that does one round for each order."""

    def __init__(self, row: Row, folder: Path):
        """Start it; raises Absent if it cannot be installed or does not get ready."""
        python = python_of(row.environment)
        if not row.program:
            raise Absent("installs, but no program here times it")
        program, *arguments = row.program
        self.log = open(folder / f"{'-'.join(row.program)}.log", "w+", encoding="utf-8")
        self.process = psutil.Popen(
            [python, PEERS / program, folder, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env=environment(),
        )  # fmt: skip
        try:
            self.version = self._reply()["version"]
        except Absent:
            self.stop()
            raise

    def order(self, what: str) -> dict:
        """Have it do a "round", or tell its "accuracy", "digest" or "more"; Absent if it fails."""
        try:
            print(what, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # it has died: the reply below says of what
        return self._reply()

    def stop(self) -> None:
        """End it and all that it started."""
        try:
            family = self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        self.process.stdin.close()
        psutil.wait_procs([self.process], timeout=20)
        for process in [self.process, *family]:
            if process.is_running():
                process.kill()
        self.process.wait()
        self.log.close()

    def _reply(self) -> dict:
        watch = threading.Timer(PATIENCE, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        watch.cancel()
        if line:
            return json.loads(line)
        self.log.seek(0)
        said = [text.strip() for text in self.log if text.strip()] or ["it ended without a word"]
        errors = [text for text in said if re.match(r"[\w.]*(Error|Exception)\b", text)]
        raise Absent(f"fails: {(errors or said)[-1][:200]}")


def environment() -> dict[str, str]:
    """One thread each, on the processor, telling nobody."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return inherited | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NPROC": "1",  # of XLA
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": f"{PEERS}{os.pathsep}{ROOT}",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def measure(rows: list[Row], rounds: int, folder: Path, tells: str | None) -> list[dict]:
    """Let the rows take turns; return what each took, in CPU seconds divided by its `per`.

    At the end each tells its "accuracy", its "digest" or "more" about itself, or nothing. A row
    whose digest is not the first row's did other work: it has no time, and says so.
    """
    results = [
        dict(name=row.name, ours=row.ours, limit=row.limit, value=None, ratio=None, min=None,
             median=None, first=None, wall=None, accuracy=None, digest=None, more=None,
             version=None, absent=None)
        for row in rows
    ]  # fmt: skip
    workers: dict[int, Worker] = {}
    took: dict[int, list[dict]] = {i: [] for i in range(len(rows))}

    def attempt(i, act):
        try:
            return act()
        except Absent as reason:
            results[i]["absent"] = str(reason)
            if i in workers:
                workers.pop(i).stop()

    try:
        for i, row in enumerate(rows):
            if worker := attempt(i, lambda row=row: Worker(row, folder)):
                workers[i] = worker
                results[i]["version"] = worker.version
        for t in range(1 + rounds):
            progress(f"round {t} of {rounds}")
            for i, worker in list(workers.items()):
                if reply := attempt(i, lambda worker=worker: worker.order("round")):
                    took[i].append(reply)
        for i, worker in list(workers.items()):
            if tells and not rows[i].limit:
                if reply := attempt(i, lambda worker=worker: worker.order(tells)):
                    told = reply[tells]
                    results[i][tells] = round(told, 4) if isinstance(told, float) else told
    finally:
        for worker in workers.values():
            worker.stop()
    for i, result in enumerate(results):
        if result["absent"] is None:
            per = rows[i].per
            first, *later = [reply["cpu"] / per for reply in took[i]]
            result |= dict(value=min(later), min=min(later), median=statistics.median(later),
                           first=first, wall=min(r["wall"] / per for r in took[i][1:]))  # fmt: skip
        results[i] = result
    for result in results:
        if result["value"] is not None and results[0]["value"] is not None:
            result["ratio"] = result["value"] / results[0]["value"]
        if result["digest"] and result["digest"] != results[0]["digest"]:
            reason = f"does other work: it tells {result['digest']}, not {results[0]['digest']}"
            result |= dict(value=None, ratio=None, absent=reason)
    return [{k: shortened(v) for k, v in result.items()} for result in results]


def shortened(value):
    """Four significant digits are more than a timing has."""
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value


def progress(text: str) -> None:
    """One line that renews itself, where somebody looks."""
    if sys.stdout.isatty():
        print(f"\r{text:<40}", end="", flush=True)


def show(title: str, unit: str, rows: list[dict]) -> None:
    """A table for the terminal."""
    print(f"\r{title}\n{unit:>52}{'median':>10}{'ratio':>9}{'first':>10}  told")
    for row in rows:
        if row["absent"]:
            print(f"{row['name']:<42}  absent: {row['absent']}")
            continue
        cells = [f"{row[k]:.4g}" for k in ("min", "median")] + [f"{row['ratio']:.2f}"]
        more = ", ".join(f"{name} {x:.4g}" for name, x in (row.get("more") or {}).items())
        told = more or row["digest"] or row["accuracy"] or ""
        widths = zip([*cells, f"{row['first']:.4g}"], (10, 10, 9, 10), strict=True)
        print(f"{row['name']:<42}" + "".join(f"{c:>{w}}" for c, w in widths) + f"  {told}")


def keep(name: str, description: str, unit: str, data: str, rounds: int, rows: list[dict]) -> None:
    """Write the result that the book's page shows."""
    result = dict(benchmark=name, description=description, unit=unit, data=data, rounds=rounds)
    result |= recorded.provenance() | {"rows": rows}
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
