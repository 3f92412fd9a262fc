"""Z80 programs as text: for traces, pictures, and whoever wants to read a replicator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

_BYTES = ("B", "C", "D", "E", "H", "L", "(HL)", "A")
_PAIRS = ("BC", "DE", "HL", "SP")
_CONDITIONS = ("NZ", "Z", "NC", "C", "PO", "PE", "P", "M")
_ARITHMETIC = ("ADD A,", "ADC A,", "SUB ", "SBC A,", "AND ", "XOR ", "OR ", "CP ")
_SHIFTS = ("RLC", "RRC", "RL", "RR", "SLA", "SRA", "SLL", "SRL")
_OF_A = ("RLCA", "RRCA", "RLA", "RRA", "DAA", "CPL", "SCF", "CCF")
_BLOCKS = (("LD", "CP", "IN", "OUT"), ("LD", "CP", "IN", "OT"))
_SPECIAL = ("LD I,A", "LD R,A", "LD A,I", "LD A,R", "RRD", "RLD", "NOP", "NOP")


class Line(NamedTuple):
    """One instruction: where it begins, how many bytes it has, and what it says."""

    at: int
    length: int
    text: str


def disassemble(program: UInt8[np.ndarray, " n"] | bytes) -> list[Line]:
    """A program as one line for each instruction, from its first byte on.

    Numbers are hexadecimal, jumps relative to the next instruction. What follows the last byte is
    the first again, as on the tape.
    """
    memory, lines, at = [int(byte) for byte in program], [], 0
    while at < len(memory):
        text, length = decode(memory, at)
        lines.append(Line(at, length, text))
        at += length
    return lines


def decode(memory: list[int], at: int) -> tuple[str, int]:
    """The instruction that begins at this address, and its length in bytes."""
    turned = [memory[(at + n) % len(memory)] for n in range(5)]
    if turned[0] not in (0xDD, 0xFD):
        return _decode(turned)
    if turned[1] in (0xDD, 0xFD):
        return "NOP", 2
    index = "IX" if turned[0] == 0xDD else "IY"
    if turned[1] == 0xCB:
        place, text = f"({index}{_signed(turned[2])})", _bits(turned[3], "(HL)")
        copy = "" if turned[3] & 7 == 6 or turned[3] >> 6 == 1 else f",{_BYTES[turned[3] & 7]}"
        return text.replace("(HL)", place) + copy, 4
    text, length = _decode(turned[1:])
    if turned[1] in (0xD9, 0xEB, 0xED):
        return text, length + 1
    if "(HL)" in text and turned[1] != 0xE9:
        text, length = _decode([turned[1], *turned[3:]])  # what follows the displacement
        return text.replace("(HL)", f"({index}{_signed(turned[2])})"), length + 2
    name, _, operands = text.partition(" ")
    turn = {"HL": index, "(HL)": f"({index})", "H": f"{index}H", "L": f"{index}L"}
    operands = ",".join(turn.get(one, one) for one in operands.split(","))
    return f"{name} {operands}".strip(), length + 1


def _signed(byte: int) -> str:
    return f"{byte - 256 * (byte >> 7):+d}"


def _bits(code: int, operand: str) -> str:
    y = code >> 3 & 7
    return (f"{_SHIFTS[y]} ", f"BIT {y},", f"RES {y},", f"SET {y},")[code >> 6] + operand


def _decode(code: list[int]) -> tuple[str, int]:
    """An instruction without a prefix for the index registers."""
    first, n, nn = code[0], f"{code[1]:02X}h", f"{code[2]:02X}{code[1]:02X}h"
    if first == 0xCB:
        return _bits(code[1], _BYTES[code[1] & 7]), 2
    if first == 0xED:
        return _decode_block(code[1], f"{code[3]:02X}{code[2]:02X}h")
    x, y, z, pair = first >> 6, first >> 3 & 7, first & 7, _PAIRS[first >> 4 & 3]
    if x == 1:
        return ("HALT" if first == 0x76 else f"LD {_BYTES[y]},{_BYTES[z]}"), 1
    if x == 2:
        return _ARITHMETIC[y] + _BYTES[z], 1
    if x == 0:
        by, even = _BYTES[y], y % 2 == 0
        jump = "NOP", "EX AF,AF'", "DJNZ ", "JR ", "JR NZ,", "JR Z,", "JR NC,", "JR C,"
        move = (
            "LD (BC),A", "LD A,(BC)", "LD (DE),A", "LD A,(DE)",
            f"LD ({nn}),HL", f"LD HL,({nn})", f"LD ({nn}),A", f"LD A,({nn})",
        )  # fmt: skip
        return (
            (jump[y] + _signed(code[1]), 2) if y > 1 else (jump[y], 1),
            (f"LD {pair},{nn}", 3) if even else (f"ADD HL,{pair}", 1),
            (move[y], 3 if y > 3 else 1),
            (f"INC {pair}" if even else f"DEC {pair}", 1),
            (f"INC {by}", 1), (f"DEC {by}", 1), (f"LD {by},{n}", 2), (_OF_A[y], 1),
        )[z]  # fmt: skip
    stacked = "AF" if pair == "SP" else pair
    rest = ("RET", "EXX", "JP (HL)", "LD SP,HL")[y >> 1]
    other = (
        (f"JP {nn}", 3), ("", 2), (f"OUT ({n}),A", 2), (f"IN A,({n})", 2),
        ("EX (SP),HL", 1), ("EX DE,HL", 1), ("DI", 1), ("EI", 1),
    )  # fmt: skip
    return (
        (f"RET {_CONDITIONS[y]}", 1),
        (rest if y % 2 else f"POP {stacked}", 1),
        (f"JP {_CONDITIONS[y]},{nn}", 3), other[y], (f"CALL {_CONDITIONS[y]},{nn}", 3),
        (f"CALL {nn}", 3) if y % 2 else (f"PUSH {stacked}", 1),
        (_ARITHMETIC[y] + n, 2), (f"RST {8 * y:02X}h", 1),
    )[z]  # fmt: skip


def _decode_block(code: int, nn: str) -> tuple[str, int]:
    """An instruction of page ED."""
    x, y, z, pair = code >> 6, code >> 3 & 7, code & 7, _PAIRS[code >> 4 & 3]
    if x == 2 and y >= 4 and z < 4:
        again = "R" * (y >> 1 == 3)
        return _BLOCKS[y >> 1 == 3 and z == 3][z] + "DI"[y % 2 == 0] + again, 2
    if x != 1:
        return "NOP", 2
    odd, by = y % 2, "0" if y == 6 else _BYTES[y]
    return (
        ("IN F,(C)" if y == 6 else f"IN {by},(C)", 2), (f"OUT (C),{by}", 2),
        (f"ADC HL,{pair}" if odd else f"SBC HL,{pair}", 2),
        (f"LD {pair},({nn})" if odd else f"LD ({nn}),{pair}", 4),
        ("NEG", 2), ("RETI" if y == 1 else "RETN", 2), (f"IM {(0, 0, 1, 2)[y & 3]}", 2),
        (_SPECIAL[y], 2),
    )[z]  # fmt: skip
