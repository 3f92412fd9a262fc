"""The only executor of chapters: chapter x seed x parameters, on one laptop or on a cluster.

`make` calls it through book/_run/run.py, which shows progress. By hand:
    snakemake --cores 2 --rerun-triggers params --config scale=smoke
"""

import json
import re
import sys

sys.path[:0] = ["book/_run"]
import chapters

RUNS = {
    chapters.executed(*run).relative_to(chapters.ROOT).with_suffix("").as_posix(): run
    for run in config.get("runs")
    or [(slug, config.get("scale", "laptop"), 0, {}) for slug in chapters.written()]
}


rule all:
    input:
        [f"{run}.ipynb" for run in RUNS],


rule chapter:
    # Neither the time stamp of the source nor its prose matters: the key in `params` does.
    input:
        ancient(lambda w: f"book/{RUNS[w.run][0]}.md"),
    output:
        "{run}.ipynb",
    wildcard_constraints:
        run="|".join(map(re.escape, RUNS)) or "none",
    params:
        key=lambda w: chapters.key(*RUNS[w.run]),
        run=lambda w: [str(v) for v in RUNS[w.run][:3]],
        extra=lambda w: json.dumps(RUNS[w.run][3]),
    log:
        "{run}.log",
    benchmark:
        "{run}.tsv"
    threads: config.get("threads", 2)
    # Memory and time are the profile's to say: what stands here would overrule it.
    resources:
        gpu=lambda w: int(RUNS[w.run][1] == "paper"),
    shell:
        "LOKY_MAX_CPU_COUNT=2 python book/_run/execute.py {params.run} {params.extra:q} > {log:q} 2>&1"
        # beside a storage provider, a job hands its results over elsewhere
        " && (cmp -s {wildcards.run:q}.ipynb {output:q} || cp {wildcards.run:q}.ipynb {output:q})"
