"""Long trainings by a recipe: their files, going on where one was stopped, their command.

A file is whole or not there, and of one training only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
from tqdm import tqdm

from lib import recorded

Recipe = TypeVar("Recipe")


class Told(NamedTuple):
    """What a training tells when it stops to be tested."""

    state: Any  # of the training now
    row: Any  # of its learning curve: plain JSON
    more: dict[str, Any] = {}  # what is told of the last stop only


class Kept(NamedTuple):
    """What was trained by a recipe, and what is known about its training."""

    model: Any
    about: dict[str, Any]


def recipe_of(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """The recipe of this name.

    Raises ValueError for a name that is not there.
    """
    if name not in recipes:
        raise ValueError(f"name={name!r} is not known: use one of {', '.join(recipes)}")
    return recipes[name]


def train(
    state: Any,
    advance: Callable[[Any, int, tqdm | None], Told],
    *,
    path: Path,
    made: dict[str, Any],
    steps: int,
    block: int,
    command: str,
    progress: bool = False,
) -> Kept:
    """Train and keep the result in `path`, what made it in a .json beside; go on if one stopped.

    `state` is a NamedTuple: first the model, then what else goes on with it, at last the number of
    steps done. `advance(state, stop, bar)` takes it to `stop` steps; that is `block` steps on, at
    most. After each block all is kept beside `path` until the end. `made` says what makes it what
    it is, `command` how to make it again.

    Raises ValueError if `path` is there already, if a run was begun with other settings, and if
    its file is damaged. None of these changes a file.
    """
    name, unfinished = path.stem, path.with_suffix(".unfinished.eqx")
    made = json.loads(json.dumps(made))  # as a file gives it back
    if path.exists() and not unfinished.exists():
        raise ValueError(
            f"{path.parent} has {name} already: name another folder, or remove it to train it anew"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    curve, seconds, more, done = [], 0.0, {}, state[-1]
    if unfinished.exists():
        before, arrays = resume(unfinished, made, state[:-1])
        curve, seconds, more, done = (before[key] for key in ("curve", "seconds", "more", "done"))
        state = type(state)(*arrays, done)
    bar = tqdm(total=steps, initial=done, desc=name) if progress else None
    stops = [*range(done + block, steps, block)]
    stops += [steps] * (done < steps)  # else it was stopped at the very end
    for stop in stops:
        began = time.process_time()
        state, row, more = advance(state, stop, bar)
        seconds += time.process_time() - began
        curve.append(row)
        head = {"made": made, "curve": curve, "seconds": seconds, "more": more, "done": stop}
        write(unfinished, head, state[:-1])
    about = {"made": made, "command": command, **more, "curve": curve}
    about |= {"cpu_seconds": round(seconds), **recorded.provenance()}
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    write(path, None, state[0])
    unfinished.unlink()
    return Kept(state[0], about)


def load(path: Path, like: Any) -> Kept | None:
    """What `train` kept there, of the same structure as `like`; None if nothing is there yet."""
    if not path.exists():
        return None
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Kept(eqx.tree_deserialise_leaves(path, like), about)


def main(
    fit: Callable[..., Kept],
    recipes: Mapping[str, Any],
    say: Callable[[dict[str, Any]], str],
    arguments: Sequence[str] | None = None,
) -> int:
    """The command of a module whose `fit(name, folder, seed=, progress=)` trains by its recipes.

    `say` makes one line of what is known about a training. Returns 0 = done, 1 = it could not be.
    """
    module = sys.modules[fit.__module__]
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.__spec__.name}", description=module.__doc__.splitlines()[0]
    )
    parser.add_argument("name", choices=recipes, help="which of them")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (%(default)s)")
    parser.add_argument("--folder", type=Path, default=module.WEIGHTS, help="where to keep it")
    options = parser.parse_args(arguments)
    try:
        kept = fit(options.name, options.folder, seed=options.seed, progress=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last test", file=sys.stderr)
        return 1
    print(f"{options.name}: {say(kept.about)}")
    return 0


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
