"""Apps of the laboratory of ActionBert, their screens, and traces of a crawler through them.

It stands in for the 60,328 crawled sequences of He et al. (2021), arXiv 2012.12350v2, section 4.1.
Clicking an icon opens the screen of its function: what a click leads to tells what an icon means.
Its look is ambiguous, its fields (Table 1: content description, resource id, class, text) are often
missing or junk, and the other components can help.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8

from lib.actionbert.drawing import Pose, draw
from lib.actionbert.encoders import sentences
from lib.actionbert.world import CONTENTS, HOME, MENU, PROFILE, SEARCH, World

SLOTS = 10  # title, top left, top right, four in the body, three in the bar
TITLE, BODY, BAR = 0, slice(3, 7), slice(7, 10)
FIELDS = ("content description", "resource id", "class", "text", "text", "text")  # of each word
WHOLE = (0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 4.0)  # position of a whole screen
NOWHERE = -1e9


class Rates(NamedTuple):
    """How often words tell something: probabilities."""

    description: float = 0.35  # an icon's content description names its function
    identifier: float = 0.15  # an icon's resource id does
    wrong: float = 0.03  # such a name is of a random function
    title: float = 0.8  # a title names the function of the screen
    topic: float = 0.4  # so does a word of a text
    type_word: float = 0.12  # a word of a text is of the app's type


class Apps(NamedTuple):
    """Screens of many apps, M in all, each with up to SLOTS components.

    What a model may see is text, vision, position, present and screenshot: see `model.views`.
    """

    app: Integer[np.ndarray, " M"]
    type: Integer[np.ndarray, " M"]  # of the app
    kind: Integer[np.ndarray, " M"]  # the function that the screen serves
    present: Bool[np.ndarray, "M slots"]
    function: Integer[np.ndarray, "M slots"]  # of icons; -1 for other components and none
    family: Integer[np.ndarray, "M slots"]  # of glyphs, see `world`
    informative: Bool[np.ndarray, "M slots"]  # icons of which a field is meant to name a function
    destination: Integer[np.ndarray, "M slots"]  # the screen that a click opens; -1 for none
    words: Integer[np.ndarray, "M slots 6"]  # one for each of FIELDS, of the vocabulary
    text: Float32[np.ndarray, "M slots 64"]  # embedding of all fields
    crops: UInt8[np.ndarray, "M slots size size"]
    vision: Float32[np.ndarray, "M slots features"]
    position: Float32[np.ndarray, "M slots 9"]  # x, y from and to, centre, height, width, 4 area
    screenshot: Float32[np.ndarray, "M features"]
    bar: Integer[np.ndarray, "apps 3"]  # functions in the navigation bar
    screen: Integer[np.ndarray, "apps functions"]  # the screen of each kind; -1 for none

    @property
    def icon(self) -> Bool[np.ndarray, "M slots"]:
        """Which components are icons."""
        return self.function >= 0

    @property
    def live(self) -> Bool[np.ndarray, "M slots"]:
        """Which components open another screen."""
        return self.destination >= 0


class Traces(NamedTuple):
    """What a crawler saw, one row a trace, and the component that it clicked; -1: it restarted."""

    screens: Integer[np.ndarray, "traces steps"]
    clicked: Integer[np.ndarray, "traces steps-1"]


class Pairs(NamedTuple):
    """Pairs of screens to pre-train on."""

    a: Integer[np.ndarray, " pairs"]
    b: Integer[np.ndarray, " pairs"]
    clicked: Integer[np.ndarray, " pairs"]  # component of A that led to B; -1 if none did
    consecutive: Bool[np.ndarray, " pairs"]


def make_apps(
    world: World,
    count: int,
    seed: int,
    *,
    rates: Rates = Rates(),  # noqa: B008
    shifted: bool = False,
    size: int = 16,
    cells: int = 4,
) -> Apps:
    """Draw `count` apps; about nine screens each, crops of size x size pixels.

    `shifted` apps look like another collection, as Rico does to the crawled one: fewer words, more
    noise, more varied styles, and the navigation bar on top.

    Raises ValueError if `count` < 1, a rate is no probability, or `cells` do not divide `size`.
    """
    if count < 1:
        raise ValueError(f"count={count} must be at least 1: how many apps to draw")
    for name, rate in zip(Rates._fields, rates, strict=True):
        if not 0 <= rate <= 1:
            raise ValueError(f"rates.{name}={rate} must be a probability: use 0 to 1")
    if rates.topic + rates.type_word > 1:
        raise ValueError(
            f"rates.topic={rates.topic} and rates.type_word={rates.type_word} must not sum to more "
            "than 1: a word is of one of them or of neither"
        )
    if shifted:
        rates = rates._replace(
            description=0.6 * rates.description,
            identifier=0.6 * rates.identifier,
            title=0.8 * rates.title,
        )
    jitter = 1.6 if shifted else 1.0
    rng = np.random.default_rng(seed)
    types, available, families, bar = _plan(rng, world, count)
    app, kind = np.nonzero(available)
    function = _place_icons(rng, world, available[app], kind, bar[app])
    icon = function >= 0
    present = _present(rng, icon)
    content = _contents(rng, world.layout[kind])
    words, informative = _write(rng, world, rates, kind, types[app], icon, function, content)
    words = np.where(present[..., None], words, 0)
    position = _boxes(rng, world.layout[kind], icon, app, count, jitter, shifted)
    position = np.where(present[..., None], position, 0).astype(np.float32)
    family = np.where(icon, families[app[:, None], np.maximum(function, 0)], 0)
    family = np.where(icon, family, world.ambiguous + content)
    where = np.nonzero(present)
    drawn = draw(
        world.strokes[family[where]],
        _poses(rng, app[where[0]], count, jitter),
        jax.random.key(seed),
        noise=0.08 * jitter,
        size=size,
        cells=cells,
    )
    crops = np.zeros((len(app), SLOTS, size, size), np.uint8)
    vision = np.zeros((len(app), SLOTS, drawn.vision.shape[1]), np.float32)
    crops[where], vision[where] = drawn
    screen = np.full(available.shape, -1)
    screen[app, kind] = np.arange(len(app))
    clickable = icon & present & (function != kind[:, None])
    return Apps(
        app=app,
        type=types[app],
        kind=kind,
        present=present,
        function=np.where(present, function, -1),
        family=np.where(present, family, -1),
        informative=informative & present,
        destination=np.where(clickable, screen[app[:, None], np.maximum(function, 0)], -1),
        words=words,
        text=sentences(world.vocabulary.vectors, words),
        crops=crops,
        vision=vision,
        position=position,
        screenshot=_screenshots(vision, position),
        bar=bar,
        screen=screen,
    )


def crawl(apps: Apps, per_app: int, steps: int, seed: int) -> Traces:
    """Click live icons at random, each alike, from the home screen on: traces of `steps` screens.

    Where no icon is live, the crawler goes back to the home screen.

    Raises ValueError if `per_app` < 1 or `steps` < 2.
    """
    if per_app < 1 or steps < 2:
        raise ValueError(
            f"per_app={per_app} and steps={steps}: wanted at least one trace for each app, of at "
            "least 2 screens"
        )
    rng = np.random.default_rng(seed)
    home = np.repeat(apps.screen[:, HOME], per_app)
    screens, clicked = [home], []
    for _ in range(steps - 1):
        click = _random_click(rng, apps, screens[-1])
        leads = apps.destination[screens[-1], np.maximum(click, 0)]
        screens.append(np.where(click >= 0, leads, home))
        clicked.append(click)
    return Traces(np.stack(screens, 1), np.stack(clicked, 1))


def pair_up(apps: Apps, traces: Traces, seed: int, *, shuffled: bool = False) -> Pairs:
    """All consecutive pairs, and about as many others: half of one trace, half of any two.

    Section 4.1. Others that one click would make consecutive are left out.

    `shuffled` is the control without user actions: B is a random screen of the same trace, the
    clicked component a random live icon of A.
    """
    rng = np.random.default_rng(seed)
    count, steps = traces.screens.shape
    a, b = traces.screens[:, :-1].ravel(), traces.screens[:, 1:].ravel()
    clicked, trace, n = traces.clicked.ravel(), np.repeat(np.arange(count), steps - 1), a.size
    if shuffled:
        b = traces.screens[trace, rng.integers(0, steps, n)]
        clicked = _random_click(rng, apps, a)
    same = traces.screens[trace, rng.integers(0, steps, n)]
    other = traces.screens.ravel()[rng.integers(0, count * steps, n)]
    other = np.where(rng.random(n) < 0.5, other, same)
    keep = np.ones(n, bool) if shuffled else ~(apps.destination[a] == other[:, None]).any(1)
    found = Pairs(
        np.concatenate([a, a[keep]]),
        np.concatenate([b, other[keep]]),
        np.concatenate([clicked, np.full(keep.sum(), -1)]),
        np.repeat([True, False], [n, keep.sum()]),
    )
    order = rng.permutation(len(found.a))
    return Pairs(*(array[order] for array in found))


def clicks_only(pairs: Pairs) -> Pairs:
    """The consecutive pairs in which a click hit a component."""
    keep = pairs.consecutive & (pairs.clicked >= 0)
    return Pairs(*(array[keep] for array in pairs))


# How apps are drawn ------------------------------------------------------------------------------


def _random_click(rng, apps, screens):
    """A random live icon of each screen; -1 if there is none."""
    live = apps.live[screens]
    click = np.where(live, rng.random(live.shape), -1).argmax(1)
    return np.where(live.any(1), click, -1)


def _plan(rng, world, count):
    """Types of apps, the functions that each has, their glyphs, and the bar."""
    words = world.vocabulary
    types, functions, universal = len(words.types), len(words.functions), words.universal
    own = rng.integers(0, types, count)
    rows = np.arange(count)
    available = rng.random((count, functions)) < 0.02
    available[:, :universal] |= rng.random((count, universal)) < 0.75
    for j in range(2):
        available[rows, universal + 2 * own + j] |= rng.random(count) < 0.95
        neighbour = universal + (2 * own + 2 + j) % (2 * types)
        available[rows, neighbour] |= rng.random(count) < 0.5
    available[:, HOME] = True
    either = world.families[np.arange(functions), rng.integers(0, 2, (count, functions))]
    usual = world.usual[own]
    follows = (rng.random((count, functions)) < world.convention) & (usual >= 0)
    wanted = rng.gumbel(size=(count, functions)) + np.where(available, 0, NOWHERE)
    wanted[:, universal:] += 0.5
    for function, bonus in ((HOME, 2.0), (PROFILE, 1.0), (SEARCH, 0.7)):
        wanted[:, function] += bonus
    bar = np.sort(np.argsort(-wanted, 1)[:, :3], 1)
    return own, available, np.where(follows, usual, either), bar


def _place_icons(rng, world, available, kind, bar):
    """The function of each icon, -1 elsewhere; none stands twice on a screen."""
    screens, functions = available.shape
    rows = np.arange(screens)
    wanted = rng.gumbel(size=(screens, functions)) + 0.8 * world.affinity[kind]
    wanted[:, MENU] += 3
    wanted[:, SEARCH] += 1
    wanted[~available] = NOWHERE
    np.put_along_axis(wanted, bar, NOWHERE, 1)
    wanted[rows, kind] = NOWHERE
    best = np.argsort(-wanted, 1)[:, :3]
    possible = np.take_along_axis(wanted, best, 1) > NOWHERE / 2
    slots = np.stack([np.full(screens, 1), np.full(screens, 2), rng.integers(3, 7, screens)], 1)
    slots = rng.permuted(slots, axis=1)
    count = rng.integers(1, 4, screens)  # of icons outside the bar
    function = np.full((screens, SLOTS), -1)
    for j in range(3):
        there = (j < count) & possible[:, j]
        function[rows[there], slots[there, j]] = best[there, j]
    function[:, BAR] = np.where(rng.random((screens, 3)) < 0.9, bar, -1)
    return function


def _present(rng, icon):
    present = icon.copy()
    present[:, TITLE] = True
    present[:, BODY] |= rng.random(present[:, BODY].shape) < 0.85
    return present


def _contents(rng, layout):
    """Which of CONTENTS a component is that is no icon."""
    shares = np.array(
        [
            [0.8, 0.1, 0.05, 0.05],
            [0.4, 0.5, 0.0, 0.1],
            [0.3, 0.05, 0.5, 0.15],
            [0.4, 0.3, 0.05, 0.25],
        ]
    )
    edges = np.cumsum(shares, 1)[layout][:, None, :-1]
    content = (rng.random((len(layout), SLOTS, 1)) > edges).sum(-1)
    content[:, TITLE] = 0
    return content


def _write(rng, world, rates, kind, types, icon, function, content):
    """The words of all fields, and which icons have a field that names a function."""
    words = world.vocabulary
    shape = icon.shape

    def chance(rate):
        return rng.random(shape) < rate

    def pick(table):  # the word of rank r with probability proportional to 1 / r
        weights = np.cumsum(1 / np.arange(1, table.shape[-1] + 1))
        rank = np.searchsorted(weights / weights[-1], rng.random(shape))
        table = np.broadcast_to(table, (*shape, table.shape[-1]))
        return np.take_along_axis(table, rank[..., None], -1)[..., 0]

    functions = len(words.functions)
    other = rng.integers(0, functions, shape)
    named = np.where(chance(rates.wrong), other, np.maximum(function, 0))
    described, identified = chance(rates.description), chance(rates.identifier)
    junk = np.where(chance(0.3), pick(words.uninformative), 0)
    fields = np.zeros((*shape, len(FIELDS)), int)
    fields[..., 0] = np.where(icon, np.where(described, pick(words.of_function[named]), junk), 0)
    own = np.where(identified, pick(words.of_function[named]), pick(words.uninformative))
    none = np.where(chance(0.5), pick(words.uninformative), 0)
    fields[..., 1] = np.where(icon, own, none)
    plain, image, button_image, button, field, _ = words.classes
    of_icon = np.where(chance(0.5), image, button_image)
    fields[..., 2] = np.where(icon, of_icon, np.array([plain, image, field, button])[content])
    topics, type_words = words.of_function[kind][:, None], words.of_type[types][:, None]
    for j in range(3, 6):
        draw = rng.random(shape)
        of_type = draw < rates.topic + rates.type_word
        word = np.where(of_type, pick(type_words), pick(words.generic))
        word = np.where(draw < rates.topic, pick(topics), word)
        fields[..., j] = np.where(~icon & (CONTENTS.index("image") != content), word, 0)
    title = np.where(chance(rates.title), pick(topics), pick(words.generic))
    fields[:, TITLE, 3] = title[:, TITLE]
    fields[:, TITLE, 4] = np.where(chance(0.3), pick(type_words), 0)[:, TITLE]
    fields[:, TITLE, 5] = 0
    return fields, (described | identified) & icon


def _boxes(rng, layout, icon, app, count, jitter, shifted):
    """Nine numbers for each component; its area times 4."""
    screens = len(app)
    x = np.tile([0.45, 0.08, 0.92, 0.5, 0.5, 0.5, 0.5, 0.2, 0.5, 0.8], (screens, 1))
    y = np.tile([0.06, 0.06, 0.06, 0.25, 0.42, 0.59, 0.76, 0.95, 0.95, 0.95], (screens, 1))
    width = np.tile([0.5, 0.1, 0.1, 0.8, 0.8, 0.8, 0.8, 0.12, 0.12, 0.12], (screens, 1))
    height = np.tile([0.05, 0.05, 0.05, 0.13, 0.13, 0.13, 0.13, 0.06, 0.06, 0.06], (screens, 1))
    body = np.zeros(SLOTS, bool)
    body[BODY] = True
    columns = (layout == 1)[:, None] & body & ~icon  # the grid
    x = np.where(columns, np.where(np.arange(SLOTS) % 2, 0.27, 0.73), x)
    width = np.where(columns, 0.4, width)
    inside = icon & body
    x = np.where(inside, rng.uniform(0.15, 0.85, x.shape), x)
    width, height = np.where(inside, 0.15, width), np.where(inside, 0.08, height)
    if shifted:
        y[:, BAR] = 0.14
    offset = jitter * rng.normal(0, 0.015, (count, SLOTS, 2))[app]
    x = x + offset[..., 0] + rng.normal(0, 0.004, x.shape)
    y = y + offset[..., 1]
    sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return np.stack([*sides, x, y, height, width, 4 * height * width], -1)


def _poses(rng, app, count, jitter):
    """How each crop is drawn: the style of its app, and small differences."""
    k = len(app)
    scale = rng.normal(0.95, 0.08 * jitter, count)[app] * (1 + rng.normal(0, 0.03, k))
    rotation = rng.normal(0, 0.08 * jitter, count)[app] + rng.normal(0, 0.03, k)
    shift = rng.normal(0, 0.03 * jitter, (k, 2))
    thickness = rng.uniform(0.06, 0.12, count)[app]
    return Pose(scale, rotation, shift, thickness, (rng.random(count) < 0.3)[app])


def _screenshots(vision, position):
    """What the fixed encoder says of a whole screen: its crops, weighted by area."""
    area = position[..., 8:]
    whole = (vision * area).sum(1) / area.sum(1)
    return whole / (whole.std(1, keepdims=True) + np.float32(1e-3))
