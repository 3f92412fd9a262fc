"""Songs and everyday sounds that are computed, not recorded: 8 kHz, mono, -1 .. 1.

Agüera y Arcas et al. (2017) trained on music and on AudioSet, which nobody may pass on. These
stand in for them. Each is a pure function of an integer: the same seed gives the same samples.

Songs are played as people play, a little off the beat and never equally loud. Were repeats exact,
the two choruses of a song would be the same recording, and no fingerprint could tell one from the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float, Float32, Integer
from scipy.signal import lfilter

RATE = 8000  # samples per second
LOUDNESS = 0.1  # root mean square of songs and sounds
OFF_BEAT = 0.008  # seconds, standard deviation of when a note is played
RELEASE = 0.08  # seconds in which a note that ends dies away
SCALES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # minor
    (0, 2, 3, 5, 7, 9, 10),  # Dorian
    (0, 2, 4, 5, 7, 9, 10),  # Mixolydian
)
FORMS = ("AABA", "ABAB", "AABB", "ABBA")  # four bars a letter
TABLE = 2048  # samples in one period of a stored wave


def song(seed: int, seconds: float) -> Float32[np.ndarray, " n"]:
    """A song for melody, chords, bass and, mostly, drums; no two seeds sound the same.

    Tempo (66 to 172 beats a minute), key, scale, form, chords, motifs, rhythm and instruments are
    drawn from the seed. A longer song begins as the shorter one does, up to its volume.

    Raises ValueError if `seed` is negative or `seconds` makes no sample.
    """
    rng = generator("song", seed)
    n = _samples(seconds)
    piece = _piece(rng)
    mix = np.zeros(n, np.float32)
    for start, sound in _performance(rng, piece, seconds):
        at = max(0, round(start * RATE))
        part = mix[at : at + len(sound)]
        part += sound[: len(part)]
    return _at_loudness(lfilter([1, piece.tilt], [1], mix))


def sound(kind: str, seed: int, seconds: float) -> Float32[np.ndarray, " n"]:
    """A sound of everyday life that is not music, one of `KINDS`.

    "silence" is a faint hiss, a hundredth as loud as the others; the peaks of knocks are clipped.

    Raises ValueError for an unknown `kind`, a negative `seed` or `seconds` that make no sample.
    """
    if kind not in _SOUNDS:
        raise ValueError(f"kind={kind!r} is not known: use one of {', '.join(KINDS)}")
    heard = _at_loudness(_SOUNDS[kind](generator(kind, seed), _samples(seconds)))
    return heard / np.float32(100) if kind == "silence" else heard


def generator(purpose: str, seed: int) -> np.random.Generator:
    """Random numbers of their own for each purpose and seed.

    Raises ValueError if `seed` is negative.
    """
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    return np.random.default_rng([*purpose.encode(), seed])


class Instrument(NamedTuple):
    """How a note sounds: a wave that fades into another, two sines (FM), or a plucked string."""

    kind: str  # "wave", "fm" or "string"
    waves: Complex[np.ndarray, "2 harmonics"]  # complex amplitudes at the beginning and later
    pluck: Float[np.ndarray, " period"]  # noise that a string starts with
    attack: float  # seconds
    decay: float  # seconds
    vibrato: float  # largest relative change of the frequency
    wobble: float  # Hz, of the vibrato
    ratio: float  # FM: frequency of the modulator over that of the note
    depth: float  # FM: modulation index


class Piece(NamedTuple):
    """What is written down before the musicians play."""

    beat: float  # seconds
    key: int  # semitones above C
    scale: tuple[int, ...]
    form: str
    chords: dict[str, Integer[np.ndarray, "4"]]  # a degree of the scale for each bar of a section
    rhythms: dict[str, Bool[np.ndarray, "3 16"]]  # which drums each section has at which step
    instruments: tuple[Instrument, Instrument, Instrument]  # melody, chords, bass
    volumes: tuple[float, float, float, float]  # of these, and of the drums: 0 is none
    drums: tuple[Float32[np.ndarray, " n"], ...]  # kick, snare, hi-hat
    tilt: float  # of the spectrum: below 0 is brighter


def note(instrument: Instrument, pitch: int, seconds: float) -> Float32[np.ndarray, " n"]:
    """One note of an instrument, at full strength.

    `pitch` is in semitones as in MIDI: 69 is the A of 440 Hz. Harmonics above half the sampling
    rate are left out, or a high note would bring false low ones. A string is Karplus and Strong's
    (1983): noise runs in a loop as long as a period and loses its highs in each round.

    Raises ValueError if `pitch` is outside 0 .. 106, where 8 kHz cannot carry it.
    """
    if not 0 <= pitch <= 106:
        raise ValueError(f"pitch={pitch} must lie in 0 .. 106: the last is 3729 Hz")
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    t = np.arange(round((seconds + RELEASE) * RATE), dtype=np.float32) / np.float32(RATE)
    if instrument.kind == "string":
        wave = _string(instrument, frequency, len(t))
    else:
        swing = instrument.vibrato / (2 * np.pi * instrument.wobble)
        turns = frequency * (t + swing * np.sin(2 * np.pi * instrument.wobble * t))
        wave = (_fm if instrument.kind == "fm" else _faded)(instrument, frequency, turns, t)
    shape = np.minimum(t / instrument.attack, 1) * np.exp(-t / instrument.decay)
    shape *= np.minimum((t[-1] - t) / RELEASE, 1)
    return (wave * shape).astype(np.float32)


# How a song is written and played ---------------------------------------------------------------


def _piece(rng: np.random.Generator) -> Piece:
    return Piece(
        beat=60 / rng.uniform(66, 172),
        key=int(rng.integers(12)),
        scale=SCALES[rng.integers(len(SCALES))],
        form=FORMS[rng.integers(len(FORMS))],
        chords={section: rng.permutation(6)[:4] for section in "AB"},
        rhythms={s: rng.random((3, 16)) < [[0.35], [0.22], [0.6]] for s in "AB"},
        instruments=tuple(_instrument(rng, lasts) for lasts in (1, 2, 1)),
        volumes=(
            rng.uniform(0.5, 1),
            rng.uniform(0.15, 0.5),
            rng.uniform(0.3, 0.8),
            rng.uniform(0.2, 0.9) * (rng.random() < 0.8),
        ),
        drums=_drums(rng),
        tilt=rng.uniform(-0.5, 0.5),
    )


def _performance(
    rng: np.random.Generator, piece: Piece, seconds: float
) -> Iterator[tuple[float, Float32[np.ndarray, " n"]]]:
    """When what is heard, bar by bar."""
    # Each pitch and length is rendered once; what differs between repeats is when and how loud.
    lead, pad, bass = (cache(partial(note, one)) for one in piece.instruments)
    loud_lead, loud_pad, loud_bass, loud_drums = piece.volumes
    motifs = {}

    def at(start, volume, least, heard):
        return start + rng.normal(0, OFF_BEAT), np.float32(volume * rng.uniform(least, 1)) * heard

    def pitch(degree):
        octave, step = divmod(int(degree), 7)
        return piece.key + piece.scale[step] + 12 * octave

    for bar in range(int(seconds / (4 * piece.beat)) + 1):
        now = 4 * bar * piece.beat
        section = piece.form[bar // 4 % 4]
        chord = piece.chords[section][bar % 4]
        for third in (0, 2, 4):
            yield at(now, loud_pad, 0.7, pad(48 + pitch(chord + third), 4 * piece.beat))
        for beat in np.flatnonzero(rng.random(4) < 0.8):
            root = pitch(chord if rng.random() < 0.7 else chord + 4)
            low = 24 if piece.key > 6 else 36
            yield at(now + beat * piece.beat, loud_bass, 0.6, bass(low + root, 0.9 * piece.beat))
        played = piece.rhythms[section] & (rng.random((3, 16)) < 0.9)
        for drum, step in np.argwhere(played):
            yield at(now + step * piece.beat / 4, loud_drums, 0.5, piece.drums[drum])
        phrase = (section, bar % 2)
        if phrase not in motifs or rng.random() < 0.4:
            motifs[phrase] = _motif(rng)
        for beat, length, degree in motifs[phrase]:
            varied = degree + (rng.integers(-1, 2) if rng.random() < 0.2 else 0)
            heard = lead(60 + pitch(varied), length * piece.beat)
            yield at(now + beat * piece.beat, loud_lead, 0.6, heard)


def _motif(rng: np.random.Generator) -> list[tuple[float, float, int]]:
    """A bar of melody: beat, length in beats, degree of the scale, which moves by small steps."""
    beat, degree, motif = 0.0, int(rng.integers(7)), []
    while beat < 4:
        length = (0.25, 0.5, 0.5, 0.75, 1.0, 1.5)[rng.integers(6)]
        if rng.random() < 0.85:
            motif.append((beat, min(length, 4 - beat), degree))
        degree = min(max(degree + int(rng.integers(-3, 4)), -2), 11)
        beat += length
    return motif


def _instrument(rng: np.random.Generator, lasts: float) -> Instrument:
    return Instrument(
        kind=("wave", "wave", "fm", "string")[rng.integers(4)],
        waves=np.stack([_harmonics(rng), _harmonics(rng)]),
        pluck=rng.standard_normal(RATE // 8),
        attack=rng.uniform(0.003, 0.06),
        decay=rng.uniform(0.15, 1.6) * lasts,
        vibrato=rng.uniform(0, 0.03),
        wobble=rng.uniform(4, 7),
        ratio=(0.5, 1.0, 2.0, 3.0, 1.41)[rng.integers(5)],
        depth=rng.uniform(0.5, 5),
    )


def _harmonics(rng: np.random.Generator) -> Complex[np.ndarray, " harmonics"]:
    """Complex amplitudes of ten harmonics, of which the last few are absent."""
    order = np.arange(1, 11)
    size = rng.gamma(1.0, 1.0, 10) * order ** -rng.uniform(0.5, 1.8)
    size[0] += 0.5
    return np.where(order <= rng.integers(3, 11), size, 0) * np.exp(2j * np.pi * rng.random(10))


def _faded(instrument, frequency, turns, t):
    first, then = (_looked_up(_wave(wave, frequency), turns) for wave in instrument.waves)
    return then + np.exp(-3 * t) * (first - then)


def _fm(instrument, frequency, turns, t):
    # Carson's rule: the band reaches (depth + 1) modulators above the note
    most = max(0.0, (RATE / 2 / frequency - 1) / instrument.ratio - 1)
    depth = min(instrument.depth, most) * np.exp(-t / instrument.decay)
    swing = depth * _looked_up(_SINE, instrument.ratio * turns) / (2 * np.pi)
    return _looked_up(_SINE, turns + swing)


def _string(instrument, frequency, n):
    period, late = divmod(RATE / frequency, 1)  # the rest tunes the string, and dampens its highs
    period = int(period)
    start = np.zeros(n)
    start[:period] = instrument.pluck[:period][:n]
    loop = np.zeros(period + 2)
    loop[0], loop[period:] = 1, (-0.996 * (1 - late), -0.996 * late)
    wave = lfilter([1], loop, start)
    return wave / np.abs(wave).max()


def _wave(harmonics, frequency: float) -> Float32[np.ndarray, " TABLE"]:
    """One period, at most 1 in size, of those harmonics that the sampling rate can carry."""
    spectrum = np.zeros(TABLE // 2 + 1, complex)
    carried = np.arange(1, len(harmonics) + 1) * frequency < RATE / 2
    spectrum[1 : len(harmonics) + 1] = np.where(carried, harmonics, 0)
    wave = np.fft.irfft(spectrum, TABLE)
    return (wave / np.abs(wave).max()).astype(np.float32)


def _looked_up(table, turns):
    return table[(turns * TABLE).astype(np.int32) % TABLE]


_SINE = np.sin(2 * np.pi * np.arange(TABLE) / TABLE).astype(np.float32)


def _drums(rng: np.random.Generator) -> tuple[Float32[np.ndarray, " n"], ...]:
    t = np.arange(RATE // 4) / RATE
    low, fall = rng.uniform(45, 70), rng.uniform(2, 8)
    kick = np.sin(2 * np.pi * (low * t + fall * (1 - np.exp(-40 * t))))
    kick *= np.exp(-rng.uniform(8, 25) * t)
    snare = 0.6 * rng.standard_normal(len(t)) * np.exp(-rng.uniform(12, 30) * t)
    snare += 0.3 * np.sin(2 * np.pi * rng.uniform(150, 240) * t) * np.exp(-20 * t)
    hat = 0.3 * np.diff(rng.standard_normal(len(t) + 1)) * np.exp(-rng.uniform(30, 90) * t)
    return tuple(drum.astype(np.float32) for drum in (kick, snare, hat))


# Everyday sounds --------------------------------------------------------------------------------


def _speech(rng: np.random.Generator, n: int) -> Float[np.ndarray, " n"]:
    """Syllables and pauses: a pulsing voice through three resonances, or hissing consonants."""
    heard, at, voice = np.zeros(n), 0, rng.uniform(85, 240)
    while at < n:
        size = min(int(rng.uniform(0.08, 0.28) * RATE), n - at)
        if rng.random() < 0.15:
            at += int(rng.uniform(0.05, 0.5) * RATE)
            continue
        if rng.random() < 0.25:
            syllable = 0.4 * np.diff(rng.standard_normal(size + 1))
        else:
            syllable = _vowel(rng, voice * (1 - 0.15 * at / n), size)
        heard[at : at + size] += syllable * np.sin(np.pi * np.arange(size) / size) ** 0.7
        at += max(1, int(size * rng.uniform(0.8, 1)))
    return heard


def _vowel(rng, pitch, size):
    bend = np.sin(2 * np.pi * (rng.random() + rng.uniform(0.5, 3) * np.arange(size) / RATE))
    pitch = pitch * (1 + 0.25 * bend) + 0.05 * rng.normal(0, 1.5, size).cumsum()
    opened = np.diff(np.floor(np.cumsum(pitch) / RATE + rng.random()), prepend=0) > 0
    wave = opened + 0.02 * rng.standard_normal(size)
    for low, high, width in ((270, 800, 80), (850, 2300, 110), (2300, 3200, 160)):
        wave = _resonance(wave, rng.uniform(low, high), np.exp(-np.pi * width / RATE))
    return wave / np.abs(wave).max()


def _babble(rng, n):
    voices = sum(rng.uniform(0.3, 1) * _unit(_speech(rng, n)) for _ in range(5))
    return voices + 0.2 * _coloured(rng, n, 1)


def _noise(rng, n):
    swell = np.sin(2 * np.pi * rng.uniform(0.05, 1) * np.arange(n) / RATE)
    return _coloured(rng, n, rng.uniform(0, 2)) * (1 + 0.5 * swell)


def _vehicle(rng, n):
    """Harmonics of an engine whose speed drifts, and the rush of the road."""
    speed = rng.uniform(25, 120) * (1 + 0.2 * rng.standard_normal(n).cumsum() / np.sqrt(n))
    strokes = np.exp(2j * np.pi * rng.random(11)) / np.arange(1, 12)
    engine = _looked_up(_wave(strokes, speed.max()), np.cumsum(speed) / RATE)
    return 2 * engine + rng.uniform(0.3, 2) * _coloured(rng, n, 1.5)


def _office(rng, n):
    """Keys and other knocks at random times."""
    gaps = rng.exponential(rng.uniform(0.08, 0.5), n * 12 // RATE + 1)
    return _knocks(rng, n, np.cumsum(gaps))


def _steps(rng, n):
    """Knocks as regular as somebody's steps."""
    gaps = rng.normal(rng.uniform(0.4, 0.65), 0.03, n * 3 // RATE + 1)
    return _knocks(rng, n, np.cumsum(gaps))


def _knocks(rng, n, times):
    heard = rng.uniform(0.05, 0.3) * _coloured(rng, n, 1)
    for at in (times * RATE).astype(int):
        size = int(rng.uniform(0.01, 0.12) * RATE)
        knock = rng.standard_normal(size) * np.exp(-6 * np.arange(size) / size)
        knock = rng.uniform(2, 10) * _resonance(knock, rng.uniform(80, 2500), 0.9)
        part = heard[at : at + size]
        part += knock[: len(part)]
    return heard


def _beeps(rng, n):
    t = np.arange(n) / RATE
    sounds = t / rng.uniform(0.3, 1.5) % 1 < rng.uniform(0.1, 0.5)
    beep = np.sin(2 * np.pi * rng.uniform(400, 2500) * t)
    return beep * sounds + 0.1 * _coloured(rng, n, 1)


_SOUNDS: dict[str, Callable] = {
    "speech": lambda rng, n: _unit(_speech(rng, n)) + 0.05 * _coloured(rng, n, 1),
    "babble": _babble,
    "noise": _noise,
    "vehicle": _vehicle,
    "office": _office,
    "steps": _steps,
    "beeps": _beeps,
    "silence": lambda rng, n: _coloured(rng, n, 1),
}
KINDS = tuple(_SOUNDS)


def _coloured(rng, n, slope):
    """Noise of unit size whose power falls as 1 / frequency ** slope: white 0, pink 1, brown 2."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    falling = np.maximum(np.arange(len(spectrum)), 8.0) ** (-slope / 2)
    return _unit(np.fft.irfft(spectrum * falling, n))


def _resonance(x, hertz, radius):
    poles = [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2]
    return lfilter([1 - radius], poles, x)


# What both need ---------------------------------------------------------------------------------


def _unit(x):
    return x / (np.sqrt(np.mean(x**2)) + 1e-9)


def _at_loudness(x) -> Float32[np.ndarray, " n"]:
    return np.clip(LOUDNESS * _unit(x), -1, 1).astype(np.float32)


def _samples(seconds: float) -> int:
    n = round(seconds * RATE)
    if n < 1:
        raise ValueError(f"seconds={seconds} must make at least one sample of 1/{RATE} s")
    return n
