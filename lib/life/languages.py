"""The languages of the soups, as data: what each byte does."""

from __future__ import annotations

from dataclasses import dataclass

# what an instruction does to the heads, to the tape and to the instruction pointer, in one u32:
FROM_HEAD1, TO_HEAD1, OPEN, CLOSE = 1, 2, 4, 8  # the flags; the others are added to
HEAD0, HEAD1, VALUE = 1 << 8, 1 << 16, 1 << 24  # the read head, the write head, the cell
EFFECT = {
    "<": 127 * HEAD0,  # −1 mod 128
    ">": HEAD0,
    "{": 127 * HEAD1,
    "}": HEAD1,
    "-": 255 * VALUE,  # −1 mod 256
    "+": VALUE,
    ".": TO_HEAD1,
    ",": FROM_HEAD1,
    "[": OPEN,
    "]": CLOSE,
    "⊲": FROM_HEAD1 + HEAD1,  # of bff_selfmove: copy to head 0, then move head 1 on
}


@dataclass(frozen=True)
class Bff:
    """A language of the Brainfuck family (Section 2): one tape, two heads, ten instructions.

    `codes` says which symbol each instruction byte stands for. Heads and instruction pointer start
    at 0, or, with `heads_on_tape`, the heads at what bytes 0 and 1 say and the pointer at 2. A loop
    tests whether `byte & null` is 0. A jump goes to the matching bracket, or `jump` bytes far.
    """

    name: str
    codes: tuple[tuple[int, str], ...]
    heads_on_tape: bool = False
    null: int = 255
    jump: int | None = None

    @property
    def effects(self) -> tuple[int, ...]:
        """For each of the 256 bytes its effect, 0 for one that is no instruction."""
        symbol = dict(self.codes)
        return tuple(EFFECT[symbol[b]] if b in symbol else 0 for b in range(256))

    @property
    def symbols(self) -> tuple[str, ...]:
        """For each of the 256 bytes the instruction that it is, or ""."""
        symbol = dict(self.codes)
        return tuple(symbol.get(b, "") for b in range(256))


@dataclass(frozen=True)
class Forth:
    """A stack machine (Section 3.1): bytes below 0x40 are `words`, 0x40 and up constants and jumps.

    With `reset`, a write to a cell of the second program that holds 0x13 replaces the first program
    by random bytes instead.
    """

    name: str
    words: tuple[str, ...]
    reset: bool = False

    @property
    def symbols(self) -> tuple[str, ...]:
        constants = tuple(str(c) for c in range(64))
        jumps = tuple(f"+{d}" for d in range(1, 65)) + tuple(f"-{d}" for d in range(1, 65))
        return self.words + ("",) * (64 - len(self.words)) + constants + jumps


@dataclass(frozen=True)
class Subleq:
    """Subtract and branch if not positive (Section 3.2); `relative` is RSUBLEQ4."""

    name: str
    relative: bool = False

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(f"{b:02X}" for b in range(256))


Language = Bff | Forth | Subleq

_ASCII = tuple((ord(symbol), symbol) for symbol in "<>{}-+.,[]")
_NIBBLE = tuple((b, "[]+-.,<>{}"[b % 16 - 6]) for b in range(256) if b % 16 >= 6)
_ARITHMETIC = ("dup", "drop", "swap", "if0", "inc", "dec", "add", "sub")
_TWO_SPACES = ("read0", "read1", "write0", "write1", *_ARITHMETIC)

LANGUAGES: dict[str, Language] = {
    language.name: language
    for language in (
        Bff("bff_noheads", _ASCII),
        Bff("bff", _ASCII, heads_on_tape=True),
        Bff("bff_noheads_4bit", _NIBBLE, null=15),
        Bff("bff8", _ASCII, heads_on_tape=True, jump=8),
        Bff("bff8_noheads", _ASCII, jump=8),
        Bff("bff_perm", tuple(enumerate("<>{}+-.,[]", start=1)), heads_on_tape=True),
        Bff("bff_selfmove", tuple(enumerate("><+-⊲[]")), heads_on_tape=True),
        Forth("forth", _TWO_SPACES),
        Forth("forthtrivial", (*_TWO_SPACES, "copy0", "copy1")),
        Forth("forthcopy", ("read", "write", "copy", "xor", *_ARITHMETIC)),
        Forth("forthtrivial_reset", (*_TWO_SPACES, "copy0", "copy1"), reset=True),
        Subleq("subleq"),
        Subleq("rsubleq4", relative=True),
    )
}


def language(name: str) -> Language:
    """The language of this name. Raises ValueError if there is none."""
    if name not in LANGUAGES:
        raise ValueError(f"language={name!r} is not known: use one of {', '.join(LANGUAGES)}")
    return LANGUAGES[name]
