"""Is there music? The small network that listens all day, on a chip that takes 0.4 mA.

Agüera y Arcas et al. (2017), arXiv 1711.10958, section 5 and Table 2c. Three stages: log-mel
frames, one every 10 ms; six separable convolutions and two dense layers, whose answer comes every
64 frames; and a smoothed threshold. Frames are (T, 32), batches of windows (B, 446, 32). Answers
are logits: log-odds that there is music. ReLUs are clipped at 6, where 8 bits end here.

`train_detector` gives a `Detector`. `fold` makes a `Network` of it, which is what listens, and
`quantise` and `restore` the same in whole numbers of 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int8, Integer, PRNGKeyArray

from lib.datasets.synthesis import RATE
from lib.nowplaying import training
from lib.nowplaying.mel import DETECTOR, log_mel
from lib.nowplaying.rooms import degrade
from lib.nowplaying.training import Clips, History, State, Statistics

LAYERS, KERNEL, STRIDE = 6, 4, 2
CHANNELS = DETECTOR.mels
SPAN, HIDDEN = 5, 8  # vectors that the dense layers look at, and units between them
HOP = STRIDE**LAYERS  # 64 frames from one answer to the next
PERIOD = HOP * DETECTOR.hop / RATE  # 0.64 s
TOP = 6.0  # the largest number that 8 bits stand for: activations lie in 0 .. TOP
LEVELS = 255
WEIGHT_LEVELS = 127
ALONE, FAINT = (
    0.7,
    0.15,
)  # shares of the training sounds that no other sound covers, or hardly heard


class Detector(eqx.Module):
    """The network while it learns: 8,593 numbers, Table 2c.

    Depthwise and pointwise convolutions have no bias: a batch normalisation follows. That dense
    layers have a bias and no normalisation is our reading.
    """

    depthwise: Float[Array, "layers kernel channels"]
    pointwise: Float[Array, "layers channels channels"]
    scale: Float[Array, "layers channels"]
    shift: Float[Array, "layers channels"]
    hidden: Float[Array, "flat hidden"]
    hidden_bias: Float[Array, " hidden"]
    output: Float[Array, " hidden"]
    output_bias: Float[Array, ""]

    def __init__(self, key: PRNGKeyArray):
        flat = SPAN * CHANNELS
        layers = ((LAYERS, KERNEL, CHANNELS), (LAYERS, CHANNELS, CHANNELS))
        every = (*layers, (flat, HIDDEN), (HIDDEN,))
        spreads = tuple(n**-0.5 for n in (KERNEL, CHANNELS / 2, flat / 2, HIDDEN))
        weights = training.normals(key, shapes=every, spreads=spreads)
        self.depthwise, self.pointwise, self.hidden, self.output = weights
        self.scale, self.shift = jnp.ones((LAYERS, CHANNELS)), jnp.zeros((LAYERS, CHANNELS))
        self.hidden_bias, self.output_bias = jnp.zeros(HIDDEN), jnp.zeros(())


class Network(eqx.Module):
    """The network that listens: normalisations are folded into the weights and a bias."""

    depthwise: Float[Array, "layers kernel channels"]
    pointwise: Float[Array, "layers channels channels"]
    bias: Float[Array, "layers channels"]
    hidden: Float[Array, "flat hidden"]
    hidden_bias: Float[Array, " hidden"]
    output: Float[Array, " hidden"]
    output_bias: Float[Array, ""]
    bytes: bool = eqx.field(static=True, default=False)  # what passes between layers has 8 bits


class Integers(NamedTuple):
    """A network in whole numbers: weight = scale x int8, one scale for each of its tensors.

    Biases are in units of what a product of input and weights is a multiple of.
    """

    depthwise: Int8[Array, "layers kernel channels"]
    pointwise: Int8[Array, "layers channels channels"]
    hidden: Int8[Array, "flat hidden"]
    output: Int8[Array, " hidden"]
    bias: Int[Array, "layers channels"]
    hidden_bias: Int[Array, " hidden"]
    output_bias: Int[Array, ""]
    depthwise_scale: Float[Array, " layers"]
    pointwise_scale: Float[Array, " layers"]
    hidden_scale: Float[Array, ""]
    output_scale: Float[Array, ""]


class Stream(NamedTuple):
    """What a network remembers of a stream: the last 4 vectors that each layer has read."""

    rings: Float[Array, "layers kernel channels"]  # the oldest first
    last: Float[Array, "span channels"]  # what the dense layers look at
    seen: Int[Array, " levels"]  # vectors that each layer has read, and the dense layers


class Answers(NamedTuple):
    """What a network says after each frame, which is mostly nothing."""

    logit: Float[Array, " frames"]  # 0 where there is none
    ready: Bool[Array, " frames"]


class Memory(NamedTuple):
    """Bytes that a network in whole numbers takes."""

    weights: int
    biases: int
    state: int  # the buffers of a stream
    scales: int


class OperatingPoint(NamedTuple):
    """How a detector does at each threshold."""

    threshold: Float[np.ndarray, " thresholds"]
    recall: Float[np.ndarray, " thresholds"]  # share of the music that was detected at least once
    false_alarms: Float[np.ndarray, " thresholds"]  # an hour, where there is no music


# Listening ---------------------------------------------------------------------------------------


def features(x: Float[Array | np.ndarray, "*batch n"]) -> Float[Array, "*batch frames 32"]:
    """Log-mel frames of a recording on the scale that the network reads: silence is near 0.

    The shift and the scale are fixed: to normalise each window by itself would make the answers of
    a stream depend on where windows begin.

    Raises ValueError as `log_mel` does.
    """
    return (log_mel(x, DETECTOR) + 14.0) / 4.0


def detector_window(
    model: Network, x: Float[Array | np.ndarray, "B frames mels"]
) -> Float[Array, " B"]:
    """One answer for each window of 446 frames.

    Raises ValueError for windows of another size.
    """
    if x.shape[1:] != (window_frames(), CHANNELS):
        raise ValueError(
            f"x has windows of {x.shape[1:]}, wanted {(window_frames(), CHANNELS)}: cut them out "
            "of what features() gives"
        )
    return _window(model, jnp.asarray(x))


def detector_scan(
    model: Network, x: Float[Array | np.ndarray, "frames mels"]
) -> Float[Array, " answers"]:
    """All answers along a stream, one every 64 frames: windows that overlap share their work.

    Raises ValueError for less than one window.
    """
    if len(x) < window_frames() or x.shape[1] != CHANNELS:
        raise ValueError(
            f"x has shape {x.shape}, wanted at least {window_frames()} frames of {CHANNELS} bands"
        )
    return _scan(model, jnp.asarray(x))


def detector_start(model: Network) -> Stream:
    """A stream before its first frame."""
    return Stream(
        jnp.zeros_like(model.depthwise),
        jnp.zeros((SPAN, CHANNELS)),
        jnp.zeros(len(model.depthwise) + 1, jnp.int32),
    )


@jax.jit
def detector_step(
    model: Network, stream: Stream, frames: Float[Array | np.ndarray, "frames mels"]
) -> tuple[Stream, Answers]:
    """Listen to some more frames, one by one, as the chip does.

    A layer works when it has read two new vectors. So each works half as often as the one before,
    and an answer comes every 64 frames. How a stream is cut into pieces changes nothing. The
    counters of a stream last for 248 days.
    """
    return lax.scan(partial(_frame, model), stream, jnp.asarray(frames))


def probability(
    model: Network, x: Float[Array | np.ndarray, " n"]
) -> Float[np.ndarray, " answers"]:
    """How likely there is music in a recording of 8 kHz: one number each 0.64 s.

    The first is about the first 4.48 s. Silence has an answer like any other sound; a NaN makes
    those answers NaN whose windows hold it, and no others.

    Raises ValueError for less than one window.
    """
    answers = (frame_count(len(x)) - window_frames()) // HOP + 1
    if answers < 1:
        shortest = (window_frames() - 1) * DETECTOR.hop + DETECTOR.frame
        raise ValueError(f"x has {len(x)} samples, wanted at least {shortest}: one window")
    # filled up to one of few lengths, so that not each length is compiled
    wide = np.zeros(-(-len(x) // 2**17) * 2**17, np.float32)
    wide[: len(x)] = x
    return np.asarray(_probability(model, wide))[:answers]


def aggregate(
    probability: Float[np.ndarray, " n"],
    *,
    window: int = 5,
    consecutive: int = 3,
    threshold: float = 0.9,
    refractory: int | None = None,
) -> Integer[np.ndarray, " events"]:
    """At which answers music is detected: stage 3 of section 5.

    Answers are averaged over the last `window`. Music is detected when `consecutive` averages in a
    row lie above `threshold`: once in a row of any length, or with `refractory` again after each so
    many further answers of the row. An average with a NaN in it does not lie above. The paper does
    not say how long the window, how many in a row and how high the threshold are.

    Raises ValueError if one of the counts is below 1 or `threshold` not in 0 .. 1.
    """
    _check_counts(window=window, consecutive=consecutive, refractory=refractory)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} must lie between 0 and 1: it is a probability")
    if len(probability) < window:
        return np.zeros(0, int)
    means = np.lib.stride_tricks.sliding_window_view(probability, window).mean(1)
    above = means > threshold
    place = np.arange(len(above))
    before = np.maximum.accumulate(np.where(above, -1, place))  # the last that was not above
    late = place - before - consecutive  # answers since this row was long enough
    again = late == 0 if refractory is None else (late >= 0) & (late % refractory == 0)
    return np.flatnonzero(above & again) + window - 1


def operating_points(
    music: Sequence[Float[np.ndarray, " _"]],
    other: Sequence[Float[np.ndarray, " _"]],
    *,
    thresholds: Sequence[float],
    **options: Any,
) -> OperatingPoint:
    """Recall on recordings with music and false alarms an hour on others, at each threshold.

    Recordings are given as their probabilities, `options` are those of `aggregate`.

    Raises ValueError if there are no recordings of one of the kinds.
    """
    hours = sum(map(len, other)) * PERIOD / 3600
    if not len(music) or not hours:
        raise ValueError(f"music has {len(music)} recordings and other {hours} h: wanted some")
    recall, alarms = [], []
    for threshold in thresholds:
        detect = partial(aggregate, threshold=float(threshold), **options)
        recall.append(np.mean([len(detect(p)) > 0 for p in music]))
        alarms.append(sum(len(detect(p)) for p in other) / hours)
    return OperatingPoint(np.array(thresholds, float), np.array(recall), np.array(alarms))


# Counting ----------------------------------------------------------------------------------------


def window_frames(vectors: int = SPAN) -> int:
    """Frames behind so many vectors of the last layer: 446 for five, 190 for one."""
    for _ in range(LAYERS):
        vectors = (vectors - 1) * STRIDE + KERNEL
    return vectors


def layer_lengths(frames: int) -> list[int]:
    """Vectors that each layer reads, and that come out: 446, 222, 110, 54, 26, 12, 5."""
    lengths = [frames]
    for _ in range(LAYERS):
        lengths.append((lengths[-1] - KERNEL) // STRIDE + 1)
    return lengths


def frame_count(samples: int) -> int:
    """Frames of a recording of so many samples."""
    return max((samples - DETECTOR.frame) // DETECTOR.hop + 1, 0)


def multiply_adds(model: Detector | Network, *, streaming: bool = True) -> int:
    """Multiplications of one answer: 73,864 in a stream, 495,496 if each window starts anew."""
    lengths = layer_lengths(window_frames())[1:]
    if streaming:
        lengths = [HOP // STRIDE ** (layer + 1) for layer in range(LAYERS)]
    return _work(model, sum(lengths), 1)


def stream_multiply_adds(model: Network, stream: Stream) -> int:
    """Multiplications of a stream so far."""
    vectors = np.asarray(stream.seen)
    answers = max(int(vectors[-1]) - SPAN + 1, 0)
    return _work(model, int(vectors[1:].sum()), answers)


def memory(model: Integers) -> Memory:
    """Bytes for weights, biases, the buffers of a stream and the scales of the tensors."""
    rings = sum(a.size for a in (model.depthwise, model.hidden[:, 0]))
    sizes = [sum(a.nbytes for a in group) for group in (model[:4], model[4:7], model[7:])]
    return Memory(sizes[0], sizes[1], rings, sizes[2])


# In whole numbers --------------------------------------------------------------------------------


@jax.jit
def fold(model: Detector, statistics: Statistics) -> Network:
    """The trained network without batch normalisation: its factors go into the weights."""
    factor, bias = training.folded(model.scale, model.shift, statistics)
    return Network(
        depthwise=model.depthwise,
        pointwise=model.pointwise * factor[:, None],
        bias=bias,
        hidden=model.hidden,
        hidden_bias=model.hidden_bias,
        output=model.output,
        output_bias=model.output_bias,
    )


@jax.jit
def quantise(model: Network) -> Integers:
    """Weights as int8 and biases as int32, as in less than 10 kB of memory.

    The paper says that its network takes less than 10 kB, and that training simulates quantised
    activations; how it is quantised is our choice.
    """
    scales = [_scale(w) for w in (model.depthwise, model.pointwise)]
    scales += [_scale(w[None])[0] for w in (model.hidden, model.output)]
    weights = (model.depthwise, model.pointwise, model.hidden, model.output)
    biases = (model.bias, model.hidden_bias, model.output_bias)
    rounded = [_levels(w, s).astype(jnp.int8) for w, s in zip(weights, scales, strict=True)]
    units = _units(*scales)
    whole = [
        jnp.round(b / _like(u, b)).astype(jnp.int32) for b, u in zip(biases, units, strict=True)
    ]
    return Integers(*rounded, *whole, *scales)


@jax.jit
def restore(model: Integers) -> Network:
    """The network that computes what whole numbers would, with floats on the same grid."""
    scales = model[7:]
    weights = [w.astype(jnp.float32) * _like(s, w) for w, s in zip(model[:4], scales, strict=True)]
    units = _units(*scales)
    biases = [b.astype(jnp.float32) * _like(u, b) for b, u in zip(model[4:7], units, strict=True)]
    depthwise, pointwise, hidden, output = weights
    return Network(
        depthwise, pointwise, biases[0], hidden, biases[1], output, biases[2], bytes=True
    )


# Training ----------------------------------------------------------------------------------------


def train_detector(
    clips: Clips,
    *,
    key: PRNGKeyArray,
    steps: int = 300,
    batch: int = 64,
    rate: float = 5e-3,
    snr: tuple[float, float] = (-10.0, 20.0),
    start: State | None = None,
    until: int | None = None,
    progress: Any = None,
) -> History:
    """Teach a detector which windows hold music, on examples that are new at each step.

    Half of the windows are a song with a sound over it, at `snr` decibels; the others one sound or
    two. All went through the same rooms, filters and gains: a network that is shown dry sounds and
    music in rooms learns to hear rooms. Some sounds are very faint, for what is hardly heard is not
    music. As in the paper, quantised activations are simulated; here quantised weights are too.
    Adam, whose rate falls along a cosine. `until` stops earlier; to go on, `start` is the state of
    that history and all else as before.

    Raises ValueError for settings out of range, and if clips are shorter than a window.
    """
    _check_counts(steps=steps, batch=batch)
    if batch < 2 or not rate > 0 or not snr[0] <= snr[1]:
        raise ValueError(f"batch={batch} must be > 1, rate={rate} > 0, and snr={snr} must rise")
    training.check_clips(clips, _samples())
    if start is None:
        model = Detector(jax.random.fold_in(key, steps))  # steps draw with smaller numbers
        start = training.start(model, training.fresh_statistics(model.scale))
    task = training.Task(_draw(batch, snr), _score, rate, steps)
    return training.train(
        start, task, clips, key=key, until=steps if until is None else until, progress=progress
    )


def detector_loss(
    model: Detector,
    statistics: Statistics,
    x: Float[Array, "B frames mels"],
    music: Float[Array, " B"],
) -> tuple[Float[Array, ""], tuple[Statistics, Float[Array, ""]]]:
    """Cross-entropy of a batch, and after it the statistics and the share of right answers."""
    logit, statistics = _training_logits(model, statistics, x)
    loss = optax.sigmoid_binary_cross_entropy(logit, music).mean()
    right = (logit > 0) == (music > 0)
    return loss, (statistics, right.mean(dtype=jnp.float32))


def _training_logits(model, statistics, x):
    """Answers to windows with the rounding of whole numbers, whose slope is taken as 1."""
    factor, _ = training.folded(model.scale, model.shift, statistics)
    # the grid is that of the folded weights, which is where they will be rounded
    factor = lax.stop_gradient(jnp.where(jnp.abs(factor) < 1e-6, 1e-6, factor))[:, None]
    depthwise = _on_grid(model.depthwise)
    pointwise = _on_grid(model.pointwise * factor) / factor
    x, moved = _as_bytes(x), []
    for layer in range(LAYERS):
        y = _convolution(x, depthwise[layer], pointwise[layer])
        own = jax.tree.map(lambda a, layer=layer: a[layer], statistics)
        y, own = training.normalise(y, model.scale[layer], model.shift[layer], own)
        x = _as_bytes(y)
        moved.append(own)
    flat = x.reshape(len(x), -1)
    hidden = _as_bytes(flat @ _on_grid(model.hidden[None])[0] + model.hidden_bias[None])
    logit = hidden @ _on_grid(model.output[None])[0] + model.output_bias
    return logit, jax.tree.map(lambda *a: jnp.stack(a), *moved)


def _score(model, statistics, examples):
    return detector_loss(model, statistics, *examples)


@lru_cache
def _draw(batch, snr):
    """The same function for the same settings, so that going on compiles nothing anew."""
    return partial(_windows, batch=batch, snr=snr)


def _windows(key, clips, *, batch, snr):
    keys = jax.random.split(key, 8)
    music = jax.random.bernoulli(keys[0], 0.5, (batch,))
    length = _samples()
    song = training.random_crops(keys[1], clips.songs, batch, length)
    other = training.random_crops(keys[2], clips.sounds, batch, length)
    noise = training.random_crops(keys[3], clips.sounds, batch, length)
    x = jnp.where(music[:, None], song, other)
    ratio = jax.random.uniform(keys[5], (batch,), minval=snr[0], maxval=snr[1])
    alone, faint = (
        jax.random.bernoulli(keys[6], jnp.array([[ALONE], [FAINT]]), (2, batch)) & ~music[None]
    )
    heard = degrade(keys[4], x, noise, clips.rooms, snr=jnp.where(alone, 60.0, ratio))
    decibels = jnp.where(faint, jax.random.uniform(keys[7], (batch,), minval=-60, maxval=-20), 0)
    heard = heard * 10 ** (decibels / 20)[:, None]
    return features(heard), music.astype(jnp.float32)


# Helpers -----------------------------------------------------------------------------------------


@jax.jit
def _probability(model, x):
    return jax.nn.sigmoid(detector_scan(model, features(x)))


@jax.jit
def _window(model, x):
    return _dense(model, _convolutions(model, _rounded(model, x)).reshape(len(x), -1))


@jax.jit
def _scan(model, x):
    vectors = _convolutions(model, _rounded(model, x))
    count = len(vectors) - SPAN + 1
    return _dense(model, jnp.concatenate([vectors[i : i + count] for i in range(SPAN)], 1))


def _convolutions(model, x):
    for layer in range(LAYERS):
        y = _convolution(x, model.depthwise[layer], model.pointwise[layer])
        x = _active(model, y, model.bias[layer])
    return x


def _convolution(x, depthwise, pointwise):
    """One separable convolution along the last axis but one, without padding."""
    out = (x.shape[-2] - KERNEL) // STRIDE + 1
    stop = (out - 1) * STRIDE + 1
    taps = [lax.slice_in_dim(x, i, i + stop, STRIDE, axis=-2) for i in range(KERNEL)]
    weights = [jnp.expand_dims(w, range(x.ndim - 1)) for w in depthwise]
    return sum(tap * w for tap, w in zip(taps, weights, strict=True)) @ pointwise


def _dense(model, flat):
    hidden = _active(model, flat @ model.hidden, model.hidden_bias)
    return hidden @ model.output + model.output_bias


def _active(model, y, bias):
    return _rounded(model, jnp.clip(y + jnp.expand_dims(bias, range(y.ndim - 1)), 0.0, TOP))


def _frame(model, stream, frame):
    """One frame: a layer that has read two new vectors gives one to the next."""

    def read(arriving, layer):
        vector, arrived = arriving
        ring, count, *weights = layer
        ring = jnp.where(arrived, _push(ring, vector), ring)
        count = count + arrived.astype(jnp.int32)
        full = arrived & (count >= KERNEL) & ((count - KERNEL) % STRIDE == 0)
        return (_if(full, partial(_vector, model), ring, *weights), full), (ring, count)

    layers = (stream.rings, stream.seen[:-1], model.depthwise, model.pointwise, model.bias)
    arriving = (_rounded(model, frame), jnp.array(True))
    (vector, arrived), (rings, seen) = lax.scan(read, arriving, layers)
    last = jnp.where(arrived, _push(stream.last, vector), stream.last)
    vectors = stream.seen[-1] + arrived.astype(jnp.int32)
    ready = arrived & (vectors >= SPAN)
    logit = _if(ready, lambda last: _dense(model, last.reshape(1, -1))[0], last)
    return Stream(rings, last, jnp.append(seen, vectors)), Answers(logit, ready)


def _vector(model, ring, depthwise, pointwise, bias):
    return _active(model, _convolution(ring, depthwise, pointwise), bias)[0]


def _if(condition, work, *arguments):
    """What `work` says if the condition holds, without working otherwise; else zeros."""
    shape = jax.eval_shape(work, *arguments)
    return lax.cond(condition, work, lambda *_: jnp.zeros(shape.shape, shape.dtype), *arguments)


def _push(ring, vector):
    return jnp.concatenate([ring[1:], vector[None]])


def _rounded(model, x):
    return _as_bytes(x) if model.bytes else x


def _as_bytes(x):
    """The nearest of the 256 numbers from 0 to TOP; the slope of the rounding is taken as 1."""
    x = jnp.clip(x, 0.0, TOP)
    return x + lax.stop_gradient(jnp.round(x * (LEVELS / TOP)) * (TOP / LEVELS) - x)


def _on_grid(w):
    """Weights rounded as `quantise` rounds those of each layer; the slope is taken as 1."""
    scale = _scale(w)
    return w + lax.stop_gradient(_levels(w, scale) * _like(scale, w) - w)


def _scale(w):
    """The step between weights that makes the largest of each layer 127 steps long."""
    return jnp.maximum(jnp.abs(w).max(tuple(range(1, w.ndim))), 1e-12) / WEIGHT_LEVELS


def _levels(w, scale):
    return jnp.round(w / _like(scale, w))


def _units(depthwise, pointwise, hidden, output):
    """What sums of products are multiples of: an input's step times the weights' steps."""
    step = TOP / LEVELS
    return step * depthwise * pointwise, step * hidden, step * output


def _like(scale, w):
    """Numbers of layers with as many axes as the weights of the layers."""
    return scale.reshape(scale.shape + (1,) * (w.ndim - scale.ndim))


def _work(model, vectors, answers):
    _, kernel, channels = model.depthwise.shape
    dense = model.hidden.size + model.output.size
    return vectors * (kernel * channels + channels * channels) + answers * dense


def _samples():
    """Samples of one window."""
    return (window_frames() - 1) * DETECTOR.hop + DETECTOR.frame


def _check_counts(**counts):
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}={count} must be at least 1")
