"""The instructions of the Z80, each a function of the processor, and which opcode calls which.

Functions here change a `lib.life.z80.processor._Cpu`, whose registers are traced values: after
tracing, none of this is left but the native code. Opcodes are read as bits xx yyy zzz, with y as
pp q.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np

from lib.life.tape import U

SIGN, ZERO, HALF, PARITY, MINUS, CARRY = 0x80, 0x40, 0x10, 0x04, 0x02, 0x01
COPIED = 0x28  # flags 5 and 3, of which the manual says nothing
_KEPT = SIGN | ZERO | PARITY
# where a register begins in the packed ones: C B E D L H F A, and IX IY SP I
BC, DE, HL, FLAGS, A = 0, 16, 32, 48, 56
SP, VECTOR = 32, 48
# what shares a word with the program counter: whether interrupts are enabled; the end; a prefix
# that the next instruction is to obey, that this one obeys, that the one before obeyed; R
INTERRUPTS, HALTED, ARMED, DUE = 1 << 16, 1 << 17, 3 << 18, 3 << 20
PREFIX, REFRESH = 20, 24
STAYS = INTERRUPTS | 0x80 << REFRESH

_RESULTS = np.array(
    [r & (SIGN | COPIED) | ZERO * (r == 0) | PARITY * (r.bit_count() % 2 == 0) for r in range(256)],
    np.uint8,
)  # the flags that depend on the result only


def bit(condition):
    """1 where it holds, else 0."""
    return jnp.asarray(condition).astype(U)


def result_flags(value):
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
    c.control = c.control | kind << PREFIX - 2
    c.prefix = kind
    c.exchange()


def restore(c):
    """After an instruction with a prefix: no instruction, so nothing is fetched."""
    c.prefix = c.control >> PREFIX + 2 & 3
    c.exchange()
    c.pc = c.pc - 1
    c.control = c.control & STAYS | c.control - (1 << REFRESH) & 0x7F << REFRESH


def page_of_bits(c):
    """Page CB: rotations, BIT, RES and SET, of a register or of memory."""
    prefixed = c.prefix != 0
    pointer = c.pointer()
    c.decode(c.byte())
    c.count_fetch(~prefixed)
    memory = (c.z == 6) | prefixed
    value = jnp.where(memory, c.read(pointer), c.register(c.z))
    mask = U(1) << c.y
    rotated, carry = _rotated(c.y, value, c.f & CARRY)
    after = _choose(c.x, rotated, value, value & ~mask, value | mask)
    seen = result_flags(value & mask) & ~U(COPIED)
    seen = seen | jnp.where(prefixed, pointer >> 8, value) & COPIED | HALF | c.f & CARRY
    c.f = _choose(c.x, result_flags(rotated) | carry, seen, c.f, c.f)
    c.exchange()
    before = c.main
    c.set_register(c.z, after)
    c.main = jnp.where((c.z == 6) | (c.x == 1), before, c.main)
    c.exchange()
    c.write(pointer, after, when=memory)


def halt(c):
    c.control = c.control & ~U(DUE) | HALTED


def interrupts(c):
    c.control = c.control & ~U(INTERRUPTS) | c.q << 16


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
    c.push(c.stacked(c.p))


def pop(c):
    c.set_stacked(c.p, c.read_pair(c.stack))
    c.stack = c.stack + 2


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
    other = (c.main ^ c.alternate) & (2**FLAGS - 1)
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
    compared = c.f & ~U(COPIED) | b & COPIED
    c.f = jnp.where(c.y < 2, plus, jnp.where(c.y == 7, compared, c.f))
    c.a = jnp.where(c.y < 2, added, jnp.where(c.y == 7, a, less))


def logic(c):
    """AND XOR OR."""
    b = c.operand()
    c.a = jnp.where(c.y == 4, c.a & b, jnp.where(c.y == 5, c.a ^ b, c.a | b))
    c.f = result_flags(c.a) | jnp.where(c.y == 4, U(HALF), U(0))


def _stepped(c, value):
    """INC and DEC."""
    before = c.f
    more = c.add(value, U(1), U(0), keep=CARRY)
    plus = c.f
    c.f = before
    less = c.subtract(value, U(1), U(0), keep=CARRY)
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
    c.flags(r >> 8 & COPIED | (a ^ b ^ r) >> 8 & HALF | r >> 16, keep=_KEPT)
    c.hl = r


def add_pair_with_carry(c):
    """ADC HL and SBC HL."""
    less = c.q == 0
    a, b, carry = c.hl, c.pair(c.p), c.f & CARRY
    r = jnp.where(less, a - b - carry, a + b + carry)
    over = (a ^ r) & jnp.where(less, a ^ b, b ^ r) & 0x8000
    zero = jnp.where(r & 0xFFFF == 0, U(ZERO), U(0))
    c.f = (
        r >> 8 & (SIGN | COPIED) | (a ^ b ^ r) >> 8 & HALF | over >> 13 | r >> 16 & 1
        | zero | jnp.where(less, U(MINUS), U(0))
    )  # fmt: skip
    c.hl = r


def negate(c):
    c.a = c.subtract(U(0), c.a, U(0))


def rotate_a(c):
    value, carry = _rotated(c.y, c.a, c.f & CARRY)
    c.flags(value & COPIED | carry, keep=_KEPT)
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
    a, minus = c.a, c.f & MINUS != 0
    low = (a & 15 > 9) | (c.f & HALF != 0)
    high = (a > 0x99) | (c.f & CARRY != 0)
    by = jnp.where(low, U(6), U(0)) + jnp.where(high, U(0x60), U(0))
    r = jnp.where(minus, a - by, a + by)
    c.flags(result_flags(r) | (a ^ r) & HALF | bit(high), keep=MINUS)
    c.a = r


def complement(c):
    c.a = ~c.a
    c.flags(c.a & COPIED | HALF | MINUS, keep=_KEPT | CARRY)


def set_carry(c):
    """SCF and CCF."""
    carry = c.f & c.y & CARRY
    c.flags(c.a & COPIED | carry << 4 | carry ^ CARRY, keep=_KEPT)


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


def call(c):
    target, taken = c.pair_of_bytes(), (c.z == 5) | c.condition(c.y)
    c.push(c.pc, when=taken)
    c.pc = jnp.where(taken, target, c.pc)


def leave(c):
    """RET, and RETI and RETN of page ED."""
    taken = (c.z == 1) | (c.x == 1) | c.condition(c.y)
    c.pc = jnp.where(taken, c.read_pair(c.stack), c.pc)
    c.stack = c.stack + jnp.where(taken, U(2), U(0))


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
    c.flags(result_flags(U(0)), keep=CARRY)


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
    enabled = jnp.where(c.control & INTERRUPTS != 0, U(PARITY), U(0))
    flags = c.f & CARRY | result_flags(value) & (SIGN | ZERO | COPIED) | enabled
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
    c.flags(result_flags(c.a), keep=CARRY)


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
    c.flags(n & 8 | (n & 2) << 4 | jnp.where(more, U(PARITY), U(0)), keep=SIGN | ZERO | CARRY)


def compare_block(c):
    """CPI CPD CPIR CPDR."""
    r = c.subtract(c.a, c.read(c.hl), U(0), keep=CARRY)
    c.bc = c.bc - 1
    more, n = c.bc != 0, r - (c.f >> 4 & 1)
    c.hl = c.hl + _again(c, more & (r != 0))
    c.flags(
        n & 8 | (n & 2) << 4 | jnp.where(more, U(PARITY), U(0)),
        keep=SIGN | ZERO | HALF | MINUS | CARRY,
    )


def exchange_block(c):
    """INI IND INIR INDR, which read zeros, and OUTI OUTD OTIR OTDR."""
    c.write(c.hl, U(0), when=c.z == 2)
    c.b = c.b - 1
    c.hl = c.hl + _again(c, c.b != 0)
    c.flags(jnp.where(c.b == 0, U(ZERO), U(0)) | MINUS, keep=0xFF & ~ZERO)


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
    second = {one: partial(_after_ed, one) for one in [*sum(other, []), *blocks]}
    for code in range(256):
        x, y, z = code >> 6, code >> 3 & 7, code & 7
        one = blocks[z] if x == 2 and y >= 4 and z < 4 else nothing
        page.append(second[other[z][y] if x == 1 else one])
    handlers = [*dict.fromkeys(page), restore]
    return np.array([handlers.index(one) for one in page], np.uint32), handlers


TABLE, HANDLERS = _table()
