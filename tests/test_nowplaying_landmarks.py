"""Landmarks against planted clips, pure tones whose peaks are known, and counts by hand."""

import numpy as np
import pytest

from lib.datasets.synthesis import RATE, song, sound
from lib.nowplaying import landmarks
from lib.nowplaying.training import pcm


@pytest.fixture(scope="module")
def songs():
    return [pcm(song(seed, 12.0)) for seed in range(12)]


@pytest.fixture(scope="module")
def table(songs):
    return landmarks.build(songs)


def test_a_planted_clip_is_found_where_it_is(songs, table):
    for number, begin in ((3, 2.0), (7, 0.0), (11, 3.5)):
        clip = songs[number][int(begin * RATE) : int((begin + 6) * RATE)]
        found = landmarks.recognise(table, clip)
        assert found.song == number
        assert found.start == pytest.approx(begin, abs=landmarks.HOP / RATE)
        assert found.score > 40 and found.margin > found.score / 2


def test_babble_of_a_quarter_of_the_power_leaves_most_songs(songs, table):
    noise = sound("babble", 1, 8.0)
    right = 0
    for number, x in enumerate(songs):
        clip = x[RATE : 9 * RATE] / 32767
        loud = np.sqrt(np.square(clip).mean() / np.square(noise).mean())
        found = landmarks.recognise(table, clip + noise * loud / 2)
        right += found.song == number and abs(found.start - 1) < 0.05
    assert right >= 9
    assert landmarks.recognise(table, noise).margin < 4


def test_an_unknown_song_has_a_small_margin(songs, table):
    known = landmarks.recognise(table, songs[2][: 8 * RATE])
    unknown = landmarks.recognise(table, song(99, 8.0))
    assert unknown.margin < known.margin / 20


def test_peaks_of_tones_are_at_their_frequencies():
    t = np.arange(2 * RATE) / RATE
    x = np.zeros(2 * RATE)
    for band, begin in ((32, 0.3), (64, 0.9), (96, 1.5)):
        burst = np.exp(-(((t - begin) / 0.02) ** 2))
        x += burst * np.sin(2 * np.pi * band * RATE / landmarks.FRAME * t)
    found = landmarks.peaks(x, density=3)
    middle = (found[:, 0] * landmarks.HOP + landmarks.FRAME / 2) / RATE
    for band, begin in ((32, 0.3), (64, 0.9), (96, 1.5)):
        near = abs(middle - begin) < 0.05
        assert (abs(found[near, 1] - band) <= 1).any()


def test_pairs_are_those_of_a_double_loop():
    rng = np.random.default_rng(0)
    found = np.unique(rng.integers(0, [300, 200], (120, 2)), axis=0)
    hashes, times = landmarks.pairs(found, fan=5)
    wanted = set()
    for i in range(len(found)):
        for j in range(i + 1, min(i + 6, len(found))):
            later, higher = found[j] - found[i]
            if 0 < later < landmarks.REACH and abs(higher) < landmarks.APART:
                wanted.add((*found[i], later, higher))
    later, rest = hashes % landmarks.REACH, hashes // landmarks.REACH
    band, higher = rest // (2 * landmarks.APART), rest % (2 * landmarks.APART) - landmarks.APART
    assert set(zip(times, band, later, higher, strict=True)) == wanted
    assert len(hashes) == len(wanted) and hashes.max() < 2**32


def test_the_table_is_counted(songs, table):
    per_second = len(table.hash) / (12 * 12)
    assert landmarks.song_bytes(table, 240) == pytest.approx(4 * 240 * per_second)
    assert len(landmarks.build(songs, density=10).hash) < len(table.hash)


def test_silence_is_no_song(table):
    found = landmarks.recognise(table, np.zeros(8 * RATE, np.float32))
    assert found.song == -1 and np.isnan(found.start) and found.score == 0


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (np.zeros(100, np.float32), r"shape \(100,\): wanted one channel of at least 768"),
        (np.zeros((2, 8000), np.float32), r"shape \(2, 8000\): wanted one channel"),
        (np.full(8000, np.nan, np.float32), "not finite"),
    ],
)
def test_bad_recordings_are_named(x, complaint):
    with pytest.raises(ValueError, match=complaint):
        landmarks.peaks(x, density=30)


def test_bad_settings_are_named(songs):
    with pytest.raises(ValueError, match="density=0"):
        landmarks.build(songs, density=0)
    with pytest.raises(ValueError, match="fan=0 must be at least 1"):
        landmarks.build(songs, fan=0)
    with pytest.raises(ValueError, match="recordings, 0 here"):
        landmarks.build([])
