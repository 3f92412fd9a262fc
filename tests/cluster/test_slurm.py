"""A sweep as Slurm jobs, on the partition that EXECUTABLE_PAPERS_SLURM names.

Without a cluster: tests/cluster/slurm.sh .venv/bin/python -m pytest tests/cluster
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import test_house

import chapters

PARTITION = os.environ.get("EXECUTABLE_PAPERS_SLURM")
if not PARTITION:
    pytest.skip("EXECUTABLE_PAPERS_SLURM names no partition", allow_module_level=True)
if not shutil.which("sbatch"):
    pytest.skip("no Slurm: apt install slurm-wlm munge", allow_module_level=True)
pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[cluster]'")


@pytest.fixture
def cluster(house):
    """The small book, its profile changed as the page "Rerun" says."""
    profile = house / "profiles" / "slurm" / "config.yaml"
    test_house.edit(profile, 'slurm_partition: "gpu"', f'slurm_partition: "{PARTITION}"')
    profile.write_text(
        re.sub(r"\n +slurm_account.*", "", profile.read_text())
        + "slurm-init-seconds-before-status-checks: 3\n"
    )
    return house


house = test_house.house


def sweep(house, chapter: str, seeds: str, **settings: str) -> subprocess.CompletedProcess:
    words = {"PROFILE": "slurm", "CHAPTER": chapter, "SEEDS": seeds, "SCALE": "smoke"} | settings
    command = ["make", "-o", ".venv/.done", "sweep", f"PY={sys.executable}"]
    return subprocess.run(
        command + [f"{name}={value}" for name, value in words.items()],
        cwd=house,
        env=os.environ | {"PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
    )


def jobs(house) -> int:
    """How many jobs the last call of Snakemake handed to Slurm."""
    return (house / "_executed" / "snakemake.log").read_text().count("SLURM jobid")


def test_a_sweep_runs_as_jobs_and_a_second_one_runs_nothing(cluster):
    first = sweep(cluster, "alpha", "0 1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 of 2 chapter runs done" in first.stdout
    assert jobs(cluster) == 2
    assert chapters.current("alpha", "smoke", 0) and chapters.current("alpha", "smoke", 1)
    assert "area 9 None" in first.stdout and "area 10 None" in first.stdout
    assert "alpha: verdicts over 2 of 2 runs\nC1  HOLDS 1, FAILS 1\n" in first.stdout
    second = sweep(cluster, "alpha", "0 1")
    assert second.returncode == 0 and "2 of 2 chapter runs are up to date" in second.stdout
    assert (cluster / "ran").read_text() == "xx"


def test_a_failing_cell_is_reported_as_it_is_locally(cluster):
    test_house.edit(cluster / "lib" / "lonely.py", "7", "1 / 0")
    failed = sweep(cluster, "beta", "0")
    assert failed.returncode == 2  # of make
    assert "beta FAILED. Log: _executed/smoke/beta.log" in failed.stderr
    assert "SLURM status is: 'FAILED'" in failed.stderr
    assert "ZeroDivisionError" in failed.stderr
    assert (cluster / "_executed" / "smoke" / "beta.failed.ipynb").exists()
    assert not chapters.executed("beta", "smoke").exists()


def test_a_job_that_slurm_refuses_is_reported_with_the_reason(cluster):
    profile = cluster / "profiles" / "slurm" / "config.yaml"
    test_house.edit(profile, f'slurm_partition: "{PARTITION}"', 'slurm_partition: "elsewhere"')
    failed = sweep(cluster, "beta", "0")
    assert failed.returncode == 2
    assert "beta FAILED. Log: _executed/snakemake.log" in failed.stderr
    assert "invalid partition" in failed.stderr


def test_a_job_at_paper_scale_asks_for_a_gpu_and_gets_what_the_profile_says(cluster):
    asks = 'subprocess.getoutput("scontrol show job $SLURM_JOB_ID")'
    (cluster / "lib" / "lonely.py").write_text(f"import subprocess\n\nNUMBER = {asks}\n")
    done = sweep(cluster, "beta", "0", SCALE="paper")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NumCPUs=2" in done.stdout and "mem=16000M" in done.stdout
    assert re.search("gres.gpu:1", done.stdout)
    assert "TimeLimit=04:00:00" in done.stdout


def test_an_interrupted_sweep_leaves_no_job_behind(cluster):
    (cluster / "wait").touch()
    command = ["make", "-o", ".venv/.done", "sweep", f"PY={sys.executable}", "PROFILE=slurm"]
    started = subprocess.Popen(
        [*command, "CHAPTER=alpha", "SCALE=smoke", "SEEDS=0"],
        cwd=cluster,
        env=os.environ | {"PYTHONPATH": str(cluster)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(cluster.glob("_executed/.unfinished/alpha-*/first.json")):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(started.pid, signal.SIGINT)
    assert "stopped" in started.communicate(timeout=60)[0].decode()
    while subprocess.check_output(["squeue", "--noheader", "--me"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (cluster / "wait").unlink()
    done = sweep(cluster, "alpha", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (cluster / "ran").read_text() == "x", "what was finished is kept"
