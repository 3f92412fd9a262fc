"""Every file of data that a chapter may use: size, checksum, mirrors, licence."""

from __future__ import annotations

from typing import NamedTuple


class File(NamedTuple):
    """One file: bytes, sha256 (None: trusted on first use), mirrors in order, licence."""

    size: int | None
    sha256: str | None
    urls: tuple[str, ...]
    licence: str


def _mnist(name: str, size: int, sha256: str) -> tuple[str, File]:
    mirrors = (
        f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}",
        f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}",
        f"https://raw.githubusercontent.com/fgnt/mnist/master/{name}",
    )
    return name, File(size, sha256, mirrors, "CC BY-SA 3.0")


def _tff(name: str, licence: str) -> tuple[str, File]:
    # TensorFlow Federated publishes neither size nor checksum of these archives.
    url = f"https://storage.googleapis.com/tff-datasets-public/{name}"
    return name, File(None, None, (url,), licence)


def _wikitext(name: str, size: int, sha256: str) -> tuple[str, File]:
    url = (
        "https://raw.githubusercontent.com/pytorch/examples/main/"
        f"word_language_model/data/wikitext-2/{name}"
    )
    return name, File(size, sha256, (url,), "CC BY-SA 3.0")


def _music(name: str, size: int, sha256: str) -> tuple[str, File]:
    return f"{name}.ogg", File(size, sha256, (), "CC BY-SA 3.0")


ABOUT = {
    "mnist": "70,000 handwritten digits, 28 x 28 pixels",
    "shakespeare": "36 plays of the Moby edition, by speaking role; and char-rnn's 1 MB excerpt",
    "cifar10": "60,000 colour photographs of 10 kinds, 32 x 32 pixels",
    "emnist": "handwritten characters of 3,400 known writers (TensorFlow Federated)",
    "stackoverflow": "questions and answers by author (TensorFlow Federated; many GB unpacked)",
    "commits": "62,387 commits of Ruby on Rails: words, directories, authors pseudonymised",
    "wikitext2": "validation and test text of WikiText-2",
    "music": "sixteen pieces by Max McCracken, mono, 8 kHz",
    "tradeoffs": "real replies of eight language models, which the tests of the reply parser read",
}

REGISTRY: dict[str, dict[str, File]] = {
    "mnist": dict(
        [
            _mnist(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _mnist(
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            _mnist(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            _mnist(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ]
    ),
    "shakespeare": {
        "moby_shakespeare_plays.tar.xz": File(
            1_623_016,
            "6617575929de2be3071c4e7c8e3bcac30df0b9a33d46897984d6ae67a98174d3",
            (),
            "public domain",
        ),
    },
    "cifar10": {
        "cifar-10-python.tar.gz": File(
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            "free for research, cite Krizhevsky (2009)",
        ),
    },
    "emnist": dict([_tff("emnist_all.sqlite.lzma", "public domain (NIST)")]),
    "stackoverflow": dict([_tff("stackoverflow.sqlite.lzma", "CC BY-SA 3.0")]),
    "commits": {
        "rails_commits.npz": File(
            1_929_017,
            "bec9ae390364bd9ee1bc1b8ecaceab9fa14a13b93136c84f1a190f9c90f42a5d",
            (),
            "MIT",
        ),
    },
    "wikitext2": dict(
        [
            _wikitext(
                "valid.txt",
                1_121_681,
                "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            ),
            _wikitext(
                "test.txt",
                1_256_449,
                "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            ),
        ]
    ),
    "music": dict(
        [
            _music(
                "a-new-journey",
                950_542,
                "877e3f2e1c0d94e2b2917835e5b188ca0630bdb0837ed579834a89802f545ee3",
            ),
            _music(
                "aberrations",
                861_365,
                "2e393ecd4045b301390026c5e3d620067c0da8369f9bc029b1694c05a63fa7c0",
            ),
            _music(
                "advanced-simulacra",
                926_724,
                "f6d13c037b13ebffe46402dbc24a5065a4ad8b02d8448ac88aa8d56413b06ee0",
            ),
            _music(
                "apex-aleph",
                301_189,
                "d0ea81c22c6decdccd126ed93b2d82fc23372cdb064f7012c4a8af49c95acdfe",
            ),
            _music(
                "awakening",
                613_299,
                "49293b3691d80620f2e4fd6ae7fe873cbdae3d7fd2465f5bb44d3cb5c072a4a9",
            ),
            _music(
                "by-product",
                863_277,
                "f94c063e757e38ec144d4d18c91667a84cf8f23dceec16c40dc96a860497c220",
            ),
            _music(
                "chimes-they-fade",
                120_720,
                "a7b765b4a432c0dc5563e1e75beb06e4398f5d7a5c95626c5a2db3b32360af20",
            ),
            _music(
                "coherence",
                663_414,
                "c6fc245bdc565d932f947af4d63e79d4cdfcb27fb443e1e5901e68833f797241",
            ),
            _music(
                "deprecation",
                820_461,
                "b9e2d1eb869425c74547cf0d4c6fe16688010908ffdb07187afb13ba55fb911a",
            ),
            _music(
                "enemy-unknown",
                779_947,
                "9d71061350031b74a9a43594703c4bf78493c64c2dd661c49cfe929b92b9cb7f",
            ),
            _music(
                "inevitable",
                749_707,
                "fc43ebab18b2ffbc97df66cc38106ddb565888318bde16994aa64948a155f6b1",
            ),
            _music(
                "march-thee-to-dis",
                122_984,
                "a1b1f249c1d76c722e9c932064d5f902517b269be2445a93487e87e78e7b1927",
            ),
            _music(
                "media-threat",
                1_097_819,
                "9d870937340a8a7b9c86c5c285389d6ac38db42ae5741e280726f16c249a20b2",
            ),
            _music(
                "nebula",
                962_837,
                "dea30b923593814353e3881b4bc450d5577e3ae6b37582c8390f1e75a04f091a",
            ),
            _music(
                "orbital-elevator",
                725_490,
                "e2b97bc7798132a4ac9ed946f20c82bacc4fcb0114f1dac9da575339a8fb1d23",
            ),
            _music(
                "through-space",
                693_587,
                "37fdd23c827bd56e62bcfb0d22d249f9af5d0248e09803b8c416b060290b9072",
            ),
        ]
    ),
    "tradeoffs": {
        "parser_corpus.jsonl": File(
            63_852,
            "b9d1eacdcfa910596e129bf9f4e4235c787b23b1355c0184f87de5e036c127e8",
            (),
            "MIT",
        ),
    },
}
