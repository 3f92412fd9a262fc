"""What every timed process shares: orders, replies, and the clock.

Runs in each peer's own environment: standard library only.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata

REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library prints must not come between our replies


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and its children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


class Meter:
    """Lets a round run when the benchmark orders one, and answers with what it took."""

    def __init__(
        self,
        package: str,
        cpu: Callable[[], float] = cpu_seconds,
        wall: Callable[[], float] = time.perf_counter,
    ):
        self.cpu, self.wall = cpu, wall
        self.started = None
        try:
            self._reply(version=metadata.version(package))
        except metadata.PackageNotFoundError:  # no Python package: it is the version itself
            self._reply(version=package)

    def again(self, tell: Callable[[], float | str | dict[str, float]]) -> bool:
        """Wait for the next order; False when there is none left.

        An order other than "round" is the name of what `tell` knows: "accuracy", "digest" or
        "more", which is a number for each of some names.
        """
        if self.started is not None:
            cpu, wall = self.started
            self._reply(cpu=self.cpu() - cpu, wall=self.wall() - wall)
            self.started = None
        for order in sys.stdin:
            if order.strip() == "round":
                self.started = self.cpu(), self.wall()
                return True
            told = tell()
            self._reply(**{order.strip(): told if isinstance(told, str | dict) else float(told)})
        return False

    @staticmethod
    def _reply(**facts):
        print(json.dumps(facts), file=REPLIES, flush=True)
