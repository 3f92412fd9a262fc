"""The data of every chapter: found, verified, downloaded or replaced under a visible banner.

    from lib import datasets
    data = datasets.mnist("laptop")     # data.train_x, data.train_y, ..., data.source
    data.banner                         # shows itself if this is not the real MNIST

`.venv/bin/python -m lib.datasets list` says what there is and what is here.
"""

from lib.datasets.audio import MusicData, audio_files, music, read_audio
from lib.datasets.commits import (
    AuthorSplit,
    BagData,
    build_commits,
    commits,
    fingerprint,
    read_commits,
    split_authors,
)
from lib.datasets.fallback import Banner
from lib.datasets.federated import PostData, WriterData, emnist, stackoverflow
from lib.datasets.images import ImageData, cifar10, mnist
from lib.datasets.registry import ABOUT, REGISTRY, File
from lib.datasets.store import ChecksumError, DatasetUnavailable, fetch, state
from lib.datasets.text import (
    RunningText,
    Sequences,
    TextData,
    WordData,
    alphabet,
    encode_sequences,
    shakespeare,
    wikitext2,
    words,
)

__all__ = [
    "ABOUT",
    "REGISTRY",
    "AuthorSplit",
    "BagData",
    "Banner",
    "ChecksumError",
    "DatasetUnavailable",
    "File",
    "ImageData",
    "MusicData",
    "PostData",
    "RunningText",
    "Sequences",
    "TextData",
    "WordData",
    "WriterData",
    "alphabet",
    "audio_files",
    "build_commits",
    "cifar10",
    "commits",
    "emnist",
    "encode_sequences",
    "fetch",
    "fingerprint",
    "mnist",
    "music",
    "read_audio",
    "read_commits",
    "shakespeare",
    "split_authors",
    "stackoverflow",
    "state",
    "wikitext2",
    "words",
]
