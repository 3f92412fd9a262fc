"""Command line: put the game to a model behind any OpenAI-compatible address, and record it."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.tradeoffs import game
from lib.tradeoffs.cache import Setting
from lib.tradeoffs.counts import N
from lib.tradeoffs.game import Trial
from lib.tradeoffs.interview import Interview, Plan, interview, plan, recorded, store
from lib.tradeoffs.replies import CATEGORIES
from lib.tradeoffs.subjects import OpenAICompatible, Replay, Subject

ORDERS = ["".join(map(str, order)) for order in itertools.permutations((1, 2, 3))]
SHUFFLED = "shuffled"


def main(arguments: list[str] | None = None) -> int:
    """Record, or show what that would take; 0 = all is there, 1 = something is missing, 2 = usage.

    130 after Ctrl-C. Whatever came before an error is in the file, and the same command goes on.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.import_log:
            return _import(options)
        return _record(options)
    except (ValueError, RuntimeError, LookupError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def questions(
    *,
    experiments: Sequence[str] = game.EXPERIMENTS,
    scales: Sequence[str] = game.SCALES,
    wordings: Sequence[str] = game.WORDINGS[:1],
    clauses: Sequence[str] = game.CLAUSES[:1],
    orders: Sequence[str] = ("123",),
    incentives: Sequence[str | None] = (None,),
    persons: Sequence[str] = game.PERSONS[:1],
    points: Sequence[int] = (1,),
    levels_from_zero: bool = False,
    seed: int = 0,
) -> list[Trial]:
    """The trials of the paper in every combination of these variants.

    In order "shuffled" each trial lists its options in a random order of its own, drawn with
    `seed`. `levels_from_zero` adds level 0 of the quantitative scale.

    Raises ValueError for a variant that does not exist.
    """
    for order in orders:
        if order not in [*ORDERS, SHUFFLED]:
            raise ValueError(f"order={order!r} is not known: use {', '.join(ORDERS)}, {SHUFFLED}")
    trials: list[Trial] = []
    for wording, clause, order, incentive, person, worth in itertools.product(
        wordings, clauses, orders, incentives, persons, points
    ):
        fields = dict(
            wording=wording, clause=clause, incentive=incentive, person=person, points=worth
        )
        some = game.battery(experiments, scales, **fields)
        if levels_from_zero and "quantitative" in scales:
            some += [Trial(experiment, "quantitative", 0, **fields) for experiment in experiments]
        trials += [_ordered(trial, order, seed) for trial in some]
    return trials


def record_command(
    subject: Subject, trials: Sequence[Trial], n: int, setting: Setting, path: Path
) -> str:
    """The command that records (at least) these trials; what is recorded is not asked again."""
    if not isinstance(subject, (OpenAICompatible, Replay)):
        return "the same call and mode='record'"
    wanted = set(trials)
    variants = {
        "experiments": _distinct(trials, "experiment"),
        "scales": _distinct(trials, "scale"),
        "wordings": _distinct(trials, "wording"),
        "clauses": _distinct(trials, "clause"),
        "orders": [SHUFFLED],
        "incentives": _distinct(trials, "incentive"),
        "persons": _distinct(trials, "person"),
        "points": _distinct(trials, "points"),
        "levels_from_zero": any(trial.level == 0 for trial in trials),
        "seed": setting.seed,
    }
    orders = ["".join(map(str, order)) for order in _distinct(trials, "order")]
    if len(orders) == 1 or not wanted <= set(questions(**variants)):
        variants["orders"] = orders
    words = ["python", "-m", "lib.tradeoffs.run", "--mode", "record"]
    words += ["--base-url", getattr(subject, "address", "URL")]
    words += ["--model", getattr(subject, "model", subject.name)]
    if getattr(subject, "model", subject.name) != subject.name:
        words += ["--name", subject.name]
    if getattr(subject, "key_env", "OPENAI_API_KEY") != "OPENAI_API_KEY":
        words += ["--key-env", subject.key_env]
    words += ["--out", str(path), "--n", str(n)]
    words += ["--temperature", str(setting.temperature)]
    words += ["--max-tokens", str(setting.max_tokens), "--seed", str(setting.seed)]
    for flag, name in _VARIANTS.items():
        words += [flag, *(str(value or "none") for value in variants[name])]
    if variants["levels_from_zero"]:
        words.append("--levels-from-zero")
    return shlex.join(words)


_VARIANTS = {
    "--experiments": "experiments",
    "--scales": "scales",
    "--wording": "wordings",
    "--clause": "clauses",
    "--order": "orders",
    "--incentive": "incentives",
    "--person": "persons",
    "--points": "points",
}


def _distinct(trials: Sequence[Trial], field: str) -> list:
    return list(dict.fromkeys(getattr(trial, field) for trial in trials))


def _ordered(trial: Trial, order: str, seed: int) -> Trial:
    if order == SHUFFLED:
        digest = hashlib.sha256(f"{seed} {trial}".encode()).digest()
        order = ORDERS[int.from_bytes(digest[:8], "big") % len(ORDERS)]
    fields = {**vars(trial), "order": tuple(map(int, order))}
    return Trial(**fields)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.tradeoffs.run", description=__doc__)
    where = parser.add_argument_group("whom to ask")
    where.add_argument("--base-url", metavar="URL", help="such as http://localhost:11434/v1")
    where.add_argument("--model", help="as the server calls it")
    where.add_argument("--name", help="as the tables call it (default: as the server does)")
    where.add_argument(
        "--key-env", default="OPENAI_API_KEY", metavar="NAME", help="variable that holds the key"
    )
    where.add_argument("--requests-per-minute", type=float, metavar="N")
    where.add_argument("--concurrency", type=int, default=4, metavar="N")
    what = parser.add_argument_group("what to ask (several values: every combination)")
    choices = {
        "--experiments": (game.EXPERIMENTS, game.EXPERIMENTS),
        "--scales": (game.SCALES, game.SCALES),
        "--wording": (game.WORDINGS + game.SHORT, game.WORDINGS[:1]),
        "--clause": (game.CLAUSES, game.CLAUSES[:1]),
        "--order": ((*ORDERS, SHUFFLED), ("123",)),
        "--incentive": (("none", *filter(None, game.INCENTIVES)), ("none",)),
        "--person": (game.PERSONS, game.PERSONS[:1]),
    }
    for flag, (known, default) in choices.items():
        what.add_argument(
            flag, dest=_VARIANTS[flag], nargs="+", choices=known, default=list(default)
        )
    what.add_argument("--points", nargs="+", type=int, default=[1], help="points for each step")
    what.add_argument("--levels-from-zero", action="store_true")
    how = parser.add_argument_group("how")
    how.add_argument("--n", type=int, default=N, help=f"replies to each prompt (default {N})")
    how.add_argument("--temperature", type=float, default=1.0)
    how.add_argument("--max-tokens", type=int, default=1024)
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--out", type=Path, metavar="FILE", help="default: runs/MODEL.jsonl")
    how.add_argument(
        "--mode",
        choices=("record", "refresh", "replay"),
        default="record",
        help="ask for what is missing; ask anew; ask nothing, only show",
    )
    how.add_argument("--dry-run", action="store_true", help="show what would be sent, and stop")
    how.add_argument("--max-requests", type=int, metavar="N")
    how.add_argument("--max-usd", type=float, metavar="USD", help="needs --price")
    how.add_argument(
        "--price", nargs=2, type=float, metavar=("IN", "OUT"), help="USD per million tokens"
    )
    how.add_argument(
        "--import", dest="import_log", metavar="LOG", help="take replies from an Inspect log"
    )
    return parser


def _record(options: argparse.Namespace) -> int:
    if not options.base_url or not options.model:
        raise ValueError("--base-url and --model are needed, see --help")
    subject = OpenAICompatible(
        options.base_url,
        options.model,
        key_env=options.key_env,
        name=options.name,
        requests_per_minute=options.requests_per_minute,
        concurrency=options.concurrency,
    )
    path = options.out or _default_path(subject.name)
    variants = {name: getattr(options, name) for name in _VARIANTS.values()}
    variants["incentives"] = [None if i == "none" else i for i in variants["incentives"]]
    trials = questions(**variants, levels_from_zero=options.levels_from_zero, seed=options.seed)
    price = tuple(options.price) if options.price else None
    common = {
        "n": options.n,
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "seed": options.seed,
        "path": path,
        "mode": options.mode,
        "price": price,
    }
    _show_plan(plan(subject, trials, **common), subject, path)
    if options.dry_run:
        return 0
    told = interview(
        subject,
        trials,
        **common,
        max_requests=options.max_requests,
        max_usd=options.max_usd,
        progress=_show_progress,
    )
    _show_table(told, path)
    if told.missing:
        print(f"{told.missing} replies are missing: a limit was reached; the same command goes on")
    return int(told.missing > 0)


def _import(options: argparse.Namespace) -> int:
    from lib.tradeoffs import inspect_task  # needs inspect-ai

    told, setting = inspect_task.from_log(options.import_log)
    path = options.out or _default_path(told.subject)
    store(told, path, setting)
    _show_table(recorded(path, model=told.subject), path)
    return 0


def _default_path(name: str) -> Path:
    plain = "".join(c if c.isalnum() or c in "-._" else "-" for c in name)
    return Path("runs") / f"{plain}.jsonl"


def _show_plan(plan: Plan, subject: OpenAICompatible, path: Path) -> None:
    def span(pair: tuple, form: str = ",") -> str:
        least, most = (format(number, form) for number in pair)
        return least if least == most else f"{least} to {most}"

    print(f"{subject.model} at {subject.address}, recorded in {path}")
    print(f"replies:       {plan.replies:,}, of which {plan.recorded:,} are recorded")
    print(f"requests:      {span(plan.requests)}")
    print(f"prompt tokens: {span(plan.prompt_tokens)} (estimated)")
    print(f"reply tokens:  {span(plan.reply_tokens)}")
    cost = "unknown: give --price IN OUT" if plan.usd is None else f"{span(plan.usd, '.2f')} USD"
    print(f"cost:          {cost}", flush=True)


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else "\r"  # the next line, also of an error, is written over it
    print(f"{done:,} of {total:,} replies", end=end, file=sys.stderr, flush=True)


def _show_table(told: Interview, path: Path) -> None:
    """How many replies fall into each category, for each variant of the prompt and condition."""
    groups = dict.fromkeys(
        (r.trial.clause, r.trial.points, r.trial.person, r.trial.incentive) for r in told.records
    )
    print(f"\n{'':44}" + "".join(f"{category:>10}" for category in CATEGORIES))
    for group in groups:
        fields = dict(zip(("clause", "points", "person", "incentive"), group, strict=True))
        conditions, tallies = told.only(**fields).categories
        variant = " ".join(str(value) for value in group if value not in (None, "you", 1))
        for condition, row in zip(conditions, tallies.sum(1), strict=True):
            name = f"{condition.experiment} {condition.scale}, {variant}"
            print(f"{name:44}" + "".join(f"{number:>10,}" for number in row))
    if told.ambiguous:
        print(f"\n{len(told.ambiguous)} replies are ambiguous: read `.ambiguous`")
    print("\nIn the chapter: from lib.tradeoffs.interview import recorded")
    print(f"                counts = recorded({str(path)!r}).counts()")


if __name__ == "__main__":
    sys.exit(main())
