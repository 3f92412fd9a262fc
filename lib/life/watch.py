"""Long runs, watched: what a soup looks like every so many epochs, kept if the run is stopped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lib import recorded
from lib.life.soup import Soup, advance

KEEP = 20  # seconds between checkpoints


def watch(
    soup: Soup,
    until: int,
    *,
    every: int,
    look: Callable[[Soup], dict[str, Any]],
    name: str,
    seed: int,
    stop: Callable[[dict[str, Any]], bool] | None = None,
    **setting: Any,
) -> tuple[Soup, dict[str, np.ndarray]]:
    """Advance to epoch `until`, or until `stop(seen)`; `look` now and every `every` epochs.

    Returns the soup and what was seen: an array for each key of `look`'s dictionary, its first
    axis the looks, and "epoch". `setting` goes to `advance`. While a chapter runs, soup and series
    are kept under `name`, so that a stopped run goes on where it was, with the same bits.

    Raises ValueError if `every` is not positive, and what `advance` raises.
    """
    if every < 1:
        raise ValueError(f"every={every} must be at least 1 epoch")
    digest = hashlib.sha256(repr((seed, until, every, sorted(setting.items()))).encode())
    for part in jax.tree.leaves(soup):
        digest.update(np.asarray(part).tobytes())
    kept = recorded.Checkpoint(f"{name}-{digest.hexdigest()[:12]}")
    seen: dict[str, list] = {}
    if past := kept.load():
        with jax.enable_x64(True):
            parts = {key: past.pop(f"soup.{key}", None) for key in Soup._fields}
            soup = Soup(**{k: None if v is None else jnp.asarray(v) for k, v in parts.items()})
        seen = {key: list(series) for key, series in past.items()}
    last = time.monotonic()
    while True:
        epoch = int(soup.epoch)
        if not seen or seen["epoch"][-1] < epoch:
            latest = {"epoch": epoch} | look(soup)
            for key, value in latest.items():
                seen.setdefault(key, []).append(np.asarray(value))
        if epoch >= until or (stop and stop({key: series[-1] for key, series in seen.items()})):
            return soup, {key: np.stack(series) for key, series in seen.items()}
        if time.monotonic() - last > KEEP:
            state = {f"soup.{k}": v for k, v in soup._asdict().items() if v is not None}
            state |= {key: np.stack(series) for key, series in seen.items()}
            kept.save(**{key: np.asarray(part) for key, part in state.items()})
            last = time.monotonic()
        soup = advance(soup, min(every, until - epoch), seed=seed, **setting)
