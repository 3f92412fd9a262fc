"""Any function that answers prompts, behind OpenAI's chat interface on this machine only."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

MOST_CHOICES, MOST_LOGPROBS = 128, 20


class Completion(NamedTuple):
    """What a model answers: `n` texts of one token each, and how likely its tokens were."""

    texts: list[str]
    logprobs: dict[str, float]  # natural, at temperature 1, likeliest first
    prompt_tokens: int


Respond = Callable[..., Completion]


@contextlib.contextmanager
def serve(respond: Respond, models: Sequence[str], *, port: int = 0) -> Iterator[str]:
    """Serve `models` on 127.0.0.1 while the context lasts; its value is the base URL, with /v1.

    `respond(model, messages, n=..., temperature=..., seed=...)` is called by one request at a time
    and returns a `Completion`; its ValueError becomes the server's error 400, in its own words.
    `port` 0 takes one that is free. Of OpenAI's parameters `n`, `temperature`, `seed`,
    `max_tokens`, `logprobs` and `top_logprobs` count; an answer is one token long and then ends.
    """
    server = _Server(("127.0.0.1", port), _Handler)
    server.respond, server.models, server.turn = respond, tuple(models), threading.Lock()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    respond: Respond
    models: tuple[str, ...]
    turn: threading.Lock


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # head and body leave together and at once: apart, they wait 40 ms for a delayed acknowledgement
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path != "/v1/models":
            return self._error(_Refused(404, f"there is no GET {self.path}: use /v1/models"))
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "local"} for m in self._all]
        return self._send(200, {"object": "list", "data": data})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.path != "/v1/chat/completions":
                raise _Refused(404, f"there is no POST {self.path}: use /v1/chat/completions")
            self._send(200, self._complete(_parsed(body)))
        except _Refused as refused:
            self._error(refused)

    @property
    def _all(self) -> tuple[str, ...]:
        return self.server.models

    def _complete(self, asked: dict) -> dict:
        model, n = asked.get("model"), asked["n"]
        if model not in self._all:
            known = ", ".join(self._all)
            message = f"model {model!r} is not served here: use one of {known}"
            raise _Refused(404, message, "model_not_found")
        sampling = {name: asked[name] for name in ("n", "temperature", "seed")}
        try:
            with self.server.turn:
                done = self.server.respond(model, asked["messages"], **sampling)
        except ValueError as wrong:
            raise _Refused(400, str(wrong)) from wrong
        top = [_logprob(*pair) for pair in list(done.logprobs.items())[: asked["top_logprobs"]]]
        choices = [
            {
                "index": i,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": {
                    "content": [_logprob(text, done.logprobs[text]) | {"top_logprobs": top}]
                }
                if asked["logprobs"]
                else None,
            }
            for i, text in enumerate(done.texts)
        ]
        usage = {
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": n,
            "total_tokens": done.prompt_tokens + n,
        }
        return {
            "id": f"chatcmpl-{time.time_ns()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": choices,
            "usage": usage,
        }

    def _error(self, refused: _Refused) -> None:
        kind = {"type": "invalid_request_error", "param": None, "code": refused.code}
        self._send(refused.status, {"error": {"message": str(refused)} | kind})

    def _send(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing: the page of the chapter is no place for a server's log."""


def _logprob(token: str, logprob: float) -> dict:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _parsed(body: bytes) -> dict:
    """The request with its defaults filled in; _Refused if it asks for what cannot be."""
    try:
        asked = json.loads(body)
        texts = [message["content"] for message in asked["messages"]]
    except (ValueError, KeyError, TypeError) as wrong:
        raise _Refused(400, "the body must be JSON with a list of `messages`") from wrong
    if not texts or not all(isinstance(text, str) for text in texts):
        raise _Refused(400, "`messages` must hold at least one, with a string as `content`")
    if asked.get("stream"):
        raise _Refused(400, "`stream` is not offered: leave it out")
    longest = [asked.get(name) for name in ("max_tokens", "max_completion_tokens")]
    asked["max_tokens"] = next((value for value in longest if value is not None), 1)
    for name, kind, default, least, most in [
        ("n", int, 1, 1, MOST_CHOICES),
        ("temperature", (int, float), 1.0, 0.0, 2.0),
        ("seed", int, None, -(2**63), 2**63 - 1),
        ("max_tokens", int, 1, 1, 2**31 - 1),
        ("top_logprobs", int, 0, 0, MOST_LOGPROBS),
        ("logprobs", bool, False, False, True),
    ]:
        value = asked[name] if asked.get(name) is not None else default
        if value is not None and (not isinstance(value, kind) or not least <= value <= most):
            raise _Refused(400, f"{name}={value!r} must lie between {least} and {most}")
        asked[name] = value
    return asked
