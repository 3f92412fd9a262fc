"""A program at work, step by step: for pictures and for the page that steps through them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from lib.life.languages import CLOSE, FROM_HEAD1, OPEN, TO_HEAD1, Bff
from lib.life.tape import LENGTH, STEPS

WORDS = {
    "<": "moves head 0 left, to cell {to0}",
    ">": "moves head 0 right, to cell {to0}",
    "{": "moves head 1 left, to cell {to1}",
    "}": "moves head 1 right, to cell {to1}",
    "-": "takes 1 from the byte under head 0 (cell {head0})",
    "+": "adds 1 to the byte under head 0 (cell {head0})",
    ".": "copies the byte under head 0 (cell {head0}) to head 1 (cell {head1})",
    ",": "copies the byte under head 1 (cell {head1}) to head 0 (cell {head0})",
    # what it does if it goes on, and if it jumps
    "[": (
        "finds no zero under head 0 (cell {head0}) and enters the loop",
        "finds a zero under head 0 (cell {head0}) and jumps over the loop",
    ),
    "]": (
        "finds a zero under head 0 (cell {head0}) and leaves the loop",
        "finds no zero under head 0 (cell {head0}) and jumps back",
    ),
    "⊲": "copies the byte under head 1 (cell {head1}) to head 0 (cell {head0}), moves head 1 right",
}


class Trace(NamedTuple):
    """One row for each instruction executed: no-ops are left out, though they count as steps."""

    tape: UInt8[np.ndarray, " 128"]  # before the first
    step: Integer[np.ndarray, " t"]  # its number, no-ops counted, from 0
    pc: Integer[np.ndarray, " t"]
    head0: Integer[np.ndarray, " t"]
    head1: Integer[np.ndarray, " t"]
    place: Integer[np.ndarray, " t"]  # of the byte written; −1: none
    value: Integer[np.ndarray, " t"]  # of that byte afterwards
    end: Integer[np.ndarray, " 4"]  # step, pc, head0 and head1 after the last

    def after(self, t: int) -> UInt8[np.ndarray, " 128"]:
        """The tape after the first `t` instructions."""
        tape = self.tape.copy()
        for place, value in zip(self.place[:t], self.value[:t], strict=True):
            if place >= 0:
                tape[place] = value
        return tape


def trace(tape: UInt8[np.ndarray, " 128"], language: Bff, *, steps: int = STEPS) -> Trace:
    """Execute one tape and write down every instruction.

    Raises ValueError if the tape is not 128 bytes long, or for a language outside the Bff family.
    """
    if not isinstance(language, Bff):
        raise ValueError(f"language={language.name!r}: only the Bff family can be traced")
    start = np.asarray(tape, np.uint8)
    if start.shape != (LENGTH,):
        raise ValueError(f"tape is {list(start.shape)}: wanted 128 bytes, two programs")
    effects, cells, rows = language.effects, start.tolist(), []
    heads = [cells[0] % LENGTH, cells[1] % LENGTH] if language.heads_on_tape else [0, 0]
    pc = 2 if language.heads_on_tape else 0
    step = 0
    while step < steps and 0 <= pc < LENGTH:
        before = (step, pc, *heads)
        effect = effects[cells[pc]]
        step += 1
        if not effect:
            pc += 1
            continue
        place, value = -1, 0
        source, target = heads[bool(effect & FROM_HEAD1)], heads[bool(effect & TO_HEAD1)]
        null = cells[heads[0]] & language.null == 0
        if source != target or effect >> 24:
            place, value = target, (cells[source] + (effect >> 24)) % 256
            cells[place] = value
        heads = [(heads[n] + (effect >> 8 * n + 8 & 127)) % LENGTH for n in (0, 1)]
        if effect & OPEN and null or effect & CLOSE and not null:
            pc = _landing(cells, pc, language)
        pc += 1
        rows.append((*before, place, value))
    columns = np.asarray(rows, np.int64).reshape(-1, 6).T
    return Trace(start, *columns, np.asarray((step, pc, *heads)))


def until_cycle(done: Trace, language: Bff) -> int:
    """How many instructions of a trace the kernel executes before it knows that they repeat.

    The rule of `lib.life.bff`, on one trace: at a jump backwards the state (pointer and heads) is
    compared with one remembered before, and remembered itself at steps 1, 2, 4, 8 and so on; a
    byte that changes makes it forget. All instructions if nothing ever repeats.
    """
    seen, power, tape = None, 0, done.tape.copy()
    for t, (pc, place, value) in enumerate(zip(done.pc, done.place, done.value, strict=True)):
        backwards = language.effects[tape[pc]] & CLOSE and t + 1 < len(done.pc)
        backwards = backwards and done.pc[t + 1] <= pc
        if place >= 0 and tape[place] != value:
            tape[place], seen = value, None
        if not backwards:
            continue
        state = (done.pc[t + 1], done.head0[t + 1], done.head1[t + 1])
        if state == seen:
            return t + 1
        if done.step[t] + 1 >> power:
            seen, power = state, power + 1
    return len(done.pc)


def _landing(cells: list[int], pc: int, language: Bff) -> int:
    """Where a taken jump lands; outside the tape if nothing matches."""
    stride = 1 if language.effects[cells[pc]] & OPEN else -1
    if language.jump is not None:
        landing = pc + stride * language.jump
        return landing if landing >= 0 else LENGTH
    depth = stride
    while depth and 0 <= pc + stride < LENGTH:
        pc += stride
        effect = language.effects[cells[pc]]
        depth += bool(effect & OPEN) - bool(effect & CLOSE)
    return LENGTH if depth else pc


def disassemble(program: UInt8[np.ndarray, " width"], language: Bff) -> str:
    """The program as text: a symbol for each instruction, 0 for a zero, a dot for the rest."""
    symbols = language.symbols
    return "".join(symbols[b] or ("0" if b == 0 else "·") for b in np.asarray(program).tolist())
