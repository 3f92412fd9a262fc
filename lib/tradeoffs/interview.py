"""Ask a subject the same questions many times over, record what it says, and count its choices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from lib.tradeoffs import cache, replies
from lib.tradeoffs.cache import Setting
from lib.tradeoffs.counts import Condition, Counts, N, tabulate
from lib.tradeoffs.game import Trial, render
from lib.tradeoffs.replies import CATEGORIES, Reply, parse, tally
from lib.tradeoffs.subjects import Subject

MODES = ("replay", "record", "refresh")
LEVELS = 11  # 0 to 10; the qualitative scale has 1 to 8


class MissingReplies(LookupError):
    """A recording does not have all replies; `missing` says how many it lacks."""

    def __init__(self, message: str, missing: int):
        super().__init__(message)
        self.missing = missing


class Record(NamedTuple):
    """One reply to one question; `sample_index` counts the replies to the same question from 0."""

    trial: Trial
    sample_index: int
    reply: Reply
    category: str  # one of replies.CATEGORIES


class Categories(NamedTuple):
    """How many replies of each condition and level, 0 to 10, fall into each of `CATEGORIES`."""

    conditions: tuple[Condition, ...]
    tally: Integer[np.ndarray, "c 11 6"]


class Interview(NamedTuple):
    """What a subject said. `missing` replies were not asked for, as a limit was reached."""

    subject: str
    records: tuple[Record, ...]
    missing: int = 0

    def only(self, **fields: object) -> Interview:
        """The records whose trials have these fields, such as clause="neutral".

        Raises ValueError if there are none.
        """
        kept = tuple(
            record
            for record in self.records
            if all(getattr(record.trial, name) == value for name, value in fields.items())
        )
        if not kept:
            raise ValueError(f"no record has {fields}")
        return Interview(self.subject, kept)

    @property
    def categories(self) -> Categories:
        """The table of what kinds of replies came; wordings and orders are put together.

        Raises ValueError if trials differ in what they ask for: clause, points, person, incentive.
        """
        for name in ("clause", "points", "person", "incentive"):
            values = {getattr(record.trial, name) for record in self.records}
            if len(values) > 1:
                one = sorted(map(repr, values))[0]
                raise ValueError(
                    f"the records differ in {name}, and must not be added up: take one with "
                    f".only({name}={one})"
                )
        table: dict[Condition, list[list[str]]] = {}
        for trial, _, _, category in self.records:
            condition = Condition(self.subject, trial.experiment, trial.scale)
            rows = table.setdefault(condition, [[] for _ in range(LEVELS)])
            rows[trial.level].append(category)
        tallies = [[tally(row) for row in rows] for rows in table.values()]
        shape = (len(table), LEVELS, len(CATEGORIES))
        return Categories(tuple(table), np.array(tallies, np.int64).reshape(shape))

    def counts(self, denominator: str = "choices") -> Counts:
        """How often 3 was chosen, of the choices (as the paper counts) or of "all" replies.

        Level 0, which the paper did not ask, has no place here: see `categories`.

        Raises ValueError as `categories` does, or for another denominator.
        """
        conditions, tallies = self.categories
        valid = replies.valid_replies(tallies, denominator)
        chose = tallies[..., CATEGORIES.index("3")]
        return tabulate(
            (condition, level, int(chose[c, level]), int(valid[c, level]))
            for c, condition in enumerate(conditions)
            for level in range(1, len(condition.labels) + 1)
        )

    @property
    def ambiguous(self) -> list[Record]:
        """The replies that a person has to read: they name several numbers, or none clearly."""
        return [record for record in self.records if record.category == "ambiguous"]


def interview(
    subject: Subject,
    trials: Iterable[Trial],
    *,
    n: int = N,
    temperature: float = 1.0,
    max_tokens: int = 1024,
    seed: int = 0,
    path: str | Path | None = None,
    mode: str = "replay",
    max_requests: int | None = None,
    max_usd: float | None = None,
    price: tuple[float, float] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Interview:
    """`n` replies of a subject to each of these trials.

    "replay" only reads what is recorded in `path`, and asks nobody. "record" asks for what is
    missing there, and writes each reply down before it goes on: after an interruption of any kind,
    the same call goes on where it was. Without a path it keeps nothing, which suits a subject in
    this process. "refresh" first renames the old recording.

    It stops early, with `missing` > 0, after `max_requests` requests, or before one that could
    bring the cost of this call over `max_usd`, at `price` (USD per million tokens of prompts and of
    replies). Thinking models need `max_tokens` of the size of the default. `progress(done, of)` is
    called after each request. Trials with the same prompt share their replies: without a clause,
    all levels are one question.

    Raises ValueError for a bad argument, MissingReplies, and what the subject raises; what has come
    by then is in the recording.
    """
    _check(n, max_tokens, mode, max_usd, price)
    path = path or getattr(subject, "path", None)
    setting = Setting(temperature, max_tokens, seed)
    questions = _questions(subject.name, trials, n, setting)
    if mode == "replay":
        if path is None:
            raise ValueError(
                "mode='replay' needs path=..., a recording; a subject in this process is asked "
                "with mode='record'"
            )
        entries = cache.load(path)
        _complain(subject, questions, entries, n, setting, Path(path))
    else:
        if mode == "refresh" and path is not None:
            cache.set_aside(path)
        budget = _Budget(max_requests, max_usd, price)
        recorder = _Memory() if path is None else cache.Recorder(path)
        with recorder:
            _ask(subject, questions, setting, recorder, budget, progress)
            entries = recorder.entries
    records = []
    for trial, question in questions.items():
        for index, key in enumerate(question.keys):
            if key in entries:
                reply = cache.reply_of(entries[key])
                records.append(Record(trial, index, reply, parse(reply)))
    return Interview(subject.name, tuple(records), n * len(questions) - len(records))


def recorded(path: str | Path, *, model: str | None = None) -> Interview:
    """Everything that a recording holds, without saying which trials that should be.

    Raises ValueError if it holds nothing, several settings, or several models and no `model`.
    """
    lines = [line for line in cache.load(path).values() if model in (None, line["model"])]
    models = {line["model"] for line in lines}
    if len(models) != 1:
        raise ValueError(
            f"{path} has replies of {', '.join(sorted(models)) or 'nobody'}: name one as model"
        )
    for name in Setting._fields:
        values = {line[name] for line in lines}
        if len(values) > 1:
            raise ValueError(
                f"{path} has replies with {name} = {', '.join(map(str, sorted(values)))}, which "
                f"must not be mixed: use interview(Replay({str(path)!r}), trials, {name}=...)"
            )
    records = []
    for line in lines:
        reply = cache.reply_of(line)
        records.append(Record(cache.trial_of(line), line["sample_index"], reply, parse(reply)))
    return Interview(models.pop(), tuple(records))


def store(interview: Interview, path: str | Path, setting: Setting) -> None:
    """Add replies that were had in another way to a recording, as if `interview` had asked."""
    lines = []
    for trial, index, reply, _ in interview.records:
        key = cache.key(interview.subject, render(trial), setting, index)
        lines.append(cache.line(key, interview.subject, trial, index, setting, reply))
    with cache.Recorder(path) as recorder:
        recorder.append(lines)


class Plan(NamedTuple):
    """What an interview would send. Pairs are the least and the most.

    One request brings all replies to a question from some servers, and a single one from others. A
    token is taken to be 4 characters of a prompt. A reply has 1 token at least, `max_tokens` at
    most; models that think come nearer to the most.
    """

    replies: int
    recorded: int
    requests: tuple[int, int]
    prompt_tokens: tuple[int, int]
    reply_tokens: tuple[int, int]
    usd: tuple[float, float] | None  # None without a price


def plan(
    subject: Subject,
    trials: Iterable[Trial],
    *,
    n: int = N,
    temperature: float = 1.0,
    max_tokens: int = 1024,
    seed: int = 0,
    path: str | Path | None = None,
    mode: str = "record",
    price: tuple[float, float] | None = None,
) -> Plan:
    """How many requests, tokens and US dollars the same call of `interview` would take.

    Asks nobody. Raises ValueError for a bad argument.
    """
    _check(n, max_tokens, mode, None, price)
    questions = _questions(subject.name, trials, n, Setting(temperature, max_tokens, seed))
    entries = cache.load(path) if path is not None and mode != "refresh" else {}
    distinct = {question.keys: question for question in questions.values()}.values()
    lacking = [(q, sum(key not in entries for key in q.keys)) for q in distinct]
    lacking = [(q, missing) for q, missing in lacking if missing and mode != "replay"]
    size = [math.ceil(_characters(q.trial) / 4) for q, _ in lacking]
    most = sum(missing for _, missing in lacking)
    prompts = (sum(size), sum(s * missing for s, (_, missing) in zip(size, lacking, strict=True)))
    tokens = (most, most * max_tokens)
    usd = price and tuple(
        (p * price[0] + t * price[1]) / 1e6 for p, t in zip(prompts, tokens, strict=True)
    )
    total = sum(len(q.keys) for q in distinct)
    have = sum(key in entries for q in distinct for key in q.keys)
    return Plan(total, have, (len(lacking), most), prompts, tokens, usd)


class _Question(NamedTuple):
    trial: Trial
    keys: tuple[str, ...]  # of reply 0, 1, ...

    @property
    def seed(self) -> int:
        """That of reply 0; the replies to other questions have seeds of their own."""
        return int(self.keys[0][:7], 16)


class _Job(NamedTuple):
    """Ask for these replies to a question: consecutive ones, whose seeds count up."""

    question: _Question
    indices: range


class _Memory:
    """Stands in for a recorder where nothing is to be kept."""

    def __init__(self):
        self.entries: dict[str, dict] = {}

    def append(self, lines: Sequence[dict]) -> None:
        self.entries.update((line["key"], line) for line in lines)

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_) -> None:
        pass


class _Budget:
    """How many requests, and US dollars, may still be spent; requests under way are set apart."""

    def __init__(
        self,
        max_requests: int | None,
        max_usd: float | None,
        price: tuple[float, float] | None,
    ):
        self.requests = math.inf if max_requests is None else max_requests
        self.usd = math.inf if max_usd is None else max_usd
        self.price = price or (0.0, 0.0)

    def affordable(self, job: _Job, max_tokens: int) -> int:
        """How many replies of a job can be asked for in one more request."""
        if self.requests < 1:
            return 0
        left = self.usd - self.worst(job.question.trial, 0, max_tokens)
        each = self.price[1] * max_tokens / 1e6
        if left < each or left < 0:
            return 0
        return len(job.indices) if each == 0 or left == math.inf else int(left / each)

    def worst(self, trial: Trial, n: int, max_tokens: int) -> float:
        """No token is shorter than a byte; each message has a few more tokens around it."""
        prompt = _characters(trial) + 16 * len(render(trial))
        return (self.price[0] * prompt + self.price[1] * max_tokens * n) / 1e6

    def spend(self, usd: float) -> None:
        self.requests -= 1
        self.usd -= usd

    def settle(self, reserved: float, usage: dict[str, int] | None) -> None:
        """Give back what a request cost less than was set apart for it, if its server says."""
        if usage is not None:
            tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
            self.usd += reserved - sum(t * p for t, p in zip(tokens, self.price, strict=True)) / 1e6


def _check(
    n: int,
    max_tokens: int,
    mode: str,
    max_usd: float | None,
    price: tuple[float, float] | None,
) -> None:
    if n < 1 or max_tokens < 1:
        raise ValueError(f"n={n} and max_tokens={max_tokens} must be at least 1")
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known: use one of {', '.join(map(repr, MODES))}")
    if max_usd is not None and price is None:
        raise ValueError(
            f"max_usd={max_usd} needs price=(USD per million prompt tokens, per million reply "
            "tokens): look it up on your provider's page"
        )


def _characters(trial: Trial) -> int:
    return sum(len(message["content"].encode()) for message in render(trial))


def _questions(
    name: str, trials: Iterable[Trial], n: int, setting: Setting
) -> dict[Trial, _Question]:
    questions = {}
    for trial in trials:
        messages = render(trial)
        keys = tuple(cache.key(name, messages, setting, index) for index in range(n))
        questions[trial] = _Question(trial, keys)
    if not questions:
        raise ValueError("trials is empty: use battery()")
    return questions


def _complain(
    subject: Subject,
    questions: dict[Trial, _Question],
    entries: dict[str, dict],
    n: int,
    setting: Setting,
    path: Path,
) -> None:
    """Raise MissingReplies if there are any."""
    keys = [key for question in questions.values() for key in question.keys]
    missing = sum(key not in entries for key in keys)
    if missing:
        from lib.tradeoffs.run import record_command  # which imports this module

        command = record_command(subject, list(questions), n, setting, path)
        raise MissingReplies(
            f"{missing} of {len(keys)} replies of {subject.name} are missing in {path}: record "
            f"them with  {command}",
            missing,
        )


def _jobs(questions: Iterable[_Question], entries: dict[str, dict]) -> Iterator[_Job]:
    """What is missing, in runs of consecutive replies; the same question only once."""
    for keys, question in {question.keys: question for question in questions}.items():
        start = None
        for index in range(len(keys) + 1):
            missing = index < len(keys) and keys[index] not in entries
            if missing and start is None:
                start = index
            elif not missing and start is not None:
                yield _Job(question, range(start, index))
                start = None


def _ask(
    subject: Subject,
    questions: dict[Trial, _Question],
    setting: Setting,
    recorder: cache.Recorder | _Memory,
    budget: _Budget,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Ask for all that is missing; only this thread writes."""
    wanted = {key for question in questions.values() for key in question.keys}
    queue = deque(_jobs(questions.values(), recorder.entries))
    running: dict[Future, tuple[_Job, float]] = {}

    def request(job: _Job) -> list[Reply]:
        return subject.sample(
            job.question.trial,
            len(job.indices),
            temperature=setting.temperature,
            max_tokens=setting.max_tokens,
            seed=job.question.seed + job.indices.start,
        )

    def keep(future: Future) -> None:
        job, reserved = running[future]
        answers = future.result()
        if not 1 <= len(answers) <= len(job.indices):
            raise ValueError(
                f"{subject.name} gave {len(answers)} replies when asked for {len(job.indices)}"
            )
        question, got = job.question, len(answers)
        recorder.append(
            [
                cache.line(question.keys[i], subject.name, question.trial, i, setting, answer)
                for i, answer in zip(job.indices[:got], answers, strict=True)
            ]
        )
        budget.settle(reserved, answers[0].usage)
        rest = job.indices[got:]  # as many at a time as this server gives
        queue.extendleft(
            _Job(question, rest[i : i + got]) for i in reversed(range(0, len(rest), got))
        )
        del running[future]  # last, or an interruption could lose what is not yet written

    at_once = getattr(subject, "concurrency", 1)
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while queue or running:
                while queue and len(running) < at_once:
                    job = queue[0]
                    affordable = budget.affordable(job, setting.max_tokens)
                    if affordable == 0:
                        break
                    queue.popleft()
                    now, later = job.indices[:affordable], job.indices[affordable:]
                    if later:
                        queue.appendleft(_Job(job.question, later))
                    job = _Job(job.question, now)
                    reserved = budget.worst(job.question.trial, len(now), setting.max_tokens)
                    budget.spend(reserved)
                    running[pool.submit(request, job)] = (job, reserved)
                if not running:
                    return  # the budget is spent
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    keep(future)
                    if progress is not None:
                        progress(len(wanted & recorder.entries.keys()), len(wanted))
        except BaseException:  # what is under way may have been paid for, so it is kept
            wait(running)
            for future in list(running):
                if future.exception() is None:
                    keep(future)
            raise
