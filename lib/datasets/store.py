"""Where data comes from: a folder, the cache, a download; nothing is read unverified."""

from __future__ import annotations

import hashlib
import logging
import lzma
import os
import shutil
import sys
from pathlib import Path

import pooch
import requests

from lib.datasets.registry import REGISTRY, File

FOLDER = "EXECUTABLE_PAPERS_DATA"
OFFLINE = "EXECUTABLE_PAPERS_OFFLINE"
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte

_checked: dict[tuple[str, int, int], str] = {}


class DatasetUnavailable(RuntimeError):
    """The dataset is neither in the folder nor in the cache, and could not be downloaded."""


class ChecksumError(RuntimeError):
    """A local file is not the file that the book was written for."""


def fetch(name: str) -> dict[str, Path]:
    """Find or download every file of a dataset; file name -> verified path.

    Order: the folder EXECUTABLE_PAPERS_DATA, the cache, the mirrors (not if
    EXECUTABLE_PAPERS_OFFLINE=1). The first file that cannot be had ends the attempt.

    Raises DatasetUnavailable, ChecksumError (a local file is wrong), ValueError (unknown name).
    """
    return {file: fetch_file(name, file) for file in files_of(name)}


def fetch_file(name: str, file: str) -> Path:
    """One file of a dataset, from the first place that has it; raises as `fetch` does."""
    path = find(name, file) or download(name, file)
    verify(name, file, path)
    if files_of(name)[file].sha256 is None and not _record(name, file).exists():
        _write_record(name, file, path)
    return path


def state(names: list[str]) -> dict[str, str]:
    """What is here now: "<dataset>/<file>" -> sha256 of the verified file, or "absent".

    Nothing is downloaded. Raises ChecksumError and ValueError as `fetch` does.
    """
    found = {}
    for name in names:
        for file in files_of(name):
            path = find(name, file)
            found[f"{name}/{file}"] = verify(name, file, path) if path else "absent"
    return found


def files_of(name: str) -> dict[str, File]:
    """The files of a dataset; ValueError for an unknown name."""
    if name not in REGISTRY:
        raise ValueError(f"dataset {name!r} is not known: use one of {', '.join(REGISTRY)}")
    return REGISTRY[name]


def find(name: str, file: str) -> Path | None:
    """The local copy of a file, not yet verified: folder first, then cache."""
    folder = os.environ.get(FOLDER)
    places = [cache_folder(name) / file]
    if folder:
        if not Path(folder).is_dir():
            raise ValueError(
                f"{FOLDER}={folder!r} is not a folder: correct the variable or unset it"
            )
        places = [Path(folder, name, file), Path(folder, file), *places]
    return next((p.resolve() for p in places if p.is_file()), None)


def cache_folder(name: str) -> Path:
    """Where downloads of a dataset are kept on this machine."""
    return Path(pooch.os_cache("executable-papers"), name)


def verify(name: str, file: str, path: Path) -> str:
    """The sha256 of a local file, compared with the registry or with what was recorded before.

    Raises ChecksumError if it is another file.
    """
    wanted = files_of(name)[file].sha256
    if wanted is None and _record(name, file).exists():
        wanted = _record(name, file).read_text(encoding="ascii").split()[0]
    found = sha256(path)
    if wanted not in (None, found):
        raise ChecksumError(
            f"{path} is not the file that this book was written for: sha256 is {found}, wanted "
            f"{wanted}. Delete it (or put a fresh copy there) and run "
            f"`.venv/bin/python -m lib.datasets get {name}`"
        )
    return found


def sha256(path: Path) -> str:
    """Checksum of a file; read once as long as its size and modification time stay."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _checked:
        with path.open("rb") as file:
            _checked[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _checked[key]


def download(name: str, file: str) -> Path:
    """Download a file into the cache from the first mirror that delivers the right bytes.

    pooch writes to a temporary name and renames, so that no half-written file ever stays.

    Raises DatasetUnavailable with the reason for each mirror.
    """
    entry = files_of(name)[file]
    if os.environ.get(OFFLINE) == "1":
        raise _unavailable(name, file, [f"{OFFLINE}=1 forbids downloads"])
    if not entry.urls:
        raise _unavailable(name, file, ["no mirror of it is known"])
    pooch.get_logger().setLevel(logging.ERROR)
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=sys.stderr.isatty())
    reasons = []
    for url in entry.urls:
        try:
            path = pooch.retrieve(
                url,
                known_hash=entry.sha256 and f"sha256:{entry.sha256}",
                fname=file,
                path=cache_folder(name),
                downloader=downloader,
            )
            return Path(path)
        except requests.RequestException as error:
            reasons.append(f"{url}: {_in_short(error)}")
        except ValueError:
            reasons.append(f"{url}: it sent other bytes than the expected ones")
        except OSError as error:
            reasons.append(f"{cache_folder(name)}: {error}")
    raise _unavailable(name, file, reasons)


def unpacked(name: str, file: str, path: Path) -> Path:
    """An .lzma archive unpacked into the cache, once for each content of the archive."""
    target = cache_folder(name) / f"{sha256(path)[:16]}-{file.removesuffix('.lzma')}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}.part")
        try:
            with lzma.open(path) as packed, unfinished.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def _record(name: str, file: str) -> Path:
    return cache_folder(name) / f"{file}.sha256"


def _write_record(name: str, file: str, path: Path) -> None:
    """Trust on first use: remember the checksum of a file whose origin publishes none."""
    record = _record(name, file)
    record.parent.mkdir(parents=True, exist_ok=True)
    unfinished = record.with_suffix(f".{os.getpid()}.part")
    unfinished.write_text(f"{sha256(path)}  {file}\n", encoding="ascii")
    unfinished.replace(record)


def _in_short(error: requests.RequestException) -> str:
    """What went wrong in a few words; the library's own message fills a screen."""
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no connection"


def _unavailable(name: str, file: str, reasons: list[str]) -> DatasetUnavailable:
    get = f"run `.venv/bin/python -m lib.datasets get {name}` where there is a network, or "
    return DatasetUnavailable(
        f"{name}/{file} is not here: {'; '.join(reasons)}. To get it, "
        f"{get if files_of(name)[file].urls else ''}put it into a folder {name}/ and name the "
        f"folder above it in {FOLDER}"
    )
