"""Who plays the game: the paper's models, planted agents, a recording, any model behind a URL."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float

from lib.tradeoffs import cache
from lib.tradeoffs.counts import Counts, N, paper_counts
from lib.tradeoffs.game import Trial, render
from lib.tradeoffs.replies import Reply

REFUSAL = "I would rather not play this game."


class SubjectError(RuntimeError):
    """A subject cannot answer; the message is one line that says what to do about it."""


@runtime_checkable
class Subject(Protocol):
    """Whoever can be asked. `name` is what the recording and the tables call them.

    A subject may also have `concurrency`, the number of questions it takes at the same time, and
    `path`, the file of its recorded replies.
    """

    name: str

    def sample(
        self, trial: Trial, n: int, *, temperature: float, max_tokens: int, seed: int
    ) -> list[Reply]:
        """Up to `n` independent replies, and at least one: what a single request brings.

        Reply i is drawn with `seed + i`, where the subject can be seeded.
        """
        ...


class PaperCounts:
    """A model of the paper as a subject: it answers so that its counts are the published ones.

    The paper's texts are not known, nor whether 1 or 2 was chosen instead of 3; this subject says
    2. A response that the paper left out is a refusal here. The 50 responses to a prompt come in
    random order, each once.

    Raises ValueError if the paper has no such model.
    """

    def __init__(self, model: str):
        self.name = model
        self._counts = paper_counts().only(model=model)

    def counts(self) -> Counts:
        """The published counts of this model."""
        return self._counts

    def sample(
        self, trial: Trial, n: int, *, temperature: float, max_tokens: int, seed: int
    ) -> list[Reply]:
        """`n` of the 50 responses; temperature was 1, and the limit of tokens has no effect.

        Raises ValueError if the paper did not ask this question, or not so often, or not so.
        """
        if trial.clause != "valenced" or trial.level == 0 or trial.incentive:
            raise ValueError(f"the paper has no responses to {trial}: use a trial of battery()")
        if n > N or temperature != 1:
            raise ValueError(
                f"n={n} at temperature={temperature}: the paper has {N} responses at temperature 1"
            )
        rows = self._counts.only(experiment=trial.experiment, scale=trial.scale)
        chose, valid = (int(part[0, trial.level - 1]) for part in (rows.chose, rows.valid))
        texts = ["3"] * chose + ["2"] * (valid - chose) + [REFUSAL] * (N - valid)
        order = np.random.default_rng(seed).permutation(N)[:n]
        return [Reply(texts[i], model=self.name) for i in order]


@dataclasses.dataclass(frozen=True)
class UtilityAgent:
    """An agent with known feelings: it draws from the softmax of utilities.

    Option i has utility `a` * points - `pain` * level if it hurts, + `pleasure` * level if it
    pleases; the level of a word is its place. It refuses with probability `refusal` +
    `refusal_per_level` * level before it looks at the options. A clause without feelings has
    level 0.

    Two agents that differ need different names, as a recording tells them apart by that.
    """

    name: str
    a: float
    pain: float
    pleasure: float
    refusal: float = 0.0
    refusal_per_level: float = 0.0

    def probabilities(self, trial: Trial, *, temperature: float = 1.0) -> Float[np.ndarray, "4"]:
        """Probabilities of 1, 2, 3 and of a refusal.

        Raises ValueError if `temperature` is not positive or a refusal's probability not in [0, 1].
        """
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be positive")
        level = trial.level if trial.clause == "valenced" else 0
        refusal = self.refusal + self.refusal_per_level * level
        if not 0 <= refusal <= 1:
            raise ValueError(
                f"{self.name} would refuse level {level} with probability {refusal:.3g}: choose "
                "refusal and refusal_per_level so that it lies between 0 and 1"
            )
        utility = self.a * trial.points * np.arange(1.0, 4.0)
        if trial.experiment == "pain":
            utility[2] -= self.pain * level
        else:
            utility[1] += self.pleasure * level
        weight = np.exp((utility - utility.max()) / temperature)
        return np.append((1 - refusal) * weight / weight.sum(), refusal)

    def sample(
        self, trial: Trial, n: int, *, temperature: float, max_tokens: int, seed: int
    ) -> list[Reply]:
        """`n` independent draws."""
        cumulated = self.probabilities(trial, temperature=temperature).cumsum()
        draws = [np.random.default_rng(seed + i).random() for i in range(n)]
        texts = ("1", "2", "3", REFUSAL)
        drawn = np.minimum(np.searchsorted(cumulated, draws, side="right"), 3)
        return [Reply(texts[k], model=self.name) for k in drawn]


class Replay:
    """A recording as a subject: it repeats what it once answered, and never opens a connection.

    `model` says whose replies, if a file has those of several.

    Raises ValueError if there is no such file, or not exactly one such model in it.
    """

    def __init__(self, path: str | Path, model: str | None = None):
        self.path = Path(path)
        if not self.path.exists():
            raise ValueError(f"path={str(path)!r} does not exist: record it first")
        lines = list(cache.load(self.path).values())
        models = {line["model"] for line in lines}
        if len(models & {model} if model else models) != 1:
            raise ValueError(
                f"{path} has replies of {', '.join(sorted(models)) or 'nobody'}: name one as model"
            )
        self.name = model or models.pop()
        self._lines = [line for line in lines if line["model"] == self.name]

    def sample(
        self, trial: Trial, n: int, *, temperature: float, max_tokens: int, seed: int
    ) -> list[Reply]:
        """The first `n` recorded replies to this question; the seed is that of the recording.

        Raises SubjectError if there are fewer.
        """
        wanted = [cache.fields_of(trial), temperature, max_tokens]
        found = [
            line
            for line in self._lines
            if [line["trial"], line["temperature"], line["max_tokens"]] == wanted
        ]
        if len(found) < n:
            raise SubjectError(f"{self.path} has {len(found)} of {n} replies to {trial}")
        found.sort(key=lambda line: line["sample_index"])
        return [cache.reply_of(line) for line in found[:n]]


class OpenAICompatible:
    """Any model behind OpenAI's chat interface: OpenAI and other providers, vLLM, Ollama, ...

    `base_url` mostly ends in /v1. The key is read from the environment variable `key_env` when the
    first question is put, and kept nowhere else. A server on this machine needs none; it is not
    sent the key in OPENAI_API_KEY either, so if it wants one, name another variable. `retries` is
    how often a request is repeated after a failure of the server or of the network, or when it
    asks to wait (Retry-After); `timeout` is in seconds. `name` is what tables call the model.

    Raises ValueError if `base_url` is not an address, or a cap is not positive.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_env: str = "OPENAI_API_KEY",
        name: str | None = None,
        requests_per_minute: float | None = None,
        concurrency: int = 4,
        retries: int = 5,
        timeout: float = 120.0,
    ):
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must be an address such as http://localhost:11434/v1")
        if concurrency < 1 or (requests_per_minute is not None and requests_per_minute <= 0):
            raise ValueError(
                f"concurrency={concurrency} and requests_per_minute={requests_per_minute} must be "
                "positive"
            )
        self.model, self.name = model, name or model
        self.key_env, self.concurrency = key_env, concurrency
        self.address = parts._replace(  # what may be shown: no user, password, token
            netloc=parts.netloc.rpartition("@")[2], query="", fragment=""
        ).geturl()
        self._local = _is_loopback(parts.hostname)
        self._base_url, self._retries, self._timeout = base_url, retries, timeout
        self._pause = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0  # when the next request may go out
        self._lock = threading.Lock()
        self._client: Any = None
        self._limit = "max_tokens"  # its name; OpenAI's newer models know another
        self._unknown: set[str] = set()  # fields that this server does not take
        self._one_by_one = False

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.address!r}, {self.model!r})"

    def sample(
        self, trial: Trial, n: int, *, temperature: float, max_tokens: int, seed: int
    ) -> list[Reply]:
        """The replies that one request brings: `n`, or fewer if the server gives fewer at a time.

        Raises SubjectError, one line, if there is no key, or the server is not there or refuses.
        """
        openai = _openai()
        client = self._connected(openai)
        while True:
            self._wait()
            fields: dict[str, Any] = {self._limit: max_tokens, "top_p": 1.0, "seed": seed}
            if n > 1 and not self._one_by_one:
                fields["n"] = n
            fields = {name: value for name, value in fields.items() if name not in self._unknown}
            try:
                answer = client.chat.completions.create(
                    model=self.model, messages=render(trial), temperature=temperature, **fields
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._adapted(str(error), fields):
                    raise self._explained(openai, error) from None
            except openai.OpenAIError as error:
                raise self._explained(openai, error) from None
            except ValueError:  # what came is not even JSON
                raise self._unlike_chat("") from None
            else:
                return self._replies(answer, n)

    def _connected(self, openai: Any) -> Any:
        with self._lock:
            if self._client is None:
                options: dict[str, Any] = {}
                if self._local:  # a proxy would look for the server on its own machine
                    options["http_client"] = openai.DefaultHttpxClient(trust_env=False)
                self._client = openai.OpenAI(
                    api_key=self._key() or "none",
                    base_url=self._base_url,
                    max_retries=self._retries,
                    timeout=self._timeout,
                    **options,
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def _key(self) -> str:
        if self._local and self.key_env == "OPENAI_API_KEY":
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key and not self._local:
            raise SubjectError(
                f"no key for {self.address}: put it in the environment variable {self.key_env}; "
                "without a key there are Ollama on your own machine (base_url "
                "http://localhost:11434/v1) and the tiny language model of the chapter"
            )
        return key

    def _wait(self) -> None:
        """Sleep until the cap on requests per minute lets the next one out."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._pause
        time.sleep(max(0.0, start - time.monotonic()))

    def _replies(self, answer: Any, n: int) -> list[Reply]:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise self._unlike_chat(str(getattr(answer, "error", None) or ""))
        usage = None
        if answer.usage is not None:
            usage = {
                kind: getattr(answer.usage, kind) or 0
                for kind in ("prompt_tokens", "completion_tokens")
            }
        replies = []
        for choice in choices[:n]:
            text, end = choice.message.content or "", choice.finish_reason or ""
            if not text and choice.message.refusal:  # the server's own word for it
                text, end = choice.message.refusal, "content_filter"
            replies.append(Reply(text, end, usage, answer.model or ""))
            usage = None  # it is that of the whole request
        return replies

    def _adapted(self, complaint: str, fields: dict[str, Any]) -> bool:
        """Whether the next request leaves out, or renames, what the server has complained about."""
        if "max_completion_tokens" in complaint and "max_tokens" in fields:
            self._limit = "max_completion_tokens"
            return True
        for name in ("top_p", "seed"):
            if name in complaint and name in fields:
                self._unknown.add(name)
                return True
        if "n" in fields:
            self._one_by_one = True
            return True
        return False

    def _explained(self, openai: Any, error: Exception) -> SubjectError:
        """What went wrong in one line, without the key and without what else is in a request."""
        at = self.address
        if isinstance(error, openai.APITimeoutError):
            return SubjectError(f"{at} gave no answer in {self._timeout:g} s: is it overloaded?")
        if isinstance(error, openai.APIConnectionError):
            return SubjectError(
                f"nobody answers at {at}: does the server run, is the address right?"
            )
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return SubjectError(
                f"{at} refused the key ({status}): put a valid one for {self.model} in the "
                f"environment variable {self.key_env}"
                + (" or, on this machine, in another and name it as key_env" * self._local)
            )
        if status == 404:
            return SubjectError(f"{at} does not know {self.model!r}, or is not the address (404)")
        if status == 429:
            return SubjectError(
                f"{at} still says that there are too many requests, or that the account is empty "
                "(429): lower requests_per_minute and record again, which goes on from here"
            )
        if status is not None and status >= 500:
            return SubjectError(
                f"{at} failed {self._retries + 1} times (status {status}): record again later, "
                "which goes on from here"
            )
        return SubjectError(f"{at} did not accept the request: {self._quoted(str(error))}")

    def _unlike_chat(self, said: str) -> SubjectError:
        return SubjectError(
            f"{self.address} does not answer as OpenAI's chat interface does: is the address "
            f"right? It mostly ends in /v1. {self._quoted(said)}".rstrip()
        )

    def _quoted(self, said: str) -> str:
        """The words of a server on one line, without secrets that it may have repeated."""
        said = " ".join(said.split())
        for secret in filter(None, (self._key(), urlsplit(self._base_url).password)):
            said = said.replace(secret, "***")
        return said[:300]


def _openai() -> Any:
    """The client library, which takes long to import and is needed for no other subject."""
    try:
        import openai
    except ImportError:
        raise SubjectError("openai is not installed: pip install openai") from None
    return openai


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
