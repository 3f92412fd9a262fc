"""Log-mel spectrograms: what the music detector and the fingerprinter hear of a recording.

Agüera y Arcas et al. (2017) say that the first stage is a log-mel spectrogram (section 5) and leave
its settings open: those below are ours, for recordings of 8 kHz.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32
from scipy.signal.windows import hann

from lib.datasets.synthesis import RATE


class FrontEnd(NamedTuple):
    """Settings of a log-mel spectrogram; lengths are in samples of 1/8000 s."""

    frame: int  # what one spectrum looks at, under a Hann window
    hop: int  # from one frame to the next
    fft: int  # the frame is filled up with zeros to this length
    mels: int  # how many bands
    low: float  # Hz, where the lowest band begins
    high: float  # Hz, where the highest band ends
    floor: float = 1e-6  # added to each power, so that silence has a logarithm


FINGERPRINT = FrontEnd(frame=512, hop=256, fft=512, mels=64, low=100.0, high=3800.0)
DETECTOR = FrontEnd(frame=200, hop=80, fft=256, mels=32, low=60.0, high=3800.0)


def log_mel(
    x: Float[Array | np.ndarray, "*batch n"], front_end: FrontEnd
) -> Float[Array, "*batch frames mels"]:
    """How loud each band is at each moment: ``log(floor + mel bank . |FFT of the frame|^2)``.

    Frame t looks at the samples from t hop to t hop + frame, and at nothing else: no padding, no
    normalisation. So a stream gives the same frames as the whole recording, provided that each
    piece begins with the last frame - hop samples of the piece before.

    Raises ValueError if `x` is shorter than a frame or holds integers, and as `mel_filterbank`.
    """
    if x.ndim == 0 or x.shape[-1] < front_end.frame:
        raise ValueError(
            f"x has shape {x.shape}, which is less than one frame of {front_end.frame} samples on "
            "its last axis: take a longer recording or pad it with zeros"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x holds {x.dtype}, wanted floats from -1 to 1: divide int16 by 32767")
    return _log_mel(jnp.asarray(x, jnp.float32), front_end)


def mel_filterbank(front_end: FrontEnd) -> Float32[np.ndarray, "mels bins"]:
    """Weights of the frequencies of an FFT in each band: triangles of height 1 that overlap.

    Corners are equally far apart in mel = 2595 log10(1 + f / 700 Hz), the formula of HTK.

    Raises ValueError if the corners do not lie in 0 .. 4000 Hz, or if a band lies between two
    frequencies of the FFT and so would always be silent.
    """
    low, high = front_end.low, front_end.high
    if not 0 <= low < high <= RATE / 2:
        raise ValueError(f"low={low} and high={high} must rise within 0 .. {RATE // 2} Hz")
    corners = _hertz(np.linspace(_mel(low), _mel(high), front_end.mels + 2))[:, None]
    frequencies = np.arange(front_end.fft // 2 + 1) * RATE / front_end.fft
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    bank = np.maximum(0, np.minimum(rising, falling))
    if not bank.any(axis=1).all():
        raise ValueError(
            f"mels={front_end.mels} bands are too many for fft={front_end.fft}: some lie between "
            "two of its frequencies; use fewer bands or a longer FFT"
        )
    return bank.astype(np.float32)


@partial(jax.jit, static_argnames="front_end")
def _log_mel(x, front_end):
    window = hann(front_end.frame, sym=False).astype(np.float32)
    frames = _frames(x, front_end.frame, front_end.hop)
    spectrum = jnp.fft.rfft(frames * jnp.expand_dims(window, range(x.ndim)), front_end.fft)
    power = spectrum.real**2 + spectrum.imag**2
    return jnp.log(power @ mel_filterbank(front_end).T + front_end.floor)


def _frames(x: Float[Array, "*batch n"], frame: int, hop: int) -> Float[Array, "*batch t frame"]:
    """Overlapping frames, glued from strided blocks: a gather of single samples is slow."""
    block = math.gcd(frame, hop)
    step = hop // block
    count = (x.shape[-1] - frame) // hop + 1
    length = (count - 1) * hop + frame
    blocks = x[..., :length].reshape(*x.shape[:-1], length // block, block)
    stop = (count - 1) * step + 1
    parts = [lax.slice_in_dim(blocks, i, i + stop, step, axis=-2) for i in range(frame // block)]
    return jnp.concatenate(parts, -1)


def _mel(hertz):
    return 2595 * np.log10(1 + hertz / 700)


def _hertz(mel):
    return 700 * (10 ** (mel / 2595) - 1)
