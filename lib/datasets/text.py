"""Text by author, Shakespeare by speaking role, and running text, WikiText-2; or Python's help."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16, Int32, UInt8

from lib.datasets.fallback import Banner, real_or_embedded

HEADING = re.compile(r"(ACT|SCENE)\b.*|\s*(PROLOGUE|EPILOGUE|INDUCTION)\.?\s*")
DIRECTION = re.compile(r"\[[^\]]*\]")
ROLE = re.compile(r"[a-zA-Z ]+")  # the roles that the paper's authors keep
POEMS = ("various", "rapeoflucrece", "venusandadonis", "loverscomplaint", "sonnets")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
PAD, BEGIN, END, UNKNOWN = range(4)  # what comes before the words in every vocabulary
MARKS = ("<pad>", "<bos>", "<eos>", "<oov>")
SKIPPED = ("allswellthatendswell", *POEMS)  # the authors leave out All's Well, too


class TextData(NamedTuple):
    """One text per client, in bytes: the beginning to train on, the end to test on."""

    names: list[str]
    train: list[UInt8[np.ndarray, " n"]]
    test: list[UInt8[np.ndarray, " m"]]
    source: str  # "real" or "embedded"
    banner: Banner | None


class RunningText(NamedTuple):
    """One text to train on and another to test on, in bytes."""

    train: UInt8[np.ndarray, " n"]
    test: UInt8[np.ndarray, " m"]
    source: str  # "real" or "embedded"
    banner: Banner | None


class Sequences(NamedTuple):
    """Texts cut to equal length: predict `y` from `x`; y = -1 is padding; `group` = whose text."""

    x: Int16[np.ndarray, "n unroll"]
    y: Int16[np.ndarray, "n unroll"]
    group: Int32[np.ndarray, " n"]


class WordData(NamedTuple):
    """Texts as sequences of words: `x` and `y` hold indices into `vocabulary`."""

    names: list[str]  # of the clients; `group` is an index into them
    vocabulary: list[str]  # MARKS, then words, the most frequent first
    train: Sequences
    test: Sequences
    source: str  # "real" or "embedded"
    banner: Banner | None


def shakespeare(scale: str) -> TextData:
    """What each role says in 36 plays: the first 80 % of its lines to train, the rest to test.

    As in McMahan et al. (2017), section 3, from the Moby edition: roles of at least two lines and
    an alphabetic name, without All's Well That Ends Well. Embedded: Python's help by topic.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "shakespeare",
        ["moby_shakespeare_plays.tar.xz"],
        scale,
        real=read_plays,
        embedded=help_topics,
        instead="the help texts that come with Python, one client per topic",
    )


def wikitext2(scale: str) -> RunningText:
    """WikiText-2 in small: articles of Wikipedia, its validation text to train on, its test text.

    Merity et al. (2017). Rare words are <unk>, as published; the large training text is left out.
    Embedded: Python's help texts, which each release of Python has its own of.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "wikitext2",
        ["valid.txt", "test.txt"],
        scale,
        real=lambda *paths: RunningText(*map(_bytes_of, paths), "real", None),
        embedded=help_text,
        instead="the help texts that come with Python, every fifth topic to test on",
    )


def help_text(banner: Banner) -> RunningText:
    """Python's help texts in the order of their topics, every fifth topic to test on."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    parts = [[name for i, name in enumerate(names) if (i % 5 == 0) == tested] for tested in (0, 1)]
    texts = ("".join(topics[name] for name in part).encode() for part in parts)
    return RunningText(*(np.frombuffer(text, np.uint8) for text in texts), "embedded", banner)


def _bytes_of(path: Path) -> UInt8[np.ndarray, " n"]:
    return np.frombuffer(path.read_bytes(), np.uint8)


def help_topics(banner: Banner) -> TextData:
    """Python's help texts, one client per topic, the last fifth of each text's lines to test."""
    from pydoc_data.topics import topics

    return split_lines({name: topics[name].splitlines() for name in sorted(topics)}, banner)


def read_plays(path: Path) -> TextData:
    """Read the archive of plays, one text file each; client names are "<play>: <ROLE>"."""
    roles = {}
    with tarfile.open(path) as archive:
        for member in archive:
            play = Path(member.name).stem
            if member.isfile() and play not in SKIPPED:
                text = archive.extractfile(member).read().decode("utf-8")
                roles |= {f"{play}: {role}": said for role, said in lines_by_role(text).items()}
    return split_lines({name: roles[name] for name in sorted(roles)}, None)


def lines_by_role(play: str) -> dict[str, list[str]]:
    """The lines that each role speaks, in order.

    A speaker's name stands in the first column, long names on two lines; words stand behind a tab.
    Left out: what comes before the first scene, headings, the running title, and stage directions
    [in brackets]; roles with other than letters and spaces in the name or with a single line.
    """
    title = play.strip().partition("\n")[0].strip()
    roles: dict[str, list[str]] = {}
    role, half, begun = "", "", False
    for line in DIRECTION.sub("", play).splitlines():
        if HEADING.fullmatch(line):
            role, half, begun = "", "", True
            continue
        name, tab, words = line.partition("\t")
        if name.strip() and tab:
            role = f"{half} {name.strip()}".strip().rstrip(":")
        half = "" if tab else name.strip()
        if begun and role and words.strip() not in ("", title):
            roles.setdefault(role, []).append(words.strip())
    return {r: said for r, said in roles.items() if len(said) >= 2 and ROLE.fullmatch(r)}


def split_lines(lines: dict[str, list[str]], banner: Banner | None) -> TextData:
    """Cut each client's lines: the first 80 % to train on, the last 20 %, at least one, to test."""

    def text(part: list[str]) -> UInt8[np.ndarray, " n"]:
        return np.frombuffer("".join(f"{line}\n" for line in part).encode(), np.uint8)

    cuts = {name: min(len(said) * 4 // 5, len(said) - 1) for name, said in lines.items()}
    return TextData(
        names=list(lines),
        train=[text(said[: cuts[name]]) for name, said in lines.items()],
        test=[text(said[cuts[name] :]) for name, said in lines.items()],
        source="embedded" if banner else "real",
        banner=banner,
    )


def alphabet(texts: Sequence[UInt8[np.ndarray, " _"]]) -> UInt8[np.ndarray, " symbols"]:
    """The bytes that occur in the texts, in order: a compact vocabulary for `encode_sequences`."""
    used = np.zeros(256, bool)
    for text in texts:
        used[text] = True
    return np.flatnonzero(used).astype(np.uint8)


def encode_sequences(
    texts: Sequence[UInt8[np.ndarray, " _"]],
    unroll: int = 80,
    symbols: UInt8[np.ndarray, " symbols"] | None = None,
) -> Sequences:
    """Cut each text into stretches of `unroll` symbols, each with the symbol that comes next.

    Symbol i stands for byte `symbols[i]` (None: all 256 bytes); two more are the marks put before
    (len(symbols)) and after (len(symbols) + 1) each text, so that the paper's vocabulary has 258.
    The last stretch of a text is padded: x = 0, y = -1. An empty text gives no stretch.

    Raises ValueError if `unroll` < 1 or if a text has a byte that `symbols` lacks.
    """
    if unroll < 1:
        raise ValueError(f"unroll={unroll} must be at least 1")
    symbols = np.arange(256, dtype=np.uint8) if symbols is None else symbols
    code = np.full(256, -1, np.int16)
    code[symbols] = np.arange(len(symbols))
    xs, ys, groups = [], [], []
    for group, text in enumerate(texts):
        if not len(text):
            continue
        inside = code[text]
        if inside.min() < 0:
            missing = bytes([text[inside.argmin()]])
            raise ValueError(f"texts[{group}] has the byte {missing!r}, which symbols lacks")
        marked = np.concatenate([[len(symbols)], inside, [len(symbols) + 1]]).astype(np.int16)
        rows = -(-(len(marked) - 1) // unroll)
        x = np.zeros((rows, unroll), np.int16)
        y = np.full((rows, unroll), -1, np.int16)
        x.flat[: len(marked) - 1] = marked[:-1]
        y.flat[: len(marked) - 1] = marked[1:]
        xs.append(x)
        ys.append(y)
        groups.append(np.full(rows, group, np.int32))
    if not xs:
        raise ValueError("texts are all empty: at least one needs a byte")
    return Sequences(np.concatenate(xs), np.concatenate(ys), np.concatenate(groups))


def words(data: TextData, *, most: int = 10_000, length: int = 20) -> WordData:
    """Cut what each client says into stretches of `length` words, each with the word that follows.

    The vocabulary: the `most` most frequent words of the training texts, in lower case, behind four
    marks, `MARKS`: padding, before a text, after a text, any other word. The last stretch of a text
    is padded: x = PAD, y = -1. A text without words gives no stretch.

    Raises ValueError if `most` is not from 1 to 32,764 or `length` < 1, or if there are no words.
    """
    if not 1 <= most <= np.iinfo(np.int16).max + 1 - len(MARKS):
        raise ValueError(f"most={most} must be from 1 to {np.iinfo(np.int16).max + 1 - len(MARKS)}")
    if length < 1:
        raise ValueError(f"length={length} must be at least 1")
    train, test = ([_words(text) for text in part] for part in (data.train, data.test))
    counts = Counter(word for said in train for word in said)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:most]
    index = {word: i for i, word in enumerate([*MARKS, *ranked])}
    parts = [_word_sequences(part, index, length) for part in (train, test)]
    return WordData(data.names, list(index), *parts, data.source, data.banner)


def _words(text: UInt8[np.ndarray, " _"]) -> list[str]:
    return WORD.findall(bytes(text).decode().lower())


def _word_sequences(texts: list[list[str]], index: dict[str, int], length: int) -> Sequences:
    xs, ys, groups = [], [], []
    for group, said in enumerate(texts):
        rows = -(-(len(said) + 1) // length) if said else 0
        marked = [BEGIN, *(index.get(word, UNKNOWN) for word in said), END]
        x = np.full((rows, length), PAD, np.int16)
        y = np.full((rows, length), -1, np.int16)
        if said:
            x.flat[: len(said) + 1] = marked[:-1]
            y.flat[: len(said) + 1] = marked[1:]
        xs.append(x)
        ys.append(y)
        groups.append(np.full(rows, group, np.int32))
    if not sum(map(len, groups)):
        raise ValueError(
            "data has no words on one of its sides, train or test: give it longer texts"
        )
    return Sequences(np.concatenate(xs), np.concatenate(ys), np.concatenate(groups))
