"""Command line: what data there is, get it, verify it; make data from your own git clones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lib.datasets import store
from lib.datasets.commits import build_commits, is_shallow
from lib.datasets.registry import ABOUT, REGISTRY

LARGE = 100_000_000  # bytes; larger datasets are only fetched by name
THRESHOLDS = ("depth", "least_commits", "least_df")  # of build-commits


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 = all well, 1 = something is missing or damaged, 2 = wrong usage."""
    parser = argparse.ArgumentParser(prog=".venv/bin/python -m lib.datasets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every dataset, its files, and where they are")
    get = commands.add_parser("get", help="download what is missing")
    get.add_argument("names", nargs="*", help="datasets; without a name: all that are not large")
    commands.add_parser("verify", help="compare every local file with its checksum")
    build = commands.add_parser("build-commits", help="a file like rails_commits.npz from clones")
    build.add_argument("clones", nargs="+", type=Path, help="folders of git clones, merged if many")
    build.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    build.add_argument("--depth", type=int, default=4, help="cut directories here (%(default)s)")
    build.add_argument("--least-commits", type=int, default=50, help="of a directory (%(default)s)")
    build.add_argument("--least-df", type=int, default=2, help="commits of a word (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "get":
            return get_datasets(options.names or small_datasets())
        if options.command == "build-commits":
            thresholds = {name: getattr(options, name) for name in THRESHOLDS}
            return write_commits(options.clones, options.out, **thresholds)
        return list_datasets() if options.command == "list" else verify_files()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def small_datasets() -> list[str]:
    """The datasets whose files are all small and can be downloaded."""
    return [
        name
        for name, files in REGISTRY.items()
        if all(f.urls and f.size and f.size < LARGE for f in files.values())
    ]


def list_datasets() -> int:
    """Print each dataset with its files, their sizes, licences and places."""
    for name, files in REGISTRY.items():
        print(f"{name}: {ABOUT[name]}")
        for file, entry in files.items():
            size = f"{entry.size / 1e6:.3g} MB" if entry.size else "size unknown"
            where = store.find(name, file) or (
                "not here" if entry.urls else f"not here, only from {store.FOLDER}"
            )
            print(f"    {file}  {size}  {entry.licence}  [{where}]")
    return 0


def get_datasets(names: list[str]) -> int:
    """Fetch each dataset; go on with the next where one cannot be had."""
    for name in names:
        store.files_of(name)  # an unknown name stops here, before anything is downloaded
    failed = 0
    for name in names:
        try:
            for file, path in store.fetch(name).items():
                print(f"{name}/{file}: {path}")
        except (store.DatasetUnavailable, store.ChecksumError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


def write_commits(clones: list[Path], out: Path, **thresholds: int) -> int:
    """Write a file of commits and print what is in it."""
    for clone in clones:
        if is_shallow(clone):
            print(
                f"warning: {clone} is a shallow clone, so that its old commits are missing: "
                "run `git fetch --unshallow` in it",
                file=sys.stderr,
            )
    data = build_commits(clones, out, **thresholds)
    print(
        f"{out}: {len(data.author):,} commits of {len(data.names):,} authors, "
        f"{len(data.vocab):,} words, {len(data.tag_names):,} directories"
    )
    return 0


def verify_files() -> int:
    """Compare every local file with its checksum."""
    failed = 0
    for name, files in REGISTRY.items():
        for file in files:
            path = store.find(name, file)
            try:
                found = store.verify(name, file, path) if path else "not here"
                print(f"{name}/{file}: {found}")
            except store.ChecksumError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
