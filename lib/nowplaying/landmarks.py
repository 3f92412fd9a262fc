"""A recogniser without a network, to compare with: pairs of spectral peaks, as Wang (2003) has it.

Peaks of a spectrogram survive noise and rooms. Two of them that follow each other make a *hash*:
both frequencies and the time between. A song is recognised by many hashes that it has in common
with a query, all at the same distance in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.ndimage import maximum_filter
from scipy.signal import stft

from lib.datasets.synthesis import RATE

FRAME, HOP = 512, 256  # samples of a spectrum, and from one to the next
AROUND = (13, 9)  # bands and frames around a peak in which nothing is louder
REACH, APART = 64, 64  # frames and bands between the two peaks of a pair, less than
HASH_BYTES = 4  # a hash of 22 bits is an address; at it lie song and time, packed
SHIFTS = 4  # parts of a hop by which a query is moved, since peaks depend on where frames begin
NEAR = 1  # frames by which the time of a hash may be off


class Table(NamedTuple):
    """All hashes of all songs, in the order of the hashes."""

    hash: Int[np.ndarray, " n"]
    song: Int[np.ndarray, " n"]
    time: Int[np.ndarray, " n"]  # frames, of the first peak
    seconds: float  # of all songs together
    density: float  # peaks a second that are kept
    fan: int  # later peaks that each is paired with


class Answer(NamedTuple):
    """What is playing: the song, where in it the query begins, and the common hashes."""

    song: int  # -1: no hash in common
    start: float  # s, NaN if there is none
    score: int  # hashes in common at this place
    margin: int  # how many more than at the best place of another song


def build(
    recordings: Sequence[Shaped[np.ndarray, "..."]], *, density: float = 30.0, fan: int = 10
) -> Table:
    """Enter recordings of 8 kHz into a table: `density` peaks a second, in pairs with `fan` others.

    Raises ValueError for `fan` < 1, without recordings, and as `peaks` does.
    """
    if fan < 1 or not len(recordings):
        raise ValueError(
            f"fan={fan} must be at least 1, and recordings, {len(recordings)} here, some"
        )
    found = [pairs(peaks(x, density=density), fan=fan) for x in recordings]
    song = np.repeat(np.arange(len(found)), [len(h) for h, _ in found])
    hashes, time = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(hashes, kind="stable")
    seconds = sum(map(len, recordings)) / RATE
    return Table(hashes[order], song[order], time[order], seconds, density, fan)


def recognise(table: Table, x: Shaped[np.ndarray, "..."]) -> Answer:
    """Name the song that has the most hashes in common with a recording, at one place.

    The query is looked at from `SHIFTS` beginnings within a frame. Silence has no peaks and so no
    song.

    Raises ValueError as `peaks` does.
    """
    begun = [peaks(x[HOP * i // SHIFTS :], density=table.density) for i in range(SHIFTS)]
    found = [pairs(one, fan=table.fan) for one in begun]
    asked = np.unique(np.concatenate([np.stack(one, 1) for one in found]), axis=0)
    low, high = (np.searchsorted(table.hash, asked[:, 0], side) for side in ("left", "right"))
    count = high - low
    rows = np.arange(count.sum()) + np.repeat(low - np.cumsum(count) + count, count)
    if not len(rows):
        return Answer(-1, np.nan, 0, 0)
    song, start = table.song[rows], table.time[rows] - np.repeat(asked[:, 1], count)
    places, votes = _votes(song, start)
    best = votes.argmax()
    others = votes[places[0] != places[0][best]]
    margin = int(votes[best] - others.max(initial=0))
    return Answer(int(places[0][best]), places[1][best] * HOP / RATE, int(votes[best]), margin)


def peaks(x: Shaped[np.ndarray, "..."], *, density: float) -> Int[np.ndarray, "peaks 2"]:
    """Frames and bands of the peaks of a recording, at most `density` a second, in time order.

    Raises ValueError for `density` <= 0, recordings that are not one channel of finite numbers, or
    are shorter than a frame.
    """
    if not density > 0:
        raise ValueError(f"density={density} must be a positive number of peaks a second")
    if x.ndim != 1 or len(x) < FRAME + HOP:
        raise ValueError(
            f"a recording has shape {x.shape}: wanted one channel of at least {FRAME + HOP} samples"
        )
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError("a recording holds samples that are not finite: leave it out")
    if not x.any():
        return np.zeros((0, 2), int)
    _, _, spectrum = stft(x, RATE, nperseg=FRAME, noverlap=FRAME - HOP, boundary=None, padded=False)
    level = np.log(np.abs(spectrum) + 1e-6 * np.abs(spectrum).max())
    level -= level.mean(1, keepdims=True)  # a band that is always loud says nothing
    band, frame = np.nonzero(_is_peak(level))
    return _strongest(frame, band, level[band, frame], density)


def pairs(
    found: Int[np.ndarray, "peaks 2"], *, fan: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Hashes of peaks that follow each other, and the frames of the first of each two."""
    hashes, times = [np.zeros(0, int)], [np.zeros(0, int)]
    for ahead in range(1, fan + 1):
        first, second = found[:-ahead], found[ahead:]
        later, higher = (second - first).T
        near = (later > 0) & (later < REACH) & (abs(higher) < APART)
        code = (first[:, 1] * 2 * APART + higher + APART) * REACH + later
        hashes.append(code[near])
        times.append(first[near, 0])
    return np.concatenate(hashes), np.concatenate(times)


def song_bytes(table: Table, seconds: float) -> float:
    """What a song of so many seconds takes in the table: 4 bytes a hash, on average."""
    return HASH_BYTES * len(table.hash) / table.seconds * seconds


def _is_peak(level: Float[np.ndarray, "bands frames"]) -> Bool[np.ndarray, "bands frames"]:
    return (level == maximum_filter(level, AROUND)) & (level > 0)


def _strongest(frame, band, level, density):
    """The loudest peaks of each second."""
    second = frame * HOP // RATE
    order = np.lexsort((-level, second))
    rank = np.arange(len(order)) - np.searchsorted(second[order], second[order])
    kept = order[rank < density]
    kept = kept[np.lexsort((band[kept], frame[kept]))]
    return np.stack([frame[kept], band[kept]], 1)


def _votes(song, start):
    """Places (song, start) that hashes agree on, and how many do, frames next to it included."""
    width = 2 * (int(abs(start).max()) + 2)
    name, count = np.unique(song * width + start + width // 2, return_counts=True)
    votes = count.copy()
    for off in (-NEAR, NEAR):
        at = np.searchsorted(name, name + off)
        inside = at < len(name)
        same = np.zeros(len(name), bool)
        same[inside] = name[at[inside]] == name[inside] + off
        votes[same] += count[at[same]]
    return np.stack([name // width, name % width - width // 2]), votes
