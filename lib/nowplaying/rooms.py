"""What happens to music on its way to the phone: rooms, loudspeakers, other sounds, distance.

Agüera y Arcas et al. (2017) train on noisy music, aligned with the clean recording. Here nothing
shifts the music in time, so that what is heard at a moment belongs to that moment of the song.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray
from scipy.fft import next_fast_len
from scipy.signal import butter, resample_poly, sosfilt

from lib.datasets.synthesis import LOUDNESS, RATE, generator

SOUND = 343.0  # metres per second, in air of 20 degrees Celsius
FAINT = 1e-9  # power below which a recording counts as silent


def room(seed: int, *, length: int = 2048) -> Float32[np.ndarray, " length"]:
    """Impulse response of a random room: 3 to 9 m long and wide, 2.3 to 3.5 m high.

    Walls reflect 0.5 to 0.85 of the pressure, as in furnished rooms. Below 80 Hz, where many images
    add up to a boom that no room has, the response is filtered as its inventors advise.

    Raises ValueError if `seed` is negative or `length` < 1.
    """
    rng = generator("room", seed)
    size = rng.uniform([3, 3, 2.3], [9, 8, 3.5])
    source, microphone = size * rng.uniform(0.2, 0.8, (2, 3))
    response = impulse_response(size, source, microphone, rng.uniform(0.5, 0.85), length=length)
    return sosfilt(butter(2, 80, "high", fs=RATE, output="sos"), response).astype(np.float32)


def impulse_response(
    size: Float[np.ndarray, "3"],
    source: Float[np.ndarray, "3"],
    microphone: Float[np.ndarray, "3"],
    reflection: float,
    *,
    length: int,
) -> Float32[np.ndarray, " length"]:
    """What a microphone in a box-shaped room hears of a click: `length` samples of energy 1.

    The image method of Allen and Berkley (1979): each path by way of the walls comes from a mirror
    image of the source, at 1 / distance and `reflection` times weaker for each wall that it meets.
    Places are in metres from one corner. The direct path arrives at sample 0, not when it would.

    Raises ValueError if a place lies outside of the room, the two places are one, `reflection`
    does not lie in 0 .. 1, or `length` < 1.
    """
    inside = np.stack([source, microphone])
    if not ((0 < inside) & (inside < size)).all() or (source == microphone).all():
        raise ValueError(
            f"source={source} and microphone={microphone} must be two places between 0 and {size}"
        )
    if not 0 <= reflection < 1 or length < 1:
        raise ValueError(
            f"reflection={reflection} must lie in 0 .. 1, below 1, and length={length} at 1 or more"
        )
    nearest = np.linalg.norm(source - microphone)
    reach = nearest + length / RATE * SOUND
    axes = [_images(*axis, reach) for axis in zip(size, source, microphone, strict=True)]
    along, walls = zip(*axes, strict=True)
    distance = np.sqrt(sum(np.meshgrid(*(d**2 for d in along), indexing="ij", sparse=True)))
    met = sum(np.meshgrid(*walls, indexing="ij", sparse=True))
    late = np.rint((distance - nearest) / SOUND * RATE).astype(int)
    heard = late < length
    strength = reflection ** met[heard] / distance[heard]
    response = np.bincount(late[heard], strength, length)
    return (response / np.linalg.norm(response)).astype(np.float32)


def degrade(
    key: PRNGKeyArray,
    x: Float[Array | np.ndarray, "batch n"],
    noise: Float[Array | np.ndarray, "batch n"],
    rooms: Float[Array | np.ndarray, "many length"],
    *,
    snr: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, " batch"],
    rooms_share: float = 0.7,
    band_share: float = 0.5,
    gain: tuple[float, float] = (-20.0, 6.0),
) -> Float[Array, "batch n"]:
    """Recordings as a phone might hear them: in a room, through a loudspeaker, under noise.

    Each recording is drawn its own: with probability `rooms_share` one of the impulse responses
    `rooms`, with `band_share` a band-pass (from 80 .. 500 to 1800 .. 4000 Hz), and a volume of
    `gain` dB (lowest, highest) relative to a song's own. `snr` is in dB, one for all or one each:
    power of the music, as it arrives, over that of the noise. What exceeds 1 is clipped.

    A silent recording stays silent, and the noise is as loud as `snr` says beside a song.

    Raises ValueError if `x` and `noise` differ in shape.
    """
    if x.shape != noise.shape:
        raise ValueError(f"noise has shape {noise.shape} and x {x.shape}: they must be alike")
    snr = jnp.broadcast_to(jnp.asarray(snr, jnp.float32), len(x))[:, None]
    x, noise, rooms = (jnp.asarray(a, jnp.float32) for a in (x, noise, rooms))
    return _degrade(key, x, noise, rooms, snr, rooms_share, band_share, gain)


def speed_up(x: Float[np.ndarray, " n"], percent: float) -> Float32[np.ndarray, " m"]:
    """The recording on a turntable that runs `percent` too fast: higher by as much as shorter.

    Raises ValueError if `percent` is outside -50 .. 100.
    """
    if not -50 <= percent <= 100:
        raise ValueError(f"percent={percent} must lie in -50 .. 100: 2 is two per cent faster")
    ratio = Fraction(1 / (1 + percent / 100)).limit_denominator(1000)
    return resample_poly(x, ratio.numerator, ratio.denominator).astype(np.float32)


def _images(size: float, source: float, microphone: float, reach: float):
    """Along one axis: how far the source's mirror images are, and how many walls lie between.

    Images stand at 2 k size + source after 2 |k| walls and at 2 k size - source after |2 k - 1|.
    """
    k = np.arange(-int(reach / (2 * size)) - 1, int(reach / (2 * size)) + 2)
    places = np.concatenate([2 * k * size + source, 2 * k * size - source])
    return places - microphone, np.concatenate([2 * abs(k), abs(2 * k - 1)])


@partial(jax.jit, static_argnames=("rooms_share", "band_share", "gain"))
def _degrade(key, x, noise, rooms, snr, rooms_share, band_share, gain):
    keys = jax.random.split(key, 4)
    decibels = jax.random.uniform(keys[3], (len(x), 1), minval=gain[0], maxval=gain[1])
    arriving = _unit(_through(keys[:3], x, rooms, rooms_share, band_share))
    heard = arriving + _amplitude(-snr) * _unit(noise)
    return jnp.clip(LOUDNESS * _amplitude(decibels) * heard, -1, 1)


def _through(keys, x, rooms, rooms_share, band_share):
    """Each recording in a room or not, and band-passed or not, by one product of spectra."""
    batch, n = x.shape
    padded = next_fast_len(n + rooms.shape[1] - 1, real=True)
    at, whether = jax.random.split(keys[0])
    chosen = rooms[jax.random.randint(at, (batch,), 0, len(rooms))]
    in_room = jax.random.uniform(whether, (batch, 1)) < rooms_share
    response = jnp.where(in_room, jnp.fft.rfft(chosen, padded), 1)
    in_band = jax.random.uniform(keys[1], (batch, 1)) < band_share
    band = jnp.where(in_band, _band(keys[2], batch, padded), 1)
    spectrum = jnp.fft.rfft(x, padded) * response * band.astype(response.dtype)
    return jnp.fft.irfft(spectrum, padded)[:, :n]


def _band(key, batch, padded):
    """Gains of Butterworth filters, of second order below and of fourth above, without delay."""
    draw = jax.random.uniform(key, (2, batch, 1))
    low, high = 80 * (500 / 80) ** draw[0], 1800 * (4000 / 1800) ** draw[1]
    frequency = jnp.arange(padded // 2 + 1, dtype=jnp.float32)[None] * (RATE / padded)
    above = jax.lax.rsqrt(1 + (low / jnp.maximum(frequency, 1)) ** 4)
    return above * jax.lax.rsqrt(1 + (frequency / high) ** 8)


def _unit(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + FAINT)


def _amplitude(decibels):
    return 10 ** (decibels / 20)
