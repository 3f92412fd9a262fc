"""The laboratory of ActionBert: its rules, its pictures, its texts, its traces; closed forms."""

import zlib
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from lib.actionbert import drawing, encoders, screens, world
from lib.actionbert.screens import BODY, FIELDS, SLOTS, Rates

pytestmark = pytest.mark.computes
FEW = 60  # apps


@cache
def some(seed=1, count=FEW, convention=0.0, **options):
    return screens.make_apps(world.make_world(convention=convention), count, seed, **options)


@pytest.fixture(scope="module")
def many():
    return some(count=600)


@pytest.fixture(scope="module")
def words():
    return world.vocabulary()


# The world ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ambiguity", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", [0, 3])
def test_every_family_is_shared_by_as_many_functions(ambiguity, seed):
    made = world.make_world(seed, ambiguity=ambiguity)
    assert np.all(made.families[:, 0] != made.families[:, 1])
    np.testing.assert_array_equal(np.bincount(made.families.ravel()), ambiguity)
    assert made.ambiguous == 48 // ambiguity and len(made.strokes) == made.ambiguous + 4
    owners = [world.functions_of(made, family) for family in range(made.ambiguous)]
    assert all(len(own) == ambiguity for own in owners)
    assert sorted(sum(owners, [])) == sorted(2 * list(world.FUNCTIONS))


def test_the_convention_of_a_type_gives_each_family_one_function():
    made = world.make_world()
    types, functions = made.usual.shape
    for t in range(types):
        known = np.nonzero(made.usual[t] >= 0)[0]
        families = made.usual[t, known]
        assert len(set(families)) == len(families) >= 10
        assert np.all((made.families[known] == families[:, None]).any(1))
    assert len({tuple(row) for row in made.usual}) == types, "conventions differ between types"


@pytest.mark.parametrize("convention, low, high", [(0.0, 0.47, 0.53), (1.0, 1.0, 1.0)])
def test_apps_follow_the_convention_as_often_as_said(convention, low, high):
    made = world.make_world(convention=convention)
    apps = screens.make_apps(made, 200, 3)
    usual = made.usual[apps.type[:, None], np.maximum(apps.function, 0)]
    bound = apps.icon & (usual >= 0)
    assert low <= (apps.family == usual)[bound].mean() <= high


def test_the_first_family_is_a_house_with_a_roof_and_walls(words):
    made = world.make_world()
    x, y = made.strokes[0, :2].reshape(4, 2).T  # the roof
    assert y.min() == y[1] == y[2] and x[1] == x[2] == 0.5
    assert len(world.functions_of(made, 0)) == 4
    assert words.functions[world.HOME] == "home" and words.functions[world.MENU] == "menu"


def test_a_vocabulary_numbers_each_word_once(words):
    assert len(set(words.words)) == len(words.words) == len(words.vectors)
    assert words.words[0] == "<none>" and not words.vectors[0].any()
    assert [words.words[i] for i in words.of_function[1]] == world.FUNCTIONS["search"].split()
    assert [words.words[i] for i in words.of_type[4]] == world.TYPES["music"].split()
    assert words.of_function.shape == (24, 6) and words.of_type.shape == (8, 10)


def test_a_larger_vocabulary_has_the_sizes_of_the_paper():
    large = world.large_vocabulary()
    assert len(large.types) == 27 and len(large.functions) == 77 and large.universal == 23
    assert len(set(large.functions)) == 77 and len(set(large.words)) == len(large.words)
    assert large.of_function.min() > 0 and len(np.unique(large.of_function)) == 6 * 77
    made = world.make_world(ambiguity=7, words=large)
    apps = screens.make_apps(made, 5, 0, size=32)
    assert apps.crops.shape[2:] == (32, 32) and apps.vision.shape[2] == 80
    assert apps.type.max() > 8 or apps.function.max() > 24


# Words -------------------------------------------------------------------------------------------


def test_word_vectors_are_sums_of_hashed_normals():
    vectors = encoders.word_vectors(["go"], ["t"], related=2.0)
    parts = [("word:go", 1), ("letters:^go", 0.35), ("letters:go$", 0.35), ("topic:t", 2)]
    expected = sum(
        w * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(64)
        for name, w in parts
    )
    np.testing.assert_allclose(vectors[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(vectors, encoders.word_vectors(["go"], ["t"], related=2.0))


def test_related_words_and_like_spellings_are_near(words):
    near = np.corrcoef(words.vectors[words.of_function].reshape(-1, 64)).reshape(24, 6, 24, 6)
    own = np.eye(24, dtype=bool)[:, None, :, None] & ~np.eye(6, dtype=bool)[None, :, None]
    other = ~np.eye(24, dtype=bool)[:, None, :, None] & np.ones((1, 6, 1, 6), bool)
    assert near[own].mean() > 0.25 and abs(near[other].mean()) < 0.03
    apart = world.vocabulary(related=0.0)
    far = np.corrcoef(apart.vectors[apart.of_function].reshape(-1, 64)).reshape(near.shape)
    assert abs(far[own].mean()) < 0.05
    a, b, c = encoders.word_vectors(["booking", "bookings", "carrots"])
    assert np.corrcoef(a, b)[0, 1] > 0.15 > abs(np.corrcoef(a, c)[0, 1])


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_sentences_do_not_depend_on_order_and_have_one_length(numbers):
    words = world.vocabulary()
    told = encoders.sentences(words.vectors, np.array(numbers))
    again = encoders.sentences(words.vectors, np.array([*numbers[::-1], 0]))
    np.testing.assert_allclose(told, again, atol=1e-4)
    assert np.square(told).sum() == pytest.approx(64 if any(numbers) else 0, rel=1e-4)


# Pictures ----------------------------------------------------------------------------------------


def pose(k, **changes):
    plain = dict(
        scale=np.ones(k), rotation=np.zeros(k), shift=np.zeros((k, 2)),
        thickness=np.full(k, 0.1), inverted=np.zeros(k, bool),
    )  # fmt: skip
    return drawing.Pose(**plain | changes)


def drawn(k=1, noise=0.0, strokes=None, size=16, **changes):
    strokes = np.broadcast_to(np.array(world.HOUSE) if strokes is None else strokes, (k, 5, 4))
    return drawing.draw(strokes, pose(k, **changes), jax.random.key(0), noise=noise, size=size)


def test_ink_falls_off_with_the_distance_from_the_strokes():
    middle = (np.arange(16) + 0.5) / 16
    pixels = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
    dense = np.concatenate(
        [np.linspace(stroke[:2], stroke[2:], 4001) for stroke in np.array(world.HOUSE)]
    )
    distance = cdist(pixels, dense).min(1).reshape(16, 16)
    ink = np.round(255 * np.clip(1.2 - distance / 0.1, 0, 1))
    assert np.abs(drawn().crops[0] - ink).max() <= 1
    dark = drawn(inverted=np.ones(1, bool)).crops[0]
    assert np.abs(dark - (255 - ink)).max() <= 1


def test_a_pose_turns_scales_and_shifts():
    bar = np.zeros((5, 4))
    bar[:] = (0.2, 0.5, 0.8, 0.5)  # lies
    flat = drawn(strokes=bar).crops[0].astype(int)
    upright = drawn(strokes=bar, rotation=np.array([np.pi / 2])).crops[0].astype(int)
    assert np.abs(upright - flat.T).max() <= 1
    moved = drawn(strokes=bar, shift=np.array([[0.0, 2 / 16]])).crops[0].astype(int)
    assert np.abs(moved[2:] - flat[:-2]).max() <= 1 and moved[9].sum() > flat[9].sum()
    small = drawn(strokes=bar, scale=np.array([0.5])).crops[0]
    assert 0.4 < (small > 128).sum() / (flat > 128).sum() < 0.7


def test_noise_has_the_deviation_asked_for():
    gray = np.full((5, 4), 0.5)
    gray[:, 2:] += 1e-6
    crops = drawn(400, strokes=gray, noise=0.08, thickness=np.full(400, 1.0)).crops / 255
    clean = drawn(strokes=gray, thickness=np.ones(1)).crops[0] / 255
    free = (clean > 0.3) & (clean < 0.7)
    assert free.sum() > 4
    assert (crops - clean)[:, free].std() == pytest.approx(0.08, abs=0.004)


def test_hog_tells_the_orientation_of_edges():
    x = np.arange(16)
    for turn, (dx, dy) in enumerate([(8, 2), (2, 8), (-2, 8), (-8, 2)]):
        ramp = (128 + (dx * x[None] + dy * x[:, None]) / 2).astype(np.uint8)
        for picture in (ramp, 255 - ramp):  # a gradient and its opposite are one orientation
            found = np.asarray(encoders.hog(picture[None]))[0]
            inner = found[:64].reshape(4, 4, 4)[:, 1:3, 1:3]
            assert np.all(inner.argmax(0) == turn)


def test_hog_sums_lengths_of_gradients_in_cells():
    picture = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
    x = picture.astype(float)
    dy, dx = np.zeros_like(x), np.zeros_like(x)
    dx[:, :, 1:-1], dy[:, 1:-1] = x[:, :, 2:] - x[:, :, :-2], x[:, 2:] - x[:, :-2]
    turn = np.minimum(np.mod(np.arctan2(dy, dx), np.pi) / np.pi * 4, 3.999).astype(int)
    planes = [np.hypot(dx, dy) * (turn == k) for k in range(4)]
    cells = [p.reshape(3, 4, 4, 4, 4).sum((2, 4)).reshape(3, 16) for p in [*planes, x / 16]]
    expected = np.sqrt(np.concatenate(cells, 1) / 255)
    expected -= expected.mean(1, keepdims=True)
    expected /= expected.std(1, keepdims=True) + 1e-3
    np.testing.assert_allclose(encoders.hog(picture), expected, atol=2e-4)


def test_chunks_of_glyphs_are_drawn_alike_with_other_noise():
    k = drawing.CHUNK + 3
    clean, noisy = drawn(k).crops, drawn(k, noise=0.1).crops
    assert len(clean) == k and np.all(clean == clean[:1])
    assert np.any(noisy[0] != noisy[drawing.CHUNK])


def test_a_picture_shows_crops_in_their_boxes(many):
    i = int(many.icon.sum(1).argmax())
    shown = drawing.picture(many.crops[i], many.position[i], many.present[i])
    assert shown.shape == (320, 180)
    slot = np.nonzero(many.present[i])[0][-1]
    x0, y0, x1, y1 = np.round(many.position[i, slot, :4].clip(0, 1) * (180, 320, 180, 320))
    part = shown[int(y0) : int(y1), int(x0) : int(x1)]
    assert set(np.unique(part)) <= set(np.unique(many.crops[i, slot]))
    none = drawing.picture(many.crops[i], many.position[i], np.zeros(SLOTS, bool))
    assert not none.any() and shown.any()


def test_a_linear_reader_knows_the_family_of_a_glyph(many):
    icons = np.nonzero(many.icon)
    x, y = many.vision[icons], many.family[icons]
    reader = LogisticRegression(max_iter=300).fit(x[:3000], y[:3000])
    assert reader.score(x[3000:9000], y[3000:9000]) >= 0.98  # A3


# Apps --------------------------------------------------------------------------------------------


def test_the_sizes_of_the_laboratory(many):
    """A1"""
    assert 5000 <= len(many.app) <= 6200
    assert 8.3 <= many.present.sum(1).mean() <= 8.8
    assert 4.5 <= many.icon.sum(1).mean() <= 4.9
    assert 0.42 <= many.informative[many.icon].mean() <= 0.48


def test_the_same_seed_gives_the_same_apps():
    one, again, other = some(seed=1), some.__wrapped__(seed=1), some(seed=2)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.type, other.type)


def test_no_function_stands_twice_and_clicks_lead_where_functions_say(many):
    """A2"""
    for function, own in zip(many.function, many.kind, strict=True):
        icons = function[function >= 0]
        assert len(set(icons)) == len(icons)
        body = function[:7][function[:7] >= 0]
        assert own not in body
    screen, slot = np.nonzero(many.live)
    leads = many.destination[screen, slot]
    np.testing.assert_array_equal(many.app[leads], many.app[screen])
    np.testing.assert_array_equal(many.kind[leads], many.function[screen, slot])
    assert np.all(many.kind[screen] != many.function[screen, slot])
    silent = many.icon & ~many.live
    assert np.all(many.function[silent] == np.repeat(many.kind[:, None], SLOTS, 1)[silent])
    np.testing.assert_array_equal(many.screen[many.app, many.kind], np.arange(len(many.app)))


def test_an_app_draws_a_function_by_one_glyph_of_its_families(many):
    made = world.make_world()
    screen, slot = np.nonzero(many.icon)
    family, function = many.family[screen, slot], many.function[screen, slot]
    assert np.all((made.families[function] == family[:, None]).any(1))
    drawn: dict = {}
    for key in zip(many.app[screen], function, family, strict=True):
        assert drawn.setdefault(key[:2], key[2]) == key[2]
    others = many.present & ~many.icon
    assert many.family[others].min() >= made.ambiguous > many.family[many.icon].max()


def test_absent_components_leave_no_trace(many):
    gone = ~many.present
    assert gone.any()
    for array in (many.text, many.crops, many.vision, many.position, many.words):
        assert not array[gone].any()
    for array in (many.function, many.family, many.destination):
        assert np.all(array[gone] == -1)
    assert not many.informative[gone].any()


def test_rates_are_kept(words):
    rates = Rates(description=0.5, identifier=0.25, wrong=0.2, title=0.6, topic=0.3, type_word=0.2)
    apps = screens.make_apps(world.make_world(), 500, 1, rates=rates)
    own = words.of_function[np.maximum(apps.function, 0)]
    every = np.zeros(len(words.words), bool)
    every[words.of_function] = True
    icon = apps.icon
    for field, rate in ((0, 0.5), (1, 0.25)):
        told = apps.words[..., field]
        assert every[told][icon].mean() == pytest.approx(rate, abs=0.015)
        right = (own == told[..., None]).any(-1)
        share = right[icon & every[told]].mean()
        assert share == pytest.approx(0.8 + 0.2 / 24, abs=0.02)
    title = (words.of_function[apps.kind] == apps.words[:, 0, 3, None]).any(1)
    assert title.mean() == pytest.approx(0.6, abs=0.02)
    rows = apps.present & ~icon & (apps.family != world.make_world().ambiguous + 1)
    rows[:, 0] = False
    topic = (words.of_function[apps.kind][:, None] == apps.words[..., 4, None]).any(-1)
    of_type = (words.of_type[apps.type][:, None] == apps.words[..., 4, None]).any(-1)
    assert topic[rows].mean() == pytest.approx(0.3, abs=0.02)
    assert of_type[rows].mean() == pytest.approx(0.2, abs=0.02)


def test_words_of_lower_rank_are_rarer(many, words):
    titles = many.words[:, 0, 3]
    rank = (words.of_function[many.kind] == titles[:, None]).argmax(1)
    told = (words.of_function[many.kind] == titles[:, None]).any(1)
    share = np.bincount(rank[told], minlength=6) / told.sum()
    zipf = 1 / np.arange(1, 7) / (1 / np.arange(1, 7)).sum()
    np.testing.assert_allclose(share, zipf, atol=0.03)


def test_texts_and_screenshots_are_what_fields_and_crops_give(many, words):
    text = encoders.sentences(words.vectors, many.words[:50])
    np.testing.assert_array_equal(text, many.text[:50])
    x0, y0, x1, y1, x, y, height, width, area = many.position[many.present].T
    np.testing.assert_allclose([x1 - x0, y1 - y0], [width, height], atol=1e-6)
    np.testing.assert_allclose([x0 + x1, y0 + y1], [2 * x, 2 * y], atol=1e-5)
    np.testing.assert_allclose(area, 4 * height * width, rtol=1e-5)
    weights = many.position[9, :, 8:]
    whole = (many.vision[9] * weights).sum(0) / weights.sum()
    np.testing.assert_allclose(many.screenshot[9], whole / (whole.std() + 1e-3), rtol=1e-4)
    seen = np.asarray(encoders.hog(many.crops[9][many.present[9]]))
    np.testing.assert_allclose(many.vision[9][many.present[9]], seen, atol=1e-4)


def test_shifted_apps_say_less_and_have_their_bar_on_top():
    plain, shifted = some(count=200), some(count=200, shifted=True)
    assert shifted.informative[shifted.icon].mean() < 0.7 * plain.informative[plain.icon].mean()
    bar = np.nonzero(shifted.icon[:, 8])[0]
    assert np.all(shifted.position[bar, 8, 5] < 0.25)
    assert np.all(plain.position[np.nonzero(plain.icon[:, 8])[0], 8, 5] > 0.85)
    assert len(FIELDS) == plain.words.shape[2]


def test_grids_have_two_columns(many):
    made = world.make_world()
    grid = (made.layout[many.kind] == 1)[:, None] & many.present & ~many.icon
    grid[:, [0, 1, 2, 7, 8, 9]] = False
    assert np.all(np.abs(many.position[grid][:, 7] - 0.4) < 1e-6)
    odd = np.broadcast_to(np.arange(SLOTS) % 2 == 1, grid.shape)
    assert many.position[grid & odd][:, 4].mean() < 0.3 < many.position[grid & ~odd][:, 4].mean()
    assert BODY == slice(3, 7)


# Traces ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traces(many):
    return screens.crawl(many, 3, 20, 3)


def test_a_trace_follows_clicks_from_home(many, traces):
    assert traces.screens.shape == (1800, 20) and traces.clicked.shape == (1800, 19)
    assert np.all(many.kind[traces.screens[:, 0]] == world.HOME)
    before, after = traces.screens[:, :-1], traces.screens[:, 1:]
    hit = traces.clicked >= 0
    led = many.destination[before[hit], traces.clicked[hit]]
    np.testing.assert_array_equal(led, after[hit])
    assert np.all(~many.live[before[~hit]].any(-1))
    assert np.all(many.kind[after[~hit]] == world.HOME)


def test_a_crawler_clicks_all_live_icons_alike(many, traces):
    before = traces.screens[:, :-1].ravel()
    live = many.live[before]
    expected = (live / live.sum(1, keepdims=True).clip(1)).sum(0)
    clicked = np.bincount(traces.clicked.ravel(), minlength=SLOTS)
    np.testing.assert_allclose(clicked, expected, atol=4 * np.sqrt(expected.max()))


def test_pairs_are_half_consecutive_and_others_are_one_click_apart_never(many, traces):
    pairs = screens.pair_up(many, traces, 4)
    consecutive, leads = pairs.consecutive, many.destination[pairs.a] == pairs.b[:, None]
    assert consecutive.sum() == traces.clicked.size
    hit = consecutive & (pairs.clicked >= 0)
    np.testing.assert_array_equal(leads[hit].sum(1), 1)  # A2
    assert np.all(leads[hit, pairs.clicked[hit]])
    assert not leads[~consecutive].any() and np.all(pairs.clicked[~consecutive] == -1)
    assert 0.56 < consecutive.mean() < 0.62
    far = many.app[pairs.a] != many.app[pairs.b]
    assert 0.45 < far[~consecutive].mean() < 0.85 and not far[consecutive].any()
    clicks = screens.clicks_only(pairs)
    assert len(clicks.a) == hit.sum() and clicks.consecutive.all() and clicks.clicked.min() >= 0


def test_shuffled_pairs_keep_the_trace_and_lose_the_click(many, traces):
    pairs = screens.pair_up(many, traces, 4, shuffled=True)
    hit = pairs.consecutive & (pairs.clicked >= 0)
    led = many.destination[pairs.a[hit], pairs.clicked[hit]]
    assert np.all(led >= 0) and (led == pairs.b[hit]).mean() < 0.2
    np.testing.assert_array_equal(many.app[pairs.a[hit]], many.app[pairs.b[hit]])
    assert pairs.consecutive.mean() == 0.5


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: world.make_world(ambiguity=5), "ambiguity=5 must divide the 48 glyphs of 24"),
        (lambda: world.make_world(ambiguity=0), "ambiguity=0 must divide"),
        (lambda: world.make_world(ambiguity=24), "ambiguity=24 leaves 2 families of glyphs"),
        (lambda: world.make_world(convention=1.5), "convention=1.5 must be a probability"),
        (lambda: world.functions_of(world.make_world(), 12), "family=12 is not of icons: use 0 to"),
        (lambda: world.large_vocabulary(27, 58), "functions=58 leave 4 to all apps"),
        (lambda: some(count=0), "count=0 must be at least 1"),
        (lambda: some(rates=Rates(title=-0.1)), "rates.title=-0.1 must be a probability"),
        (lambda: some(rates=Rates(topic=0.9, type_word=0.2)), "must not sum to more than 1"),
        (lambda: some(count=1, cells=5), "cells=5 must divide the size=16"),
        (lambda: screens.crawl(some(), 0, 5, 0), "per_app=0 and steps=5: wanted at least one"),
        (lambda: screens.crawl(some(), 1, 1, 0), "per_app=1 and steps=1: wanted"),
        (lambda: encoders.word_vectors(["a"], ["b", "c"]), "topics has 2 entries: give one for"),
        (
            lambda: encoders.patch_encoder(jax.random.key(0), patch=5),
            "patch=5 must divide the size=16",
        ),
    ],
)
def test_bad_arguments_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
