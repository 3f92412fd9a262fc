"""Pictures with labels: MNIST and CIFAR-10, or scikit-learn's small digits in their place."""

from __future__ import annotations

import gzip
import pickle
import tarfile
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from lib.datasets.fallback import Banner, real_or_embedded

DIGITS_TRAIN = 1500  # of scikit-learn's 1797 digits; the other 297 are the test set


class ImageData(NamedTuple):
    """Pictures (grey 0..255, colour as a last axis of 3) with their classes, ready to split."""

    train_x: UInt8[np.ndarray, "n ..."]
    train_y: UInt8[np.ndarray, " n"]
    test_x: UInt8[np.ndarray, "m ..."]
    test_y: UInt8[np.ndarray, " m"]
    source: str  # "real" or "embedded"
    banner: Banner | None


def mnist(scale: str) -> ImageData:
    """Handwritten digits: 60,000 for training and 10,000 for testing, 28 x 28, ink is bright.

    LeCun, Cortes, Burges. Embedded: 1500 and 297 digits of 8 x 8 pixels.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    files = [
        f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    return real_or_embedded(
        "mnist",
        files,
        scale,
        real=lambda *paths: ImageData(*map(read_idx, paths), "real", None),
        embedded=digits,
        instead="scikit-learn's 1,797 digits of 8 x 8 pixels",
    )


def cifar10(scale: str) -> ImageData:
    """Colour photographs of ten kinds: 50,000 for training, 10,000 for testing, (32, 32, 3).

    Krizhevsky (2009). Embedded: scikit-learn's digits, each pixel a grey block of 4 x 4.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "cifar10",
        ["cifar-10-python.tar.gz"],
        scale,
        real=read_cifar,
        embedded=partial(digits, block=4),
        instead="scikit-learn's 1,797 digits, enlarged to grey pictures of 32 x 32 pixels",
    )


def digits(banner: Banner, block: int | None = None) -> ImageData:
    """scikit-learn's digits, 8 x 8, cut into 1500 for training and 297 for testing.

    The cut is the same everywhere. `block` = 4 makes (32, 32, 3) of them, for a colour network.
    """
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    found = load_digits()
    order = np.random.RandomState(0).permutation(len(found.target))  # stable across versions
    x = np.round(found.images[order] * (255 / 16)).astype(np.uint8)
    y = found.target[order].astype(np.uint8)
    if block:
        grey = np.kron(x, np.ones((1, block, block), np.uint8))
        x = np.repeat(grey[..., None], 3, axis=-1)
    cut = DIGITS_TRAIN
    return ImageData(x[:cut], y[:cut], x[cut:], y[cut:], "embedded", banner)


def read_idx(path: Path) -> UInt8[np.ndarray, "*shape"]:
    """Read a gzip'ed idx file of bytes, the format of MNIST.

    Four bytes 0, 0, 8 (unsigned byte), number of axes; the axes' lengths as big-endian 32-bit
    integers; then the values, last axis fastest. Raises ValueError if it is anything else.
    """
    with gzip.open(path) as file:
        data = file.read()
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    shape = np.frombuffer(data[4 : 4 + 4 * axes], ">u4").astype(int)
    if not axes or len(data) != 4 + 4 * axes + shape.prod():
        raise ValueError(f"{path} is not an idx file of bytes: get a fresh copy")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_cifar(path: Path) -> ImageData:
    """Read CIFAR-10's archive of Python pickles: rows of 3 x 32 x 32 bytes, colour first.

    A pickle can run code: only call it on a file whose checksum has been verified.
    """
    batches = {}
    with tarfile.open(path) as archive, warnings.catch_warnings():
        # the pickles were written by a NumPy that described its types with integers
        warnings.simplefilter("ignore")
        for member in archive:
            name = Path(member.name).name
            if name == "test_batch" or name.startswith("data_batch_"):
                batches[name] = pickle.load(archive.extractfile(member), encoding="bytes")
    train = [batches[name] for name in sorted(batches) if name != "test_batch"]
    test = [batches["test_batch"]]

    def pictures(parts: list[dict]) -> np.ndarray:
        rows = np.concatenate([part[b"data"] for part in parts])
        return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

    def labels(parts: list[dict]) -> np.ndarray:
        return np.concatenate([np.asarray(part[b"labels"], np.uint8) for part in parts])

    return ImageData(pictures(train), labels(train), pictures(test), labels(test), "real", None)
