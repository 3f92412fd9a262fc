"""Replicators written by hand: programs that leave a copy of themselves where their food was.

Each function gives a program S of 64 bytes such that S before food F becomes S before S, whatever
F is (but for `one_byte`, which copies a single byte). Standing second, S hardly ever gets its turn:
the food runs first, S is not copied, and often it is destroyed.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from lib.life.tape import WIDTH

PADDING = 0x20  # does nothing in the languages here: a space, no word, or never reached


def palindrome() -> UInt8[np.ndarray, " 64"]:
    """For bff_noheads, Figure 4 of the paper: a palindrome that copies itself backwards.

    Each turn of the loop `[{.>]` moves head 1 back (from 0 to the end of the tape), copies a byte
    to it from head 0, and moves head 0 on: the second half becomes the mirror image of the first,
    which is the same. No byte is 0, so it goes on till the limit of steps, copying its copy back.
    """
    half = b"[[{.>]-]"
    return _program(half + bytes([PADDING]) * (WIDTH - 2 * len(half)) + half[::-1])


def one_byte() -> UInt8[np.ndarray, " 64"]:
    """For forthtrivial (Section 3.1): `copy0` alone, which copies byte 0, that is itself.

    The address is what an empty stack gives, 0. The 63 bytes behind it are not copied, and the food
    is executed afterwards, so that it can destroy what was copied, or the parent.
    """
    return _program([0x0C])


def copy_loop() -> UInt8[np.ndarray, " 64"]:
    """For forthtrivial (Section 3.1): six bytes that copy all 64, over and over.

    `copy0` takes an address from the stack (at first an empty one, which gives 0) and copies the
    byte there to the second half; then the address, counted up, is put on the stack twice: for the
    next `copy0`, and to count on from. Addresses are mod 64 and nothing ever ends the loop.
    """
    return _program([
        0x0C,  # copy0
        0x08,  # inc
        0x04,  # dup
        0x81,  # +2: jump over the next byte
        0x2C,
        0xC4,  # −5: to the beginning
    ])  # fmt: skip


def subtract() -> UInt8[np.ndarray, " 64"]:
    """For subleq (Section 3.2), in 49 bytes: a loop that counts up the addresses it contains.

    Each turn clears a byte of the second half, subtracts from it what was subtracted from an empty
    cell, and adds 1 to the four addresses by subtracting −1. Becoming 128, "not positive", the last
    target address leads out of the loop. The addresses in the copy are those of the moment when
    they were copied: as a last act the program puts back its own and then those of its copy.
    """
    to, again, more, source = 0, 1, 6, 4  # where the addresses are that are counted up
    cell, minus_one, k64, k63 = 45, 46, 47, 48
    four, six, one = 22 - 1, 5, 15  # where bytes with these values happen to be
    copy = WIDTH
    return _program([
        64, 64, 3,  # 0: clear the target
        cell, 128, 6,  # 3: cell = −source; addresses are mod 128, and 128 + i is never positive
        64, cell, 9,  # 6: target = −cell
        cell, cell, 12,  # 9: cell = 0
        to, minus_one, 15,  # 12
        again, minus_one, 18,  # 15
        more, minus_one, 24,  # 18: leave when it is 128
        source, minus_one, 0,  # 21: always negative: back to the beginning
        to, k64, 27,  # 24: 128 − 64
        again, k64, 30,  # 27
        more, k64, 33,  # 30
        source, k63, 36,  # 33: 191 − 63
        copy + again, one, 39,  # 36: what was copied is 64 + 1, 64 + 6, 128 + 4
        copy + more, six, 42,  # 39
        copy + source, four, 255,  # 42: becomes 128: leave the tape
        0, 255, 64, 63,  # 45
    ])  # fmt: skip


def subtract_relative() -> UInt8[np.ndarray, " 64"]:
    """For rsubleq4 (Section 3.2), in 27 bytes: one instruction copies, two count up its addresses.

    The loop copies byte after byte, counting up target and source; as the target becomes 128, "not
    positive", it is left. Then target and source are put back. In the copy the target is right, for
    it was copied in the first turn, and the source, copied one turn later, is put right as well.
    """
    return _program([
        64, 128, 24, 4,  # 0: target = source − 0; 128 + i means i, and is never positive
        -4, -4, 21, 8,  # 4: count up the target; leave when it is 128
        -7, -7, 17, -8,  # 8: count up the source; always negative: back to the beginning
        -12, 14, 13, 4,  # 12: the target is 63 − −1 again
        -15, 10, -15, 4,  # 16: and the source 63 − 191
        45, -19, 4, -128,  # 20: so is that of the copy: leave the tape
        0, -1, 63,  # 24
    ])  # fmt: skip


REPLICATORS = {
    "bff_noheads": palindrome,
    "forthtrivial": copy_loop,
    "subleq": subtract,
    "rsubleq4": subtract_relative,
}


def replicator(language_name: str) -> UInt8[np.ndarray, " 64"]:
    """A program that copies all of itself. Raises ValueError for a language without one."""
    if language_name not in REPLICATORS:
        raise ValueError(
            f"language_name={language_name!r} has no replicator: use one of "
            f"{', '.join(REPLICATORS)}"
        )
    return REPLICATORS[language_name]()


def _program(code: bytes | list[int]) -> UInt8[np.ndarray, " 64"]:
    """The bytes (negative ones mod 256), padded to a program."""
    padded = [*code] + [PADDING] * (WIDTH - len(code))
    return np.asarray(padded).astype(np.uint8)
