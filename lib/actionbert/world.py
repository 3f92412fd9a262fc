"""What holds in all apps of the laboratory of ActionBert: functions, their words and their glyphs.

He et al. (2021), arXiv 2012.12350v2, start from icons that look alike and do different things
(Fig. 1: five houses). Here that is a rule: every function is drawn in one of two families of
glyphs, and every family is shared by `ambiguity` functions. Family 0 is a house.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Integer
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from lib.actionbert.encoders import word_vectors

STROKES = 5  # of a glyph
HOUSE = [
    (0.15, 0.5, 0.5, 0.15),
    (0.5, 0.15, 0.85, 0.5),
    (0.25, 0.45, 0.25, 0.85),
    (0.75, 0.45, 0.75, 0.85),
    (0.25, 0.85, 0.75, 0.85),
]
CONTENTS = ("text", "image", "input", "button")  # kinds of components that are no icons
HOME, SEARCH, SETTINGS, PROFILE, MENU = range(5)  # functions that every vocabulary starts with

TYPES = {
    "travel": "trip beach visa luggage tour resort island guidebook passport map",
    "realestate": "mortgage estate floor garden tenant landlord metres garage lease neighbourhood",
    "shopping": "sale discount size colour delivery coupon returns wishlist fashion price",
    "social": "friend photo party follow comment group emoji hashtag event birthday",
    "music": "band concert lyrics radio beat remix vinyl guitar piano tempo",
    "news": "politics world sports weather opinion editor journalist election desk press",
    "finance": "bank euro invest loan stock fund credit tax budget fee",
    "fitness": "run yoga muscle heart sleep protein marathon diet gym stretch",
}
FUNCTIONS = {  # eight that any app may have, then two for each type
    "home": "home start main dashboard overview welcome",
    "search": "search find query lookup results explore",
    "settings": "settings preferences options configure language privacy",
    "profile": "profile me myself avatar user identity",
    "menu": "menu more drawer sections categories browse",
    "share": "share send invite link forward friends",
    "help": "help support faq contact guide feedback",
    "alerts": "notifications alerts bell updates reminders inbox",
    "book_hotel": "hotel room booking stay nights checkin",
    "flights": "flight airport departure airline boarding seat",
    "property": "property listing bedrooms rent sale villa",
    "agent": "agent broker viewing appointment realtor visit",
    "store": "store shop catalogue brands products deals",
    "cart": "cart basket checkout payment order total",
    "chat": "chat message conversation reply typing talk",
    "feed": "feed posts stories timeline followers wall",
    "play": "play song track listen pause volume",
    "library": "library albums playlist artists collection genres",
    "headlines": "headlines news article breaking report editorial",
    "saved": "saved bookmarks later favourites pinned archive",
    "transfer": "transfer pay money recipient iban amount",
    "account": "account balance statement savings card interest",
    "workout": "workout exercise training reps squat coach",
    "progress": "progress chart steps calories weight goal",
}
GENERIC = (
    "the your new all today view now and with info continue ok page item details list open select "
    "next date time name number first other best free update loading image"
)
UNINFORMATIVE = "icon img imageview iv1 btn2 obf_a obf_b view12 layout img_left img_right unnamed"
CLASSES = "TextView ImageView ImageButton Button EditText FrameLayout"
PLACES = "top middle bottom"
VERBS = "tap click press go choose"


class Vocabulary(NamedTuple):
    """Types of apps, functions of icons, and the words for both; word 0 is no word."""

    types: tuple[str, ...]
    functions: tuple[str, ...]
    universal: int  # so many functions come first that any app may have; then two for each type
    words: tuple[str, ...]
    of_function: Integer[np.ndarray, "functions 6"]
    of_type: Integer[np.ndarray, "types 10"]
    generic: Integer[np.ndarray, " generic"]
    uninformative: Integer[np.ndarray, " uninformative"]
    classes: Integer[np.ndarray, " 6"]  # of Android components
    places: Integer[np.ndarray, " 3"]  # top, middle, bottom of a screen
    verbs: Integer[np.ndarray, " 5"]
    vectors: Float32[np.ndarray, "words 64"]  # see `encoders.word_vectors`


class World(NamedTuple):
    """What all apps share. Families beyond `ambiguous` are of components that are no icons."""

    vocabulary: Vocabulary
    families: Integer[np.ndarray, "functions 2"]  # of glyphs, in which a function may be drawn
    usual: Integer[np.ndarray, "types functions"]  # family by the convention of a type; -1: none
    strokes: Float[np.ndarray, "families 5 4"]  # x, y from and x, y to, in the unit square
    affinity: Float[np.ndarray, "functions functions"]  # which icons stand on which kind of screen
    layout: Integer[np.ndarray, " functions"]  # of a kind of screen: rows, grid, form, map
    ambiguous: int  # families of icons
    convention: float


def make_world(
    seed: int = 0,
    *,
    ambiguity: int = 4,
    convention: float = 0.0,
    words: Vocabulary | None = None,
) -> World:
    """Deal the families of glyphs to functions: two to each, each to `ambiguity` functions.

    `convention` is the probability that an app draws a function as the apps of its type do. Their
    convention gives each family one function, so that a glyph and the type of its app tell the
    function. Otherwise, and always at 0, either of the two families is as likely.

    Raises ValueError if `ambiguity` does not divide twice the number of functions or no deal has
    two different families for each, and if `convention` lies outside 0..1.
    """
    words = vocabulary() if words is None else words
    functions = len(words.functions)
    if ambiguity < 1 or 2 * functions % ambiguity:
        fit = [a for a in range(1, functions) if 2 * functions % a == 0]
        raise ValueError(
            f"ambiguity={ambiguity} must divide the {2 * functions} glyphs of {functions} "
            f"functions: use one of {', '.join(map(str, fit))}"
        )
    if not 0 <= convention <= 1:
        raise ValueError(f"convention={convention} must be a probability: use 0 to 1")
    rng, count = np.random.default_rng(seed), 2 * functions // ambiguity
    for _ in range(10_000):
        families = (rng.permutation(2 * functions) % count).reshape(functions, 2)
        if (families[:, 0] != families[:, 1]).all():
            break
    else:
        raise ValueError(
            f"ambiguity={ambiguity} leaves {count} families of glyphs, too few to give two "
            "different ones to each function: use a smaller one"
        )
    affinity, layout = rng.gumbel(size=(functions, functions)), rng.integers(0, 4, functions)
    usual, strokes = _conventions(rng, words, families, count), _glyphs(count + len(CONTENTS))
    return World(words, families, usual, strokes, affinity, layout, count, float(convention))


def functions_of(world: World, family: int) -> list[str]:
    """The functions that may be drawn by a family of glyphs.

    Raises ValueError for a family that is not of icons.
    """
    if not 0 <= family < world.ambiguous:
        raise ValueError(f"family={family} is not of icons: use 0 to {world.ambiguous - 1}")
    owners = (world.families == family).any(1)
    return [name for name, owns in zip(world.vocabulary.functions, owners, strict=True) if owns]


@cache
def vocabulary(*, related: float = 1.0) -> Vocabulary:
    """The 8 types of apps and 24 functions of the laboratory, with words for both.

    `related` is how strongly words of one function, or of one type, are drawn to each other by the
    sentence encoder, as a pre-trained one does it; at 0 they are as far apart as any words.
    """
    return _vocabulary(TYPES, FUNCTIONS, 8, related)


@cache
def large_vocabulary(types: int = 27, functions: int = 77, *, related: float = 1.0) -> Vocabulary:
    """As many types as in the paper's app classification and functions as in its icon
    classification (Table 4), with made-up words for those that the small laboratory lacks.

    Raises ValueError if not at least 5 functions are left when each type has its own two.
    """
    universal = functions - 2 * types
    if types < 2 or universal <= MENU:
        raise ValueError(
            f"functions={functions} leave {universal} to all apps when each of types={types} has "
            f"its own two: wanted at least {MENU + 1} and two types"
        )
    known_types, known = list(TYPES.items()), list(FUNCTIONS.items())
    made = _made_up_words(10 * types + 6 * functions)

    def some(count):
        return " ".join(next(made) for _ in range(count))

    named = known_types[:types]
    named += [(f"type_{i}", some(10)) for i in range(len(named), types)]
    every = known[: min(8, universal)]
    every += [(f"function_{i}", some(6)) for i in range(len(every), universal)]
    own = known[8 : 8 + 2 * types]
    own += [(f"own_{i}", some(6)) for i in range(len(own), 2 * types)]
    return _vocabulary(dict(named), dict(every + own), universal, related)


def _vocabulary(types, functions, universal, related):
    words, place, topics = ["<none>"], {"<none>": 0}, [""]

    def number(text, topic=""):
        for word in text.split():
            if word not in place:
                place[word] = len(words)
                words.append(word)
                topics.append(topic)
        return [place[word] for word in text.split()]

    of_function = np.array([number(own, f"function {name}") for name, own in functions.items()])
    of_type = np.array([number(own, f"type {name}") for name, own in types.items()])
    lists = (GENERIC, UNINFORMATIVE, CLASSES, PLACES, VERBS)
    rest = [np.array(number(text)) for text in lists]
    vectors = word_vectors(words, topics, related=related)
    vectors[0] = 0
    return Vocabulary(
        tuple(types), tuple(functions), universal, tuple(words), of_function, of_type, *rest,
        vectors,
    )  # fmt: skip


def _made_up_words(count):
    """Words of four syllables, each once."""
    rng, seen = np.random.default_rng(5), set()
    while len(seen) < count:
        consonants, vowels = rng.choice(list("bdfgklmnprstvz"), 4), rng.choice(list("aeiou"), 4)
        word = "".join(c + v for c, v in zip(consonants, vowels, strict=True))
        if word not in seen:
            seen.add(word)
            yield word


def _conventions(rng, words, families, count):
    """For each type, one function for each family: as many of its functions as can get their own.

    A maximum matching of the functions that apps of the type have; which of several is chance.
    """
    types, functions = len(words.types), len(words.functions)
    usual = np.full((types, functions), -1)
    for t in range(types):
        own = words.universal + (2 * t + np.arange(4)) % (2 * types)
        likely = rng.permutation(np.unique(np.concatenate([np.arange(words.universal), own])))
        shuffled = rng.permutation(count)
        fits = np.zeros((len(likely), count), bool)
        fits[np.arange(len(likely))[:, None], shuffled[families[likely]]] = True
        match = maximum_bipartite_matching(csr_array(fits), perm_type="column")
        back = np.argsort(shuffled)
        usual[t, likely[match >= 0]] = back[match[match >= 0]]
    return usual


def _glyphs(count):
    """Strokes of each family: a house, then closed polygons and loose strokes at random."""
    rng = np.random.default_rng(7)
    glyphs = rng.uniform(0.12, 0.88, (count, STROKES, 4))
    closed = rng.random(count) < 0.5
    glyphs[closed, :, 2:] = np.roll(glyphs[closed, :, :2], -1, 1)
    glyphs[0] = HOUSE
    return glyphs
