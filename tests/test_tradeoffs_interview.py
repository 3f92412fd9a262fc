"""Interviews: replies read, recorded and gone on with, against a server that misbehaves."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import stats

from lib.tradeoffs import cache, inspect_task, run
from lib.tradeoffs.counts import paper_counts
from lib.tradeoffs.game import Trial, battery, render
from lib.tradeoffs.interview import MissingReplies, interview, plan, recorded, store
from lib.tradeoffs.replies import CATEGORIES, Reply, parse
from lib.tradeoffs.subjects import (
    OpenAICompatible,
    PaperCounts,
    Replay,
    SubjectError,
    UtilityAgent,
)

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-never-to-be-seen-0123456789"
CORPUS = [
    ("2", "stop", "2"),
    ("2.", "stop", "2"),
    (" **3**\n", "stop", "3"),
    ("__1__", "stop", "1"),
    ("Option 3", "stop", "3"),
    ("２", "stop", "2"),
    ("3️⃣", "stop", "3"),
    ("我选择3。", "stop", "3"),
    ("I'd choose 2. Yes: 2.", "stop", "2"),
    ("I take 3, with pain of 8 out of 10, 3.5 times", "stop", "3"),
    ("<think>3? or 1?</think>\n2", "stop", "2"),
    ("3? or 1?</think>2", "stop", "2"),
    ("3\n\nBecause points are what", "length", "3"),
    ("If I chose 3, the points would", "length", "ambiguous"),
    ("1 has no pain, 3 has the most points.", "stop", "ambiguous"),
    ("1/2", "stop", "ambiguous"),
    ("1, 2 or 3: I will not say.", "stop", "ambiguous"),
    ("Two.", "stop", "ambiguous"),
    ("I will not take part in self-harm.", "stop", "refusal"),
    ("No one feels pain of 10, on a scale of 1-10, or of 1 to 10", "stop", "refusal"),
    ("3.5", "stop", "refusal"),
    ("23", "stop", "refusal"),
    ("about 2 out of 10", "stop", "refusal"),
    ("In 3% of cases, or 3.5%, GPT3 and the 1st", "stop", "refusal"),
    ("1,000", "stop", "refusal"),
    ("", "content_filter", "refusal"),
    ("I can't choose 3.", "content_filter", "refusal"),
    ("I cannot choose between 1 and 10.", "stop", "refusal"),
    ("between 1 and 3 I take 3", "stop", "ambiguous"),
    ("I choose two.", "stop", "ambiguous"),
    ("I cannot choose one of these.", "stop", "refusal"),
    ("3, 3, 3, 3, 3, 3", "length", "error"),
    ("2 2 2", "stop", "error"),
    ("3.3.3.3", "stop", "error"),
    ("33333", "stop", "error"),
    ("", "stop", "error"),
    ("", "length", "error"),
    ("Let me weigh the", "length", "error"),
    ("<think>3 gives the most", "stop", "error"),
]


@pytest.mark.parametrize("text, reason, wanted", CORPUS)
def test_what_a_reply_means(text, reason, wanted):
    assert parse(Reply(text, reason)) == wanted


@given(strategies.text() | strategies.text("123 .,-/of\n<think>"), strategies.booleans())
def test_only_a_digit_that_is_there_is_a_choice(text, cut):
    found = parse(Reply(text, "length" if cut else "stop"))
    assert found in CATEGORIES
    if found in ("1", "2", "3"):
        others = {"1", "2", "3"} - {found}
        assert parse(Reply(text + f"; option {others.pop()}", "stop")) in ("ambiguous", "error")


def test_real_replies_of_eight_models():
    path = Path(os.environ.get("EXECUTABLE_PAPERS_DATA", "")) / "tradeoffs" / "parser_corpus.jsonl"
    if not path.is_file():
        pytest.skip("the corpus is not on this machine")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    bare = [row for row in rows if row["text"] in ("1", "2", "3", "1.", "2.", "3.")]
    assert len(bare) == 108
    assert all(parse(Reply(row["text"], row["finish_reason"])) == row["text"][0] for row in bare)
    rest = [parse(Reply(row["text"], row["finish_reason"])) for row in rows if row not in bare]
    assert "refusal" not in rest  # one that reads the corpus finds none
    assert rest.count("ambiguous") == 4 and rest.count("error") == 1


# --- a server --------------------------------------------------------------------------------


class Server:
    """OpenAI's chat interface on this machine; `answer(body, number)` says what it does."""

    def __init__(self):
        self.answer = honest
        self.requests: list[dict] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # header and body in one packet
            disable_nagle_algorithm = True

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body["authorization"] = self.headers["Authorization"]
                with outer.lock:
                    outer.requests.append(body)
                    outer.times.append(time.monotonic())
                    number = len(outer.requests)
                status, headers, answer = outer.answer(body, number)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

            def handle(self):
                with contextlib.suppress(ConnectionError):  # a client that was killed
                    super().handle()

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=[0.02], daemon=True).start()

    def subject(self, **options) -> OpenAICompatible:
        return OpenAICompatible(self.url, "small", **{"retries": 2, **options})


def said(texts, reason="stop", prompt=100, completion=2):
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text},
            "finish_reason": reason,
        }
        for i, text in enumerate(texts)
    ]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion * len(texts),
        "total_tokens": prompt + completion * len(texts),
    }
    answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "small-2026"}
    return 200, {}, answer | {"choices": choices, "usage": usage}


def honest(body, number):
    return said([str((body["seed"] + i) % 3 + 1) for i in range(body.get("n", 1))])


def one_by_one(body, number):
    return honest(body | {"n": 1}, number)


def failing(status, message="no", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, headers, {"error": {"message": message, "type": "x", "code": None}}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def this_machine_only(monkeypatch):
    """No test may reach another machine, nor find a key."""
    connect = socket.socket.connect

    def guarded(self, address):
        assert address[0] in ("127.0.0.1", "::1", "localhost"), f"a connection to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


TRIALS = [Trial("pain", "quantitative", level) for level in range(4)]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- recording and replaying -----------------------------------------------------------------


def test_record_replay_and_one_deleted_line(server, tmp_path):
    path = tmp_path / "runs" / "small.jsonl"
    told = interview(server.subject(), TRIALS, n=10, path=path, mode="record")
    assert len(server.requests) == len(TRIALS), "one request brings all replies to a question"
    assert [body["n"] for body in server.requests] == [10] * 4
    assert all(body["top_p"] == 1 and body["max_tokens"] == 1024 for body in server.requests)
    assert {body["messages"][0]["content"] for body in server.requests} == {
        render(trial)[0]["content"] for trial in TRIALS
    }
    for subject in (server.subject(), Replay(path)):
        assert interview(subject, TRIALS, n=10, path=path) == told
    assert recorded(path).categories.tally.tolist() == told.categories.tally.tolist()
    assert Replay(path).sample(TRIALS[0], 10, temperature=1.0, max_tokens=1024, seed=0) == [
        record.reply for record in told.records[:10]
    ]
    assert len(server.requests) == 4, "replay asks nobody"
    usage = [record.reply.usage for record in told.records if record.reply.usage]
    assert usage == [{"prompt_tokens": 100, "completion_tokens": 20}] * 4, "each request once"
    assert {record.reply.model for record in told.records} == {"small-2026"}

    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:17] + whole[18:]))
    with pytest.raises(MissingReplies, match="^1 of 40 replies of small are missing") as error:
        interview(Replay(path), TRIALS, n=10)
    assert error.value.missing == 1
    again = interview(server.subject(), TRIALS, n=10, path=path, mode="record")
    assert len(server.requests) == 5 and "n" not in server.requests[-1]
    assert [r.reply.text for r in again.records] == [r.reply.text for r in told.records]
    with pytest.raises(MissingReplies, match="^4 of 44"):
        interview(Replay(path), TRIALS, n=11)
    with pytest.raises(MissingReplies, match="^40 of 40"):  # another temperature: other replies
        interview(Replay(path), TRIALS, n=10, temperature=0.5)


def test_the_command_in_the_error_records_what_is_missing(server, tmp_path, capsys):
    path = tmp_path / "a folder" / "small.jsonl"
    trials = run.questions(
        experiments=["pain"], orders=["shuffled"], clauses=["neutral"], levels_from_zero=True
    )
    assert len({trial.order for trial in trials}) > 3
    subject = server.subject(name="little")
    with pytest.raises(MissingReplies) as error:
        interview(subject, trials, n=3, path=path, max_tokens=7)
    prefix = "python -m lib.tradeoffs.run "
    command = str(error.value).partition(prefix)[2]
    assert run.main(shlex.split(command)) == 0
    assert len(interview(subject, trials, n=3, path=path, max_tokens=7).records) == 3 * len(trials)
    assert len(server.requests) == len(trials), "and nothing else"
    assert "neutral" in capsys.readouterr().out


def test_refresh_keeps_the_old_recording(server, tmp_path):
    path = tmp_path / "small.jsonl"
    interview(server.subject(), TRIALS[:1], n=2, path=path, mode="record")
    old = path.read_text()
    server.answer = lambda body, number: said(["2"] * body["n"])
    told = interview(server.subject(), TRIALS[:1], n=2, path=path, mode="refresh")
    assert [r.reply.text for r in told.records] == ["2", "2"]
    assert (tmp_path / "small.jsonl.1").read_text() == old


@pytest.mark.parametrize("rejects", [False, True])
def test_a_server_that_gives_one_reply_at_a_time(server, tmp_path, rejects):
    def answer(body, number):
        if rejects and body.get("n", 1) > 1:
            return failing(400, "only one choice is supported")
        return one_by_one(body, number)

    server.answer = answer
    path = tmp_path / "small.jsonl"
    told = interview(server.subject(concurrency=3), TRIALS, n=7, path=path, mode="record")
    assert len({(r.trial, r.sample_index) for r in told.records}) == 28 == len(lines(path))
    answered = [body for body in server.requests if not (rejects and body.get("n", 1) > 1)]
    assert len(answered) == 28
    assert len({body["seed"] for body in answered}) == 28, "no reply is drawn twice"
    server.answer = honest
    at_once = interview(server.subject(), TRIALS, n=7, mode="record")
    assert [r.reply.text for r in at_once.records] == [r.reply.text for r in told.records]


def test_fields_that_a_server_does_not_take(server):
    def answer(body, number):
        if "max_tokens" in body:
            return failing(400, "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "top_p" in body:
            return failing(422, "top_p: extra fields not permitted")
        return honest(body, number)

    server.answer = answer
    told = interview(server.subject(), TRIALS[:1], n=4, mode="record", max_tokens=77)
    assert len(told.records) == 4 and len(server.requests) == 3
    assert server.requests[-1]["max_completion_tokens"] == 77 and server.requests[-1]["n"] == 4


def test_replies_that_are_none(server):
    kinds = {
        "": ("error", "stop"),
        "Let me": ("error", "length"),
        "3, 3, 3, 3": ("error", "length"),
        "1 or 3": ("ambiguous", "stop"),
        "３": ("3", "stop"),
        "I decline.": ("refusal", "stop"),
        None: ("error", "stop"),
    }

    def answer(body, number):
        status, headers, answer = said(list(kinds))
        for choice, (_, reason) in zip(answer["choices"], kinds.values(), strict=True):
            choice["finish_reason"] = reason
        return status, headers, answer

    server.answer = answer
    told = interview(server.subject(), TRIALS, n=len(kinds), mode="record")
    assert [r.category for r in told.records] == [kind for kind, _ in kinds.values()] * 4
    assert told.categories.tally[0, :4].tolist() == [[0, 0, 1, 1, 1, 4]] * 4
    assert [r.reply.text for r in told.ambiguous] == ["1 or 3"] * 4
    assert told.counts().valid[0, :4].tolist() == [1, 1, 1, 0], "levels 1 to 3, without 0"
    assert told.counts("all").valid[0, :4].tolist() == [7, 7, 7, 0]
    assert told.counts("all").chose.tolist() == told.counts().chose.tolist()
    with pytest.raises(ValueError, match="denominator='most'"):
        told.counts("most")


def test_a_refusal_that_the_server_names_is_none_of_its_digits(server):
    def answer(body, number):
        status, headers, answer = said([None])
        answer["choices"][0]["message"]["refusal"] = "I cannot choose 3."
        return status, headers, answer

    server.answer = answer
    told = interview(server.subject(), TRIALS[:1], n=1, mode="record")
    assert [(r.category, r.reply.text) for r in told.records] == [("refusal", "I cannot choose 3.")]


# --- failures --------------------------------------------------------------------------------


def test_too_many_requests_and_a_hiccup_are_waited_out(server):
    def answer(body, number):
        if number == 1:
            return failing(429, Retry_After="1")
        return failing(500) if number == 3 else honest(body, number)

    server.answer = answer
    told = interview(server.subject(concurrency=1), TRIALS[:2], n=2, mode="record")
    assert len(told.records) == 4 and len(server.requests) == 4
    assert server.times[1] - server.times[0] > 0.99, "Retry-After; on its own it waits 0.5 s"


def test_what_came_before_a_failure_is_kept(server, tmp_path):
    path = tmp_path / "small.jsonl"
    server.answer = lambda body, n: honest(body, n) if n <= 2 else failing(500, "Traceback:\nboom")
    with pytest.raises(SubjectError, match=r"failed 2 times \(status 500\)") as error:
        interview(server.subject(retries=1, concurrency=1), TRIALS, n=3, path=path, mode="record")
    assert "\n" not in str(error.value) and "boom" not in str(error.value)
    assert len(lines(path)) == 6
    server.answer = honest
    before = len(server.requests)
    interview(server.subject(), TRIALS, n=3, path=path, mode="record")
    assert len(server.requests) - before == 2


def test_one_line_says_what_to_do(server):
    def asked(subject):
        with pytest.raises(SubjectError) as error:
            subject.sample(TRIALS[0], 1, temperature=1.0, max_tokens=5, seed=0)
        assert "\n" not in str(error.value)
        return str(error.value)

    away = asked(OpenAICompatible("https://user:pass@api.example.org/v1?token=t", "m"))
    assert "OPENAI_API_KEY" in away and "http://localhost:11434/v1" in away
    assert "tiny language model" in away and "https://api.example.org/v1" in away
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gone = OpenAICompatible(f"http://user:pass@127.0.0.1:{port}/v1?token=t", "m", retries=0)
    assert f"nobody answers at http://127.0.0.1:{port}/v1:" in asked(gone)
    for status, wanted in [(401, "OPENAI_API_KEY"), (404, "'small'"), (429, "requests_per_minute")]:
        server.answer = lambda body, number, status=status: failing(status)
        assert wanted in asked(server.subject(retries=0))
    for answer in ("hello", {}, {"error": {"message": "no credit\nleft"}}, b"<html>"):
        server.answer = lambda body, number, answer=answer: (200, {}, answer)
        told = asked(server.subject())
        assert "ends in /v1" in told
        assert ("no credit" in told) == (type(answer) is dict and bool(answer))


def test_the_key_is_nowhere(server, tmp_path, monkeypatch, caplog, capfd):
    """Sent to the server and to nobody else, whatever happens."""
    monkeypatch.setenv("OTHER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    seen = []
    path = tmp_path / "small.jsonl"
    for answer in (
        lambda body, number: failing(401, f"Incorrect API key: {KEY}"),
        lambda body, number: failing(400, f"bad header {body['authorization']}"),
        lambda body, number: failing(500, f"crash {KEY}"),
        honest,
    ):
        server.answer = answer
        subject = server.subject(key_env="OTHER_KEY", retries=0)
        try:
            interview(subject, TRIALS[:1], n=1, path=path, mode="record")
        except SubjectError as error:
            seen += [str(error), "".join(traceback.format_exception(error))]
        seen += [repr(subject), str(vars(subject))]
    assert {body["authorization"] for body in server.requests} == {f"Bearer {KEY}"}
    assert "OTHER_KEY" in seen[0]
    command = ["--base-url", server.url, "--model", "small", "--key-env", "OTHER_KEY", "--n", "2"]
    assert run.main([*command, "--experiments", "pain", "--out", str(path)]) == 0
    server.answer = lambda body, number: failing(401, KEY)
    assert run.main([*command, "--mode", "refresh", "--out", str(path)]) == 1
    seen += [caplog.text, *capfd.readouterr()]
    seen += [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(seen) > 10 and not [text for text in seen if KEY in text]


def test_a_local_server_is_not_sent_the_key_of_openai(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    interview(server.subject(), TRIALS[:1], n=1, mode="record")
    assert KEY not in server.requests[0]["authorization"]


def test_requests_per_minute(server):
    server.answer = one_by_one
    subject = server.subject(requests_per_minute=600, concurrency=4)
    start = time.monotonic()
    interview(subject, TRIALS[:1], n=6, mode="record")
    assert len(server.times) == 6
    assert server.times[-1] - start > 0.5, "one each 0.1 s"


# --- limits ----------------------------------------------------------------------------------


def test_max_requests_stops_and_the_next_call_goes_on(server, tmp_path):
    path = tmp_path / "small.jsonl"
    asked = {"n": 2, "path": path, "mode": "record"}
    told = interview(server.subject(), TRIALS, **asked, max_requests=3)
    assert len(server.requests) == 3 and len(told.records) == 6 and told.missing == 2
    told = interview(server.subject(), TRIALS, **asked, max_requests=3)
    assert len(server.requests) == 4 and told.missing == 0


def test_max_usd_is_never_exceeded(server):
    """The bill is what the server says: 100 tokens of a prompt, and 50 of each reply."""
    bill = []

    def answer(body, number):
        n = body.get("n", 1)
        bill.append(100 * 2e-6 + 50 * n * 10e-6)
        return said(["3"] * n, completion=50)

    server.answer = answer
    asked = {"n": 50, "mode": "record", "max_tokens": 50, "price": (2.0, 10.0)}
    told = interview(server.subject(), TRIALS, **asked, max_usd=0.03)
    assert told.missing > 0 and len(told.records) > 50
    assert 0.025 < sum(bill) <= 0.03
    with pytest.raises(ValueError, match="max_usd=1.0 needs price="):
        interview(server.subject(), TRIALS, mode="record", max_usd=1.0)


def test_a_dry_run_sends_nothing(server, tmp_path, capsys):
    words = ["--base-url", server.url.replace("//", "//user:pass@"), "--model", "small"]
    words += ["--out", str(tmp_path / "x.jsonl"), "--price", "1", "4", "--max-tokens", "100"]
    assert run.main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert not server.requests and not list(tmp_path.iterdir())
    assert "36 to 1,800" in out and server.url in out and "pass" not in out and "USD" in out
    trials = battery()
    told = plan(server.subject(), trials, n=50, max_tokens=100, price=(1.0, 4.0))
    characters = sum(len(render(trial)[0]["content"]) for trial in trials)
    assert told.replies == 1800 and told.requests == (36, 1800)
    assert characters / 4 <= told.prompt_tokens[0] <= characters / 4 + 36
    assert told.usd[1] == pytest.approx((50 * told.prompt_tokens[0] + 4 * 180_000) / 1e6)


def test_wrong_usage_is_answered_in_one_line(server, tmp_path, capsys):
    for words, wanted in [
        ([], "--base-url"),
        (["--base-url", "x", "--model", "m"], "base_url"),
        (["--base-url", server.url, "--model", "m", "--max-usd", "1"], "needs price"),
        (["--base-url", server.url, "--model", "m", "--wording", "short", "--points", "2"], "tiny"),
    ]:
        assert run.main([*words, "--out", str(tmp_path / "x.jsonl")]) == 2
        error = capsys.readouterr().err
        assert wanted in error and len(error.splitlines()) == 1
    with pytest.raises(ValueError, match="mode='replay' needs path"):
        interview(UtilityAgent("u", 1.0, 1.0, 1.0), TRIALS)
    assert not server.requests


# --- the file --------------------------------------------------------------------------------


def test_killed_and_gone_on_with(server, tmp_path):
    def slow(body, number):
        time.sleep(0.01)
        return one_by_one(body, number)

    server.answer = slow
    path = tmp_path / "small.jsonl"
    words = ["--base-url", server.url, "--model", "small", "--out", str(path), "--n", "20"]
    words += ["--experiments", "pain", "--scales", "quantitative"]
    command = [sys.executable, "-m", "lib.tradeoffs.run", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen(command, env=environment, cwd=tmp_path, **silent)
    while not path.exists() or path.read_bytes().count(b"\n") < 25:
        assert started.poll() is None
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    time.sleep(0.3)  # the server has read what was on its way
    before = path.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    path.write_bytes(whole + whole.splitlines()[0][:50])  # and a torn line, for sure
    assert 25 <= whole.count(b"\n") < 200
    asked = len(server.requests)
    assert run.main(words) == 0
    after = path.read_bytes()
    assert after.startswith(whole), "nothing is lost"
    found = [(json.dumps(line["trial"]), line["sample_index"]) for line in lines(path)]
    assert len(found) == len(set(found)) == 200
    assert len(server.requests) - asked == 200 - whole.count(b"\n"), "only what is missing"


def test_an_interrupted_recording_says_how_to_go_on(server, tmp_path, capsys, monkeypatch):
    path = tmp_path / "small.jsonl"
    shown = run._show_progress

    def interrupt(done, total):
        shown(done, total)
        if done >= 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "_show_progress", interrupt)
    words = ["--base-url", server.url, "--model", "small", "--out", str(path), "--n", "3"]
    assert run.main(words) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert len(lines(path)) == 3 * len(server.requests), "what was under way is kept"


def test_damage_and_duplicates(tmp_path):
    path = tmp_path / "u.jsonl"
    agent = UtilityAgent("u", 1.0, 1.0, 1.0)
    told = interview(agent, TRIALS, n=3, path=path, mode="record")
    good = path.read_bytes()
    path.write_bytes(good + good.replace(b'"text": "', b'"text": "no '))
    assert interview(agent, TRIALS, n=3, path=path) == told, "the first of two lines holds"
    rows = good.splitlines(keepends=True)
    for bad in (b"{\n", b"\n", b"\xff\n", b"[]\n", b'{"key": 1}\n'):
        path.write_bytes(b"".join([*rows[:4], bad, *rows[4:]]))
        for open_ in (cache.load, cache.Recorder):
            with pytest.raises(ValueError, match="^line 5 of .* is damaged"):
                open_(path)
    path.write_bytes(good.replace(b'"schema": 1', b'"schema": 9'))
    with pytest.raises(ValueError, match="^line 1 of .* has schema 9"):
        cache.load(path)
    path.write_bytes(good[:-9])
    assert len(cache.load(path)) == 11
    assert interview(agent, TRIALS, n=3, path=path, mode="record") == told
    assert path.read_bytes() == good, "a torn line is cut off, and drawn again with its seed"


def test_two_writers(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "u.jsonl"
    agent = UtilityAgent("u", 1.0, 1.0, 1.0)
    with cache.Recorder(path), pytest.raises(RuntimeError, match="being written by another"):
        interview(agent, TRIALS, n=1, path=path, mode="record")
    assert len(interview(agent, TRIALS, n=1, path=path, mode="record").records) == len(TRIALS)


def test_everything_that_a_reply_depends_on_is_in_its_key():
    setting = cache.Setting()
    messages = render(TRIALS[1])
    base = cache.key("m", messages, setting, 0)
    others = [
        cache.key("k", messages, setting, 0),
        cache.key("m", render(TRIALS[2]), setting, 0),
        cache.key("m", messages, setting, 1),
        *(
            cache.key("m", messages, setting._replace(**{name: value}), 0)
            for name, value in [
                ("temperature", 0.5),
                ("max_tokens", 9),
                ("seed", 1),
                ("top_p", 0.9),
            ]
        ),
    ]
    assert len({base, *others}) == 8
    assert cache.key("m", messages, setting._replace(temperature=1), 0) == base


# --- subjects in this process ----------------------------------------------------------------


def test_a_utility_agent_draws_from_its_probabilities():
    """Section 5.3 of the chapter's theory: P(3) is logistic in pain, with slope -pain."""
    a, pain, pleasure, n = 0.8, 0.4, 0.3, 2000
    agent = UtilityAgent("u", a, pain, pleasure, refusal=0.1, refusal_per_level=0.02)
    for level in (1, 4, 9):
        hurt = Trial("pain", "quantitative", level)
        please = Trial("pleasure", "quantitative", level)
        odds = np.exp(3 * a - pain * level) / (np.exp(a) + np.exp(2 * a))
        one, two, three, refusal = agent.probabilities(hurt)
        assert refusal == pytest.approx(0.1 + 0.02 * level)
        assert three / (one + two) == pytest.approx(odds)
        one, two, three, _ = agent.probabilities(please, temperature=0.5)
        assert np.log(two / three) == pytest.approx((pleasure * level - a) / 0.5)
        for trial in (hurt, please):
            told = interview(agent, [trial], n=n, seed=3, mode="record")
            found = told.categories.tally[0, level, :4]
            assert stats.chisquare(found, n * agent.probabilities(trial)).pvalue > 1e-4
    calm = Trial("pain", "quantitative", 9, clause="neutral")
    assert agent.probabilities(calm)[3] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="would refuse level 9 with probability 1.8"):
        UtilityAgent("u", 1.0, 1.0, 1.0, refusal_per_level=0.2).probabilities(hurt)


def test_replies_do_not_depend_on_how_they_were_asked_for(tmp_path):
    agent = UtilityAgent("u", 1.0, 1.0, 1.0)
    at_once = interview(agent, battery(), n=9, mode="record")
    path = tmp_path / "u.jsonl"
    interview(agent, battery(), n=4, path=path, mode="record")
    assert interview(agent, battery(), n=9, path=path, mode="record") == at_once


def test_the_paper_can_be_interviewed():
    published = paper_counts()
    for model in {condition.model for condition in published.conditions}:
        told = interview(PaperCounts(model), battery(), mode="record")
        counts = told.counts()
        wanted = published.only(model=model)
        assert counts.conditions == wanted.conditions
        assert (counts.chose == wanted.chose).all() and (counts.valid == wanted.valid).all()
        refused = told.categories.tally[..., CATEGORIES.index("refusal")].sum()
        assert refused == 1800 - wanted.valid.sum()


def test_what_must_not_be_added_up():
    agent = UtilityAgent("u", 1.0, 1.0, 1.0)
    trials = [*battery(clause="neutral"), *battery(), *battery(wording="letter")]
    told = interview(agent, trials, n=2, mode="record")
    with pytest.raises(ValueError, match="differ in clause"):
        told.counts()
    assert (told.only(clause="valenced").counts().valid.sum(1) == [40, 32, 40, 32]).all()
    blank = interview(agent, battery(clause="none"), n=5, mode="record")
    texts = {tuple(r.reply.text for r in blank.records[i : i + 5]) for i in range(0, 180, 5)}
    assert len(texts) == 1, "without a clause all levels are one question"


# --- Inspect ---------------------------------------------------------------------------------


def test_inspect_is_asked_for(tmp_path, capsys):
    if inspect_task.importlib.util.find_spec("inspect_ai"):
        pytest.skip("inspect-ai is installed")
    assert run.main(["--import", "log.eval", "--out", str(tmp_path / "x.jsonl")]) == 1
    assert "pip install inspect-ai" in capsys.readouterr().err


def test_replies_from_elsewhere_are_stored_as_if_asked(tmp_path):
    path = tmp_path / "u.jsonl"
    agent = UtilityAgent("u", 1.0, 1.0, 1.0)
    told = interview(agent, TRIALS, n=3, mode="record")
    store(told, path, cache.Setting())
    assert interview(agent, TRIALS, n=3, path=path) == told
