"""The Z80 on a tape of 32 bytes: two programs of 16 side by side (Section 3.3).

The instructions stand in `lib.life.z80.instructions`, written as one would write them for a single
processor. XLA compiles the loops and all of them to one native loop, for the reasons that
`lib.life.bff` gives: one buffer for all tapes, the writes of an instruction carried to the *top* of
the next iteration, and registers packed into few words.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt8, UInt32

from lib.life.tape import U, get, put
from lib.life.z80 import instructions as z80

WIDTH = 16  # bytes of a program
LENGTH = 2 * WIDTH
STEPS = 256  # after which a program is stopped

_NO_WRITE = LENGTH | LENGTH << 8  # a column beside the tape


class Z80Trace(NamedTuple):
    """A tape before each step and at the end, and where the instruction of that step began."""

    tapes: UInt8[np.ndarray, "t+1 32"]
    pc: UInt8[np.ndarray, " t"]  # mod 32


def run_z80(
    tapes: UInt8[Array, "m length"], count: UInt32[Array, ""] | None = None, *, steps: int = STEPS
) -> tuple[UInt8[Array, "m length"], UInt32[Array, " m"]]:
    """Run the first `count` tapes (or all) on a processor that was reset, and count their steps.

    Addresses are taken mod 32. As in the authors' emulator, the reset sets A, the flags and SP to
    ones (so the first PUSH writes bytes 30 and 29) and all else to 0; only HALT ends a program
    before its limit; one repetition of LDIR or LDDR is one step, as is a prefix with its opcode.

    All instructions of the manual are there, and those that fill its gaps: SLL, the halves of IX
    and IY, the copy to a register after DD CB and FD CB, the doubles of NEG and RETN. What is left
    of page ED does nothing. DD and FD turn HL into IX and IY, and memory at HL into memory at IX
    or IY and a displacement; before what does not name HL, before EX DE,HL, EXX and page ED they do
    nothing, and before DD or FD they make a no-op of the two, as the authors have it. Every port
    reads 0, what is put out is lost, there are no interrupts (DI and EI show in LD A,I only).

    Flags 3 and 5 are those bits of the result; of A after SCF and CCF, of the operand after CP and
    BIT, as on the real processor, but for BIT of memory at HL, where they really come from a hidden
    register. What the manual calls unknown after INI, OUTI and their like stays as it was.

    Raises ValueError unless the tapes are rows of 32 bytes and 0 <= `steps` < 2^32.
    """
    if tapes.ndim != 2 or tapes.shape[1] != LENGTH or tapes.dtype != jnp.uint8:
        raise ValueError(f"tapes are {tapes.dtype}{list(tapes.shape)}: wanted uint8[m, {LENGTH}]")
    if not 0 <= steps < 2**32:
        raise ValueError(f"steps={steps} must lie between 0 and 2^32 - 1")
    with jax.enable_x64(True):
        met = len(tapes) if count is None else count
        limits = jnp.where(jnp.arange(len(tapes), dtype=U) < met, U(steps), U(0))
        tapes, taken, _ = _run(tapes, limits)
        return tapes, taken


def trace_z80(tape: UInt8[np.ndarray, " length"], *, steps: int = STEPS) -> Z80Trace:
    """What one tape looks like after each of its steps, for pictures.

    Raises ValueError as `run_z80` does.
    """
    copies = np.broadcast_to(np.asarray(tape, np.uint8), (steps + 1, len(tape)))
    if copies.shape[1] != LENGTH:
        raise ValueError(f"tape has {copies.shape[1]} bytes: wanted {LENGTH}, two programs")
    with jax.enable_x64(True):
        tapes, taken, pc = _run(jnp.asarray(copies), jnp.arange(steps + 1, dtype=U))
    end = int(taken[-1])
    return Z80Trace(np.asarray(tapes)[: end + 1], np.asarray(pc[:end] % LENGTH, np.uint8))


@jax.jit
def _run(tapes, limits):
    """The tapes, how many steps each took until its limit, and the program counters."""
    cells = jnp.pad(tapes, ((0, 0), (0, 1)))
    if jax.default_backend() != "cpu":  # side by side
        after, steps, pc = jax.vmap(lambda row, limit: _run_one(row[None], U(0), limit))(
            cells, limits
        )
        return after[:, 0, :LENGTH], steps, pc

    def in_turn(k, carry):
        cells, steps, pc = carry
        k = lax.convert_element_type(k, U)
        cells, *new = _run_one(cells, k, lax.dynamic_slice(limits, (k,), (1,))[0])
        steps, pc = (
            lax.dynamic_update_slice(out, one[None], (k,))
            for out, one in zip((steps, pc), new, strict=True)
        )
        return cells, steps, pc

    none = jnp.zeros(len(tapes), U)
    cells, steps, pc = lax.fori_loop(U(0), U(len(tapes)), in_turn, (cells, none, none))
    return cells[:, :LENGTH], steps, pc


def _run_one(cells, k, limit):
    """Row `k` of the cells run to its limit: the cells, the steps, the program counter."""
    table = jnp.asarray(z80.TABLE)
    handlers = [partial(_handled, handler) for handler in z80.HANDLERS]

    def running(s):
        return ((s["control"] & z80.HALTED) == 0) & (s["i"] < limit)

    def step(s):
        cells, control = _put_pair(s["cells"], s["write"], k), s["control"]
        code, following = (get(cells, k, control + n & LENGTH - 1).astype(U) for n in (0, 1))
        number = table[jnp.where(code == 0xED, following | 256, code)]
        number = jnp.where(control & z80.DUE != 0, U(z80.HANDLERS.index(z80.restore)), number)
        word = (
            control & z80.STAYS
            | control + 1 & 0xFFFF
            | control + (1 << z80.REFRESH) & 0x7F << z80.REFRESH
        )
        word = (word | (control & (z80.ARMED | z80.DUE)) << 2).astype(jnp.uint64)
        main, alternate, index, control, write = lax.switch(
            number.astype(jnp.int32), handlers, k, cells, s["main"], s["alternate"], s["index"],
            word | code.astype(jnp.uint64) << 32,
        )  # fmt: skip
        i = s["i"] + z80.bit(control & (z80.ARMED | z80.DUE) == 0)  # a prefix is no step of its own
        return dict(cells=cells, main=main, alternate=alternate, index=index, control=control,
                    write=write, i=i)  # fmt: skip

    start = dict(cells=cells, main=jnp.uint64(0xFFFF << z80.FLAGS), alternate=jnp.uint64(0))
    start |= dict(index=jnp.uint64(0xFFFF << z80.SP), control=U(0), write=U(_NO_WRITE), i=U(0))
    s = lax.while_loop(running, step, start)
    return _put_pair(s["cells"], s["write"], k), s["i"], s["control"] & 0xFFFF


def _put_pair(cells, write, k):
    """The two bytes that an instruction has written."""
    cells = put(cells, (write >> 16).astype(jnp.uint8), k, write & 63)
    return put(cells, (write >> 24).astype(jnp.uint8), k, (write >> 8) & 63)


def _field(word, shift, width: int):
    """The bits of a packed register from `shift` on, as u32."""
    return (word >> shift.astype(word.dtype)).astype(U) & (2**width - 1)


def _with(word, shift, width: int, value):
    """The packed register with those bits replaced."""
    shift, value = shift.astype(word.dtype), (value & (2**width - 1)).astype(word.dtype)
    return word & ~(jnp.asarray(2**width - 1, word.dtype) << shift) | value << shift


def _handled(handler, *processor):
    """What a handler makes of the processor: its registers, and what is to be written.

    The barrier makes all handlers take all arguments in the same order, so that they share them.
    """
    c = _Cpu(*lax.optimization_barrier(processor))
    handler(c)
    return c.main, c.alternate, c.index, c.control | c.pc & 0xFFFF, c.written


class _Cpu:
    """The processor during one instruction, of which `pc` has passed the opcode."""

    def __init__(self, k, cells, main, alternate, index, word):
        self.k, self.cells = k, cells
        self.main, self.alternate, self.index = main, alternate, index
        self.control, self.written = word.astype(U), U(_NO_WRITE)
        self.pc = self.control & 0xFFFF
        self.control = self.control ^ self.pc
        self.prefix = self.control >> z80.PREFIX & 3  # 0: none, 1: DD, 2: FD
        self.decode((word >> jnp.uint64(32)).astype(U))

    def decode(self, code):
        self.code, self.x, self.y, self.z = code, code >> 6, code >> 3 & 7, code & 7
        self.p, self.q = code >> 4 & 3, code >> 3 & 1

    def exchange(self):
        """HL and the index register of the prefix, if there is one."""
        place = self.prefix * 16 - 16 & 16
        other = _field(self.main, U(z80.HL), 16) ^ _field(self.index, place, 16)
        other = jnp.where(self.prefix != 0, other, U(0)).astype(jnp.uint64)
        self.main = self.main ^ other << z80.HL
        self.index = self.index ^ other << place.astype(jnp.uint64)

    def read(self, address):
        return get(self.cells, self.k, address & (LENGTH - 1)).astype(U)

    def read_pair(self, address):
        return self.read(address) | self.read(address + 1) << 8

    def write(self, address, value, when=True):
        """A byte, which shows from the next instruction on; an instruction writes once."""
        written = (address & (LENGTH - 1)) * 0x101 | (value & 255) * 0x1010000
        self.written = jnp.where(when, written, self.written)

    def write_pair(self, address, value, when=True):
        low, high = address & (LENGTH - 1), (address + 1) & (LENGTH - 1)
        self.written = jnp.where(when, low | high << 8 | value << 16, self.written)

    def pointer(self):
        """HL, or an index register and a displacement."""
        offset = jnp.where(self.prefix != 0, self.read(self.pc), U(0))
        self.pc = self.pc + z80.bit(self.prefix != 0)
        return self.hl + offset - ((offset & 128) << 1) & 0xFFFF

    def byte(self):
        self.pc = self.pc + 1
        return self.read(self.pc - 1)

    def pair_of_bytes(self):
        return self.byte() | self.byte() << 8

    def push(self, value, when=True):
        self.stack = self.stack - jnp.where(when, U(2), U(0))
        self.write_pair(self.stack, value, when)

    def register(self, number):
        """B C D E H L, and A at 7."""
        return _field(self.main, _place(number), 8)

    def set_register(self, number, value):
        self.main = _with(self.main, _place(number), 8, value)

    def pair(self, number):
        """BC DE HL SP."""
        return jnp.where(number == 3, self.stack, self.stacked(number))

    def set_pair(self, number, value):
        stack = _with(self.index, U(z80.SP), 16, value)
        main = _with(self.main, number * 16, 16, value)
        self.index = jnp.where(number == 3, stack, self.index)
        self.main = jnp.where(number == 3, self.main, main)

    def stacked(self, number):
        """BC DE HL AF."""
        return _field(self.main, number * 16, 16)

    def set_stacked(self, number, value):
        self.main = _with(self.main, number * 16, 16, value)

    def count_fetch(self, also):
        """The refresh register counts the bytes of an instruction that are opcodes."""
        self.r = self.r & 0x80 | self.r + z80.bit(also) & 0x7F

    def condition(self, number):
        """NZ Z NC C PO PE P M."""
        mask = U(0x80040140) >> (number >> 1) * 8 & 255
        return ((self.f & mask) != 0) == (number & 1 != 0)

    def flags(self, value, *, keep: int = 0):
        self.f = self.f & keep | value

    def operand(self):
        """Of the arithmetic: a register, memory, or the next byte."""
        here = (self.x == 3) | (self.z == 6) & (self.prefix != 0)
        byte = self.read(self.pc)
        offset = jnp.where((self.x == 2) & here, byte, U(0))
        memory = self.read(self.hl + offset)
        self.pc = self.pc + z80.bit(here)
        value = jnp.where(self.z == 6, memory, self.register(self.z))
        return jnp.where(self.x == 3, byte, value)

    def add(self, a, b, carry, keep=0):
        r = a + b + carry
        over = (a ^ r) & (b ^ r) & 0x80
        self.flags(
            z80.result_flags(r) & ~U(z80.PARITY)
            | (a ^ b ^ r) & z80.HALF
            | over >> 5
            | r >> 8 & ~keep & 1,
            keep=keep,
        )
        return r & 255

    def subtract(self, a, b, carry, keep=0):
        r = a - b - carry
        over = (a ^ r) & (a ^ b) & 0x80
        flags = (
            z80.result_flags(r) & ~U(z80.PARITY) | (a ^ b ^ r) & z80.HALF | over >> 5 | z80.MINUS
        )
        self.flags(flags | r >> 8 & ~keep & 1, keep=keep)
        return r & 255


def _place(number):
    """Where register B C D E H L, or A at 7, begins in the packed ones."""
    return (number ^ z80.bit(number < 6)) * 8


def _packed(word: str, shift: int, width: int) -> property:
    def read(cpu):
        return _field(getattr(cpu, word), U(shift), width)

    def write(cpu, value):
        setattr(cpu, word, _with(getattr(cpu, word), U(shift), width, value))

    return property(read, write)


_REGISTERS = {
    "a": ("main", z80.A, 8), "b": ("main", z80.BC + 8, 8), "f": ("main", z80.FLAGS, 8),
    "af": ("main", z80.FLAGS, 16), "bc": ("main", z80.BC, 16), "de": ("main", z80.DE, 16),
    "hl": ("main", z80.HL, 16), "stack": ("index", z80.SP, 16), "i": ("index", z80.VECTOR, 8),
    "r": ("control", z80.REFRESH, 8), "other_af": ("alternate", z80.FLAGS, 16),
}  # fmt: skip
for _name, _bits in _REGISTERS.items():
    setattr(_Cpu, _name, _packed(*_bits))
