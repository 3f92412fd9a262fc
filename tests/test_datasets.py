"""Data: nothing unverified is read, every failure is loud or shows a banner, formats are right."""

import gzip
import hashlib
import http.server
import io
import lzma
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pooch
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from lib import datasets
from lib.datasets import __main__ as command
from lib.datasets import federated, images, registry, store, text, tf_example
from lib.datasets.commits import _definitions, is_shallow, standard_library

ROOT = Path(__file__).parent.parent
DATA = os.environ.get("EXECUTABLE_PAPERS_DATA")  # before the fixture below takes it away
BYTES = b"the right bytes\n" * 100
GOOD = hashlib.sha256(BYTES).hexdigest()
real = pytest.mark.skipif(not DATA, reason="EXECUTABLE_PAPERS_DATA names no folder with real data")


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """An empty cache, no data folder, no proxy; returns the cache."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: cache / project)
    monkeypatch.delenv(store.FOLDER, raising=False)
    monkeypatch.delenv(store.OFFLINE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return cache / "executable-papers"


@pytest.fixture(scope="module")
def server():
    """A loopback server; `server.asked` lists the paths that were asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            found = self.path != "/missing"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(BYTES)))
            self.end_headers()
            if found:
                body = b"x" * len(BYTES) if self.path == "/wrong" else BYTES
                self.wfile.write(body[:50] if self.path == "/short" else body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.asked = []
        thread = threading.Thread(target=httpd.serve_forever, args=(0.05,))
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.fixture
def register(server, monkeypatch):
    """Put a dataset "toy" with one file "a.bin" into the registry, at these paths of the server."""

    def put(*paths: str, sha256: str | None = GOOD):
        server.asked.clear()
        home = f"http://127.0.0.1:{server.server_port}"
        urls = tuple(path if path.startswith("http") else home + path for path in paths)
        entry = datasets.File(len(BYTES), sha256, urls, "free")
        monkeypatch.setitem(datasets.REGISTRY, "toy", {"a.bin": entry})
        monkeypatch.setitem(registry.ABOUT, "toy", "a toy")

    return put


REFUSED = "http://127.0.0.1:1/a.bin"  # nobody listens on port 1


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_download_once_then_cache(register, server, fresh, capfd):
    register("/good")
    path = datasets.fetch("toy")["a.bin"]
    assert path.read_bytes() == BYTES and path.is_relative_to(fresh)
    assert datasets.fetch("toy")["a.bin"] == path
    assert server.asked == ["/good"]
    assert capfd.readouterr() == ("", "")


def test_mirrors_are_tried_in_turn(register, server):
    register(REFUSED, "/missing", "/wrong", "/short", "/good")
    assert datasets.fetch("toy")["a.bin"].read_bytes() == BYTES
    assert server.asked == ["/missing", "/wrong", "/short", "/good"]


@pytest.mark.parametrize(
    "path, reason",
    [
        (REFUSED, "no connection"),
        ("/missing", "HTTP 404"),
        ("/wrong", "other bytes"),
        ("/short", "broke off"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(register, fresh, path, reason):
    register(path)
    with pytest.raises(datasets.DatasetUnavailable, match=reason) as error:
        datasets.fetch("toy")
    assert "python -m lib.datasets get toy" in str(error.value)
    assert files_in(fresh) == []


def test_the_first_missing_file_ends_the_attempt(register, server, monkeypatch):
    register("/missing")
    entry = datasets.REGISTRY["toy"]["a.bin"]
    monkeypatch.setitem(datasets.REGISTRY, "toy", {"a.bin": entry, "b.bin": entry})
    with pytest.raises(datasets.DatasetUnavailable):
        datasets.fetch("toy")
    assert server.asked == ["/missing"]


def test_offline_asks_nobody_but_reads_the_cache(register, server, monkeypatch):
    register("/good")
    monkeypatch.setenv(store.OFFLINE, "1")
    with pytest.raises(datasets.DatasetUnavailable, match="EXECUTABLE_PAPERS_OFFLINE=1"):
        datasets.fetch("toy")
    assert server.asked == []
    monkeypatch.delenv(store.OFFLINE)
    datasets.fetch("toy")
    monkeypatch.setenv(store.OFFLINE, "1")
    assert datasets.fetch("toy")["a.bin"].read_bytes() == BYTES


@pytest.mark.parametrize("layout", ["toy/a.bin", "a.bin"])
def test_the_folder_comes_before_cache_and_network(register, server, tmp_path, monkeypatch, layout):
    register("/good")
    datasets.fetch("toy")
    server.asked.clear()
    copy = tmp_path / "data é" / layout
    copy.parent.mkdir(parents=True)
    copy.write_bytes(BYTES)
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "data é"))
    assert datasets.fetch("toy")["a.bin"] == copy.resolve()
    assert server.asked == []


def test_a_missing_folder_is_an_error_that_names_the_variable(register, monkeypatch, tmp_path):
    register("/good")
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="EXECUTABLE_PAPERS_DATA=.*nowhere.*not a folder"):
        datasets.fetch("toy")


@pytest.mark.parametrize("place", ["folder", "cache"])
def test_a_flipped_byte_is_never_read_or_replaced(tmp_path, monkeypatch, fresh, place):
    folder = tmp_path / "data" if place == "folder" else fresh
    (folder / "mnist").mkdir(parents=True)
    monkeypatch.setenv(store.OFFLINE, "1")
    if place == "folder":
        monkeypatch.setenv(store.FOLDER, str(folder))
    damaged = folder / "mnist" / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(b"not quite MNIST")
    hashes = hashlib.sha256(b"not quite MNIST").hexdigest(), "440fcabf73cc546f"
    for scale in ("laptop", "paper"):
        with pytest.raises(datasets.ChecksumError) as error:
            datasets.mnist(scale)
        for part in (str(damaged), *hashes, "Delete it", "get mnist"):
            assert part in str(error.value)
    with pytest.raises(datasets.ChecksumError):
        datasets.state(["mnist"])


def test_a_change_on_disk_is_noticed_within_the_process(register):
    register("/good")
    path = datasets.fetch("toy")["a.bin"]
    path.write_bytes(BYTES[:-1] + b"?")
    os.utime(path, ns=(1, 1))
    with pytest.raises(datasets.ChecksumError):
        datasets.fetch("toy")


def test_trust_on_first_use(register, fresh):
    register("/good", sha256=None)
    path = datasets.fetch("toy")["a.bin"]
    assert files_in(fresh) == ["a.bin", "a.bin.sha256"]
    assert (fresh / "toy" / "a.bin.sha256").read_text().startswith(GOOD)
    path.write_bytes(b"somebody else's bytes")
    with pytest.raises(datasets.ChecksumError, match=GOOD):
        datasets.fetch("toy")
    path.unlink()
    register("/wrong", sha256=None)
    with pytest.raises(datasets.ChecksumError, match=GOOD):
        datasets.fetch("toy")


def test_state(register):
    register("/good")
    assert datasets.state(["toy"]) == {"toy/a.bin": "absent"}
    datasets.fetch("toy")
    assert datasets.state(["toy"]) == {"toy/a.bin": GOOD}
    assert datasets.state([]) == {}
    with pytest.raises(ValueError, match="'nope' is not known: use one of mnist"):
        datasets.state(["nope"])


def test_registry_is_complete():
    for name, files in datasets.REGISTRY.items():
        assert files and registry.ABOUT[name]
        for entry in files.values():
            assert entry.licence and (entry.sha256 is None or len(entry.sha256) == 64)
            assert entry.urls or entry.sha256


# ---- scales and the banner


@pytest.mark.parametrize(
    "load",
    ["mnist", "cifar10", "shakespeare", "wikitext2", "emnist", "stackoverflow", "music"],
    ids=str,
)
def test_smoke_looks_at_nothing(load, monkeypatch, tmp_path):
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "nowhere"))
    monkeypatch.setattr(store, "fetch_file", None)
    data = getattr(datasets, load)("smoke")
    assert data.source == "embedded" and "smoke" in str(data.banner)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The standard library as a federation, made without a look at data: for three tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.FOLDER, str(tmp_path_factory.mktemp("a") / "nowhere"))
        patch.setattr(store, "fetch_file", None)
        return datasets.commits("smoke")


def test_laptop_falls_back_under_a_banner_and_paper_does_not(monkeypatch):
    monkeypatch.setenv(store.OFFLINE, "1")
    data = datasets.mnist("laptop")
    assert data.source == "embedded"
    assert repr(data.banner).startswith("FALLBACK DATA: The dataset mnist is replaced by")
    shown = data.banner._repr_html_()
    assert "admonition warning" in shown and "python -m lib.datasets get mnist" in shown
    assert "<b>" not in datasets.Banner("<b>")._repr_html_()
    with pytest.raises(datasets.DatasetUnavailable, match="get mnist"):
        datasets.mnist("paper")
    with pytest.raises(ValueError, match="scale='huge'"):
        datasets.mnist("huge")


# ---- pictures


def test_read_idx(tmp_path):
    wanted = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    head = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])
    good, bad = tmp_path / "good.gz", tmp_path / "bad.gz"
    good.write_bytes(gzip.compress(head + wanted.tobytes()))
    np.testing.assert_array_equal(images.read_idx(good), wanted)
    for wrong in (head + b"short", b"", b"\0\0\x0d\1" + head):
        bad.write_bytes(gzip.compress(wrong))
        with pytest.raises(ValueError, match="bad.gz is not an idx file"):
            images.read_idx(bad)


def test_digits_stand_in_for_mnist_and_cifar10():
    small, large = datasets.mnist("smoke"), datasets.cifar10("smoke")
    assert small.train_x.shape == (1500, 8, 8) and small.test_x.shape == (297, 8, 8)
    assert small.train_x.dtype == small.train_y.dtype == np.uint8 and small.train_x.max() == 255
    assert set(small.test_y) == set(range(10))
    assert large.train_x.shape == (1500, 32, 32, 3)
    np.testing.assert_array_equal(large.train_x[:, ::4, 1::4, 2], small.train_x)


def test_read_cifar(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (6, 3072), np.uint8)

    def batch(i: int) -> bytes:
        return pickle.dumps({b"data": rows[i : i + 1], b"labels": [i]}, protocol=2)

    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(batch(i))
            archive.addfile(member, io.BytesIO(batch(i)))
    data = images.read_cifar(path)
    assert data.train_x.shape == (5, 32, 32, 3) and list(data.train_y) == [0, 1, 2, 3, 4]
    assert data.test_x[0, 3, 7, 2] == rows[5, 2 * 1024 + 3 * 32 + 7] and list(data.test_y) == [5]


# ---- text

PLAY = """\tA PLAY OF TWO


\tDRAMATIS PERSONAE

ANNA\ta queen.

SCENE\tA wood.

\tA PLAY OF TWO

ACT I

SCENE I\tThe same.

\t[Enter ANNA and
\tBERT]

ANNA\tFirst line
\tsecond line [Aside] ends
\t[A noise]
\tthird line

BERT
OF YORK\t                  A shared verse.

\tA PLAY OF TWO

SCENE II\tAnother part.
\tof the wood

BERT
OF YORK\t[Singing]
\tA song

LOUD-VOICE\tAnd
\tagain
Fool:\tonce
"""


def test_lines_by_role():
    assert text.lines_by_role(PLAY) == {
        "ANNA": ["First line", "second line  ends", "third line"],
        "BERT OF YORK": ["A shared verse.", "A song"],
    }


@pytest.mark.parametrize("lines, test", [(2, 1), (3, 1), (5, 1), (9, 2), (10, 2)])
def test_the_last_fifth_of_the_lines_is_for_testing(lines, test):
    data = text.split_lines({"A": [str(i) for i in range(lines)]}, None)
    assert bytes(data.test[0]).count(b"\n") == test
    assert bytes(data.train[0]) + bytes(data.test[0]) == b"".join(b"%d\n" % i for i in range(lines))


def test_encode_sequences_by_hand():
    texts = [np.frombuffer(t, np.uint8) for t in (b"abca", b"", b"b")]
    symbols = datasets.alphabet(texts)
    assert bytes(symbols) == b"abc"
    found = datasets.encode_sequences(texts, 3, symbols)
    np.testing.assert_array_equal(found.x, [[3, 0, 1], [2, 0, 0], [3, 1, 0]])
    np.testing.assert_array_equal(found.y, [[0, 1, 2], [0, 4, -1], [1, 4, -1]])
    np.testing.assert_array_equal(found.group, [0, 0, 2])
    whole = datasets.encode_sequences(texts, 3)
    assert whole.x.max() == 256 and whole.y.max() == 257
    with pytest.raises(ValueError, match="byte b'c', which symbols lacks"):
        datasets.encode_sequences(texts, 3, symbols[:2])
    with pytest.raises(ValueError, match="unroll=0"):
        datasets.encode_sequences(texts, 0)


def test_help_topics_stand_in_for_shakespeare():
    data = datasets.shakespeare("smoke")
    assert len(data.names) == len(data.train) == len(data.test) >= 70
    assert min(map(len, data.train)) > 0 and min(map(len, data.test)) > 0


def test_help_topics_stand_in_for_wikitext():
    from pydoc_data.topics import topics

    data = datasets.wikitext2("smoke")
    train, test = bytes(data.train).decode(), bytes(data.test).decode()
    assert data.train.dtype == data.test.dtype == np.uint8
    assert len(train) + len(test) == sum(map(len, topics.values()))
    sides = np.array([[said in train, said in test] for said in topics.values()])
    assert sides.any(1).all() and sides[:, 1].sum() >= len(topics) // 5
    assert sides.all(1).sum() <= 2, "on both sides: if and else alone, which share one text"
    assert "every fifth topic" in str(data.banner)


def test_words_by_hand():
    said = ["The cat's the CAT.\n", "the dog\n", "\n"], ["A dog, the cat's\n", "bird\n", "--\n"]
    parts = ([np.frombuffer(t.encode(), np.uint8) for t in part] for part in said)
    data = datasets.TextData(["a", "b", "c"], *parts, "real", None)
    found = datasets.words(data, most=3, length=3)
    assert found.vocabulary == ["<pad>", "<bos>", "<eos>", "<oov>", "the", "cat", "cat's"]
    np.testing.assert_array_equal(found.train.x, [[1, 4, 6], [4, 5, 0], [1, 4, 3]])
    np.testing.assert_array_equal(found.train.y, [[4, 6, 4], [5, 2, -1], [4, 3, 2]])
    np.testing.assert_array_equal(found.train.group, [0, 0, 1])
    np.testing.assert_array_equal(found.test.x, [[1, 3, 3], [4, 6, 0], [1, 3, 0]])
    np.testing.assert_array_equal(found.test.y, [[3, 3, 4], [6, 2, -1], [3, 2, -1]])
    for wrong in ({"most": 0}, {"most": 40_000}, {"length": 0}):
        with pytest.raises(ValueError, match="=".join(str(x) for x in [*wrong, *wrong.values()])):
            datasets.words(data, **wrong)
    with pytest.raises(ValueError, match="no words"):
        datasets.words(data._replace(test=data.test[2:]))


def test_words_of_the_help_topics():
    data = datasets.shakespeare("smoke")
    found = datasets.words(data, most=500)
    assert len(found.vocabulary) == 504 and found.banner is data.banner
    assert found.train.x.shape[1] == 20 and found.train.x.max() == 503
    assert set(found.train.group) == set(found.test.group) == set(range(len(data.names)))
    ranks = np.bincount(found.train.y[found.train.y > 3])[4:]
    assert (np.diff(ranks) <= 0).all() and ranks[-1] > 0


# ---- commits, and Python's own code in their place

git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
MESSAGES = [  # author, message, files that it writes, in order of time
    ("zeb", "Add the core\n\nLike don't_repeat", ["lib/core/deep/down/x.rb", "README"]),
    ("ann", 'Fix "quoted"\tcore; the\n\n/\n/lib\n\x01', ["lib/core/deep/down/x.rb", "lib/a b"]),
    ("ann", "Größe: the naïve fix 漢字 bug", ["lib/ünï/'q\"/x", "docs/new\nline/y"]),
    ("ZEB", "The docs\n\nSigned-off-by: Zebulon Q <zeb@mail.example>", ["docs/new\nline/y"]),
    ("ann", "By cc zeb@mail.example fix", ["docs/z"]),
    ("bob", "The fix of a bug", ["lib/core/deep/z"]),
    ("eve", "42", ["docs/z"]),
]


def in_git(folder: Path, *arguments: str, author: str = "eve", at: int = 0) -> str:
    date = f"{1_600_000_000 + 3600 * at} +0000"
    who = {"NAME": "Zebulon Quagmire", "EMAIL": f"{author}@mail.example", "DATE": date}
    env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
    command = ["git", "-c", "init.defaultBranch=main", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with the commits MESSAGES, then a rename, an empty commit and a merge."""
    folder = tmp_path / "our clone"
    folder.mkdir()
    in_git(folder, "init")
    for at, (author, message, files) in enumerate(MESSAGES):
        for file in files:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{at}")
        in_git(folder, "add", ".")
        in_git(
            folder, "commit", "-m", message, author=author, at=max(at, 2)
        )  # the first three at once
    in_git(folder, "checkout", "-b", "side", "HEAD~1")
    in_git(folder, "mv", "lib/core/deep/z", "docs/moved")
    in_git(folder, "commit", "-m", "the moved bug", author="eve", at=20)
    in_git(folder, "commit", "--allow-empty", "-m", "the empty one", at=21)
    in_git(folder, "checkout", "main")
    in_git(folder, "merge", "side", "-m", "the merge core core", author="max", at=22)
    return folder


def sets(data: datasets.BagData) -> list[tuple[str, set[str], set[str]]]:
    """Author, words and tags of each document."""
    return [
        (
            data.names[data.author[i]],
            {data.vocab[w] for w in data.tokens[data.tok_ptr[i] : data.tok_ptr[i + 1]]},
            {data.tag_names[t] for t in data.tags[data.tag_ptr[i] : data.tag_ptr[i + 1]]},
        )
        for i in range(len(data.author))
    ]


@git
def test_commits_of_a_clone_by_hand(clone, tmp_path):
    data = datasets.build_commits([clone], tmp_path / "c.npz", depth=2, least_commits=2)
    assert sets(data) == [
        ("author 0", {"the", "core"}, {"lib/core"}),
        ("author 1", {"fix", "the", "core"}, {"lib/core"}),
        ("author 1", {"the", "fix", "bug"}, {"docs/new\nline"}),
        ("author 0", {"the"}, {"docs/new\nline"}),
        ("author 1", {"fix"}, {"docs"}),
        ("author 2", {"the", "fix", "bug"}, {"lib/core"}),
        ("author 3", {"the", "bug"}, {"docs", "lib/core"}),
    ]
    assert data.vocab == ["the", "fix", "bug", "core"]
    assert data.tag_names == ["lib/core", "docs", "docs/new\nline"]
    assert data.tokens.dtype == data.author.dtype == np.uint16 and data.tags.dtype == np.uint8


@git
def test_commits_agree_with_scikit_learn_and_git(clone, tmp_path):
    data = datasets.build_commits([clone], tmp_path / "c.npz", least_commits=1, least_df=1)
    for tag, count in zip(data.tag_names, np.bincount(data.tags), strict=True):
        inside = ":(glob)*" if tag == "." else f":(glob){tag}/" + "*" * (1 + (tag.count("/") == 3))
        count_commits = ("rev-list", "--count", "--no-merges", "--full-history", "HEAD", "--")
        wordless = tag == "docs"  # "42" is not counted
        assert int(in_git(clone, *count_commits, inside)) - wordless == count
    messages = [message for _, message, _ in MESSAGES] + ["the moved bug"]
    plain = [m.partition("\n\nSigned")[0].replace("zeb@mail.example", "") for m in messages]
    vectorizer = CountVectorizer(binary=True, token_pattern="[a-z_][a-z_']+")
    wanted = vectorizer.fit_transform(plain)
    wanted = wanted[np.flatnonzero(wanted.getnnz(axis=1))].toarray()
    found = np.zeros_like(wanted)
    found[np.repeat(np.arange(len(found)), np.diff(data.tok_ptr)), data.tokens] = 1
    order = [vectorizer.vocabulary_[word] for word in data.vocab]
    np.testing.assert_array_equal(found, wanted[:, order])


@git
def test_a_file_of_commits_names_nobody_and_is_the_same_again(clone, tmp_path, capsys):
    options = ["--depth", "2", "--least-commits", "1", "--least-df", "1"]
    first, again = tmp_path / "first.npz", tmp_path / "again.npz"
    assert command.main(["build-commits", str(clone), "--out", str(first), *options]) == 0
    assert f"{first}: 7 commits of 4 authors" in capsys.readouterr().out
    env = os.environ | {"PYTHONHASHSEED": "7", "GIT_DIR": "nowhere"}
    run = [sys.executable, "-m", "lib.datasets", "build-commits", clone, "--out", again, *options]
    subprocess.run(run, cwd=ROOT, env=env, check=True, capture_output=True)
    assert first.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}  # no time of day
    with np.load(first) as file:
        everything = b"".join(file[name].tobytes() for name in file).replace(b"\0", b"")
        assert list(file) == "tokens tok_ptr tags tag_ptr author vocab tag_names".split()
    assert b"core" in everything
    for secret in (b"@", b"zeb", b"mail", b"example", b"quagmire", b"signed"):
        assert secret not in everything.lower()
    data = datasets.read_commits(first)
    assert data.source == "real" and data.banner is None
    built = datasets.build_commits([clone], again, depth=2, least_commits=1, least_df=1)
    assert datasets.fingerprint(data) == datasets.fingerprint(built)
    assert datasets.fingerprint(data) != datasets.fingerprint(data._replace(author=data.tags[:7]))


@git
def test_clones_are_merged_in_order_of_time(clone, tmp_path):
    other = tmp_path / "other.git"
    in_git(tmp_path, "clone", "--bare", str(clone), str(other))
    data = datasets.build_commits([clone, other], tmp_path / "c.npz", depth=1, least_commits=4)
    assert data.tag_names == [f"{n}/{d}" for d in ("lib", "docs") for n in ("other", "our clone")]
    assert len(data.author) == 14 and len(data.names) == 4
    np.testing.assert_array_equal(data.author[:3], data.author[3:6])  # three of one second
    np.testing.assert_array_equal(data.author[6::2], data.author[7::2])


@git
def test_what_cannot_be_built_is_one_line(clone, tmp_path, capsys, monkeypatch):
    copy, shallow = tmp_path / "copy" / "our clone", tmp_path / "shallow"
    in_git(tmp_path, "clone", str(clone), str(copy))
    in_git(tmp_path, "clone", "--depth", "1", f"file://{clone}", str(shallow))
    (tmp_path / "empty").mkdir()
    (tmp_path / "chinese").mkdir()
    in_git(tmp_path / "chinese", "init")
    in_git(tmp_path / "chinese", "commit", "--allow-empty", "-m", "漢字")
    out = str(tmp_path / "c.npz")
    cases = [
        ([tmp_path / "empty"], [], "cannot be read as a git repository: fatal: not a git"),
        ([tmp_path / "nowhere"], [], "cannot be read as a git repository: fatal: cannot change"),
        ([tmp_path / "chinese"], [], "['chinese'] have no commit with both files and words"),
        ([clone / "lib"], [], "lies inside a clone: name the clone's top folder"),
        ([clone, copy], [], "need different names: rename a folder"),
        ([clone], [], "least_commits=50 leaves no directory, as at most 2 commits"),
        ([clone], ["--least-commits", "1", "--least-df", "9"], "least_df=9 leaves no word"),
        ([clone], ["--depth", "0"], "depth=0 must be at least 1"),
        ([clone], ["--out", str(tmp_path / "no" / "c.npz")], "a folder that does not exist"),
        ([clone], ["--least-commits", "1", "--out", str(tmp_path)], "Is a directory"),
    ]
    for clones, options, reason in cases:
        assert command.main(["build-commits", *map(str, clones), "--out", out, *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and reason in line
    assert not [p for p in tmp_path.iterdir() if "npz" in p.name or p.name.endswith(".part")]
    assert not is_shallow(clone)
    command.main(["build-commits", str(shallow), "--out", out, "--least-commits", "1"])
    assert "is a shallow clone" in capsys.readouterr().err.splitlines()[0]
    monkeypatch.setenv("PATH", "")
    assert command.main(["build-commits", str(clone), "--out", out]) == 2
    assert capsys.readouterr().err.startswith("error: git is not installed")


def test_other_files_are_not_commits(tmp_path):
    np.savez(tmp_path / "other.npz", tokens=np.arange(3))
    np.save(tmp_path / "array.npy", np.arange(3))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("other.npz", "array.npy", "text.npz"):
        with pytest.raises(ValueError, match=f"{name} is not a file of commits"):
            datasets.read_commits(tmp_path / name)


def test_words_and_tags_of_a_function():
    source = b'''
import os.path as paths, re
from json import dumps
from .near import helper

class HTTPServer(Base):
    """Serve Pages."""

    def send_page(self, page_name, *, maxSize=4):
        """Send one page, or don't."""
        def inner(x1):
            return print(x1, sep=paths.sep)
        import zlib
        for match in re.finditer(page_name, self.text):
            helper(zlib.crc32(dumps(match).encode()))
'''
    server, send, inner = _definitions(source)
    assert server == ({"http", "server", "base", "serve", "pages"}, set())
    assert inner == ({"inner", "sep"}, {"print()", "os"})
    assert send[0] == set("send page self name max size one or don match text".split())
    assert send[1] == {"finditer()", "helper()", "crc32()", "dumps()", "encode()"} | {
        "re",
        "zlib",
        "json",
    }


@pytest.mark.xdist_group("library")
def test_the_standard_library_is_a_federation(library):
    data = library
    assert data.source == "embedded" and "smoke" in str(data.banner)
    documents = np.bincount(data.author, minlength=len(data.names))
    words, tags = np.bincount(data.tokens), np.bincount(data.tags)
    assert 150 < len(data.names) < 600 and 4000 < len(data.author) < 15_000
    assert 2500 < len(data.vocab) < 12_000 and 60 <= len(data.tag_names) <= 200
    assert {"len()", "isinstance()", "os", "sys"} <= set(data.tag_names)
    assert {"json.decoder", "argparse", "collections"} <= set(data.names)
    assert documents.min() >= 1 and documents.max() > 8 * np.median(documents)
    assert len(words) == len(data.vocab) and len(tags) == len(data.tag_names)
    assert tags.min() >= 30 and tags.max() > 10 * np.median(tags)
    assert words[: len(words) // 10].sum() > 0.6 * words.sum()  # heavy-tailed, as in any language
    assert np.diff(data.tok_ptr).min() >= 1 and np.diff(data.tag_ptr).min() >= 1
    assert 1.5 < np.diff(data.tag_ptr).mean() < 5 < np.diff(data.tok_ptr).mean() < 40


def test_a_federation_does_not_depend_on_how_strings_are_hashed(monkeypatch, tmp_path):
    """For a part of the standard library, which is read twice."""
    for path in sorted(Path(os.__file__).parent.glob("[a-f]*.py")):
        shutil.copy(path, tmp_path)
    code = (
        "import sysconfig; from lib.datasets.commits import fingerprint, standard_library; "
        f"sysconfig.get_paths = lambda: {{'stdlib': {str(tmp_path)!r}}}; "
        "print(fingerprint(standard_library(None)))"
    )
    env = os.environ | {"PYTHONHASHSEED": "11"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    assert done.stdout.strip() == datasets.fingerprint(standard_library(None))


def test_a_python_without_sources_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(ValueError, match="has no source files"):
        standard_library(None)


@pytest.mark.xdist_group("library")
def test_authors_are_held_out(library):
    data = library
    split = datasets.split_authors(data, 3, least=10, most_test=300)
    testers = set(data.author[split.test])
    assert len(split.test) == len(set(split.test)) == 300 and (np.diff(split.test) > 0).all()
    assert not testers & set(split.authors)
    for author, documents in zip(split.authors, split.train, strict=True):
        np.testing.assert_array_equal(documents, np.flatnonzero(data.author == author))
        assert len(documents) >= 10
    everyone = datasets.split_authors(data, 3, least=1, most_test=10**6)
    assert len(everyone.authors) == len(data.names) - len(data.names) // 5
    assert len(everyone.test) + sum(map(len, everyone.train)) == len(data.author)
    for wrong in ({"held_out": 0.0}, {"held_out": 1.0}, {"least": 10**6}):
        with pytest.raises(ValueError, match="take a longer history"):
            datasets.split_authors(data, 0, **wrong)


# ---- databases of clients


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size, head = len(value), b""
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + value


def example(**features: bytes) -> bytes:
    entries = (field(1, field(1, k.encode()) + field(2, v)) for k, v in features.items())
    return field(1, b"".join(entries))


def strings(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, v) for v in values))


def archive_of(path: Path, rows: list[tuple[str, str, bytes]]) -> Path:
    """A database in the format of TensorFlow Federated, packed."""
    database = path.with_suffix(".sqlite")
    connection = sqlite3.connect(database)
    connection.execute(
        "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
        "serialized_example_proto BLOB NOT NULL)"
    )
    connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    path.write_bytes(lzma.compress(database.read_bytes(), lzma.FORMAT_ALONE))
    return path


def test_emnist_from_a_database(tmp_path, monkeypatch, fresh):
    def picture(label: int, ink: float) -> bytes:
        pixels = np.full(784, 1 - ink, "<f4").tobytes()
        return example(pixels=field(2, field(1, pixels)), label=field(3, field(1, bytes([label]))))

    rows = [
        ("all_train", "w2", picture(61, 1.0)),
        ("all_train", "w1", picture(3, 0.0)),
        ("all_test", "w2", picture(7, 0.5)),
        ("digits_only_train", "w1", picture(3, 0.0)),
    ]
    archive_of(tmp_path / federated.EMNIST, rows)
    monkeypatch.setenv(store.FOLDER, str(tmp_path))
    data = datasets.emnist("paper")
    assert data.names == ["w1", "w2"] and data.source == "real"
    assert list(data.train_y) == [3, 61] and list(data.train_writer) == [0, 1]
    assert data.train_x[0].max() == 0 and data.train_x[1].min() == 255
    assert list(data.test_writer) == [1] and data.test_x[0, 5, 5] == 128
    with pytest.raises(ValueError, match="split='digits_only_test' is not in"):
        datasets.emnist("paper", only_digits=True)
    kept = files_in(fresh)
    assert f"{federated.EMNIST}.sha256" in kept and not any(k.endswith(".part") for k in kept)


def test_posts_from_a_database(tmp_path, monkeypatch):
    def post(tokens: bytes, tags: bytes) -> bytes:
        return example(tokens=strings(tokens), tags=strings(tags), score=field(3, b"\x08\x05"))

    rows = [
        ("train", "b", post(b"how do i", b"python|numpy")),
        ("train", "a", post(b"like this", b"c")),
        ("train", "b", post(b"x" * 300, b"c")),
        ("test", "z", post(b"?", b"d")),
    ]
    archive_of(tmp_path / federated.STACKOVERFLOW, rows)
    monkeypatch.setenv(store.FOLDER, str(tmp_path))
    data = datasets.stackoverflow("paper")
    assert data.names == ["a", "b"] and data.posts[1] == ["how do i", "x" * 300]
    assert data.tags == [[("c",)], [("python", "numpy"), ("c",)]]
    assert datasets.stackoverflow("paper", authors=1).names == ["a"]
    assert datasets.stackoverflow("laptop", split="test").posts == [["?"]]


def test_integers_of_protocol_buffers():
    minus_one = b"\xff" * 9 + b"\x01"
    packed = tf_example.parse_example(example(n=field(3, field(1, b"\x96\x01" + minus_one))))
    assert list(packed["n"]) == [150, -1]  # 150 = 96 01: the example of the format's own manual
    single = tf_example.parse_example(example(n=field(3, b"\x08\x96\x01\x08" + minus_one)))
    assert list(single["n"]) == [150, -1]
    with pytest.raises(ValueError, match="wire type 7"):
        tf_example.fields(b"\x0f")


# ---- command line


def test_get_skips_what_is_there(register, server, capsys):
    register("/good")
    assert command.main(["get", "toy"]) == 0 and command.main(["get", "toy"]) == 0
    assert server.asked == ["/good"] and "toy/a.bin" in capsys.readouterr().out


def test_get_fails_in_one_line_for_each_dataset(register, capsys):
    register(REFUSED)
    assert command.main(["get", "toy", "commits"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["toy/a.bin", "commits/rails_commits.npz"]


def test_unknown_names_and_folders_are_one_line(register, capsys, monkeypatch, tmp_path):
    register("/good")
    assert command.main(["get", "toy", "nope"]) == 2
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "nowhere"))
    assert command.main(["list"]) == 2
    get, listing = capsys.readouterr().err.splitlines()
    assert "'nope' is not known: use one of mnist" in get
    assert listing.startswith("error: EXECUTABLE_PAPERS_DATA=")


def test_list_and_verify(register, capsys):
    register("/good")
    assert command.main(["list"]) == 0 and command.main(["verify"]) == 0
    assert "toy/a.bin: not here" in capsys.readouterr().out
    datasets.fetch("toy")["a.bin"].write_bytes(b"changed")
    assert command.main(["verify"]) == 1
    assert "toy" in capsys.readouterr().err


def test_command_without_network_or_data(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("EXECUTABLE_PAPERS_")}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), store.OFFLINE: "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lib.datasets", "get"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "EXECUTABLE_PAPERS_OFFLINE=1 forbids downloads" in done.stderr


# ---- the real data, where it is at hand


@real
def test_real_mnist(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    data = datasets.mnist("laptop")
    assert data.source == "real" and data.banner is None
    assert data.train_x.shape == (60000, 28, 28) and data.test_x.shape == (10000, 28, 28)
    assert list(data.train_y[:5]) == [5, 0, 4, 1, 9] and list(data.test_y[:3]) == [7, 2, 1]
    assert np.bincount(data.train_y).tolist()[:3] == [5923, 6742, 5958]


@real
def test_real_shakespeare_is_close_to_the_papers(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    data = datasets.shakespeare("paper")
    found = np.array([len(data.names), sum(map(len, data.train)), sum(map(len, data.test))])
    np.testing.assert_allclose(found, [1146, 3_564_579, 870_014], rtol=0.07)  # section 3
    assert list(found) == [1203, 3_323_601, 841_552]  # the file is pinned, so these are, too
    assert bytes(data.train[data.names.index("hamlet: HAMLET")]).startswith(b"A little more than")
    assert not any(name.startswith("allswell") for name in data.names)


@real
def test_real_music(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    data = datasets.music("paper")
    minutes = sum(map(len, data.audio)) / 8000 / 60
    assert data.source == "real" and data.banner is None
    assert len(data.names) == 16 and data.names[0] == "a-new-journey" and 63 < minutes < 65


@real
def test_real_wikitext(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    data = datasets.wikitext2("paper")
    assert data.source == "real" and data.banner is None
    said = [bytes(part).decode() for part in (data.train, data.test)]
    # as published: Merity et al. (2017), Table 1, where the end of a line is a word, too
    words = [len(part.split()) + part.count("\n") for part in said]
    assert words == [217_646, 245_569]


@real
def test_real_files_are_those_of_the_registry(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    here = datasets.state([name for name in datasets.REGISTRY if name != "toy"])
    for key, found in here.items():
        name, file = key.split("/", 1)
        if found != "absent":
            assert store.find(name, file).stat().st_size == datasets.REGISTRY[name][file].size


@real
def test_real_commits(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    data = datasets.commits("paper")
    sizes = np.bincount(data.author)
    assert data.source == "real" and len(data.author) == 62_387 and len(data.names) == 6596
    assert (
        len(data.vocab) == 17_983 and len(data.tag_names) == 220 and len(data.tokens) == 1_084_314
    )
    assert (sizes >= 5).sum() == 947 and sizes[sizes >= 5].sum() == 53_933
    split = datasets.split_authors(data, 0)
    assert len(split.authors) == 765 and len(split.test) == 4000


@real
def test_real_words_of_shakespeare(monkeypatch):
    monkeypatch.setenv(store.FOLDER, DATA)
    found = datasets.words(datasets.shakespeare("paper"))
    known = [(part.y >= 0).sum() for part in (found.train, found.test)]
    assert len(found.vocabulary) == 10_004 and found.vocabulary[4:7] == ["the", "and", "i"]
    assert 750_000 < sum(known) < 820_000
    assert (found.train.y == text.UNKNOWN).sum() < 0.05 * known[0]
