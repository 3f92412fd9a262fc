"""Times Now Playing in CPU time: recognition against landmarks, the detector's stream, the search.

python benchmarks/bench_nowplaying.py              everything; writes benchmarks/results/
python benchmarks/bench_nowplaying.py --quick      small, one round of each; writes nothing

A name of what is to be measured, such as "detecting", leaves out the others. Recognition trains a
fingerprinter first, as the chapter does on a laptop, which takes a minute or two.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from side_by_side import PEERS, Row, keep, measure, progress, shortened, show

from lib.datasets.synthesis import KINDS, RATE, song, sound
from lib.nowplaying import detector, fingerprint, rooms, search, training

sys.path.append(str(PEERS))
from recognition_task import CLIP, SNRS, TIMED  # noqa: E402
from search_task import FEW, TOUCH, K  # noqa: E402

ROUNDS = 5  # timed, after a first one that compiles
SECONDS = 240  # fingerprints of a song
SONGS, PARTITIONS = 4000, 1024
FEWER, FEWER_PARTITIONS = 420, 256
QUERIES = 240
DIMENSIONS = 96
SEED = 0
DATA = "computed from a seed: random walks on the sphere, and noisy copies of their points"
UNIT = "ms of CPU a query"
GENERATED = "songs, sounds and rooms computed from seeds"
REPEATS = 5  # of a round of the recogniser, as peers/ours_recogniser.py has it


class Scale(NamedTuple):
    """How much is taught and asked; the larger one as the chapter on a laptop."""

    seconds: int  # of a song
    taught: int  # songs
    known: int  # songs on file, others than those taught
    noises: tuple[int, int]  # sounds of each kind, taught and asked with
    spaces: int  # rooms, likewise each
    steps: int
    pairs: int  # of a step
    queries: int  # at each SNR
    partitions: int
    listening: float  # s of sound for the detector


LAPTOP = Scale(30, 300, 400, (60, 40), 48, 200, 32, 200, 256, 262.144)
SMALL = Scale(15, 32, 40, (2, 2), 4, 10, 16, 12, 16, 16.384)


# Recognition -------------------------------------------------------------------------------------


def teach(clips: training.Clips, scale: Scale) -> fingerprint.Encoder:
    """The fingerprinter of the chapter."""
    done = fingerprint.train_fingerprinter(
        clips, key=jax.random.key(SEED), steps=scale.steps, batch=scale.pairs, rate=6e-3
    )
    return fingerprint.fold(done.state.model, done.state.statistics)


def songs_from(first: int, count: int, scale: Scale) -> np.ndarray:
    return training.pcm(np.stack([song(first + i, scale.seconds) for i in range(count)]))


def sounds_from(first: int, count: int) -> np.ndarray:
    """So many sounds of each kind, of 20 s."""
    made = [sound(kind, first + i, 20.0) for i in range(count) for kind in KINDS]
    return training.pcm(np.stack(made))


def ask(songs: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Clips (levels, q, samples) in rooms and noises that nobody was taught, and their songs (q,).

    They are the same moments in the same rooms at each level.
    """
    truth = np.arange(scale.queries) % len(songs)
    keys = jax.random.split(jax.random.key(SEED + 1), 3)
    size = CLIP * RATE
    begin = jax.random.randint(keys[0], truth.shape, 0, songs.shape[1] - size + 1)
    x = np.stack([songs[w, b : b + size] for w, b in zip(truth, np.asarray(begin), strict=True)])
    noises = sounds_from(10**4, scale.noises[1])
    spaces = np.stack([rooms.room(scale.spaces + i) for i in range(scale.spaces)])
    noise = training.random_crops(keys[1], noises, len(x), size)
    heard = [rooms.degrade(keys[2], training.floats(x), noise, spaces, snr=snr) for snr in SNRS]
    return np.stack([training.pcm(level) for level in heard]), truth


def prepare_recognition(folder: Path, scale: Scale) -> None:
    """The task of peers/recognition_task.py, and what peers/ours_recogniser.py needs besides."""
    progress("generating songs and sounds")
    spaces = np.stack([rooms.room(i) for i in range(scale.spaces)])
    taught = songs_from(0, scale.taught, scale), sounds_from(0, scale.noises[0]), spaces
    known = songs_from(10**5, scale.known, scale)
    progress("training a fingerprinter")
    encoder = teach(training.Clips(*taught), scale)
    progress("fingerprinting")
    prints = fingerprint.fingerprints(encoder, list(known))
    starts = np.cumsum([0, *map(len, prints)])
    clips, truth = ask(known, scale)
    arrays = dict(songs=known, clips=clips, truth=truth, prints=np.concatenate(prints))
    quantised = search.build(jax.random.key(SEED), arrays["prints"], partitions=scale.partitions)
    for name, array in (arrays | quantised._asdict() | dict(starts=starts)).items():
        np.save(folder / f"{name}.npy", array)
    eqx.tree_serialise_leaves(folder / "encoder.eqx", encoder)


def recognition_rows() -> list[Row]:
    """Who names songs, each with its cost in milliseconds a clip."""
    clips = TIMED * len(SNRS) * 1e-3

    def ours(name, way):
        return Row(name, "book", ("ours_recogniser.py", way), per=REPEATS * clips)

    def peer(density, fan):
        program = ("with_landmarks.py", str(density), str(fan), "all")
        return Row(f"Landmarks, {density} peaks a second", "book", program, per=clips, peer=True)

    return [
        ours("This book", "one"),
        ours("This book, from two offsets", "twice"),
        ours(f"This book, {TIMED * len(SNRS)} clips at once", "together"),
        ours("This book, floats, all looked at", "floats"),
        peer(30, 10),
        peer(20, 6),
    ]


def part_rows() -> list[Row]:
    """Where the time goes, in milliseconds a clip."""
    clips = TIMED * len(SNRS) * 1e-3

    def ours(name, way):
        return Row(name, "book", ("ours_recogniser.py", way), per=REPEATS * clips)

    def peer(name, what):
        program = ("with_landmarks.py", "30", "10", what)
        return Row(name, "book", program, per=clips, peer=True)

    return [
        ours("This book, from sound to a song", "one"),
        ours("its log-mel windows", "mel"),
        ours("its network", "network"),
        ours("its search for neighbours", "search"),
        ours("its reading of the candidates' codes", "codes"),
        ours("its votes and comparisons", "match"),
        peer("Landmarks, 30 peaks a second", "all"),
        peer("their peaks", "peaks"),
    ]


def recognising(quick: bool) -> None:
    """From sound to a song, and where the time goes."""
    scale, rounds = (SMALL, 1) if quick else (LAPTOP, ROUNDS)
    description = (
        f"The song of {CLIP} s of sound, of {scale.known} on file, which last {scale.seconds} s; "
        f"{scale.queries} clips at each SNR"
    )
    with tempfile.TemporaryDirectory() as name:
        prepare_recognition(Path(name), scale)
        named = measure(recognition_rows(), rounds, Path(name), "more")
        parts = measure(part_rows(), rounds, Path(name), None)
    files = f"{scale.known}_songs"
    finish(f"recognition_{files}", description, UNIT, GENERATED, rounds, named, quick)
    description = f"Where the time goes: {CLIP} s of sound, {scale.known} songs on file"
    finish(f"parts_{files}", description, UNIT, GENERATED, rounds, parts, quick)


# The detector ------------------------------------------------------------------------------------


def prepare_detector(folder: Path, seconds: float) -> tuple[float, int]:
    """The task of peers/detector_task.py; return what an answer takes in a stream, and anew."""
    model = detector.Detector(jax.random.key(SEED))
    network = detector.fold(model, training.fresh_statistics(model.scale))
    x = song(0, seconds)
    frames = detector.features(x)
    answers = np.asarray(detector.detector_scan(network, frames))
    for name, array in dict(sound=x, frames=frames, answers=answers).items():
        np.save(folder / f"{name}.npy", array)
    eqx.tree_serialise_leaves(folder / "detector.eqx", network)
    stream, _ = detector.detector_step(network, detector.detector_start(network), frames)
    streaming = detector.stream_multiply_adds(network, stream) / len(answers)
    return streaming, detector.multiply_adds(network, streaming=False)


def detector_rows(given: str, seconds: float) -> list[Row]:
    """Who listens, each with its cost in microseconds a second of sound."""
    per = seconds * 1e-6

    def ours(name, way):
        return Row(f"This book, {name}", "book", ("ours_detector.py", way, given), per=per)

    def peer(name, way):
        program = ("plain_detector.py", way, given)
        return Row(f"Each window anew, {name}", "book", program, per=per, peer=True)

    return [
        ours("the whole recording", "whole"),
        ours("frame by frame", "steps"),
        ours("frame by frame, a call for each answer", "calls"),
        peer("one by one", "one"),
        peer("all at once", "all"),
        peer("at every frame", "frames"),
    ]


def detecting(quick: bool) -> None:
    """Is there music? Along a recording, with and without a memory of it."""
    seconds, rounds = (SMALL.listening, 1) if quick else (LAPTOP.listening, ROUNDS)
    unit = "µs of CPU a second of sound"
    for given, words in (("mel", "log-mel frames"), ("sound", "sound")):
        description = f"Is there music? From {words}: {seconds:.0f} s, an answer every 0.64 s"
        with tempfile.TemporaryDirectory() as name:
            streaming, anew = prepare_detector(Path(name), seconds)
            rows = measure(detector_rows(given, seconds), rounds, Path(name), "digest")
        counts = 3 * [streaming] + 2 * [anew] + [anew * detector.HOP]
        for row, count in zip(rows, counts, strict=True):
            if not row["absent"]:
                speed = shortened(1e6 / row["value"])
                row["more"] = {"times real time": speed, "products an answer": round(count)}
        finish(f"detector_{given}", description, unit, GENERATED, rounds, rows, quick)


# The search --------------------------------------------------------------------------------------


def walks(songs: int) -> np.ndarray:
    """Songs (songs * SECONDS, DIMENSIONS): random walks, which prefer about forty dimensions."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((songs, SECONDS, DIMENSIONS), np.float32)
    x *= np.exp(-np.arange(DIMENSIONS) / 40).astype(np.float32)
    for t in range(1, SECONDS):
        x[:, t] = 0.5 * x[:, t - 1] + np.float32(np.sqrt(0.75)) * x[:, t]
    return normalised(x).reshape(-1, DIMENSIONS)


def normalised(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def prepare(folder: Path, songs: int, partitions: int) -> None:
    """The task of peers/search_task.py."""
    rng = np.random.default_rng(SEED + 1)
    progress(f"quantising {songs * SECONDS:,} fingerprints")
    x = walks(songs)
    planted = rng.integers(0, len(x), QUERIES)
    noise = rng.standard_normal((QUERIES, DIMENSIONS), np.float32) / np.float32(12)
    arrays = dict(x=x, planted=planted, queries=normalised(x[planted] + noise))
    arrays |= search.build(jax.random.key(SEED), x, partitions=partitions)._asdict()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def search_rows() -> list[Row]:
    """Who searches, each with its cost in milliseconds a query."""
    all_, some = QUERIES * 1e-3, FEW * 1e-3
    return [
        Row("This book", "book", ("ours_search.py", "blocks"), per=all_),
        Row("NumPy, partition by partition", "book", ("plain_search.py",), per=all_, peer=True),
        Row("faiss, our codes", "faiss", ("with_faiss.py", "ivfpq"), per=all_),
        Row("faiss, codes of 4 bits", "faiss", ("with_faiss.py", "fastscan"), True, all_),
        Row("This book, all, unquantised", "book", ("ours_search.py", "exact"), per=some),
        Row("faiss, all, unquantised", "faiss", ("with_faiss.py", "flat"), per=some),
    ]


def searching(quick: bool) -> None:
    """The search for the neighbours of one fingerprint."""
    songs, partitions = (FEWER, FEWER_PARTITIONS) if quick else (SONGS, PARTITIONS)
    rounds = 1 if quick else ROUNDS
    count = songs * SECONDS
    description = f"The {K} nearest of {count:,} fingerprints, looking at {TOUCH:.0%} of them"
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), songs, partitions)
        rows = measure(search_rows(), rounds, Path(name), "accuracy")
    finish(f"search_{count}", description, UNIT, DATA, rounds, rows, quick)


def finish(name, description, unit, data, rounds, rows, quick):
    """Show the rows, and keep them unless they are quick ones."""
    show(description, unit, rows)
    if not quick:
        keep(f"nowplaying_{name}", description, unit, data, rounds, rows)


MEASURED = {f.__name__: f for f in (detecting, recognising, searching)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that all works")
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(MEASURED)}; all if none")
    options = parser.parse_args()
    if unknown := set(options.what) - MEASURED.keys():
        parser.error(f"nothing is called {', '.join(unknown)}: use {', '.join(MEASURED)}")
    for what in options.what or MEASURED:
        MEASURED[what](options.quick)


if __name__ == "__main__":
    main()
