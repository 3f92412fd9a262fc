"""Files in which a long training keeps its state: whole or not there, and of this training only."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import equinox as eqx


def write(path: Path, head: dict[str, Any] | None, tree: Any) -> None:
    """Keep the arrays of a tree, after a line of JSON about them if there is a `head`.

    That line gets a checksum of all. A file that is there is whole: it is written under another
    name first.
    """
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, tree)
    data = file.getvalue()
    if head is not None:
        data = json.dumps(head | {"sha256": _checksum(head, data)}).encode() + b"\n" + data
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def resume(path: Path, made: dict[str, Any], like: Any) -> tuple[dict[str, Any], Any]:
    """The head and the tree of a training that was stopped, of the same structure as `like`.

    Its head must say that it was `made` in the same way.

    Raises ValueError if the file is damaged, or was begun with other settings; it stays as it is.
    """
    line, _, arrays = path.read_bytes().partition(b"\n")
    try:
        head = json.loads(line)
        wanted = head.pop("sha256")
        came = _checksum(head, arrays)
    except (ValueError, KeyError, AttributeError, TypeError):
        came, wanted = "none in its first line", "one"
    if came != wanted:
        raise ValueError(
            f"{path} is damaged: its checksum is {came}, wanted {wanted}. Put a whole copy in its "
            "place, or move it away to train anew"
        )
    begun = head["made"]
    if other := [key for key in made if begun.get(key) != made[key]]:
        was, now = (", ".join(f"{key}={of.get(key)}" for key in other) for of in (begun, made))
        raise ValueError(
            f"{path} was begun with {was}, wanted {now}: go on with {was}, name another folder, or "
            "move the file away to train anew"
        )
    return head, eqx.tree_deserialise_leaves(io.BytesIO(arrays), like)


def _checksum(head, arrays):
    return hashlib.sha256(json.dumps(head).encode() + arrays).hexdigest()[:16]
