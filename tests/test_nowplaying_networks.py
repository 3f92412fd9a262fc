"""Detector, fingerprinter and energy against the paper's table, XLA's convolutions, whole numbers
and loops in NumPy, SciPy, and their own identities."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from scipy.special import expit, log_softmax

from lib.datasets.synthesis import KINDS, RATE, song, sound
from lib.nowplaying import detector, energy, fingerprint, training
from lib.nowplaying.mel import FINGERPRINT, log_mel
from lib.nowplaying.rooms import room

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)

LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(monkeypatch):
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))


@jax.jit
def untrained(key):
    model = fingerprint.Fingerprinter(key)
    return fingerprint.fold(model, tuple(map(training.fresh_statistics, model.scales)))


ENCODER = untrained(KEY)


def perturbed(tree, size):
    """Arrays with noise on them, so that no scale is 1 and no bias 0."""
    leaves, structure = jax.tree.flatten(tree)
    moved = [w + size * RNG.normal(size=w.shape).astype(np.float32) for w in leaves]
    return jax.tree.unflatten(structure, moved)


def statistics_like(scale):
    size = scale.shape
    mean, variance = RNG.normal(size=size) / 2, RNG.uniform(0.3, 2, size)
    return training.Statistics(*(jnp.asarray(a, jnp.float32) for a in (mean, variance)))


@pytest.fixture(scope="module")
def trained():
    """A detector whose numbers are as different as after a training."""
    model = perturbed(detector.Detector(KEY), 0.1)
    return model, statistics_like(model.scale)


@pytest.fixture(scope="module")
def network(trained):
    return detector.fold(*trained)


@pytest.fixture(scope="module")
def frames():
    """30 s of music, as the detector reads it."""
    return np.asarray(detector.features(song(3, 30.0)))


@pytest.fixture(scope="module")
def clips():
    songs = training.pcm(np.stack([song(seed, 6.0) for seed in range(8)]))
    sounds = training.pcm(np.stack([sound(kind, 0, 6.0) for kind in KINDS]))
    return training.Clips(songs, sounds, np.stack([room(seed) for seed in range(2)]))


# The detector ------------------------------------------------------------------------------------


def test_sizes_are_those_of_table_2c():
    table = [446, 222, 110, 54, 26, 12, 5]
    assert detector.layer_lengths(446) == table
    assert detector.window_frames() == 446 and detector.window_frames(1) == 190
    assert detector.HOP == 64 and pytest.approx(0.640) == detector.PERIOD
    model = detector.Detector(KEY)
    network = detector.fold(model, training.fresh_statistics(model.scale))
    normalisations = model.scale.size + model.shift.size
    assert training.count_params(model) == 8593
    assert training.count_params(model) - normalisations == 8209
    assert training.count_params(network) - network.bias.size == 8209
    vector, dense = 4 * 32 + 32 * 32, 5 * 32 * 8 + 8
    assert detector.multiply_adds(model) == 63 * vector + dense == 73_864
    again = detector.multiply_adds(model, streaming=False)
    assert again == sum(table[1:]) * vector + dense == 495_496
    memory = detector.memory(detector.quantise(network))
    assert memory.weights + memory.biases + memory.state == 9932
    assert sum(memory) < 10 * 1024


def test_a_window_is_six_convolutions_of_xla_normalised(trained, network, frames):
    model, statistics = trained
    x = np.stack([frames[i * 64 :][:446] for i in range(3)])
    y = jnp.asarray(x)[:, :, None]
    for layer, length in enumerate(detector.layer_lengths(446)[1:]):
        depthwise = model.depthwise[layer][:, None, None]
        y = lax.conv_general_dilated(
            y, depthwise, (2, 1), "VALID", dimension_numbers=LAYOUT, feature_group_count=32
        )
        pointwise = model.pointwise[layer][None, None]
        y = lax.conv_general_dilated(y, pointwise, (1, 1), "VALID", dimension_numbers=LAYOUT)
        deviation = np.sqrt(np.asarray(statistics.variance[layer]) + 1e-3)
        y = (np.asarray(y) - np.asarray(statistics.mean[layer])) / deviation
        y = np.clip(y * np.asarray(model.scale[layer]) + np.asarray(model.shift[layer]), 0, 6)
        assert y.shape == (3, length, 1, 32)
    w, b = np.asarray(model.hidden), np.asarray(model.hidden_bias)
    hidden = np.clip(y.reshape(3, -1) @ w + b, 0, 6)
    truth = hidden @ np.asarray(model.output) + np.asarray(model.output_bias)
    assert np.ptp(truth) > 1e-3
    np.testing.assert_allclose(detector.detector_window(network, x), truth, atol=1e-4)


@pytest.mark.parametrize("whole_numbers", [False, True])
def test_a_stream_says_what_windows_say(network, frames, whole_numbers):
    if whole_numbers:
        network = detector.restore(detector.quantise(network))
    count = (len(frames) - 446) // 64 + 1
    windows = np.stack([frames[64 * i :][:446] for i in range(count)])
    truth = np.asarray(detector.detector_window(network, windows))
    assert count == 40 and np.ptp(truth) > 0.1
    np.testing.assert_allclose(detector.detector_scan(network, frames), truth, atol=1e-4)
    spoken = {}
    for size, until in ((64, 2944),) if whole_numbers else ((1, 700), (64, 2944), (640, 2560)):
        stream = detector.detector_start(network)
        logits, ready = [], []
        for begin in range(0, until, size):
            piece = frames[begin : begin + size]
            stream, answers = detector.detector_step(network, stream, piece)
            logits.append(answers.logit)
            ready.append(answers.ready)
        logits, ready = np.concatenate(logits), np.concatenate(ready)
        assert np.flatnonzero(ready).tolist() == list(range(445, until, 64))
        assert not logits[~ready].any()
        spoken[size] = logits[ready]
    for logits in spoken.values():
        np.testing.assert_allclose(logits, spoken[64][: len(logits)], atol=1e-6)
    np.testing.assert_allclose(spoken[64], truth, atol=1e-4)


def test_a_stream_counts_its_work(network, frames):
    stream, work = detector.detector_start(network), []
    for begin in range(0, 64 * 12, 64):
        stream, _ = detector.detector_step(network, stream, frames[begin : begin + 64])
        work.append(detector.stream_multiply_adds(network, stream))
    assert set(np.diff(work)[-5:]) == {detector.multiply_adds(network)}
    stream = detector.detector_start(network)
    for frame in frames[:446]:
        stream, answers = detector.detector_step(network, stream, frame[None])
    assert answers.ready.all()
    first = detector.stream_multiply_adds(network, stream)
    assert first == detector.multiply_adds(network, streaming=False)


def test_eight_bits_compute_as_whole_numbers_do(network, frames):
    integers = detector.quantise(network)
    restored = detector.restore(integers)
    assert {a.dtype.name for a in integers[:4]} == {"int8"}
    assert max(int(jnp.abs(a.astype(jnp.int32)).max()) for a in integers[:4]) == 127
    w = jax.tree.map(lambda a: np.asarray(a).astype(object), integers)  # Python's own integers
    step = 6 / 255
    x = np.stack([frames[i * 640 :][:446] for i in range(3)])
    q = np.rint(np.clip(x, 0, 6) / step).astype(int)
    for layer in range(6):
        out = (q.shape[1] - 4) // 2 + 1
        total = sum(q[:, i : i + 2 * out - 1 : 2] * w.depthwise[layer, i] for i in range(4))
        total = total @ w.pointwise[layer] + w.bias[layer]
        assert np.abs(total).max() < 2**31
        scale = integers.depthwise_scale[layer] * integers.pointwise_scale[layer]
        q = np.clip(np.rint(total.astype(float) * float(scale)), 0, 255).astype(int)
    total = q.reshape(3, -1) @ w.hidden + w.hidden_bias
    q = np.clip(np.rint(total.astype(float) * float(integers.hidden_scale)), 0, 255).astype(int)
    total = q @ w.output + w.output_bias
    truth = total.astype(float) * step * float(integers.output_scale)
    ours = np.asarray(detector.detector_window(restored, x))
    np.testing.assert_allclose(ours, truth, atol=0.01)  # a tie of floats may round the other way
    assert np.ptp(truth) > 0.1
    np.testing.assert_allclose(ours, detector.detector_window(network, x), atol=0.3)


def test_training_simulates_what_will_be_deployed(frames):
    """It changes answers as 8 bits do; roundings that fall to the other side change them, too."""
    x = jnp.asarray(np.stack([frames[i * 100 :][:446] for i in range(16)]))
    simulate = jax.jit(detector._training_logits)
    alike = []
    for seed in range(4):
        model = perturbed(detector.Detector(jax.random.key(seed)), 0.1)
        before = statistics_like(model.scale)
        for _ in range(3):  # statistics of the batch itself: undo the moving average
            logits, after = simulate(model, before, x)
            before = jax.tree.map(lambda new, old: (new - 0.9 * old) / 0.1, after, before)
        folded = detector.fold(model, before)
        plain = np.asarray(detector.detector_window(folded, x))
        deployed = detector.restore(detector.quantise(folded))
        answers = np.asarray(detector.detector_window(deployed, x))
        alike.append(np.corrcoef(answers - plain, np.asarray(logits) - plain)[0, 1])
    assert np.mean(alike) > 0.4  # by chance 0, with a standard error of 0.13
    loss, (_, right) = jax.jit(detector.detector_loss)(model, before, x, jnp.ones(16))
    z = np.asarray(simulate(model, before, x)[0], float)
    assert float(loss) == pytest.approx(-np.log(expit(z)).mean(), rel=1e-5)
    assert float(right) == (z > 0).mean()


def test_silence_and_nans_in_a_recording(network):
    x = song(4, 12.0)
    clean = detector.probability(network, x)
    assert len(clean) == 12 and np.ptp(clean) > 0
    assert np.isfinite(detector.probability(network, np.zeros_like(x))).all()
    x[50_000] = np.nan
    first, last = (50_000 - 199) // 80 + 1, 50_000 // 80  # frames that hold it
    touched = np.array([64 * i <= last and first < 64 * i + 446 for i in range(len(clean))])
    heard = detector.probability(network, x)
    np.testing.assert_array_equal(np.isnan(heard), touched)
    np.testing.assert_array_equal(heard[~touched], clean[~touched])
    assert touched.any() and not touched.all()
    frames = np.asarray(detector.features(x))
    _, answers = detector.detector_step(network, detector.detector_start(network), frames)
    spoken = np.asarray(answers.logit)[np.asarray(answers.ready)]
    np.testing.assert_array_equal(np.isnan(spoken), touched)


# Smoothing and thresholds ------------------------------------------------------------------------


def test_music_is_detected_once_a_row_or_again():
    p = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1], float)
    plain = {"window": 1, "threshold": 0.5}
    assert detector.aggregate(p, consecutive=2, **plain).tolist() == [2, 11]
    assert detector.aggregate(p, consecutive=3, **plain).tolist() == [3]
    assert detector.aggregate(p, consecutive=2, refractory=2, **plain).tolist() == [2, 4, 6, 11]
    smooth = {"window": 3, "consecutive": 1, "threshold": 0.9}
    assert detector.aggregate(p, **smooth).tolist() == [3]
    assert detector.aggregate(p[:2], **smooth).tolist() == []
    p[5] = np.nan
    assert detector.aggregate(p, consecutive=2, **plain).tolist() == [2, 7, 11]
    assert detector.aggregate(p, window=2, consecutive=1, threshold=0.9).tolist() == [2, 7, 11]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=30),
    st.integers(1, 4),
    st.integers(1, 4),
    st.none() | st.integers(1, 3),
)
def test_smoothing_equals_a_loop(p, window, consecutive, refractory):
    row, wait, events = 0, 0, []
    for i in range(window - 1, len(p)):
        row = row + 1 if sum(p[i - window + 1 : i + 1]) / window > 0.5 else 0
        wait = wait - 1 if row else 0
        if row == consecutive or (refractory and row > consecutive and wait == 0):
            events.append(i)
            wait = refractory or 0
    options = {"window": window, "consecutive": consecutive, "refractory": refractory}
    ours = detector.aggregate(np.array(p), threshold=0.5, **options)
    assert ours.tolist() == events


def test_operating_points_count_recall_and_false_alarms():
    music = [np.full(10, 0.8), np.full(10, 0.6), np.full(2, 1.0)]
    other = [np.full(3600, 0.1), np.r_[np.full(9, 0.7), np.zeros(2016)]]
    points = detector.operating_points(music, other, thresholds=[0.5, 0.65, 0.75])
    assert points.recall.tolist() == [2 / 3, 1 / 3, 1 / 3]
    np.testing.assert_allclose(points.false_alarms, [1, 1, 0])  # 5625 answers are an hour


def test_the_papers_day():
    day = energy.energy_day(0.4, 100, 0.139)
    np.testing.assert_allclose(day, (9.6, 13.9, 23.5, 0.870), atol=5e-4)
    assert energy.volts(2.0, 0.139) == pytest.approx(3.997, abs=1e-3)
    np.testing.assert_allclose(energy.always_awake()[2:], (1501, 56), rtol=0.01)
    wakeups = energy.wakeups_per_day(np.array([1.0, 0.5]), np.array([3.0, 0.0]), music=50, hours=8)
    np.testing.assert_allclose(energy.energy_day(wakeups=wakeups).wakeups, 0.139 * wakeups)
    assert wakeups.tolist() == [74, 25]


# The fingerprinter -------------------------------------------------------------------------------


def test_numbers_of_a_fingerprinter():
    builds = [partial(fingerprint.Fingerprinter, d=d) for d in (64, 96, 128)]
    counts = [training.count_params(jax.eval_shape(build, KEY)) for build in builds]
    widths = [1, 16, 32, 32, 48, 48, 96, 96, 160, 160]
    trunk = 9 * 16 + sum(3 * a * b for a, b in zip(widths[1:-1], widths[2:], strict=True))
    trunk += 2 * sum(widths[1:])
    assert counts == [trunk + d * (640 // d * 8 + 8 + 8 + 1) for d in (64, 96, 128)]
    assert counts[1] == 188_240


def test_convolutions_as_products_are_xlas():
    for shape in [(3, 3, 1, 4), (1, 3, 5, 4), (3, 1, 5, 4)]:
        x = jax.random.normal(KEY, (2, 6, 10, shape[2]))
        kernel = jax.random.normal(KEY, shape)
        truth = fingerprint._convolution(x, kernel)
        ours = jax.jit(fingerprint._convolution_product)(x, kernel)
        np.testing.assert_allclose(ours, truth, atol=1e-5)


def test_divide_and_encode_equals_a_loop():
    model = perturbed(jax.jit(partial(fingerprint.Fingerprinter, d=6))(KEY), 0.1)
    x = RNG.normal(size=(2, 640)).astype(np.float32)
    truth = np.zeros((2, 6))
    for b, j in np.ndindex(2, 6):
        z = x[b, 106 * j : 106 * (j + 1)] @ np.asarray(model.divide[j]) + model.divide_bias[j]
        z = np.where(z > 0, z, np.expm1(z))
        truth[b, j] = z @ np.asarray(model.encode[j]) + model.encode_bias[j]
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    ours = fingerprint.divide_and_encode(model, jnp.asarray(x))
    np.testing.assert_allclose(ours, truth, atol=1e-5)


def test_a_folded_network_does_what_training_does():
    model = perturbed(jax.jit(partial(fingerprint.Fingerprinter, d=16))(KEY), 0.05)
    statistics = tuple(map(statistics_like, model.scales))
    x = log_mel(np.stack([song(seed, 3.0)[: fingerprint.WINDOW] for seed in range(6)]), FINGERPRINT)
    ours, after = jax.jit(fingerprint.training_fingerprints)(model, statistics, x)
    batch = jax.tree.map(lambda new, old: (new - 0.9 * old) / 0.1, after, statistics)
    np.testing.assert_allclose(fingerprint.fold(model, batch)(x), ours, atol=1e-3)
    assert np.abs(fingerprint.fold(model, statistics)(x) - ours).max() > 0.1


def test_batch_normalisation_is_the_formula():
    y = RNG.normal(2, 3, (5, 7, 4)).astype(np.float32)
    scale, shift = RNG.normal(size=(2, 4)).astype(np.float32)
    old = training.Statistics(jnp.ones(4), jnp.full(4, 2.0))
    ours, moved = training.normalise(jnp.asarray(y), *map(jnp.asarray, (scale, shift)), old)
    mean, variance = y.mean((0, 1)), y.var((0, 1))
    truth = (y - mean) / np.sqrt(variance + 1e-3) * scale + shift
    np.testing.assert_allclose(ours, truth, atol=1e-4)
    np.testing.assert_allclose(moved.mean, 0.9 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(moved.variance, 1.8 + 0.1 * variance, rtol=1e-5)


def test_fingerprints_of_recordings():
    x, y = song(5, 8.0), song(6, 5.0)
    whole, short = fingerprint.fingerprints(ENCODER, [x, y])
    assert whole.shape == (6, 96) and short.shape == (3, 96)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-4)
    quiet = np.zeros_like(x)
    broken = x.copy()
    broken[3 * RATE + 100] = np.nan  # the windows from 1 s on end before 3.08 s
    variants = [-x, 0.1 * x, quiet, training.pcm(x).astype(np.float32) / 32767, broken]
    flipped, soft, silent, coarse, nan = fingerprint.fingerprints(ENCODER, variants)
    np.testing.assert_allclose(flipped, whole, atol=1e-5)
    assert (soft * whole).sum(1).min() > 0.95 and (coarse * whole).sum(1).min() > 0.98
    assert np.isfinite(silent).all()
    inside = np.array(
        [t * RATE <= 3 * RATE + 100 < t * RATE + fingerprint.WINDOW for t in range(6)]
    )
    np.testing.assert_array_equal(np.isnan(nan).any(1), inside)
    np.testing.assert_array_equal(nan[~inside], whole[~inside])
    later, stored = fingerprint.fingerprints(ENCODER, [x[RATE:], x], offset=4000)
    np.testing.assert_allclose(stored[1:], later, atol=1e-5)
    often = fingerprint.fingerprints(ENCODER, [x], hop=4000)[0]
    np.testing.assert_allclose(often[::2], whole, atol=1e-5)
    integers = fingerprint.fingerprints(ENCODER, [training.pcm(x)])[0]
    np.testing.assert_allclose(integers, coarse, atol=1e-5)


# Losses ------------------------------------------------------------------------------------------


triplets = jax.jit(fingerprint.triplet_semihard, static_argnames="margin")


def units(count, d=6):
    x = RNG.normal(size=(count, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_triplet_losses_that_can_be_told_by_hand():
    e, songs, times = jnp.eye(3), np.arange(3), np.zeros(3, np.float32)
    perfect = triplets(e, e, songs, times)
    assert (float(perfect.loss), float(perfect.accuracy)) == (0, 1)
    rolled = triplets(e, jnp.roll(e, 1, 0), songs, times)
    assert float(rolled.loss) == pytest.approx(0.4) and float(rolled.accuracy) == 0
    alone = triplets(e, jnp.roll(e, 1, 0), np.zeros(3, int), times)
    assert (float(alone.loss), float(alone.accuracy)) == (0, 1)


def test_losses_equal_loops():
    a, p = units(8), units(8)
    p = a + 0.7 * p
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    songs = np.repeat(np.arange(4), 2)
    times = np.float32([0, 0.3, 0, 5, 1, 1.5, 2, 2.6])
    far = (songs[:, None] != songs) | (abs(times[:, None] - times) > 0.5)
    assert 0 < (~far).sum() - 8 < 8
    costs, right = [], []
    for x, y in ((a, p), (p, a)):
        for i in range(8):
            d = ((x[i] - y) ** 2).sum(1)
            harder = d[far[i] & (d > d[i])]
            n = harder.min() if len(harder) else d[far[i]].max()
            costs.append(max(d[i] - n + 0.3, 0))
            right.append(d[far[i]].min() > d[i])
    ours = triplets(jnp.asarray(a), jnp.asarray(p), songs, times, margin=0.3)
    np.testing.assert_allclose(ours, (np.mean(costs), np.mean(right)), atol=1e-5)
    assert 0 < np.mean(right) < 1 and 0 < np.mean(np.array(costs) > 0) < 1
    both, costs, right = np.concatenate([a, p]), [], []
    for i in range(16):
        others = [j for j in range(16) if far[i % 8, j % 8] or j == (i + 8) % 16]
        cosine, at = both[others] @ both[i], others.index((i + 8) % 16)
        costs.append(-log_softmax(cosine / 0.1)[at])
        right.append(cosine.argmax() == at)
    softmax = jax.jit(partial(fingerprint.nt_xent, temperature=0.1))
    ours = softmax(jnp.asarray(a), jnp.asarray(p), songs, times)
    np.testing.assert_allclose(ours, (np.mean(costs), np.mean(right)), atol=1e-5)
    for loss in fingerprint.LOSSES.values():
        slope = jax.jit(jax.grad(lambda x, loss=loss: loss(x, jnp.asarray(p), songs, times).loss))
        assert np.isfinite(slope(jnp.asarray(a))).all()


# Training ----------------------------------------------------------------------------------------


def test_pairs_are_what_they_say(clips):
    pairs = jax.jit(lambda key: fingerprint._draw(8, (-3.0, 15.0))(key, clips))(KEY)
    assert len(set(pairs.song.tolist())) == 4
    for i in range(8):
        begin = round(float(pairs.time[i]) * RATE)
        piece = clips.songs[int(pairs.song[i])][begin : begin + fingerprint.WINDOW]
        truth = log_mel(np.float32(piece) / 32767, FINGERPRINT)
        np.testing.assert_allclose(pairs.anchor[i], truth, atol=1e-2)
    assert np.isfinite(pairs.positive).all()


@pytest.mark.computes
@pytest.mark.parametrize(
    "train, steps, options",
    [
        (detector.train_detector, 30, {"batch": 24, "rate": 1e-2, "snr": (10.0, 20.0)}),
        (fingerprint.train_fingerprinter, 40, {"batch": 8, "d": 16, "rate": 1e-2}),
    ],
)
def test_a_network_learns_and_training_goes_on_where_it_stopped(clips, train, steps, options):
    options = options | {"key": KEY, "steps": steps}
    straight = train(clips, **options)
    begun = train(clips, **options, until=4)
    resumed = train(clips, **options, start=begun.state)
    np.testing.assert_array_equal(np.r_[begun.loss, resumed.loss], straight.loss)
    assert resumed.state.done == steps and len(straight.accuracy) == steps
    assert eqx.tree_equal(resumed.state.model, straight.state.model)
    assert straight.loss[-9:].mean() < 0.8 * straight.loss[:9].mean()


# Bad input ---------------------------------------------------------------------------------------

NETWORK = detector.fold(
    detector.Detector(KEY), training.fresh_statistics(jnp.ones((detector.LAYERS, 32)))
)
NOISE = training.Clips(np.zeros((2, 40_000), np.int16), np.zeros((2, 40_000)), np.ones((1, 1)))


@pytest.mark.parametrize(
    "call, complaint",
    [
        (
            lambda: detector.detector_window(NETWORK, np.zeros((1, 400, 32))),
            r"windows of \(400, 32",
        ),
        (lambda: detector.detector_scan(NETWORK, np.zeros((400, 32))), "at least 446 frames"),
        (lambda: detector.probability(NETWORK, np.zeros(9)), "9 samples, wanted at least 35800"),
        (lambda: detector.aggregate(np.zeros(9), window=0), "window=0"),
        (lambda: detector.aggregate(np.zeros(9), threshold=2), "threshold=2"),
        (lambda: detector.operating_points([], [np.ones(9)], thresholds=[0.5]), "music has 0"),
        (lambda: energy.energy_day(-1), "detector=-1"),
        (lambda: energy.energy_day(battery=0), "battery=0"),
        (lambda: energy.volts(2.0, 0), "charge=0"),
        (lambda: energy.always_awake(0), "every=0"),
        (lambda: energy.wakeups_per_day(1.5, 1), "recall=1.5"),
        (lambda: fingerprint.Fingerprinter(KEY, d=641), "d=641"),
        (
            lambda: fingerprint.fingerprints(ENCODER, [np.zeros(9)]),
            r"recordings\[0\] has 9 samples",
        ),
        (lambda: fingerprint.fingerprints(ENCODER, [], hop=0), "hop=0"),
        (lambda: fit(loss="hinge"), "loss='hinge'"),
        (lambda: fit(batch=3), "batch=3 even"),
        (lambda: fit(batch=6), "2 songs, wanted 3"),
        (
            lambda: fit(clips=NOISE._replace(rooms=np.ones((0, 9)))),
            r"clips.rooms has shape \(0, 9\)",
        ),
        (lambda: fit(clips=NOISE._replace(songs=np.zeros((9, 9)))), "of at least 23040 samples"),
        (lambda: fit(until=5), "until=5 must lie after the 0 steps"),
        (lambda: detector.train_detector(NOISE, key=KEY, batch=1), "batch=1"),
        (lambda: detector.train_detector(NOISE, key=KEY, steps=0), "steps=0"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def fit(clips=NOISE, **options):
    return fingerprint.train_fingerprinter(clips, **{"key": KEY, "steps": 2, "batch": 4} | options)
