"""Data that comes with its clients: handwriting by writer, questions and answers by author.

TensorFlow Federated's databases: an SQLite table `examples` of (split_name, client_id,
serialized_example_proto), each row one tf.train.Example.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from lib.datasets import store
from lib.datasets.fallback import Banner, real_or_embedded
from lib.datasets.images import digits
from lib.datasets.text import help_topics
from lib.datasets.tf_example import parse_example

EMNIST = "emnist_all.sqlite.lzma"
STACKOVERFLOW = "stackoverflow.sqlite.lzma"


class WriterData(NamedTuple):
    """Pictures with classes, and for each the writer: an index into `names`."""

    names: list[str]
    train_x: UInt8[np.ndarray, "n side side"]
    train_y: UInt8[np.ndarray, " n"]
    train_writer: Int32[np.ndarray, " n"]
    test_x: UInt8[np.ndarray, "m side side"]
    test_y: UInt8[np.ndarray, " m"]
    test_writer: Int32[np.ndarray, " m"]
    source: str  # "real" or "embedded"
    banner: Banner | None


class PostData(NamedTuple):
    """Posts by author: `posts[i]` are the texts of author `names[i]`, `tags[i]` their tags."""

    names: list[str]
    posts: list[list[str]]  # tokens with a space between them
    tags: list[list[tuple[str, ...]]]
    source: str  # "real" or "embedded"
    banner: Banner | None


def emnist(scale: str, *, writers: int | None = None, only_digits: bool = False) -> WriterData:
    """Handwritten characters of 3,400 known writers, 28 x 28, ink is bright; 62 or 10 classes.

    Caldas et al. (2018). `writers`: only so many, by name; None means all. Embedded: scikit-learn's
    digits, every 30 of them called a writer.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "emnist",
        [EMNIST],
        scale,
        real=partial(read_emnist, writers=writers, only_digits=only_digits),
        embedded=partial(digits_by_writer, writers=writers),
        instead="scikit-learn's 1,797 digits, cut into imagined writers of 30",
    )


def stackoverflow(scale: str, *, split: str = "train", authors: int | None = None) -> PostData:
    """Questions and answers of Stack Overflow by author; split "train", "held_out" or "test".

    TensorFlow Federated's edition. `authors`: only so many, by name; None means all (342,477 to
    train on). Embedded: Python's help texts, one author per topic, one post per line.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "stackoverflow",
        [STACKOVERFLOW],
        scale,
        real=partial(read_posts, split=split, authors=authors),
        embedded=partial(help_posts, authors=authors),
        instead="the help texts that come with Python, one author per topic",
    )


def read_emnist(path: Path, *, writers: int | None, only_digits: bool) -> WriterData:
    """Read the archive of writers; its pixels are 0 (ink) to 1 (paper) and get turned round."""
    database = store.unpacked("emnist", EMNIST, path)
    kind = "digits_only" if only_digits else "all"
    writer_names, parts = set(), []
    for split in ("train", "test"):
        x, y, writer = [], [], []
        for name, example in examples(database, f"{kind}_{split}", writers):
            writer_names.add(name)
            x.append(np.round(255 * (1 - example["pixels"])).astype(np.uint8).reshape(28, 28))
            y.append(example["label"][0])
            writer.append(name)
        parts += [np.array(x), np.array(y, np.uint8), writer]
    names = sorted(writer_names)
    index = {name: i for i, name in enumerate(names)}
    for i in (2, 5):
        parts[i] = np.array([index[name] for name in parts[i]], np.int32)
    return WriterData(names, *parts, "real", None)


def read_posts(path: Path, *, split: str, authors: int | None) -> PostData:
    """Read the archive of authors: their tokens and the tags of the question."""
    database = store.unpacked("stackoverflow", STACKOVERFLOW, path)
    posts: dict[str, list[str]] = {}
    tags: dict[str, list[tuple[str, ...]]] = {}
    for name, example in examples(database, split, authors):
        posts.setdefault(name, []).append(example["tokens"][0].decode())
        tags.setdefault(name, []).append(tuple(example["tags"][0].decode().split("|")))
    return PostData(list(posts), list(posts.values()), list(tags.values()), "real", None)


def digits_by_writer(banner: Banner, writers: int | None) -> WriterData:
    """scikit-learn's digits, every 30 for training and 6 for testing called a writer."""
    train_x, train_y, test_x, test_y, source, _ = digits(banner)
    most = min(writers or 50, len(train_y) // 30)
    train, test = np.arange(30 * most), np.arange(min(6 * most, len(test_y)))
    return WriterData(
        [f"writer {i}" for i in range(most)],
        train_x[train],
        train_y[train],
        (train // 30).astype(np.int32),
        test_x[test],
        test_y[test],
        (test // 6).astype(np.int32),
        source,
        banner,
    )


def help_posts(banner: Banner, authors: int | None) -> PostData:
    """Python's help texts, one author per topic, one post per line that has a word."""
    data = help_topics(banner)
    texts = [bytes(part).decode().lower() for part in data.train[:authors]]
    posts = [[" ".join(line.split()) for line in t.splitlines() if line.split()] for t in texts]
    tags = [[(name,)] * len(said) for name, said in zip(data.names, posts, strict=False)]
    return PostData(data.names[:authors], posts, tags, "embedded", banner)


def examples(database: Path, split: str, clients: int | None) -> Iterator[tuple[str, dict]]:
    """Each example of a split with its client, clients by name; at most `clients` of them.

    Raises ValueError if the split is not there.
    """
    with closing(sqlite3.connect(database)) as connection:
        names = connection.execute(
            "SELECT DISTINCT client_id FROM examples WHERE split_name = ? ORDER BY client_id "
            "LIMIT ?",
            (split, -1 if clients is None else clients),
        ).fetchall()
        if not names:
            raise ValueError(f"split={split!r} is not in {database.name}")
        for (name,) in names:
            rows = connection.execute(
                "SELECT serialized_example_proto FROM examples "
                "WHERE split_name = ? AND client_id = ? ORDER BY rowid",
                (split, name),
            )
            yield from ((name, parse_example(row)) for (row,) in rows)
