"""Recorded replies: a file of one JSON line each, to which lines are only ever added.

A reply costs money and time, so it is on the disk before the next question is put, and what is on
the disk is never asked again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lib.tradeoffs.game import Trial
from lib.tradeoffs.replies import Reply

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SCHEMA = 1


class Setting(NamedTuple):
    """How replies are drawn. `seed` is that of the whole interview."""

    temperature: float = 1.0
    max_tokens: int = 1024
    seed: int = 0
    top_p: float = 1.0


def key(model: str, messages: list[dict[str, str]], setting: Setting, sample_index: int) -> str:
    """SHA-256 of everything that a reply depends on, as 64 hexadecimal digits.

    Of the canonical JSON (sorted, without spaces) of schema, model, messages, setting and
    `sample_index`, which counts the replies to the same question. Where the model was reached, and
    with which key, is not in it.
    """
    setting = setting._replace(  # 1 and 1.0 are the same
        temperature=float(setting.temperature), top_p=float(setting.top_p)
    )
    what = {"schema": SCHEMA, "model": model, "messages": messages, "sample_index": sample_index}
    canonical = json.dumps(
        what | setting._asdict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def line(
    key: str, model: str, trial: Trial, sample_index: int, setting: Setting, reply: Reply
) -> dict[str, Any]:
    """One line of a recording: what was asked, of whom and how, and what came back."""
    return {
        "schema": SCHEMA,
        "key": key,
        "model": model,
        "trial": fields_of(trial),
        "sample_index": sample_index,
        **setting._asdict(),
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": reply.usage,
        "reported": reply.model,
    }


def fields_of(trial: Trial) -> dict[str, Any]:
    """A trial as it stands in a line."""
    return dataclasses.asdict(trial) | {"order": list(trial.order)}


def trial_of(line: dict[str, Any]) -> Trial:
    """The trial of a line."""
    return Trial(**(line["trial"] | {"order": tuple(line["trial"]["order"])}))


def reply_of(line: dict[str, Any]) -> Reply:
    """The reply of a line."""
    return Reply(line["text"], line["finish_reason"], line["usage"], line["reported"])


def load(path: str | Path) -> dict[str, dict[str, Any]]:
    """The lines of a recording by their keys; nothing if there is no such file.

    A last line without its end was torn when its writer was killed, and is left out. Of two lines
    with the same key the first holds.

    Raises ValueError naming the line if another is damaged or of another schema.
    """
    path = Path(path)
    return _read(path, path.read_bytes()) if path.exists() else {}


def set_aside(path: str | Path) -> None:
    """Rename a recording to the first of NAME.1, NAME.2, ... that is free. Nothing is deleted.

    Raises RuntimeError if it is being written.
    """
    path = Path(path)
    if not path.exists():
        return
    Recorder(path).close()  # nobody writes it
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(aside)


class Recorder:
    """The one writer of a recording; `entries` are its lines by their keys.

    Raises RuntimeError if another process is writing the file, ValueError as `load` does.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags, 0o644)
        try:
            self._lock(path)
            data = path.read_bytes()
            self.entries = _read(path, data)
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.ftruncate(self._file, whole)
        except BaseException:
            self.close()
            raise

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines so that they are on the disk when this returns; known keys are left out.

        Raises OSError if the disk is full.
        """
        for line in lines:
            if line["key"] in self.entries:
                continue
            data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
            if os.write(self._file, data) < len(data):
                raise OSError("a reply was written in part: is the disk full?")
            self.entries[line["key"]] = line
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file, which unlocks it."""
        os.close(self._file)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _lock(self, path: Path) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"{path} is being written by another process: wait for it, or use another path"
            ) from None
        except OSError:
            pass  # some network drives have no locks


_FIELDS = {
    "schema", "key", "model", "trial", "sample_index", "temperature", "top_p", "max_tokens", "seed",
    "text", "finish_reason", "usage", "reported",
}  # fmt: skip


def _read(path: Path, data: bytes) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(data.split(b"\n")[:-1], 1):
        try:
            line = json.loads(text)
        except ValueError:  # also of bytes that are not text
            line = None
        if not isinstance(line, dict) or line.keys() != _FIELDS:
            raise ValueError(
                f"line {number} of {path} is damaged: take it out, and its reply is asked again"
            )
        if line["schema"] != SCHEMA:
            raise ValueError(
                f"line {number} of {path} has schema {line['schema']!r}, not {SCHEMA}: it was "
                "written by another version of this book"
            )
        entries.setdefault(line["key"], line)
    return entries
