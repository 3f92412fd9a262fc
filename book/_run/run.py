"""What `make book` and `make chapter` show while Snakemake runs chapters."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import joblib
import nbformat

from chapters import (
    ROOT,
    code_cells,
    current,
    data_of,
    executed,
    parameters_of,
    written,
)
from lib.scale import SCALES
from lib.wording import NOT_TESTED, clock, interval, judged, typeset

LOG = ROOT / "_executed" / "snakemake.log"


def main() -> int:
    """Check the request, fetch data, run what is not today's, and say how it went."""
    wanted = arguments()
    prepare_environment()
    if wanted.scale != "smoke" and not fetch_data(wanted.chapters, wanted.scale):
        return 1
    os.environ["EXECUTABLE_PAPERS_OFFLINE"] = "1"  # what is at hand is part of the key from now on
    runs = [
        (slug, wanted.scale, seed, extra)
        for slug in wanted.chapters
        for seed in wanted.seeds
        for extra in wanted.parameters
    ]
    todo = {run_name(run): run for run in runs if not current(*run)}
    for run in todo.values():
        executed(*run).unlink(missing_ok=True)
    failed = snakemake(wanted.profile, todo) if todo else []
    if not todo:
        print(f"{len(runs)} of {len(runs)} chapter runs are up to date ({wanted.scale})")
    if wanted.show:
        for run in runs:
            show(run)
            compare(run)
        for slug in wanted.chapters:
            tally(slug, [executed(*run) for run in runs if run[0] == slug])
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The request, checked; a mistake is one line that says what was wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="laptop")
    parser.add_argument("--chapters", default="", help="slugs; all that are written if empty")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--parameters", default="", help="name=value name=value ...")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--show", action="store_true", help="print the claims of each run")
    wanted = parser.parse_args()
    if wanted.show and not wanted.chapters.split():
        stop(f"CHAPTER= must say which chapter: use one of {', '.join(written())}")
    wanted.chapters = wanted.chapters.split() or written()
    unknown = [slug for slug in wanted.chapters if slug not in written()]
    if unknown:
        stop(f"CHAPTER={' '.join(unknown)} is not known: {one_of(unknown[0], written())}")
    if wanted.scale not in SCALES:
        stop(f"SCALE={wanted.scale} is not known: {one_of(wanted.scale, SCALES)}")
    if not all(seed.isdecimal() for seed in wanted.seeds.split()) or not wanted.seeds.split():
        wants = "whole numbers, 0 or more, such as SEED=3 or, of a sweep, SEEDS='0 1 2'"
        stop(f"SEED or SEEDS={wanted.seeds!r} must be {wants}")
    wanted.seeds = [int(seed) for seed in wanted.seeds.split()]
    wanted.parameters = arguments_of(wanted.parameters)
    for slug in wanted.chapters if wanted.parameters != [{}] else []:
        known = parameters_of(slug) - {"scale", "seed"}  # these are SCALE= and SEED=
        unknown = [name for name in wanted.parameters[0] if name not in known]
        if unknown:
            say = one_of(unknown[0], sorted(known)) + "; scale and seed are SCALE= and SEED="
            stop(f"PARAMETERS: {unknown[0]} is no parameter of {slug}: {say}")
    known = sorted(p.name for p in (ROOT / "profiles").iterdir())
    if wanted.profile not in known:
        stop(f"PROFILE={wanted.profile} is not known: {one_of(wanted.profile, known)}")
    return wanted


def one_of(word: str, known: Sequence[str]) -> str:
    """What to use instead of a word that is not known; what was meant first, if that is near."""
    if not known:
        return "it has none"
    near = difflib.get_close_matches(word, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}use one of {', '.join(known)}"


def arguments_of(parameters: str) -> list[dict]:
    """The sets of values that "name=value name=value,value" asks for: commas make a sweep.

    A value with a space stands in single quotes, as in a shell.
    """
    try:
        pairs = [word.partition("=") for word in shlex.split(parameters)]
    except ValueError as error:
        stop(f"PARAMETERS={parameters!r} cannot be read ({error}): write name='a value'")
    if not all(name and values for name, _, values in pairs):
        stop(f"PARAMETERS={parameters!r} must read name=value, such as cnn_target=0.99")
    sets = [{}]
    for name, _, values in pairs:
        sets = [s | {name: value_of(value)} for s in sets for value in values.split(",")]
    return sets


def value_of(text: str) -> int | float | bool | None | str:
    """A number, True, False or None as Python writes it; anything else is text."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if value is None or isinstance(value, int | float | str) else text


def stop(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(2)


def prepare_environment() -> None:
    """What every chapter's process inherits; it runs inside book/, so that paths are absolute."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    folder = os.environ.get("EXECUTABLE_PAPERS_DATA")
    if folder:
        os.environ["EXECUTABLE_PAPERS_DATA"] = str(Path(folder).expanduser().absolute())


def fetch_data(slugs: list[str], scale: str) -> bool:
    """Try to have the real data of these chapters at hand; say what is missing."""
    from lib import datasets

    for name in sorted({name for slug in slugs for name in data_of(slug, scale)}):
        try:
            datasets.fetch(name)
        except datasets.DatasetUnavailable as error:
            if scale == "paper":
                print(f"scale paper needs real data. {error}", file=sys.stderr)
                return False
            print(f"FALLBACK DATA: no {name}; its chapters run on embedded data. {error}")
        except (datasets.ChecksumError, ValueError) as error:
            print(error, file=sys.stderr)
            return False
    return True


def run_name(run: tuple) -> str:
    slug, _, seed, extra = run
    words = [slug] + ([f"seed {seed}"] if seed else []) + [f"{k}={v}" for k, v in extra.items()]
    return ", ".join(words)


def expected_seconds(run: tuple) -> float | None:
    """How long this run took before, here or where the book's times were recorded."""
    bench = executed(*run).with_suffix(".tsv")
    lines = bench.read_text().splitlines() if bench.exists() else []
    if len(lines) > 1:
        head, values = (line.split("\t") for line in lines[:2])
        return float(values[head.index("s")])
    times = ROOT / "book" / "recorded" / "times.json"
    known = json.loads(times.read_text(encoding="utf-8")) if times.exists() else {}
    return known.get(run[0], {}).get(run[1], {}).get("wall_seconds")


def snakemake(profile: str, todo: dict[str, tuple]) -> list[str]:
    """Run what is to do, showing progress; return the names of the runs that failed."""
    expected = {name: expected_seconds(run) for name, run in todo.items()}
    for run in todo.values():
        for old in (".log", ".failed.ipynb"):
            executed(*run).with_suffix(old).unlink(missing_ok=True)
    settings = LOG.parent / ".unfinished" / f"runs-{os.getpid()}.json"  # two makes at once: two
    settings.parent.mkdir(parents=True, exist_ok=True)
    for left in settings.parent.glob("runs-*.json"):  # of a run that was killed
        if not Path(f"/proc/{left.stem.removeprefix('runs-')}").exists() and Path("/proc").exists():
            left.unlink()
    # On two or three cores two chapters go at once: alone, one would leave a core idle at times
    cores = joblib.cpu_count()  # what a container may use, which Snakemake does not ask
    threads = 1 if profile == "laptop" and cores < 4 else 2
    settings.write_text(json.dumps({"runs": list(todo.values()), "threads": threads}))
    command = [sys.executable, "-m", "snakemake", "--profile", f"profiles/{profile}"]
    command += ["--configfile", settings.relative_to(ROOT).as_posix()]
    if profile == "laptop":
        command += ["--cores", str(min(cores, 2) if threads == 1 else cores)]
    # The longer half first: a long one that comes last leaves a core idle
    longest = sorted(todo, key=lambda name: expected[name] or 0, reverse=True)[: len(todo) // 2]
    files = [executed(*todo[name]).relative_to(ROOT).as_posix() for name in longest]
    command += ["--prioritize", *files] if files else []
    start = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT may come in ignored
        signal.signal(number, signal.default_int_handler)
    with LOG.open("w", encoding="utf-8") as log:
        engine = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            watch(engine, todo, expected)
        except KeyboardInterrupt:
            halt(engine)
            print("\nstopped; the next run goes on after the last finished experiment")
            raise SystemExit(130) from None
        finally:
            settings.unlink()
    failed = [name for name, run in todo.items() if not executed(*run).exists()]
    for name in failed:
        explain(name, executed(*todo[name]))
    if engine.returncode and not failed:
        print(f"Snakemake failed, see {LOG.relative_to(ROOT)}", file=sys.stderr)
        failed = ["snakemake"]
    done = len(todo) - len(failed)
    print(f"{done} of {len(todo)} chapter runs done in {clock(time.monotonic() - start)}")
    return failed


def halt(engine: subprocess.Popen) -> None:
    """Stop Snakemake and its jobs; by itself it would wait for them."""
    os.killpg(engine.pid, signal.SIGINT)
    try:
        engine.wait(timeout=15)
    except subprocess.TimeoutExpired:  # it ignores the signal, as what a script starts may do
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()


def watch(engine: subprocess.Popen, todo: dict[str, tuple], expected: dict) -> None:
    """Say which run has started, how long it takes and how long it should, until all are done."""
    started: dict[str, float] = {}
    ended: set[str] = set()
    said = time.monotonic()
    while True:
        over = engine.poll() is not None
        for name, run in todo.items():
            path = executed(*run)
            if name not in started and path.with_suffix(".log").exists():
                started[name] = time.monotonic()
                about = f", about {clock(expected[name])}" if expected[name] else ""
                say(f"[{len(started)}/{len(todo)}] {name}: started ({run[1]}{about})")
            if name in started and name not in ended and path.exists():
                ended.add(name)
                say(f"[{len(ended)}/{len(todo)}] {name}: done in {lasted(started[name])}")
        pause = 1 if sys.stdout.isatty() else 30
        if not over and time.monotonic() - said >= pause:
            said = time.monotonic()
            lines = [
                f"{name} {lasted(started[name])}"
                + (f" of about {clock(expected[name])}" if expected[name] else "")
                for name in started
                if name not in ended
            ]
            if lines:
                say("    " + "; ".join(lines), passing=True)
        if over:
            return
        time.sleep(0.5)


def say(text: str, passing: bool = False) -> None:
    """A line; on a terminal a passing one is overwritten by the next."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="" if passing else "\n", flush=True)
    else:
        print(text, flush=True)


def explain(name: str, path: Path) -> None:
    """Name the logs of a failed run, and the last lines of what went wrong."""
    log = path.with_suffix(".log")
    tail = (
        log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:] if log.exists() else []
    )
    reason = reason_of(path)
    if not tail:  # it did not come to run: Snakemake or the cluster refused, or lost it
        log = LOG
        tail = [] if reason else log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
    print(f"{name} FAILED. Log: {log.relative_to(ROOT)}", file=sys.stderr)
    if reason:
        print(f"    {reason}", file=sys.stderr)
    if path.with_suffix(".failed.ipynb").exists():
        kept = path.with_suffix(".failed.ipynb").relative_to(ROOT)
        print(f"The notebook as far as it came: {kept}", file=sys.stderr)
    print("\n".join(f"    {line}" for line in tail), file=sys.stderr)


def reason_of(path: Path) -> str:
    """What a cluster says of a failed job: refused, out of memory, out of time; else nothing."""
    for error in LOG.read_text(encoding="utf-8", errors="replace").split("Error in rule")[1:]:
        if f"output: {path.relative_to(ROOT).as_posix()}\n" in error:
            line = error.partition("message: ")[2].partition("\n")[0]
            return "" if line == "None" else line.partition("Detailed failure reason")[0].strip()
    return ""


def show(run: tuple) -> None:
    """Print the claims of a run with their numbers, and where its notebook lies."""
    path = executed(*run)
    if not path.exists():
        return
    print(f"\n{run_name(run)} ({run[1]}): {path.relative_to(ROOT)}")
    for cell in code_cells(nbformat.read(path, 4)):
        if "claims" in cell.metadata.get("tags", []):
            for output in (output for output in cell.outputs if "data" in output):
                claims = output.get("metadata", {}).get("claims")
                print(told(claims) if claims else output.data["text/plain"])


def told(claims: list[dict]) -> str:
    """A line for each claim, and one below it for each of its numbers."""
    lines, width = [], max(len(claim["id"]) for claim in claims)
    for claim in claims:
        lines.append(f"{claim['id']:<{width}}  {claim['verdict']}  {claim['sentence']}")
        for test in claim["tests"] if claim["verdict"] != NOT_TESTED else []:
            bounds = test["low"], test["high"]
            paper = f", paper {test['paper']}" if test["paper"] else ""
            sign = {None: "–", True: "✓", False: "✗"}[test["holds"]]
            ours = "not measured" if test["ours"] is None else judged(test["ours"], *bounds)
            ours += f" (accepted {interval(*bounds)}{paper})"
            lines.append(f"{'':<{width}}  {sign} {typeset(test['statistic'])}: {ours}")
    return "\n".join(lines)


def compare(run: tuple) -> None:
    """Print which verdicts are not those of seed 0 and of the parameters as the chapter has them.

    Only if that run is here, and today's.
    """
    usual = (run[0], run[1], 0, {})
    if run == usual or not executed(*run).exists():
        return
    if not current(*usual):
        command = f"make chapter CHAPTER={run[0]} SCALE={run[1]}"
        print(f"To compare with seed 0 and no PARAMETERS: {command}, then this again")
        return
    before, now = (verdicts_of(executed(*one)) for one in (usual, run))
    moved = [name for name in now if now[name] != before.get(name)]
    told = ", ".join(f"{name} {before.get(name)} → {now[name]}" for name in moved)
    print(f"Compared with seed 0 and no PARAMETERS: {told or 'no verdict differs'}")


def verdicts_of(path: Path) -> dict[str, str]:
    """The verdict of each claim of an executed notebook."""
    outputs = [out for cell in code_cells(nbformat.read(path, 4)) for out in cell.outputs]
    claims = (c for out in outputs for c in out.get("metadata", {}).get("claims", []))
    return {claim["id"]: claim["verdict"] for claim in claims}


def tally(slug: str, paths: list[Path]) -> None:
    """Print how many runs of a sweep gave which verdict, claim by claim."""
    done = [path for path in paths if path.exists()]
    verdicts: dict[str, Counter] = {}
    for path in done if len(paths) > 1 else []:
        for name, verdict in verdicts_of(path).items():
            verdicts.setdefault(name, Counter())[verdict] += 1
    if verdicts:
        print(f"\n{slug}: verdicts over {len(done)} of {len(paths)} runs")
        width = max(map(len, verdicts))
        for name, counts in verdicts.items():
            print(f"{name:<{width}}  {', '.join(f'{v} {n}' for v, n in counts.most_common())}")


def lasted(since: float) -> str:
    return clock(time.monotonic() - since)


if __name__ == "__main__":
    raise SystemExit(main())
