"""Keep results of the last runs in book/recorded/: claims and series of one, times of all."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nbformat

from chapters import ROOT, code_cells, current, executed, written
from lib.scale import SCALES
from run import arguments_of, stop

RECORDED = ROOT / "book" / "recorded"
TIMES = ("wall_seconds", "cpu_seconds", "memory_megabytes", "hardware", "date", "commit")


def record(path: Path, slug: str, only: list[str]) -> None:
    """Write a run's claims (`only` these ids; all if empty) and its series, with provenance."""
    done = nbformat.read(path, 4)
    facts = done.metadata.executable_papers
    file = RECORDED / f"{slug}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    claims = {c["id"]: c for c in kept.get("claims", [])}
    runs = kept.get("runs", {})
    for cell in code_cells(done):
        for output in cell.outputs:
            facts_of_output = output.get("metadata", {})
            for claim in facts_of_output.get("claims", []):
                if not only or claim["id"] in only:
                    claims[claim["id"]] = claim | {"provenance": facts}
            for name, series in facts_of_output.get("recorded_runs", {}).items():
                runs[name] = series | {"provenance": facts}
    write(file, {"claims": list(claims.values()), "runs": runs})


def times() -> None:
    """Write how long each chapter took at each scale, from the notebooks that are here.

    A run that took up an interrupted one did not compute everything itself: its times are not kept.
    """
    file = RECORDED / "times.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for slug in written():
        for scale in SCALES:
            path = executed(slug, scale)
            if path.exists() and not current(slug, scale):
                print(f"{slug} ({scale}) is not today's notebook: its times are not kept")
            elif path.exists():
                facts = nbformat.read(path, 4).metadata.executable_papers
                if facts["resumed"]:
                    print(f"{slug} ({scale}) took up an interrupted run: its times are not kept")
                    continue
                known.setdefault(slug, {})[scale] = {name: facts[name] for name in TIMES}
    write(file, known)


def write(file: Path, content: dict) -> None:
    file.parent.mkdir(exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True)
    file.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chapter", help="record this chapter; times of all if left out")
    parser.add_argument("--scale", default="paper")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="")
    parser.add_argument("--claims", default="", help="ids to keep; all if empty")
    wanted = parser.parse_args()
    if wanted.chapter:
        extra, *others = arguments_of(wanted.parameters)
        if others:
            stop("a sweep cannot be recorded: give each parameter one value")
        path = executed(wanted.chapter, wanted.scale, wanted.seed, extra)
        record(path, wanted.chapter, wanted.claims.split())
    else:
        times()
