"""What every table of the paper measures: rounds to a target, at the best learning rate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from lib import recorded
from lib.fedavg.algorithm import Federation, rounds_to_target, train


class Curve(NamedTuple):
    """A learning curve of the global model, at the learning rate that needs the fewest rounds."""

    rounds: list[int]  # after which the accuracy was measured, from 1
    accuracy: list[float]  # on the test set, as measured: not yet made monotone
    to_target: float | None  # interpolated; None if the target was not reached
    lr: float
    interior: bool | None  # whether `lr` lies inside the grid; None if only one value was tried

    @property
    def rounds_needed(self) -> float:
        """Rounds to the target; all that were made, a lower bound, if it was not reached."""
        return float(self.rounds[-1]) if self.to_target is None else self.to_target

    @property
    def shown(self) -> str:
        """Rounds to the target as a table shows them: "87", or "> 1500" if it was not reached.

        A star marks the best learning rate of a grid that lies at the grid's edge.
        """
        count = f"> {self.rounds[-1]}" if self.to_target is None else f"{self.to_target:.0f}"
        return count + "*" * (self.interior is False)


def learning_curve(
    model: eqx.Module,
    federation: Federation,
    test: tuple[Any, Any],
    *,
    name: str,
    key: PRNGKeyArray,
    lrs: Sequence[float],
    target: float,
    rounds: int,
    **setting: Any,
) -> Curve:
    """Train until the first learning rate of a grid reaches the target, and keep its curve.

    All learning rates train side by side, round by round, so that the first to reach the target
    is the one that needs the fewest rounds. `name` identifies the curve where an interrupted run
    keeps its finished parts; `setting` goes to `train`.
    Section 3 of the paper ("learning curves").

    Raises ValueError if `lrs` is empty, and what `train` raises.
    """
    if not len(lrs):
        raise ValueError("lrs is empty: give at least one learning rate")

    def compute() -> dict:
        grid = len(lrs) > 1
        lr = jnp.asarray(lrs, jnp.float32) if grid else float(lrs[0])
        options = dict(rounds=rounds, target=target) | setting
        done = train(model, federation, test, key=key, lr=lr, **options)
        accuracy = np.asarray(done.accuracy, np.float64).reshape(len(done.rounds), -1)
        reached = [rounds_to_target(done.rounds, a, target) for a in accuracy.T]
        best = min(range(len(lrs)), key=lambda i: (reached[i] or np.inf, -accuracy[:, i].max()))
        return {
            "rounds": done.rounds.tolist(),
            "accuracy": accuracy[:, best].tolist(),
            "to_target": reached[best],
            "lr": float(lrs[best]),
            "interior": min(lrs) < lrs[best] < max(lrs) if grid else None,
        }

    return Curve(**recorded.resumable(f"{name}-{_digest(model, lrs, target, setting)}", compute))


def _digest(model, lrs, target, setting) -> str:
    """Tells curves of one name apart, so that an interrupted run never takes one for another."""
    digest = hashlib.sha256(repr((list(lrs), target, sorted(setting.items()))).encode())
    for leaf in jax.tree.leaves(model):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def speedup(baseline: Curve, curve: Curve) -> float:
    """How many times fewer rounds `curve` needs than `baseline`.

    A baseline that never reached the target counts with the rounds it made, so that the result is
    a lower bound; a curve that never reached it gives 0.
    """
    return 0.0 if curve.to_target is None else baseline.rounds_needed / curve.to_target
