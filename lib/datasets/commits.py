"""Short texts by author with several tags each: commits by developer, Python's own code by module.

The data of tag prediction for Federated Select (Charles et al., 2022), in place of Stack Overflow:
which parts of the code does a message speak of? `rails_commits.npz` has the commits of Ruby on
Rails; `build_commits` makes such a file from any git clone; Python's standard library stands in.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt

from lib.datasets.fallback import Banner, real_or_embedded

WORD = re.compile(r"[a-z_][a-z_']+")
ADDRESS = re.compile(r"\S+@\S+")
TRAILER = re.compile(r"^\s*[\w-]+-by:.*$", re.IGNORECASE | re.MULTILINE)  # Signed-off-by: somebody
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # HTTPServer: HTTP, Server
RAILS = "rails_commits.npz"
ARRAYS = ("tokens", "tok_ptr", "tags", "tag_ptr", "author", "vocab", "tag_names")  # as in RAILS
NO_CLIENTS = frozenset(  # tests, parts that some systems leave out, tables without functions
    "test tests lib2to3 idlelib turtledemo ensurepip encodings tkinter distutils msilib pydoc_data "
    "ctypes".split()
)
LEAST_TAGGED = 40  # documents that a tag of Python's code must have
LEAST_WORDS = 2  # documents that a word of Python's code must be in
MOST_TAGS = 150  # of Python's code

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Document = tuple[int, set[str], set[str]]  # author, words, tags


class BagData(NamedTuple):
    """Documents in order, each with an author, the set of its words and the set of its tags.

    Document i has the words `tokens[tok_ptr[i]:tok_ptr[i + 1]]`, each one once, in rising order,
    and the tags `tags[tag_ptr[i]:tag_ptr[i + 1]]`; at least one of both. Commits stand in order of
    time, oldest first. Words are numbered from the most frequent to the rarest, so that
    `tokens < n` keeps the n most frequent ones.
    """

    names: list[str]  # authors: pseudonyms, or the modules of Python
    tokens: UInt[np.ndarray, " words"]  # indices into `vocab`; uint16, or uint32 for a larger one
    tok_ptr: Int32[np.ndarray, " n+1"]
    tags: UInt[np.ndarray, " tagged"]  # indices into `tag_names`; uint8, or wider for more tags
    tag_ptr: Int32[np.ndarray, " n+1"]
    author: UInt[np.ndarray, " n"]  # indices into `names`
    vocab: list[str]
    tag_names: list[str]
    source: str  # "real" or "embedded"
    banner: Banner | None


class AuthorSplit(NamedTuple):
    """Documents by client to train on, and documents of other authors to test on."""

    authors: Int[np.ndarray, " clients"]  # indices into `names`
    train: list[Int[np.ndarray, " _"]]  # of each client: indices of its documents, in order
    test: Int[np.ndarray, " m"]  # indices of documents, in order


def commits(scale: str) -> BagData:
    """62,387 commits of 6,596 authors of Ruby on Rails: words of the message, touched directories.

    220 directories at depth 4 are the tags. Embedded: Python's standard library, see
    `standard_library`. Your own file, from `build_commits`: `read_commits`.
    Raises DatasetUnavailable at paper scale, ChecksumError for a damaged local file.
    """
    return real_or_embedded(
        "commits",
        [RAILS],
        scale,
        real=read_commits,
        embedded=standard_library,
        instead="the functions and classes of Python's standard library, one client per module",
    )


def read_commits(path: str | Path) -> BagData:
    """Read a file that `build_commits` wrote; authors have no names but "author <number>".

    Raises ValueError if it is not such a file.
    """
    found = {}
    if zipfile.is_zipfile(path):
        with np.load(path) as file:
            found = {name: file[name] for name in ARRAYS if name in file}
    if len(found) < len(ARRAYS):
        raise ValueError(
            f"{path} is not a file of commits: make one with "
            "`.venv/bin/python -m lib.datasets build-commits`"
        )
    found |= {name: found[name].tolist() for name in ("vocab", "tag_names")}
    names = _pseudonyms(int(found["author"].max()) + 1)
    return BagData(names, **found, source="real", banner=None)


def standard_library(banner: Banner | None) -> BagData:
    """Python's standard library as a federation: module by module, its functions and classes.

    The words of a function are the parts of its identifiers and of its docstring; its tags are
    what it calls, "len()", and the modules that it uses, "re". Names that are called or imported
    are not among the words. Each release of Python has its own: see `fingerprint`.

    Raises ValueError if this Python comes without its source files.
    """
    names, documents = _modules(Path(sysconfig.get_paths()["stdlib"]))
    counts = Counter(tag for _, words, tags in documents if words for tag in tags)
    common = [tag for tag, n in _by_frequency(counts)[:MOST_TAGS] if n >= LEAST_TAGGED]
    if not common:
        raise ValueError("this Python has no source files of its standard library: install them")
    data = _bags(documents, names, tag_names=common, least_df=LEAST_WORDS)
    return data._replace(source="embedded", banner=banner)


def fingerprint(data: BagData) -> str:
    """The sha256 of all arrays and names: equal where the data are equal."""
    digest = hashlib.sha256()
    for name in ("names", *ARRAYS):
        array = np.asarray(getattr(data, name))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def split_authors(
    data: BagData, seed: int, *, held_out: float = 0.2, most_test: int = 4000, least: int = 5
) -> AuthorSplit:
    """Hold out a share of the authors for testing; the others with `least` documents are clients.

    Of the documents of those held out, `most_test` are drawn at most.

    Raises ValueError if nobody is left on one of the two sides.
    """
    order = np.random.default_rng(seed).permutation(len(data.names))
    cut = int(held_out * len(order))
    sizes = np.bincount(data.author, minlength=len(order))
    authors = np.sort(order[cut:][sizes[order[cut:]] >= least])
    if not 0 < cut < len(order) or not len(authors):
        raise ValueError(
            f"data has {len(data.names)} authors: held_out={held_out} and least={least} leave "
            f"{cut} to test and {len(authors)} to train; take a longer history, or merge several"
        )
    test = np.flatnonzero(np.isin(data.author, order[:cut]))
    if len(test) > most_test:
        test = np.sort(np.random.default_rng([seed, 1]).choice(test, most_test, replace=False))
    by_author = np.split(np.argsort(data.author, kind="stable"), np.cumsum(sizes)[:-1])
    return AuthorSplit(authors, [by_author[i] for i in authors], test)


def build_commits(
    repositories: Sequence[Path],
    out: Path,
    *,
    depth: int = 4,
    least_commits: int = 50,
    least_df: int = 2,
) -> BagData:
    """Make a file like rails_commits.npz from local git clones, merges left out; returns its data.

    Words: those of the message in lower case that `least_df` commits have, without addresses and
    lines such as "Signed-off-by: ...". Tags: the directories, cut at `depth`, that `least_commits`
    commits touch; with several clones, behind the name of the clone. Authors: numbered by their
    first commit; names and addresses are not kept, but people's names that messages mention are
    words like any other: a larger `least_df` leaves fewer of them. The same clones give the same
    bytes. `git clone --filter=blob:none` is enough.

    Raises ValueError if a clone cannot be read, if git is missing, or if nothing is left.
    """
    for name, value in (("depth", depth), ("least_commits", least_commits), ("least_df", least_df)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out={str(out)!r} lies in a folder that does not exist: make it first")
    labels = [_label(path) for path in repositories]
    if len(set(labels)) < len(labels):
        raise ValueError(f"repositories={labels} need different names: rename a folder")
    found = []
    for label, path in zip(labels, repositories, strict=True):
        found += _log(path, depth=depth, prefix=f"{label}/" if len(labels) > 1 else "")
    found.sort(key=lambda commit: commit[0])
    addresses = list(dict.fromkeys(address for _, address, _, _ in found))
    number = {address: i for i, address in enumerate(addresses)}
    documents = [(number[address], words, tags) for _, address, words, tags in found]
    counts = Counter(tag for _, words, tags in documents if words for tag in tags)
    common = [tag for tag, n in _by_frequency(counts) if n >= least_commits]
    if not counts:
        raise ValueError(
            f"repositories={labels} have no commit with both files and words in Latin letters: "
            "name other clones"
        )
    if not common:
        raise ValueError(
            f"least_commits={least_commits} leaves no directory, as at most {max(counts.values())} "
            "commits with words touch one: lower it"
        )
    data = _bags(documents, addresses, tag_names=common, least_df=least_df)
    if not len(data.author):
        raise ValueError(f"least_df={least_df} leaves no word: lower it")
    data = data._replace(names=_pseudonyms(len(data.names)))
    _save(data, out)
    return data


def is_shallow(repository: Path) -> bool:
    """Whether a clone has only the latest part of its history; raises as `build_commits` does."""
    return _git(repository, "rev-parse", "--is-shallow-repository").strip() == b"true"


# ---- git


def _git(repository: Path, *arguments: str) -> bytes:
    """What a git command prints; ValueError in one line if it fails."""
    git = shutil.which("git")
    if git is None:
        raise ValueError("git is not installed: install it, for example with your package manager")
    command = [git, "-C", str(repository), *arguments]
    # a hook's GIT_DIR would win over the folder
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["LC_ALL"] = "C"
    done = subprocess.run(command, capture_output=True, env=environment)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise ValueError(f"{str(repository)!r} cannot be read as a git repository: {reason}")
    return done.stdout


def _label(repository: Path) -> str:
    """The name of a clone's folder; ValueError if it is a folder inside a clone."""
    inside = _git(repository, "rev-parse", "--show-prefix").strip()
    if inside:
        raise ValueError(f"{str(repository)!r} lies inside a clone: name the clone's top folder")
    return repository.resolve().name.removesuffix(".git")


def _log(
    repository: Path, *, depth: int, prefix: str
) -> Iterator[tuple[int, str, set[str], set[str]]]:
    """Time, e-mail address, words and directories of each commit, oldest first.

    Fields end with NUL, which neither messages nor paths can have; a commit begins with a "/",
    which no path does. Renames are not looked for: that needs the files, which a clone may lack.
    """
    shape = "--format=tformat:/%x00%ct%x00%aE%x00%B%x00"
    options = ["--no-merges", "--reverse", "--name-only", "--no-renames", "--no-show-signature"]
    options += ["--no-color", "--no-notes", "--encoding=UTF-8", "-z", shape]
    fields = iter(_git(repository, "-c", "log.showRoot=true", "log", *options).split(b"\0"))
    field = next(fields)
    while field == b"/":
        time, address, message = (next(fields) for _ in range(3))
        directories = set()
        for field in fields:
            if field == b"/":
                break
            path = field.removeprefix(b"\n").decode(errors="replace")
            if path:  # else the end of the message or of the list
                directories.add(prefix + ("/".join(path.split("/")[:-1][:depth]) or "."))
        address = address.decode(errors="replace").strip().lower()
        yield int(time), address, _words(message), directories


def _words(message: bytes) -> set[str]:
    text = TRAILER.sub(" ", ADDRESS.sub(" ", message.decode(errors="replace")))
    return set(WORD.findall(text.lower()))


# ---- Python's own code


@cache
def _modules(folder: Path) -> tuple[list[str], list[Document]]:
    """Names of the modules below a folder, and their functions and classes as documents."""
    names: list[str] = []
    documents: list[Document] = []
    for path in sorted(folder.rglob("*.py"), key=Path.as_posix):
        parts = path.relative_to(folder).with_suffix("").parts
        public = parts[0] in sys.stdlib_module_names and not parts[0].startswith("_")
        if public and NO_CLIENTS.isdisjoint(parts):
            documents += [(len(names), *found) for found in _definitions(path.read_bytes())]
            names.append(".".join(parts).removesuffix(".__init__"))
    return names, documents


def _definitions(source: bytes) -> Iterator[tuple[set[str], set[str]]]:
    """Words and tags of each function and class of a module; inner ones count for themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings, from Python 3.12 on
        tree = ast.parse(source)
    module = _scope(tree)
    inner = module.inner
    while inner:
        definition = inner.pop()
        scope = _scope(definition)
        inner += scope.inner
        imported = module.imported | scope.imported
        texts = [*(scope.names - imported.keys()), definition.name]
        texts.append(ast.get_docstring(definition, clean=False) or "")
        words = {part.lower() for text in texts for part in PART.findall(text) if len(part) > 1}
        tags = {f"{name}()" for name in scope.called}
        used = (scope.names | scope.called) & imported.keys()
        yield words, tags | {imported[name] for name in used}


class _Scope(NamedTuple):
    names: set[str]
    called: set[str]
    imported: dict[str, str]  # name -> the module, without what is behind its first dot
    inner: list[Definition]


def _scope(scope: ast.Module | Definition) -> _Scope:
    """The names in a function, class or module, without those in its inner functions and classes.

    What is called is not among the names, unless it is also used in another way.
    """
    found = _Scope(set(), set(), {}, [])
    nodes = list(ast.iter_child_nodes(scope))
    while nodes:
        node = nodes.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.inner.append(node)
                continue
            case ast.Call(func=ast.Name(id=name)):
                found.called.add(name)
                nodes += [*node.args, *node.keywords]
                continue
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                found.called.add(name)
                nodes += [value, *node.args, *node.keywords]
                continue
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.names.add(name)
            case ast.keyword(arg=str(name)):
                found.names.add(name)
            case ast.Import(names=aliases):
                for alias in aliases:
                    top = alias.name.partition(".")[0]
                    found.imported[alias.asname or top] = top
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                top = module.partition(".")[0]
                found.imported.update({alias.asname or alias.name: top for alias in aliases})
        nodes += ast.iter_child_nodes(node)
    return found


# ---- sets of words and tags as arrays


def _by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _bags(
    documents: Sequence[Document], names: Sequence[str], *, tag_names: list[str], least_df: int
) -> BagData:
    """The documents that keep a word of `least_df` documents and one of the tags, as arrays."""
    known_tags = {tag: i for i, tag in enumerate(tag_names)}
    tagged = [
        (a, words, tags) for a, words, tags in documents if not known_tags.keys().isdisjoint(tags)
    ]
    counts = Counter(word for _, words, _ in tagged for word in words)
    vocab = [word for word, n in _by_frequency(counts) if n >= least_df]
    known_words = {word: i for i, word in enumerate(vocab)}
    kept = [document for document in tagged if not known_words.keys().isdisjoint(document[1])]
    tokens, tok_ptr = _ragged([words for _, words, _ in kept], known_words)
    tags, tag_ptr = _ragged([tags for _, _, tags in kept], known_tags)
    present, author = np.unique([a for a, _, _ in kept], return_inverse=True)
    return BagData(
        [names[i] for i in present],
        tokens.astype(_unsigned(len(vocab), np.uint16)),
        tok_ptr,
        tags.astype(_unsigned(len(tag_names), np.uint8)),
        tag_ptr,
        author.astype(_unsigned(len(present), np.uint16)),
        vocab,
        tag_names,
        "real",
        None,
    )


def _ragged(
    sets: Sequence[set[str]], known: dict[str, int]
) -> tuple[Int[np.ndarray, " _"], Int32[np.ndarray, " pointers"]]:
    """Sets as rising indices one after the other, and where each begins; unknown ones left out."""
    rows = [sorted(known[one] for one in some if one in known) for some in sets]
    flat = np.array([i for row in rows for i in row], np.int64)
    return flat, np.cumsum([0, *map(len, rows)]).astype(np.int32)


def _unsigned(count: int, least: type[np.unsignedinteger]) -> np.dtype:
    """The smallest unsigned type, from `least` on, for indices below `count`."""
    return np.promote_types(least, np.min_scalar_type(max(count - 1, 0)))


def _pseudonyms(count: int) -> list[str]:
    return [f"author {i}" for i in range(count)]


def _save(data: BagData, out: Path) -> None:
    """Write an .npz without the time of day, so that equal data give equal bytes."""
    unfinished = out.with_name(f"{out.name}.part")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for name in ARRAYS:
                member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                member.create_system = 3  # the same on every system
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(getattr(data, name)))
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
