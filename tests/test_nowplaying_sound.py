"""Sound for Now Playing against SciPy, closed forms of acoustics and, where it is, librosa."""

import warnings

import jax
import numpy as np
import pytest
import soundfile
from scipy import signal
from scipy.io import wavfile
from scipy.optimize import least_squares
from scipy.special import jv

from lib import datasets
from lib.datasets import synthesis
from lib.nowplaying import mel, rooms

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
RATE = synthesis.RATE
TONE = synthesis.Instrument(
    kind="wave",
    waves=np.zeros((2, 10), complex),
    pluck=RNG.normal(size=1000),
    attack=1e-5,
    decay=1e9,
    vibrato=0.0,
    wobble=5.0,
    ratio=1.0,
    depth=1.0,
)  # an instrument without envelope or vibrato


def partials(sound, frequencies):
    """Amplitudes of sines in a sound, by least squares, if there is nothing else in it."""
    sound = sound[10:RATE].astype(float)  # the first moment is the attack
    angles = 2 * np.pi * np.outer(np.arange(len(sound)), frequencies) / RATE
    parts = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    found, (rest,), *_ = np.linalg.lstsq(parts, sound)
    assert rest < 1e-4 * np.sum(sound**2)
    return np.hypot(*np.split(found, 2))


# Songs and sounds --------------------------------------------------------------------------------


@pytest.mark.parametrize("pitch", [45, 69, 93])
def test_a_note_has_its_harmonics_and_no_false_ones(pitch):
    amplitudes = np.array([3.0, 1, 2, 0.5, 1, 1, 0.3, 0.2, 0.4, 1])
    tone = TONE._replace(waves=np.stack([amplitudes + 0j] * 2))
    frequencies = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 11)
    carried = frequencies < RATE / 2
    heard = partials(synthesis.note(tone, pitch, 1.0), frequencies[carried])
    np.testing.assert_allclose(heard / heard[0], amplitudes[carried] / 3, atol=3e-3)
    assert carried.all() == (pitch == 45)


def test_frequency_modulation_has_bessels_side_bands():
    tone, orders = TONE._replace(kind="fm", ratio=0.3, depth=2.0), np.arange(-6, 12)
    heard = partials(synthesis.note(tone, 57, 1.0), 220 * abs(1 + 0.3 * orders))
    np.testing.assert_allclose(heard, abs(jv(orders, 2.0)), atol=3e-3)
    high = synthesis.note(TONE._replace(kind="fm", ratio=1.0, depth=5.0), 93, 1.0)
    frequency, power = signal.periodogram(high, RATE)
    true = np.min(abs(frequency[:, None] - 1760 * np.arange(3)), 1) < 20
    assert power[~true].sum() < 0.05 * power.sum()  # Carson's rule cuts the depth from 5 to 0.27


@pytest.mark.parametrize("pitch", [33, 57, 91])
def test_strings_are_in_tune(pitch):
    note = 440 * 2 ** ((pitch - 69) / 12)
    sound = synthesis.note(TONE._replace(kind="string"), pitch, 1.0)
    frequency, power = signal.periodogram(sound, RATE, window="hann", nfft=2**17)
    near = abs(frequency / note - 1) < 0.2
    assert frequency[near][power[near].argmax()] == pytest.approx(note, rel=0.005)


def test_songs_are_functions_of_their_seed():
    first, again, other = (synthesis.song(seed, 6) for seed in (7, 7, 8))
    assert first.shape == (48_000,) and (first == again).all()
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2
    longer = synthesis.song(7, 9)[:48_000]
    kept = np.maximum(abs(first), abs(longer)) < 1
    volume = longer[kept] @ first[kept] / (first[kept] @ first[kept])
    np.testing.assert_allclose(longer[kept], volume * first[kept], atol=1e-5)
    assert kept.mean() > 0.999
    loudness = [np.sqrt(np.mean(np.square(synthesis.song(seed, 5)))) for seed in range(5)]
    np.testing.assert_allclose(loudness, 0.1, rtol=1e-2)


def test_no_song_repeats_itself_exactly(monkeypatch):
    def likeness(seed):
        """Best correlation of two seconds of a song with another place in it."""
        song, size = synthesis.song(seed, 25).astype(float), 2 * RATE
        part = song[size : 2 * size]
        total = np.cumsum(np.pad(song**2, (1, 0)))
        norms = np.sqrt(total[size:] - total[:-size]) * np.linalg.norm(part)
        match = signal.correlate(song, part, "valid", "fft") / norms
        match[size // 2 : 3 * size // 2] = 0
        return match.max()

    played = np.median([likeness(seed) for seed in range(6)])
    monkeypatch.setattr(synthesis, "OFF_BEAT", 0.0)
    mechanical = np.median([likeness(seed) for seed in range(6)])
    assert played < 0.6 and mechanical > played + 0.15


@pytest.mark.parametrize("kind", synthesis.KINDS)
def test_sounds_are_functions_of_kind_and_seed(kind):
    heard = synthesis.sound(kind, 3, 2.0)
    assert heard.shape == (16_000,) and (heard == synthesis.sound(kind, 3, 2.0)).all()
    assert (heard != synthesis.sound(kind, 4, 2.0)).any() and np.abs(heard).max() <= 1
    wanted = 0.001 if kind == "silence" else 0.1
    least = 0.7 if kind in ("office", "steps") else 0.99  # of knocks, the peaks are clipped
    assert least < np.sqrt(np.mean(heard**2)) / wanted < 1.01
    for samples in (1, 2, 300):
        assert np.isfinite(synthesis.sound(kind, 0, samples / RATE)).all()


def test_hiss_is_pink():
    frequency, power = signal.welch(synthesis.sound("silence", 1, 60), RATE, nperseg=2048)
    heard = (frequency > 20) & (frequency < 3900)
    slope, _ = np.polyfit(np.log(frequency[heard]), np.log(power[heard]), 1)
    assert slope == pytest.approx(-1, abs=0.03)


def test_what_cannot_be_played_is_one_line():
    cases = [
        (lambda: synthesis.sound("opera", 0, 1), "kind='opera' is not known: use one of speech"),
        (lambda: synthesis.sound("noise", -1, 1), "seed=-1 must not be negative"),
        (lambda: synthesis.song(0, 0), "seconds=0 must make at least one sample"),
        (lambda: synthesis.note(TONE, 107, 1), "pitch=107 must lie in 0 .. 106"),
    ]
    for call, reason in cases:
        with pytest.raises(ValueError, match=f"^{reason}[^\n]*$"):
            call()


# Rooms -------------------------------------------------------------------------------------------


def test_reflections_come_from_mirror_images():
    size, source, microphone = np.array([[3, 4, 2.5], [1, 3, 0.7], [2.2, 0.9, 1.8]])
    images, wave = {tuple(source): 0}, [source]
    for walls in range(1, 12):  # mirror all that is there at each of the six walls, again and again
        mirrored = []
        for image in wave:
            for axis in range(3):
                for wall in (0, size[axis]):
                    copy = np.array(image)
                    copy[axis] = 2 * wall - copy[axis]
                    copy = np.round(copy, 9)
                    if tuple(copy) not in images and np.linalg.norm(copy - microphone) < 12:
                        images[tuple(copy)] = walls
                        mirrored.append(copy)
        wave = mirrored
    direct = np.linalg.norm(source - microphone)
    truth = np.zeros(150)
    for place, walls in images.items():
        distance = np.linalg.norm(np.array(place) - microphone)
        late = round((distance - direct) / 343 * 8000)
        if late < 150:
            truth[late] += 0.8**walls / distance
    assert not wave and max(images.values()) > 4
    found = rooms.impulse_response(size, source, microphone, 0.8, length=150)
    np.testing.assert_allclose(found, truth / np.linalg.norm(truth), atol=1e-6)


def test_sound_dies_away_as_eyring_says():
    size, reflection = np.array([5, 4.6, 5.3]), 0.85
    volume, walls = size.prod(), 2 * (size[0] * size[1] + size[1] * size[2] + size[2] * size[0])
    eyring = 24 * np.log(10) * volume / (343 * walls * -2 * np.log(reflection))
    times = []
    for places in RNG.uniform(0.2, 0.8, (6, 2, 3)) * size:
        response = rooms.impulse_response(size, *places, reflection, length=6000)
        response = signal.sosfilt(signal.butter(4, 500, "high", fs=RATE, output="sos"), response)
        left = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])  # Schroeder's integral
        part = (left < left[0] - 5) & (left > left[0] - 25)
        times.append(-60 / np.polyfit(np.flatnonzero(part) / RATE, left[part], 1)[0])
    assert np.mean(times) == pytest.approx(eyring, rel=0.15)


def test_rooms_neither_boom_nor_come_late():
    responses = np.stack([rooms.room(seed) for seed in range(8)])
    assert responses.shape == (8, 2048) and (responses[:, 0] > 0.1).all()
    low = np.abs(np.fft.rfft(responses)[:, :4]).max()  # below 16 Hz
    assert low < 0.2 * np.abs(np.fft.rfft(responses)).max()
    with pytest.raises(ValueError, match="must be two places between 0 and"):
        rooms.impulse_response(np.ones(3), np.ones(3), np.full(3, 0.5), 0.5, length=9)
    with pytest.raises(ValueError, match="reflection=1.0 must lie in 0 .. 1, below 1"):
        rooms.impulse_response(np.ones(3), np.full(3, 0.2), np.full(3, 0.5), 1.0, length=9)


@pytest.fixture(scope="module")
def pair():
    """Four recordings that are alike, with four noises."""
    x, noise = RNG.normal(size=(2, 4, 8000)).astype(np.float32) * [[[0.3]], [[2.0]]]
    return x.astype(np.float32), noise.astype(np.float32)


def test_noise_is_at_the_wanted_level(pair):
    x, noise = pair
    clean = dict(rooms_share=0.0, band_share=0.0, gain=(-10.0, -10.0))
    wanted = np.float32([-6, 0, 6, 20])
    heard = np.asarray(rooms.degrade(KEY, x, noise, np.ones((1, 1)), snr=wanted, **clean))
    for one, music, sound, decibels in zip(heard, x, noise, wanted, strict=True):
        (a, b), (rest,), *_ = np.linalg.lstsq(np.stack([music, sound], 1), one)
        snr = 20 * np.log10(a * np.std(music) / (b * np.std(sound)))
        assert snr == pytest.approx(decibels, abs=0.01) and rest < 1e-6
        assert a * np.std(music) == pytest.approx(0.1 * 10**-0.5, rel=0.01)
    quiet = rooms.degrade(KEY, 0 * x, 0 * noise, np.ones((1, 1)), snr=0.0)
    assert not np.asarray(quiet).any()
    loud = rooms.degrade(KEY, x, noise, np.ones((1, 1)), snr=0.0, gain=(40.0, 40.0))
    assert np.abs(loud).max() == 1


def test_a_room_is_a_convolution_and_shifts_nothing(pair):
    x, noise = pair
    responses = np.stack([rooms.room(seed) for seed in range(3)])
    only = dict(snr=200.0, band_share=0.0, gain=(0.0, 0.0))
    heard = np.asarray(rooms.degrade(KEY, x, noise, responses, rooms_share=1.0, **only))
    for one, music in zip(heard, x, strict=True):
        echoes = [signal.fftconvolve(music, room)[:8000] for room in responses]
        assert max(np.corrcoef(one, echo)[0, 1] for echo in echoes) > 0.99999
        lag = signal.correlate(one, music, "full").argmax() - (len(music) - 1)
        assert lag == 0
    half = rooms.degrade(KEY, *(np.tile(a, (50, 1)) for a in pair), responses, **only)
    dry = [np.corrcoef(one, x[i % 4])[0, 1] > 0.9999 for i, one in enumerate(np.asarray(half))]
    assert 0.15 < np.mean(dry) < 0.45  # 1 - 0.7, of 200


def test_a_loudspeaker_is_a_pair_of_butterworth_filters(pair):
    x, noise = pair
    only = dict(snr=200.0, rooms_share=0.0, gain=(-20.0, -20.0))
    # what is long after the recording begins and before it ends is filtered as if it had no ends
    clicks = np.zeros((4, 8000), np.float32)
    clicks[:, 4000] = 1
    heard = np.asarray(rooms.degrade(KEY, clicks, noise, np.ones((1, 1)), band_share=1.0, **only))
    frequency = np.arange(1, 4000, 10) * 1.0

    def gains(logarithms):
        low, high, gain = np.exp(logarithms)
        below = signal.freqs(*signal.butter(2, low, "high", analog=True), frequency)[1]
        above = signal.freqs(*signal.butter(4, high, "low", analog=True), frequency)[1]
        return gain * np.abs(below * above)

    cuts = []
    for one in heard:
        truth = np.abs(np.fft.rfft(one / np.linalg.norm(one)))[1:4000:10]
        fit = least_squares(lambda logs, truth=truth: gains(logs) - truth, np.log([200, 2700, 1]))
        assert np.abs(fit.fun).max() < 0.02
        cuts.append(np.exp(fit.x[:2]))
    low, high = np.transpose(cuts)
    assert ((low > 78) & (low < 510)).all() and ((high > 1780) & (high < 4050)).all()
    assert np.ptp(low) > 10 and np.ptp(high) > 10


def test_a_fast_turntable_is_higher_and_shorter():
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)
    for percent in (-5, 0.5, 3):
        fast = rooms.speed_up(tone, percent)
        assert len(fast) == pytest.approx(len(tone) / (1 + percent / 100), abs=1)
        power = np.abs(np.fft.rfft(fast * np.hanning(len(fast)), 2**19))
        found = power.argmax() * RATE / 2**19
        assert found == pytest.approx(440 * (1 + percent / 100), abs=0.05)
    with pytest.raises(ValueError, match="percent=-100 must lie in -50 .. 100"):
        rooms.speed_up(tone, -100)


# Log-mel spectrograms ----------------------------------------------------------------------------


@pytest.mark.parametrize("front_end", [mel.FINGERPRINT, mel.DETECTOR])
def test_log_mel_equals_scipys_spectrogram(front_end):
    x = RNG.normal(size=(2, 3, 5000)).astype(np.float32)
    *_, spectrum = signal.stft(
        x, RATE, "hann", front_end.frame, front_end.frame - front_end.hop, front_end.fft,
        boundary=None, padded=False,
    )  # fmt: skip
    power = np.abs(spectrum * signal.get_window("hann", front_end.frame).sum()) ** 2
    # the other form of the formula: 1127 ln(1 + f / 700)
    lowest, highest = (1127.01048 * np.log1p(f / 700) for f in (front_end.low, front_end.high))
    corners = 700 * np.expm1(np.linspace(lowest, highest, front_end.mels + 2) / 1127.01048)
    bins = np.linspace(0, RATE / 2, front_end.fft // 2 + 1)
    bank = [
        np.interp(bins, c, [0, 1, 0]) for c in zip(corners, corners[1:], corners[2:], strict=False)
    ]
    truth = np.log(np.moveaxis(power, -2, -1) @ np.transpose(bank) + 1e-6)
    found = mel.log_mel(x, front_end)
    assert found.shape == truth.shape == (2, 3, truth.shape[2], front_end.mels)
    np.testing.assert_allclose(found, truth, atol=1e-3)
    assert float(mel.log_mel(np.zeros(600, np.float32), front_end).max()) == pytest.approx(
        np.log(1e-6)
    )


@pytest.mark.parametrize("front_end", [mel.FINGERPRINT, mel.DETECTOR])
def test_log_mel_equals_librosas(front_end):
    with warnings.catch_warnings():  # its imports warn
        warnings.simplefilter("ignore")
        librosa = pytest.importorskip("librosa")
    bank = librosa.filters.mel(
        sr=RATE, n_fft=front_end.fft, n_mels=front_end.mels, fmin=front_end.low,
        fmax=front_end.high, htk=True, norm=None,
    )  # fmt: skip
    np.testing.assert_allclose(mel.mel_filterbank(front_end), bank, atol=1e-6)
    x = synthesis.song(1, 3)
    ahead = (front_end.fft - front_end.frame) // 2  # librosa's frames stand amid the FFT
    power = librosa.feature.melspectrogram(
        y=np.pad(x, ahead), sr=RATE, n_fft=front_end.fft, hop_length=front_end.hop,
        win_length=front_end.frame, center=False, n_mels=front_end.mels, fmin=front_end.low,
        fmax=front_end.high, htk=True, norm=None,
    )  # fmt: skip
    np.testing.assert_allclose(mel.log_mel(x, front_end), np.log(power.T + 1e-6), atol=1e-3)


@pytest.mark.parametrize("frames", [1, 64])
def test_a_stream_gives_the_frames_of_the_whole(frames):
    x, detector = synthesis.song(2, 1.5), mel.DETECTOR
    piece = (frames - 1) * detector.hop + detector.frame
    starts = np.arange(0, len(x) - piece + 1, frames * detector.hop)
    pieces = mel.log_mel(np.stack([x[s : s + piece] for s in starts]), detector)
    whole = mel.log_mel(x, detector)[: len(starts) * frames]
    np.testing.assert_allclose(pieces.reshape(whole.shape), whole, atol=1e-4)


def test_what_has_no_spectrogram_is_one_line():
    fingerprint = mel.FINGERPRINT
    cases = [
        (np.zeros(511, np.float32), fingerprint, "less than one frame of 512 samples"),
        (np.zeros(600, np.float32), fingerprint._replace(mels=400), "mels=400 bands are too many"),
        (np.zeros(600, np.float32), fingerprint._replace(high=5e3), "must rise within 0 .. 4000"),
    ]
    for x, front_end, reason in cases:
        with pytest.raises(ValueError, match=reason):
            mel.log_mel(x, front_end)


# Recordings --------------------------------------------------------------------------------------


def test_recordings_are_read_as_scipy_reads_them(tmp_path):
    left, right = RNG.integers(-20_000, 20_000, (2, 4000)).astype(np.int16)
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([left, right], 1))
    truth = (left.astype(float) + right) / 2 / 32768
    np.testing.assert_allclose(datasets.read_audio(tmp_path / "a.wav"), truth, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_recordings_are_brought_to_8_khz(tmp_path, suffix):
    t, wanted = np.arange(44_100) / 44_100, np.arange(8000) / 8000
    heard = 0.5 * np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 9000 * t)
    path = tmp_path / f"a.{suffix.upper()}"
    soundfile.write(path, heard, 44_100)
    found = datasets.read_audio(path)
    assert abs(len(found) - 8000) < 500  # MP3 fills up its last block
    angle = 2 * np.pi * 440 * wanted[1000:7000]
    parts = np.stack([np.cos(angle), np.sin(angle)], 1)
    wave, (rest,), *_ = np.linalg.lstsq(parts, found[1000:7000].astype(float))
    assert np.hypot(*wave) == pytest.approx(0.5, rel=0.02) and rest < 1e-3 * 6000
    assert datasets.audio_files(tmp_path) == [path]


def test_bad_recordings_are_one_line(tmp_path):
    def file(name, samples, rate=RATE):
        wavfile.write(tmp_path / name, rate, np.asarray(samples, np.float32))

    file("click.wav", [0.5])
    file("none.wav", [])
    file("nan.wav", [*np.ones(4000), np.nan])
    file("silent.wav", np.zeros(4000))
    file("opposite.wav", np.ones((4000, 1)) * [1, -1])
    file("slow.wav", np.ones(4000), 4000)
    (tmp_path / "text.flac").write_text("no audio")
    reasons = {
        "click.wav": r"lasts 0\.000\d+ s: wanted at least 0\.1 s, or leave it out",
        "none.wav": "lasts 0 s",
        "nan.wav": "holds samples that are not finite",
        "silent.wav": "is silent",
        "opposite.wav": "is silent once its channels are averaged",
        "slow.wav": "is sampled at 4000 Hz: wanted 8000 Hz or more",
        "text.flac": "cannot be read, wanted .wav, .ogg, .mp3, .flac",
        "missing.wav": "cannot be read",
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=rf"^\S*{name} {reason}[^\n]*$"):
            datasets.read_audio(tmp_path / name)
    with pytest.raises(ValueError, match="lasts 0.5 s: wanted at least 99 s"):
        datasets.read_audio(tmp_path / "silent.wav", shortest=99)
    (tmp_path / "empty").mkdir()
    for folder, reason in (("empty", "has no audio file: wanted .wav"), ("no", "is not a folder")):
        with pytest.raises(ValueError, match=rf"^folder='\S*{folder}' {reason}[^\n]*$"):
            datasets.audio_files(tmp_path / folder)


def test_generated_songs_stand_in_for_music():
    data = datasets.music("smoke")
    assert data.source == "embedded" and "sixteen generated songs" in str(data.banner)
    assert len(data.names) == len(data.audio) == len(set(data.names)) == 16
    np.testing.assert_array_equal(data.audio[3], synthesis.song(int(data.names[3].split()[1]), 30))
