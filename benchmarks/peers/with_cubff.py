"""The authors' program, cubff: `with_cubff.py FOLDER SOUP`.

It starts from a checkpoint, and always measures its soup at the first and the last epoch of a run.
So the difference of a long and a short run is the cost of the epochs in between and nothing else.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from meter import Meter
from soups_task import EPOCHS, Task, digest

sys.path.append(str(Path(__file__).resolve().parents[1]))
from environments import built  # noqa: E402

task, (home, version) = Task(), built("cubff")
folder = Path(sys.argv[1]) / f"cubff-{sys.argv[2]}"
folder.mkdir()
start = folder / "start.dat"
header = np.array([1, len(task.programs), task.epoch], "<u8")
start.write_bytes(header.tobytes() + task.programs.tobytes())
spent = dict(cpu=0.0, wall=0.0)


def run(interval):
    """CPU and wall time of a run to the first epoch after this that `interval` divides."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    options = dict(
        lang="bff_noheads", num=len(task.programs), seed=task.seed, load=start,
        max_epochs=task.epoch + interval, checkpoint_dir=folder, save_interval=interval,
        print_interval=interval, clear_interval=interval,
    )  # fmt: skip
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    subprocess.run([home / "bin" / "main", *words, "--disable_output"], check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - clock


def tell():
    programs = np.fromfile(folder / f"{task.epoch:010}.dat", np.uint8)[24:].reshape(-1, 64)
    return digest(programs[task.order])


meter = Meter(version, cpu=lambda: spent["cpu"], wall=lambda: spent["wall"])
while meter.again(tell):
    short, long = run(1), run(EPOCHS)
    spent["cpu"] += long[0] - short[0]
    spent["wall"] += long[1] - short[1]
