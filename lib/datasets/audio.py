"""Recordings of music: real pieces, a folder of your own, or generated songs in their place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from lib.datasets.fallback import Banner, real_or_embedded
from lib.datasets.registry import REGISTRY

SUFFIXES = (".wav", ".ogg", ".mp3", ".flac")
SHORTEST = 0.1  # seconds; less is a click
STAND_INS = range(10**6, 10**6 + 16)  # seeds of songs that nobody is likely to train on
STAND_IN_LENGTH = 30.0  # seconds


class MusicData(NamedTuple):
    """Recordings of 8,000 samples a second, one channel, -1 .. 1."""

    names: list[str]
    audio: list[Float32[np.ndarray, " n"]]
    source: str  # "real" or "embedded"
    banner: Banner | None


def music(scale: str) -> MusicData:
    """Sixteen pieces by Max McCracken, 64 minutes, which nothing here was tuned on.

    Embedded: sixteen generated songs of 30 s.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "music",
        list(REGISTRY["music"]),
        scale,
        real=lambda *paths: MusicData(
            [path.stem for path in paths], list(map(read_audio, paths)), "real", None
        ),
        embedded=generated,
        instead="sixteen generated songs of 30 s",
    )


def generated(banner: Banner) -> MusicData:
    """Songs of `lib.datasets.synthesis`, named by their seeds."""
    from lib.datasets.synthesis import song  # slow to import, and only needed here

    names = [f"generated {seed}" for seed in STAND_INS]
    return MusicData(names, [song(seed, STAND_IN_LENGTH) for seed in STAND_INS], "embedded", banner)


def audio_files(folder: str | Path) -> list[Path]:
    """The wav, ogg, mp3 and flac files in a folder and the folders in it, by name.

    Raises ValueError if it is no folder or holds none.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ValueError(f"folder={str(folder)!r} is not a folder: name one with audio files")
    found = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"folder={str(folder)!r} has no audio file: wanted {', '.join(SUFFIXES)}")
    return found


def read_audio(
    path: str | Path, *, rate: int = 8000, shortest: float = SHORTEST
) -> Float32[np.ndarray, " n"]:
    """Read one recording: channels are averaged, and `rate` samples a second kept.

    Raises ValueError if the file cannot be read, is sampled at less than `rate`, is shorter than
    `shortest` seconds, or holds something that is not a number or nothing but silence.
    """
    import soundfile  # loads a library of the system's, which only readers of files must have
    from scipy.signal import resample_poly  # slow to import, and only needed here

    try:
        channels, found = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        wanted = ", ".join(SUFFIXES)
        raise ValueError(f"{path} cannot be read, wanted {wanted}: {error}") from error
    if found < rate:
        raise ValueError(f"{path} is sampled at {found} Hz: wanted {rate} Hz or more")
    if len(channels) < shortest * found:
        lasts = f"{len(channels) / found:.3g} s"
        raise ValueError(f"{path} lasts {lasts}: wanted at least {shortest} s, or leave it out")
    if not np.isfinite(channels).all():
        raise ValueError(f"{path} holds samples that are not finite: export it again")
    heard = channels.mean(axis=1)
    if not heard.any():
        raise ValueError(f"{path} is silent once its channels are averaged: leave it out")
    return resample_poly(heard, rate, found).astype(np.float32)
