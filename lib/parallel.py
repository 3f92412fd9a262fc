"""Independent computations, side by side or in turn: seeds, rows of a table, clients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import joblib
from jax.sharding import AxisType, Mesh

from lib.scale import check


def each(
    run: Callable[[Any], Any], settings: Iterable[Hashable], *, scale: str
) -> dict[Hashable, Any]:
    """`{setting: run(setting)}`, in the order of the settings.

    On a CPU beyond the scale "smoke", in one process for each core (LOKY_MAX_CPU_COUNT limits
    them), since XLA's threads gain little on kernels as small as ours: set NPROC=1, as `make`
    does, and each process computes with one. In turn, in this process, elsewhere: a GPU is not
    shared, and starting processes takes longer than a smoke run. `run` may be a function of the
    notebook; its globals travel with it.

    Raises ValueError if `settings` has one of them twice, and what `run` raises.
    """
    settings = list(settings)
    if len(set(settings)) < len(settings):
        raise ValueError(f"settings={settings} must all be different: they name the results")
    alone = check(scale) == "smoke" or jax.default_backend() != "cpu" or len(settings) < 2
    workers = joblib.Parallel(n_jobs=1 if alone else joblib.cpu_count())
    with warnings.catch_warnings():
        # joblib replaces a process whose memory grows, as compiled programs make it
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        return dict(zip(settings, workers(joblib.delayed(run)(s) for s in settings), strict=True))


def device_mesh(axis: str) -> Mesh | None:
    """A mesh over all devices of this process, along one axis; None if there is only one."""
    count = jax.local_device_count()
    return jax.make_mesh((count,), (axis,), axis_types=(AxisType.Auto,)) if count > 1 else None


def one_or_all(clients: str) -> str:
    """How clients are computed: "scan", one after the other, or "vmap", all at once.

    For "auto" what suits this machine: a CPU gains nothing from all at once, which takes memory.
    """
    if clients != "auto":
        return clients
    return "scan" if jax.default_backend() == "cpu" else "vmap"
