"""This book's recogniser, or a part of it: `ours_recogniser.py FOLDER WAY`, WAY as in WAYS.

Besides the arrays of recognition_task.py it needs the network, `encoder.eqx`, the fingerprints of
all songs, `prints` (n, d), the rows at which songs start, `starts`, and the codes: `centroids`,
`codebooks`, `codes` and `partition`.
"""

import sys
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from meter import Meter
from recognition_task import RATE, Task

from lib.nowplaying import fingerprint, matching, mel, quantisation, search, training

BLOCK, K = 16, 200  # as the chapter has it
CANDIDATES = 64
REPEATS = 5  # how often a round does its work

task = Task()
prints, starts = np.asarray(task.prints), np.asarray(task.starts)
TOUCH = max(0.02, (K + BLOCK) / len(prints))  # 2 % of very few songs are less than K
database = search.Database(task.centroids, task.codebooks, task.codes, task.partition)
index = search.lay_out(database, block=BLOCK)
database = index.database


def load(path: Path) -> fingerprint.Encoder:
    """The trained network."""
    model = fingerprint.Fingerprinter(jax.random.key(0))
    fresh = tuple(map(training.fresh_statistics, model.scales))
    return eqx.tree_deserialise_leaves(path, fingerprint.fold(model, fresh))


encoder = load(task.folder / "encoder.eqx")


# One clip: from sound to a song


@partial(jax.jit, static_argnames="phases")
def spectra(clip, phases=1):
    """Log-mel windows (phases * t, frames, mels) of a clip, one a second at each phase."""
    late = [RATE * phase // phases for phase in range(phases)]
    count = (len(clip) - late[-1] - fingerprint.WINDOW) // RATE + 1
    begins = [begin + RATE * i for begin in late for i in range(count)]
    windows = jnp.stack([clip[begin : begin + fingerprint.WINDOW] for begin in begins])
    return mel.log_mel(training.floats(windows), mel.FINGERPRINT)


@jax.jit
def network(x):
    return encoder(x)


def one(clip, phases=1):
    """The song by codes, few of which are looked at."""
    asked = network(spectra(clip, phases)).reshape(1, phases, -1, prints.shape[1])
    return int(matching.match(index, starts, asked, k=K, touch=TOUCH).song[0])


def one_exact(clip):
    """The song by fingerprints in floats, all of which are looked at."""
    asked = network(spectra(clip))
    hits = search.search_exact(floats, asked, k=K)
    return int(matching.judge(matching.align(hits, asked[None, None], starts, floats)).song[0])


def one_by_one(name, clips):
    return np.array([name(clip) for clip in clips])


def together(clips):
    asked = np.stack(fingerprint.fingerprints(encoder, clips))[:, None]
    return np.asarray(matching.match(index, starts, asked, k=K, touch=TOUCH).song)


# Parts, each of which gets what the part before gives


def part(run, given):
    """What does one part for each clip, and waits until it is done."""

    def work(_):
        for x in given:
            jax.block_until_ready(run(*x))

    return work


def look(asked):
    return search.search(index, asked, k=K, touch=TOUCH)


def compare(hits, asked):
    places = matching.align(hits, asked[None, None], starts, decoded, candidates=CANDIDATES)
    return matching.judge(places)


def parts(clips):
    """What does each part of the work on the clips."""
    heard = [(spectra(clip),) for clip in clips]
    asked = [(network(*x),) for x in heard]
    hits = [look(*x) for x in asked]
    t = asked[0][0].shape[0]
    rows = [(database, h.row[:, :CANDIDATES].reshape(CANDIDATES, t)) for h in hits]
    return {
        "mel": part(spectra, [(clip,) for clip in clips]),
        "network": part(network, heard),
        "search": part(look, asked),
        "codes": part(jax.jit(search.fingerprints), rows),
        "match": part(compare, [(h, *x) for h, x in zip(hits, asked, strict=True)]),
    }


way = sys.argv[2]
clips = task.timed()
floats = jax.device_put(prints)
decoded = search.fingerprints(database, jnp.arange(len(prints)))
names = {
    "one": partial(one_by_one, one),
    "twice": partial(one_by_one, partial(one, phases=2)),
    "floats": partial(one_by_one, one_exact),
    "together": together,
}
run = names[way] if way in names else parts(clips)[way]


def tell():
    besides = 4 * training.count_params(encoder)
    if way == "floats":
        return task.told(run, prints.nbytes, besides)
    besides += database.centroids.nbytes + database.codebooks.nbytes
    stored = quantisation.song_bytes(len(prints), partitions=len(database.centroids))
    return task.told(run, stored.total, besides)


meter = Meter("jax")
while meter.again(tell):
    for _ in range(REPEATS):
        run(clips)
