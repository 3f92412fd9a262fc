"""The Z80 on a tape of 32 bytes: two programs of 16 side by side (Section 3.3).

A handler below is written as one would write it for a single processor; which of them an opcode
calls stands in a table of its three pages (plain, after CB, after ED). XLA compiles the loops and
the handlers to one native loop, for the reasons that `lib.life.bff` gives: one buffer for all
tapes, the writes of an instruction carried to the *top* of the next iteration, packed registers.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt8, UInt32

from lib.life.tape import U, get, put

WIDTH = 16  # bytes of a program
LENGTH = 2 * WIDTH
STEPS = 256  # after which a program is stopped

_SIGN, _ZERO, _HALF, _PARITY, _MINUS, _CARRY = 0x80, 0x40, 0x10, 0x04, 0x02, 0x01
_COPIED = 0x28  # flags 5 and 3, of which the manual says nothing
_KEPT = _SIGN | _ZERO | _PARITY
# the first bit of each register in the packed ones: C B E D L H F A, and IX IY SP I
_BC, _DE, _HL, _F, _A = 0, 16, 32, 48, 56
_SP, _I = 32, 48
# what shares a word with the program counter: whether interrupts are enabled; the end; a prefix
# that the next instruction is to obey, that this one obeys, that the one before obeyed; R
_INTERRUPTS, _HALTED, _ARMED, _DUE = 1 << 16, 1 << 17, 3 << 18, 3 << 20
_PREFIX, _R = 20, 24
_STAYS = _INTERRUPTS | 0x80 << _R
_NO_WRITE = LENGTH | LENGTH << 8  # a column beside the tape


def run_z80(
    tapes: UInt8[Array, "m 32"], count: UInt32[Array, ""] | None = None, *, steps: int = STEPS
) -> tuple[UInt8[Array, "m 32"], UInt32[Array, " m"]]:
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
        return _run(tapes, jnp.uint32(len(tapes)) if count is None else count, steps=steps)


@partial(jax.jit, static_argnames="steps")
def _run(tapes, count, *, steps):
    table = jnp.asarray(_TABLE)

    def pair(k, carry):
        cells, out = carry
        k = lax.convert_element_type(k, U)

        def running(s):
            return ((s["control"] & _HALTED) == 0) & (s["i"] < steps)

        def step(s):
            cells, control = _put_pair(s["cells"], s["write"], k), s["control"]
            code, following = (get(cells, k, control + n & LENGTH - 1).astype(U) for n in (0, 1))
            number = table[jnp.where(code == 0xED, following | 256, code)]
            number = jnp.where(control & _DUE != 0, U(_HANDLERS.index(restore)), number)
            word = (
                control & _STAYS | control + 1 & 0xFFFF
                | control + (1 << _R) & 0x7F << _R | (control & (_ARMED | _DUE)) << 2
            )  # fmt: skip
            word = word.astype(jnp.uint64) | code.astype(jnp.uint64) << 32
            main, alternate, index, control, write = lax.switch(
                number.astype(jnp.int32), [partial(_handled, handler) for handler in _HANDLERS],
                k, cells, s["main"], s["alternate"], s["index"], word,
            )  # fmt: skip
            i = s["i"] + (control & (_ARMED | _DUE) == 0)
            return dict(cells=cells, main=main, alternate=alternate, index=index,
                        control=control, write=write, i=i)  # fmt: skip

        zero = jnp.uint64(0)
        start = dict(cells=cells, main=jnp.uint64(0xFFFF << _F), alternate=zero)
        start |= dict(index=jnp.uint64(0xFFFF << _SP), control=U(0), write=U(_NO_WRITE), i=U(0))
        s = lax.while_loop(running, step, start)
        out = lax.dynamic_update_slice(out, s["i"][None], (k,))
        return _put_pair(s["cells"], s["write"], k), out

    cells, out = jnp.pad(tapes, ((0, 0), (0, 1))), jnp.zeros(len(tapes), U)
    cells, out = lax.fori_loop(U(0), count, pair, (cells, out))
    return cells[:, :LENGTH], out


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
        self.prefix = self.control >> _PREFIX & 3  # 0: none, 1: DD, 2: FD
        self.decode((word >> jnp.uint64(32)).astype(U))

    def decode(self, code):
        self.code, self.x, self.y, self.z = code, code >> 6, code >> 3 & 7, code & 7
        self.p, self.q = code >> 4 & 3, code >> 3 & 1

    def exchange(self):
        """HL and the index register of the prefix, if there is one."""
        place = self.prefix * 16 - 16 & 16
        other = _field(self.main, U(_HL), 16) ^ _field(self.index, place, 16)
        other = jnp.where(self.prefix != 0, other, U(0)).astype(jnp.uint64)
        self.main = self.main ^ other << _HL
        self.index = self.index ^ other << place.astype(jnp.uint64)

    def read(self, address):
        return get(self.cells, self.k, address & (LENGTH - 1)).astype(U)

    def read_pair(self, address):
        return self.read(address) | self.read(address + 1) << 8

    def write(self, address, value):
        """One byte of this instruction, which shows from the next one on."""
        self.written = (address & (LENGTH - 1)) * 0x101 | (value & 255) * 0x1010000

    def write_pair(self, address, value):
        low, high = address & (LENGTH - 1), (address + 1) & (LENGTH - 1)
        self.written = low | high << 8 | value << 16

    def pointer(self):
        """HL, or an index register and a displacement."""
        offset = jnp.where(self.prefix != 0, self.read(self.pc), U(0))
        self.pc = self.pc + (self.prefix != 0)
        return self.hl + offset - ((offset & 128) << 1) & 0xFFFF

    def byte(self):
        self.pc = self.pc + 1
        return self.read(self.pc - 1)

    def pair_of_bytes(self):
        return self.byte() | self.byte() << 8

    def push(self, value):
        self.stack = self.stack - 2
        self.write_pair(self.stack, value)

    def pop(self):
        self.stack = self.stack + 2
        return self.read_pair(self.stack - 2)

    def register(self, number):
        """B C D E H L, and A at 7."""
        return _field(self.main, (number ^ (number < 6)) * 8, 8)

    def set_register(self, number, value):
        self.main = _with(self.main, (number ^ (number < 6)) * 8, 8, value)

    def pair(self, number):
        """BC DE HL SP."""
        return jnp.where(number == 3, self.stack, _field(self.main, number * 16, 16))

    def set_pair(self, number, value):
        stack = _with(self.index, U(_SP), 16, value)
        main = _with(self.main, number * 16, 16, value)
        self.index = jnp.where(number == 3, stack, self.index)
        self.main = jnp.where(number == 3, self.main, main)

    def count_fetch(self, also):
        """The refresh register counts the bytes of an instruction that are opcodes."""
        self.r = self.r & 0x80 | self.r + also & 0x7F

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
        self.pc = self.pc + here
        value = jnp.where(self.z == 6, memory, self.register(self.z))
        return jnp.where(self.x == 3, byte, value)

    def add(self, a, b, carry, keep=0):
        r = a + b + carry
        over = (a ^ r) & (b ^ r) & 0x80
        self.flags(
            _result(r) & ~U(_PARITY) | (a ^ b ^ r) & _HALF | over >> 5 | r >> 8 & ~keep & 1,
            keep=keep,
        )
        return r & 255

    def subtract(self, a, b, carry, keep=0):
        r = a - b - carry
        over = (a ^ r) & (a ^ b) & 0x80
        flags = _result(r) & ~U(_PARITY) | (a ^ b ^ r) & _HALF | over >> 5 | _MINUS
        self.flags(flags | r >> 8 & ~keep & 1, keep=keep)
        return r & 255


def _packed(word: str, shift: int, width: int) -> property:
    def read(cpu):
        return _field(getattr(cpu, word), U(shift), width)

    def write(cpu, value):
        setattr(cpu, word, _with(getattr(cpu, word), U(shift), width, value))

    return property(read, write)


for _name, _place in dict(
    a=("main", _A, 8), f=("main", _F, 8), af=("main", _F, 16), b=("main", _BC + 8, 8),
    bc=("main", _BC, 16), de=("main", _DE, 16), hl=("main", _HL, 16), stack=("index", _SP, 16),
    r=("control", _R, 8), i=("index", _I, 8), other_af=("alternate", _F, 16),
).items():  # fmt: skip
    setattr(_Cpu, _name, _packed(*_place))

_RESULTS = np.array(
    [
        r & (_SIGN | _COPIED) | _ZERO * (r == 0) | _PARITY * (r.bit_count() % 2 == 0)
        for r in range(256)
    ],
    np.uint8,
)  # the flags that depend on the result only


def _result(value):
    return jnp.asarray(_RESULTS)[value & 255].astype(U)


def _choose(number, *values):
    """The value of this number."""
    chosen = values[0]
    for n, value in enumerate(values[1:], 1):
        chosen = jnp.where(number == n, value, chosen)
    return chosen


def nothing(c): ...


def prefix(c):
    """DD and FD: the next instruction will find the index register in the place of HL."""
    kind = jnp.where(c.prefix == 0, 1 + (c.code >> 5 & 1), U(0))
    c.control = c.control | kind << _PREFIX - 2
    c.prefix = kind
    c.exchange()


def restore(c):
    """After an instruction with a prefix: no instruction, so nothing is fetched."""
    c.prefix = c.control >> _PREFIX + 2 & 3
    c.exchange()
    c.pc = c.pc - 1
    c.control = c.control & _STAYS | c.control - (1 << _R) & 0x7F << _R


def page_of_bits(c):
    """Page CB: rotations, BIT, RES and SET, of a register or of memory."""
    prefixed = c.prefix != 0
    pointer = c.pointer()
    c.decode(c.byte())
    c.count_fetch(~prefixed)
    memory = (c.z == 6) | prefixed
    value = jnp.where(memory, c.read(pointer), c.register(c.z))
    bit = U(1) << c.y
    rotated, carry = _rotated(c.y, value, c.f & _CARRY)
    after = _choose(c.x, rotated, value, value & ~bit, value | bit)
    seen = _result(value & bit) & ~U(_COPIED)
    seen = seen | jnp.where(prefixed, pointer >> 8, value) & _COPIED | _HALF | c.f & _CARRY
    c.f = _choose(c.x, _result(rotated) | carry, seen, c.f, c.f)
    c.exchange()
    before = c.main
    c.set_register(c.z, after)
    c.main = jnp.where((c.z == 6) | (c.x == 1), before, c.main)
    c.exchange()
    c.write(pointer, after)
    c.written = jnp.where(memory, c.written, U(_NO_WRITE))


def halt(c):
    c.control = c.control & ~U(_DUE) | _HALTED


def interrupts(c):
    c.control = c.control & ~U(_INTERRUPTS) | c.q << 16


def load(c):
    c.set_register(c.y, c.register(c.z))


def load_from_memory(c):
    value = c.read(c.pointer())
    c.exchange()  # what is loaded is H and L even after a prefix
    c.set_register(c.y, value)
    c.exchange()


def store(c):
    pointer = c.pointer()
    c.exchange()
    c.write(pointer, c.register(c.z))
    c.exchange()


def load_byte(c):
    c.set_register(c.y, c.byte())


def store_byte(c):
    pointer = c.pointer()
    c.write(pointer, c.byte())


def load_a_from_pair(c):
    c.a = c.read(c.pair(c.p))


def store_a_to_pair(c):
    c.write(c.pair(c.p), c.a)


def load_a(c):
    c.a = c.read(c.pair_of_bytes())


def store_a(c):
    c.write(c.pair_of_bytes(), c.a)


def load_pair(c):
    c.set_pair(c.p, c.pair_of_bytes())


def load_pair_from_memory(c):
    c.set_pair(c.p, c.read_pair(c.pair_of_bytes()))


def store_pair(c):
    c.write_pair(c.pair_of_bytes(), c.pair(c.p))


def load_stack(c):
    c.stack = c.hl


def push(c):
    c.push(_field(c.main, c.p * 16, 16))


def pop(c):
    c.main = _with(c.main, c.p * 16, 16, c.pop())


def exchange_hl(c):
    c.exchange()
    c.de, c.hl = c.hl, c.de
    c.exchange()


def exchange_stack(c):
    value = c.read_pair(c.stack)
    c.write_pair(c.stack, c.hl)
    c.hl = value


def exchange_af(c):
    c.af, c.other_af = c.other_af, c.af


def exchange_all(c):
    c.exchange()
    other = (c.main ^ c.alternate) & (2**_F - 1)
    c.main, c.alternate = c.main ^ other, c.alternate ^ other
    c.exchange()


def arithmetic(c):
    """ADD ADC SUB SBC, and CP at 7."""
    a, b, carry = c.a, c.operand(), c.f & c.y & 1 & (c.y >> 2 ^ 1)
    before = c.f
    added = c.add(a, b, carry)
    plus = c.f
    c.f = before
    less = c.subtract(a, b, carry)
    compared = c.f & ~U(_COPIED) | b & _COPIED
    c.f = jnp.where(c.y < 2, plus, jnp.where(c.y == 7, compared, c.f))
    c.a = jnp.where(c.y < 2, added, jnp.where(c.y == 7, a, less))


def logic(c):
    """AND XOR OR."""
    b = c.operand()
    c.a = jnp.where(c.y == 4, c.a & b, jnp.where(c.y == 5, c.a ^ b, c.a | b))
    c.f = _result(c.a) | jnp.where(c.y == 4, U(_HALF), U(0))


def _stepped(c, value):
    """INC and DEC."""
    before = c.f
    more = c.add(value, U(1), U(0), keep=_CARRY)
    plus = c.f
    c.f = before
    less = c.subtract(value, U(1), U(0), keep=_CARRY)
    c.f = jnp.where(c.z & 1 == 0, plus, c.f)
    return jnp.where(c.z & 1 == 0, more, less)


def step_register(c):
    c.set_register(c.y, _stepped(c, c.register(c.y)))


def step_memory(c):
    pointer = c.pointer()
    c.write(pointer, _stepped(c, c.read(pointer)))


def step_pair(c):
    c.set_pair(c.p, c.pair(c.p) + jnp.where(c.q == 0, U(1), U(0xFFFF)))


def add_pair(c):
    a, b = c.hl, c.pair(c.p)
    r = a + b
    c.flags(r >> 8 & _COPIED | (a ^ b ^ r) >> 8 & _HALF | r >> 16, keep=_KEPT)
    c.hl = r


def add_pair_with_carry(c):
    """ADC HL and SBC HL."""
    less = c.q == 0
    a, b, carry = c.hl, c.pair(c.p), c.f & _CARRY
    r = jnp.where(less, a - b - carry, a + b + carry)
    over = (a ^ r) & jnp.where(less, a ^ b, b ^ r) & 0x8000
    zero = jnp.where(r & 0xFFFF == 0, U(_ZERO), U(0))
    c.f = (
        r >> 8 & (_SIGN | _COPIED) | (a ^ b ^ r) >> 8 & _HALF | over >> 13 | r >> 16 & 1
        | zero | jnp.where(less, U(_MINUS), U(0))
    )  # fmt: skip
    c.hl = r


def negate(c):
    c.a = c.subtract(U(0), c.a, U(0))


def rotate_a(c):
    value, carry = _rotated(c.y, c.a, c.f & _CARRY)
    c.flags(value & _COPIED | carry, keep=_KEPT)
    c.a = value


def _rotated(kind, value, carry):
    """RLC RRC RL RR SLA SRA SLL SRL: the byte and the carry."""
    left, right = value << 1, value >> 1
    shifted = _choose(
        kind, left | value >> 7, right | value << 7, left | carry, right | carry << 7, left,
        right | value & 0x80, left | 1, right,
    )  # fmt: skip
    return shifted & 255, jnp.where(kind & 1 == 0, value >> 7, value & 1)


def adjust(c):
    """DAA."""
    a, minus = c.a, c.f & _MINUS != 0
    low = (a & 15 > 9) | (c.f & _HALF != 0)
    high = (a > 0x99) | (c.f & _CARRY != 0)
    by = jnp.where(low, U(6), U(0)) + jnp.where(high, U(0x60), U(0))
    r = jnp.where(minus, a - by, a + by)
    c.flags(_result(r) | (a ^ r) & _HALF | high, keep=_MINUS)
    c.a = r


def complement(c):
    c.a = ~c.a
    c.flags(c.a & _COPIED | _HALF | _MINUS, keep=_KEPT | _CARRY)


def set_carry(c):
    """SCF and CCF."""
    carry = c.f & c.y & _CARRY
    c.flags(c.a & _COPIED | carry << 4 | carry ^ _CARRY, keep=_KEPT)


def jump(c):
    target = c.pair_of_bytes()
    c.pc = jnp.where((c.z == 3) | c.condition(c.y), target, c.pc)


def jump_relative(c):
    offset = c.byte()
    target = c.pc + offset - ((offset & 128) << 1)
    c.pc = jnp.where((c.y == 3) | c.condition(c.y & 3), target, c.pc)


def jump_counting(c):
    """DJNZ."""
    offset = c.byte()
    c.b = c.b - 1
    c.pc = jnp.where(c.b != 0, c.pc + offset - ((offset & 128) << 1), c.pc)


def jump_to_hl(c):
    c.pc = c.hl


def _if(c, taken, index):
    """The stack pointer moved and the bytes written only if so."""
    c.index = jnp.where(taken, c.index, index)
    c.written = jnp.where(taken, c.written, U(_NO_WRITE))


def call(c):
    target, index = c.pair_of_bytes(), c.index
    taken = (c.z == 5) | c.condition(c.y)
    c.push(c.pc)
    _if(c, taken, index)
    c.pc = jnp.where(taken, target, c.pc)


def leave(c):
    """RET, also of page ED."""
    taken, index = (c.z == 1) | (c.x == 1) | c.condition(c.y), c.index
    target = c.pop()
    _if(c, taken, index)
    c.pc = jnp.where(taken, target, c.pc)


def restart(c):
    c.push(c.pc)
    c.pc = c.y * 8


def input_a(c):
    c.byte()
    c.a = U(0)


def output_a(c):
    c.byte()


def input_register(c):
    before = c.main
    c.set_register(c.y, U(0))
    c.main = jnp.where(c.y == 6, before, c.main)
    c.flags(_result(U(0)), keep=_CARRY)


def _after_ed(handler, c):
    """An instruction of page ED, which a prefix does not change."""
    c.decode(c.byte())
    c.count_fetch(True)
    c.exchange()
    handler(c)
    c.exchange()


def load_special(c):
    """LD I,A  LD R,A  LD A,I  LD A,R."""
    value = jnp.where(c.q == 0, c.i, c.r)
    enabled = jnp.where(c.control & _INTERRUPTS != 0, U(_PARITY), U(0))
    flags = c.f & _CARRY | _result(value) & (_SIGN | _ZERO | _COPIED) | enabled
    inward, a = c.p & 1 == 0, c.a
    c.f = jnp.where(inward, c.f, flags)
    c.a = jnp.where(inward, a, value)
    c.i = jnp.where(inward & (c.q == 0), a, c.i)
    c.r = jnp.where(inward & (c.q == 1), a, c.r)


def rotate_digits(c):
    """RRD and RLD."""
    a, value, left = c.a, c.read(c.hl), c.q == 1
    c.write(c.hl, jnp.where(left, value << 4 | a & 15, value >> 4 | a << 4))
    c.a = a & 0xF0 | jnp.where(left, value >> 4, value & 15)
    c.flags(_result(c.a), keep=_CARRY)


def _again(c, more):
    """The repeating kinds of the block instructions come back to themselves."""
    c.pc = jnp.where((c.y >> 1 == 3) & more, c.pc - 2, c.pc)
    return jnp.where(c.q == 0, U(1), U(0xFFFF))


def copy_block(c):
    """LDI LDD LDIR LDDR."""
    value = c.read(c.hl)
    c.write(c.de, value)
    c.bc = c.bc - 1
    more, n = c.bc != 0, value + c.a
    stride = _again(c, more)
    c.hl, c.de = c.hl + stride, c.de + stride
    c.flags(
        n & 8 | (n & 2) << 4 | jnp.where(more, U(_PARITY), U(0)), keep=_SIGN | _ZERO | _CARRY
    )


def compare_block(c):
    """CPI CPD CPIR CPDR."""
    r = c.subtract(c.a, c.read(c.hl), U(0), keep=_CARRY)
    c.bc = c.bc - 1
    more, n = c.bc != 0, r - (c.f >> 4 & 1)
    c.hl = c.hl + _again(c, more & (r != 0))
    c.flags(
        n & 8 | (n & 2) << 4 | jnp.where(more, U(_PARITY), U(0)),
        keep=_SIGN | _ZERO | _HALF | _MINUS | _CARRY,
    )


def exchange_block(c):
    """INI IND INIR INDR, which read zeros, and OUTI OUTD OTIR OTDR."""
    c.write(c.hl, U(0))
    c.written = jnp.where(c.z == 2, c.written, U(_NO_WRITE))
    c.b = c.b - 1
    c.hl = c.hl + _again(c, c.b != 0)
    c.flags(jnp.where(c.b == 0, U(_ZERO), U(0)) | _MINUS, keep=0xFF & ~_ZERO)


def _table() -> tuple[np.ndarray, list]:
    """For each opcode of the plain page and of page ED the number of its handler; the handlers."""
    low = [
        [nothing, exchange_af, jump_counting, *[jump_relative] * 5],
        [load_pair, add_pair] * 4,
        [store_a_to_pair, load_a_from_pair] * 2,
        [step_pair] * 8, [step_register] * 8, [step_register] * 8, [load_byte] * 8,
        [*[rotate_a] * 4, adjust, complement, set_carry, set_carry],
    ]  # x = 0, by z and y  # fmt: skip
    low[2] += [store_pair, load_pair_from_memory, store_a, load_a]
    high = [
        [leave] * 8, [pop, leave, pop, exchange_all, pop, jump_to_hl, pop, load_stack],
        [jump] * 8,
        [jump, page_of_bits, output_a, input_a, exchange_stack, exchange_hl, *[interrupts] * 2],
        [call] * 8, [push, call, push, prefix, push, nothing, push, prefix],
        [arithmetic] * 4 + [logic] * 3 + [arithmetic], [restart] * 8,
    ]  # x = 3  # fmt: skip
    other = [
        [input_register] * 8, [nothing] * 8, [add_pair_with_carry] * 8,
        [store_pair, load_pair_from_memory] * 4, [negate] * 8, [leave] * 8, [nothing] * 8,
        [load_special] * 4 + [rotate_digits] * 2 + [nothing] * 2,
    ]  # page ED, x = 1  # fmt: skip
    page = []
    for code in range(256):
        x, y, z = code >> 6, code >> 3 & 7, code & 7
        if x == 1:
            one = store if y == 6 else load_from_memory if z == 6 else load
            page.append(halt if code == 0x76 else one)
        elif x == 0 and y == 6 and z in (4, 5, 6):
            page.append(store_byte if z == 6 else step_memory)
        else:
            page.append((low[z], None, high[6], high[z])[x][y])
    blocks = [copy_block, compare_block, exchange_block, exchange_block]
    second = {
        one: partial(_after_ed, one) for one in [*sum(other, []), *blocks]
    }
    for code in range(256):
        x, y, z = code >> 6, code >> 3 & 7, code & 7
        one = blocks[z] if x == 2 and y >= 4 and z < 4 else nothing
        page.append(second[other[z][y] if x == 1 else one])
    handlers = [*dict.fromkeys(page), restore]
    return np.array([handlers.index(one) for one in page], np.uint32), handlers


_TABLE, _HANDLERS = _table()
