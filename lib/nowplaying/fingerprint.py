"""Which music is it? The network that turns two seconds of sound into a fingerprint, one a second.

The neural network fingerprinter of Agüera y Arcas et al. (2017), arXiv 1711.10958, section 3:
convolutions, then a divide-and-encode block (Lai et al., 2015); batch normalisation and ELU all the
way but for the last layer; a triplet loss (Schroff et al., 2015). Fingerprints are vectors of
length 1; those of the same moment of a song lie close together, however noisy the room.

The paper gives neither widths nor window, margin or batch: these are our choices, and 2 seconds
what others report. `train_fingerprinter` gives a `Fingerprinter`, `fold` makes an `Encoder` of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray, Shaped

from lib.datasets.synthesis import RATE
from lib.nowplaying import training
from lib.nowplaying.mel import FINGERPRINT, log_mel
from lib.nowplaying.rooms import degrade
from lib.nowplaying.training import Clips, History, State, Statistics

FRAMES = 64
WINDOW = (FRAMES - 1) * FINGERPRINT.hop + FINGERPRINT.frame  # 16,640 samples, 2.08 s
WIDTHS = (16, 32, 48, 96, 160)  # channels after the first layer and after each pair of layers
UNITS = 8  # of each small network of the divide-and-encode block
SHIFT = 0.4  # s, how far the two windows of a training pair are apart at most
BATCH = 64  # windows that are encoded at a time
FEW = 8  # and the size of a batch for a single query
FAR = 4.0  # the largest squared distance of two unit vectors


class Fingerprinter(eqx.Module):
    """The network while it learns: 188,240 numbers for 96 dimensions.

    A 3x3 convolution, then pairs along frequency (1x3) and time (3x1); each halves what it runs
    along. 640 numbers come out. The divide-and-encode block gives each dimension of the fingerprint
    its own share of them and a small network of its own: a layer of 8 units and a sum.
    """

    kernels: tuple[Float[Array, "_ _ _ _"], ...]  # time, frequency, inputs, outputs
    scales: tuple[Float[Array, " _"], ...]
    shifts: tuple[Float[Array, " _"], ...]
    divide: Float[Array, "d share units"]
    divide_bias: Float[Array, "d units"]
    encode: Float[Array, "d units"]
    encode_bias: Float[Array, " d"]

    def __init__(self, key: PRNGKeyArray, *, d: int = 96):
        flat = (FRAMES // 2 ** len(WIDTHS)) * (FINGERPRINT.mels // 2 ** len(WIDTHS)) * WIDTHS[-1]
        if not 1 <= d <= flat:
            raise ValueError(
                f"d={d} must lie in 1 .. {flat}: each dimension needs a share of these"
            )
        shapes = [(3, 3, 1, WIDTHS[0])]
        for narrow, wide in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
            shapes += [(1, 3, narrow, wide), (3, 1, wide, wide)]
        share = flat // d  # what does not divide is left out
        inputs = (*(math.prod(shape[:3]) for shape in shapes), share, UNITS)
        spreads = tuple((2 / n) ** 0.5 for n in inputs)  # He et al. (2015)
        every = (*shapes, (d, share, UNITS), (d, UNITS))
        *kernels, divide, encode = training.normals(key, shapes=every, spreads=spreads)
        self.kernels = tuple(kernels)
        # from NumPy: XLA would compile a program for each size
        widths = [np.zeros(shape[-1], np.float32) for shape in shapes]
        self.scales = tuple(jnp.asarray(width + 1) for width in widths)
        self.shifts = tuple(map(jnp.asarray, widths))
        self.divide = divide
        self.divide_bias = jnp.zeros((d, UNITS))
        self.encode = encode
        self.encode_bias = jnp.zeros(d)


class Encoder(eqx.Module):
    """The network that fingerprints: normalisations are folded into the kernels and a bias."""

    kernels: tuple[Float[Array, "_ _ _ _"], ...]  # time, frequency, inputs, outputs
    biases: tuple[Float[Array, " _"], ...]
    divide: Float[Array, "d share units"]
    divide_bias: Float[Array, "d units"]
    encode: Float[Array, "d units"]
    encode_bias: Float[Array, " d"]

    def __call__(self, x: Float[Array, "B frames mels"]) -> Float[Array, "B d"]:
        """Fingerprints of log-mel windows of 64 x 64."""
        x = _centred(x)
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = jax.nn.elu(_convolution(x, kernel) + bias[None, None, None])
        return divide_and_encode(self, x.reshape(len(x), -1))


class Scores(NamedTuple):
    """What a loss says about a batch of pairs."""

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]  # how often the partner is the nearest of all that it is told from


class Pairs(NamedTuple):
    """Windows to learn from: log-mel, which song they are of, and when."""

    anchor: Float[Array, "B frames mels"]  # the clean recording
    positive: Float[Array, "B frames mels"]  # the same moment, or nearly so, in a noisy room
    song: Integer[Array, " B"]
    time: Float[Array, " B"]  # s, when the anchor begins


# Fingerprints ------------------------------------------------------------------------------------


def fingerprints(
    model: Encoder,
    recordings: Sequence[Shaped[np.ndarray, " _"]],
    *,
    hop: int = RATE,
    offset: int = 0,
) -> list[Float[np.ndarray, "windows d"]]:
    """One fingerprint each `hop` samples of each recording, the first at `offset`.

    Recordings are floats -1..1 or int16, at 8 kHz, and may differ in length: one of 8 s has 6
    windows that begin 1 s apart. Silence has a fingerprint too. A NaN makes that of its windows
    NaN.

    Raises ValueError for a recording shorter than 2.08 s after `offset`, and for `hop` < 1.
    """
    if hop < 1 or offset < 0:
        raise ValueError(f"hop={hop} must be at least 1 sample, and offset={offset} at least 0")
    views = [_windows(np.asarray(x), number, hop, offset) for number, x in enumerate(recordings)]
    places = [(view, t) for view in views for t in range(len(view))]
    found = []
    for begin in range(0, len(places), BATCH):
        batch = np.stack([view[t] for view, t in places[begin : begin + BATCH]])
        size = FEW if len(places) <= FEW else BATCH  # two shapes, so that little is compiled
        full = np.zeros((size, WINDOW), batch.dtype)
        full[: len(batch)] = batch
        found.append(np.asarray(_fingerprints(model, full))[: len(batch)])
    ends = np.cumsum([len(view) for view in views])[:-1]
    return np.split(np.concatenate(found), ends) if found else []


@jax.jit
def fold(model: Fingerprinter, statistics: tuple[Statistics, ...]) -> Encoder:
    """The trained network without batch normalisation: its factors go into the kernels."""
    factors, biases = zip(
        *map(training.folded, model.scales, model.shifts, statistics), strict=True
    )
    kernels = [k * f[None, None, None] for k, f in zip(model.kernels, factors, strict=True)]
    block = (model.divide, model.divide_bias, model.encode, model.encode_bias)
    return Encoder(tuple(kernels), biases, *block)


def divide_and_encode(
    model: Fingerprinter | Encoder, x: Float[Array, "B flat"]
) -> Float[Array, "B d"]:
    """Give each dimension its own slice of the features and its own small network (Lai et al.).

    Then all are divided by the length of the vector.
    """
    d, share, _ = model.divide.shape
    slices = x[:, : d * share].reshape(-1, d, share)
    units = jax.nn.elu(jnp.einsum("bds,dsu->bdu", slices, model.divide) + model.divide_bias[None])
    code = jnp.einsum("bdu,du->bd", units, model.encode) + model.encode_bias[None]
    return code * lax.rsqrt(jnp.square(code).sum(1, keepdims=True) + 1e-9)


# Losses ------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("margin", "tolerance"))
def triplet_semihard(
    anchor: Float[Array, "B d"],
    positive: Float[Array, "B d"],
    song: Integer[Array | np.ndarray, " B"],
    time: Float[Array | np.ndarray, " B"],
    *,
    margin: float = 0.4,
    tolerance: float = 0.5,
) -> Scores:
    """Partners shall be nearer to each other than to any other window, by a margin.

    The mean of ``max(|a - p|^2 - |a - n|^2 + margin, 0)`` over the pairs, both ways round. n is the
    semi-hard negative (Schroff et al., 2015): the nearest that is farther than p; if there is none,
    the farthest. Windows of the same song within `tolerance` seconds are nobody's negatives. A pair
    without any negative costs nothing and counts as right.
    """
    negative = _negatives(song, time, tolerance)
    ways = [_one_way(*way, negative, margin) for way in ((anchor, positive), (positive, anchor))]
    return Scores(*(sum(parts) / 2 for parts in zip(*ways, strict=True)))


def nt_xent(
    anchor: Float[Array, "B d"],
    positive: Float[Array, "B d"],
    song: Integer[Array | np.ndarray, " B"],
    time: Float[Array | np.ndarray, " B"],
    *,
    temperature: float = 0.05,
    tolerance: float = 0.5,
) -> Scores:
    """The partner shall be found among all windows: cross-entropy of softmax(cosine / temperature).

    Chen et al. (2020), which Chang et al. (2021) use for fingerprints; the alternative to the
    paper's loss. Both windows of each pair ask, among all others of the batch. Windows of the same
    song within `tolerance` seconds are left out.
    """
    negative = jnp.tile(_negatives(song, time, tolerance), (2, 2))
    partner = jnp.roll(jnp.eye(len(negative), dtype=bool), len(anchor), 1)
    both = jnp.concatenate([anchor, positive])
    cosine = jnp.where(negative | partner, both @ both.T, -jnp.inf)
    loss = -jnp.where(partner, jax.nn.log_softmax(cosine / temperature), 0.0).sum(1).mean()
    best = jnp.where(negative, cosine, -jnp.inf).max(1)
    right = jnp.where(partner, cosine, 0.0).sum(1) > best
    return Scores(loss, right.mean(dtype=jnp.float32))


LOSSES = {"triplet": triplet_semihard, "nt_xent": nt_xent}


# Training ----------------------------------------------------------------------------------------


def train_fingerprinter(
    clips: Clips,
    *,
    key: PRNGKeyArray,
    d: int = 96,
    steps: int = 300,
    batch: int = 48,
    rate: float = 5e-3,
    snr: tuple[float, float] = (-3.0, 15.0),
    loss: str = "triplet",
    start: State | None = None,
    until: int | None = None,
    progress: Any = None,
) -> History:
    """Teach a fingerprinter from pairs: a moment of a song, and the same up to 0.4 s off in noise.

    `batch` pairs a step, two from each of `batch` / 2 songs, so that other moments of the same song
    are among the negatives. Sounds lie over the second window at `snr` decibels, in random rooms,
    filters and gains. Both windows of all pairs share one batch normalisation. Adam, whose rate
    falls along a cosine. `until` stops earlier; to go on, `start` is the state of that history and
    all else as before.

    Raises ValueError for settings out of range, and for songs that are too few or too short.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is not known: use one of {', '.join(LOSSES)}")
    if steps < 1 or batch < 2 or batch % 2 or not rate > 0 or not snr[0] <= snr[1]:
        raise ValueError(
            f"steps={steps} must be at least 1, batch={batch} even, rate={rate} > 0, and snr={snr} "
            "must rise"
        )
    training.check_clips(clips, WINDOW + 2 * int(SHIFT * RATE))
    if len(clips.songs) < batch // 2:
        raise ValueError(
            f"clips.songs has {len(clips.songs)} songs, wanted {batch // 2}, as batch={batch} "
            "takes two pairs from each: use a smaller one"
        )
    if start is None:
        model = Fingerprinter(
            jax.random.fold_in(key, steps), d=d
        )  # steps draw with smaller numbers
        start = training.start(model, tuple(map(training.fresh_statistics, model.scales)))
    task = training.Task(_draw(batch, snr), _scores(loss), rate, steps)
    return training.train(
        start, task, clips, key=key, until=steps if until is None else until, progress=progress
    )


def draw_pairs(key: PRNGKeyArray, clips: Clips, *, batch: int, snr: tuple[float, float]) -> Pairs:
    """Pairs of windows for one step of training: see `train_fingerprinter`."""
    keys = jax.random.split(key, 6)
    songs, length = clips.songs.shape
    song = jnp.repeat(jax.random.permutation(keys[0], songs)[: batch // 2], 2)
    reach = int(SHIFT * RATE)
    begin = jax.random.randint(keys[1], (batch,), reach, length - WINDOW - reach + 1)
    moved = begin + jax.random.randint(keys[2], (batch,), -reach, reach + 1)
    anchor = training.crop(clips.songs, song, begin, WINDOW)
    noise = training.random_crops(keys[3], clips.sounds, batch, WINDOW)
    positive = training.crop(clips.songs, song, moved, WINDOW)
    ratio = jax.random.uniform(keys[5], (batch,), minval=snr[0], maxval=snr[1])
    heard = degrade(keys[4], positive, noise, clips.rooms, snr=ratio)
    time = begin.astype(jnp.float32) / RATE
    return Pairs(log_mel(anchor, FINGERPRINT), log_mel(heard, FINGERPRINT), song, time)


def training_fingerprints(
    model: Fingerprinter, statistics: tuple[Statistics, ...], x: Float[Array, "B frames mels"]
) -> tuple[Float[Array, "B d"], tuple[Statistics, ...]]:
    """Fingerprints of a batch by its own statistics, and the moving averages after it."""
    x, moved = _centred(x), []
    for own in zip(model.kernels, model.scales, model.shifts, statistics, strict=True):
        x, after = training.normalise(_convolution_product(x, own[0]), *own[1:])
        x = jax.nn.elu(x)
        moved.append(after)
    return divide_and_encode(model, x.reshape(len(x), -1)), tuple(moved)


@lru_cache
def _draw(batch, snr):
    """The same function for the same settings, so that going on compiles nothing anew."""
    return partial(draw_pairs, batch=batch, snr=snr)


@lru_cache
def _scores(loss):
    return partial(_score, loss=loss)


def _score(model, statistics, pairs, *, loss):
    x = jnp.concatenate([pairs.anchor, pairs.positive])
    code, statistics = training_fingerprints(model, statistics, x)
    scores = LOSSES[loss](*jnp.split(code, 2), pairs.song, pairs.time)
    return scores.loss, (statistics, scores.accuracy)


# Helpers -----------------------------------------------------------------------------------------


@jax.jit
def _fingerprints(model, x):
    return model(log_mel(training.floats(x), FINGERPRINT))


def _windows(x, number, hop, offset):
    """A view of the windows of a recording."""
    if x.ndim != 1:
        raise ValueError(
            f"recordings[{number}] has shape {x.shape}: wanted one channel, average them first"
        )
    if len(x) - offset < WINDOW:
        raise ValueError(
            f"recordings[{number}] has {len(x)} samples, wanted at least {WINDOW} from "
            f"offset={offset} on: 2.08 s at 8 kHz"
        )
    return np.lib.stride_tricks.sliding_window_view(x[offset:], WINDOW)[::hop]


def _centred(x):
    """Log-mel without its mean, so that loudness does not matter, as an image of one channel."""
    return ((x - x.mean((1, 2), keepdims=True)) / 3.0)[..., None]


def _convolution(x, kernel):
    """A convolution that halves the axes that its kernel runs along; they must be even."""
    layout = ("NHWC", "HWIO", "NHWC")
    strides = _strides(kernel)
    return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=layout)


def _convolution_product(x, kernel):
    """The same as one matrix product: its slope takes XLA:CPU half of the time."""
    height, width = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), (0, height // 2), (0, width // 2), (0, 0)))
    down, right = _strides(kernel)
    ends = [size - length + 1 for size, length in zip(x.shape[1:3], (height, width), strict=True)]
    taps = [
        x[:, i : i + ends[0] : down, j : j + ends[1] : right]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _strides(kernel):
    return [2 if size > 1 else 1 for size in kernel.shape[:2]]


def _negatives(song, time, tolerance) -> Bool[Array, "B B"]:
    """Which windows are neither the same moment of the same song nor near it."""
    song, time = jnp.asarray(song), jnp.asarray(time)
    apart = jnp.abs(time[:, None] - time[None]) > tolerance
    return (song[:, None] != song[None]) | apart


def _one_way(asking, answering, negative, margin):
    """Loss and accuracy when `asking` look for their partners in `answering`."""
    distance = jnp.maximum(2 - 2 * asking @ answering.T, 0.0)
    partner = jnp.diagonal(distance)
    farther = negative & (distance > partner[:, None])
    nearest = jnp.where(farther, distance, FAR).min(1)
    farthest = jnp.where(negative, distance, 0.0).max(1)
    chosen = jnp.where(farther.any(1), nearest, farthest)
    cost = jnp.where(negative.any(1), jnp.maximum(partner - chosen + margin, 0.0), 0.0)
    right = jnp.where(negative, distance, jnp.inf).min(1) > partner
    return cost.mean(), right.mean(dtype=jnp.float32)
