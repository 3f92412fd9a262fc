"""The Z80 against the manual, an interpreter that executes the disassembly, and its soup."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from lib.life import z80
from lib.life.z80 import run_z80, trace_z80
from lib.life.z80.text import decode, disassemble


@functools.cache
def taken_apart(code):
    text, length = decode(list(code), 0)
    name, _, operands = text.partition(" ")
    return "do_" + name.lower(), tuple(filter(None, operands.split(","))), length


class Plain:
    """A Z80 that executes text: `LD A,(IX+5)` is taken apart at its operands."""

    HALVES = {"B": ("BC", 8), "C": ("BC", 0), "D": ("DE", 8), "E": ("DE", 0), "H": ("HL", 8),
              "L": ("HL", 0), "A": ("AF", 8), "F": ("AF", 0), "IXH": ("IX", 8), "IXL": ("IX", 0),
              "IYH": ("IY", 8), "IYL": ("IY", 0)}  # fmt: skip
    PLACE = {"C": 0, "N": 1, "P": 2, "X": 3, "H": 4, "Y": 5, "Z": 6, "S": 7}
    CONDITION = {"NZ": "Z0", "Z": "Z1", "NC": "C0", "C": "C1", "PO": "P0", "PE": "P1", "P": "S0",
                 "M": "S1"}  # fmt: skip

    def __init__(self, tape):
        self.memory, self.pc, self.halted = [int(b) for b in tape], 0, False
        self.pairs = dict.fromkeys(("BC", "DE", "HL", "IX", "IY"), 0) | {"AF": 65535, "SP": 65535}
        self.others = dict.fromkeys(("BC", "DE", "HL", "AF"), 0)
        self.i = self.r = self.enabled = 0

    # operands, by their text
    def address(self, text):
        inner = text[1:-1]
        if inner[-1] != "h":
            return (self.pairs[inner[:2]] + int(inner[2:] or 0)) % 65536
        return int(inner[:-1], 16)

    def get(self, text):
        if text in self.HALVES:
            pair, shift = self.HALVES[text]
            return self.pairs[pair] >> shift & 255
        if text in self.pairs:
            return self.pairs[text]
        if text in ("I", "R"):
            return self.i if text == "I" else self.r
        if text[0] == "(":
            return self.memory[self.address(text) % 32]
        return int(text[:-1], 16) if text[-1] == "h" else int(text)

    def set(self, text, value):
        if text in self.HALVES:
            pair, shift = self.HALVES[text]
            self.pairs[pair] = self.pairs[pair] & ~(255 << shift) | (value & 255) << shift
        elif text in self.pairs:
            self.pairs[text] = value & 65535
        elif text == "I":
            self.i = value
        elif text == "R":
            self.r = value
        else:
            self.memory[self.address(text) % 32] = value & 255

    def word(self, address):
        return self.memory[address % 32] + 256 * self.memory[(address + 1) % 32]

    def set_word(self, address, value):
        self.memory[address % 32], self.memory[(address + 1) % 32] = value & 255, value >> 8 & 255

    def flag(self, name):
        return self.pairs["AF"] >> self.PLACE[name] & 1

    def flags(self, **values):
        for name, value in values.items():
            bit = 1 << self.PLACE[name]
            self.pairs["AF"] = self.pairs["AF"] & ~bit | bit * bool(value)

    def look(self, value, parity=True):
        self.flags(S=value & 128, Z=value == 0, Y=value & 32, X=value & 8)
        if parity:
            self.flags(P=bin(value).count("1") % 2 == 0)
        return value

    def sum(self, a, b, carry, bits=8):
        """Signed and unsigned, by plain numbers: overflow is what does not fit."""
        size = 1 << bits
        total = (a + b + carry) % size
        signed = sum(v - size * (v >= size // 2) for v in (a, b)) + carry
        low = size // 16
        self.flags(
            S=total >= size // 2, Z=total == 0, Y=total >> bits - 3 & 1, X=total >> bits - 5 & 1,
            H=a % low + b % low + carry >= low, P=not -size // 2 <= signed < size // 2, N=0,
            C=a + b + carry >= size,
        )  # fmt: skip
        return total

    def difference(self, a, b, carry, bits=8):
        size = 1 << bits
        total = (a - b - carry) % size
        one, other = (v - size * (v >= size // 2) for v in (a, b))
        low = size // 16
        self.flags(
            S=total >= size // 2, Z=total == 0, Y=total >> bits - 3 & 1, X=total >> bits - 5 & 1,
            H=a % low - b % low - carry < 0, N=1, C=a - b - carry < 0,
            P=not -size // 2 <= one - other - carry < size // 2,
        )  # fmt: skip
        return total

    def holds(self, condition):
        name, value = self.CONDITION[condition]
        return self.flag(name) == int(value)

    def push(self, value):
        self.set("SP", self.pairs["SP"] - 2)
        self.set_word(self.pairs["SP"], value)

    def pop(self):
        value = self.word(self.pairs["SP"])
        self.set("SP", self.pairs["SP"] + 2)
        return value

    def step(self):
        code = tuple(self.memory[(self.pc + n) % 32] for n in range(5))
        first, second = code[:2]
        prefixed = first in (0xDD, 0xFD)
        core = second if prefixed else first
        opcodes = 1 + prefixed + (core == 0xED) + (core == 0xCB and not prefixed)
        self.r = self.r & 128 | (self.r + opcodes) % 128
        name, operands, length = taken_apart(code)
        self.pc = (self.pc + length) % 65536
        getattr(self, name)(*operands)
        self.pc %= 65536

    def do_nop(self, *_): ...

    do_im = do_out = do_nop

    def do_halt(self):
        self.halted = True

    def do_di(self):
        self.enabled = 0

    def do_ei(self):
        self.enabled = 1

    def do_ld(self, to, source):
        wide = to in self.pairs or source in self.pairs
        if wide and source[0] == "(":
            self.set(to, self.word(self.address(source)))
        elif wide and to[0] == "(":
            self.set_word(self.address(to), self.get(source))
        else:
            self.set(to, self.get(source))
        if source in ("I", "R"):
            parity = self.enabled
            self.look(self.get("A"))
            self.flags(H=0, N=0, P=parity)

    def do_push(self, pair):
        self.push(self.pairs[pair])

    def do_pop(self, pair):
        self.pairs[pair] = self.pop()

    def do_ex(self, one, other):
        if one == "(SP)":
            value = self.word(self.pairs["SP"])
            self.set_word(self.pairs["SP"], self.pairs[other])
            self.pairs[other] = value
        elif one == "AF":
            self.pairs["AF"], self.others["AF"] = self.others["AF"], self.pairs["AF"]
        else:
            self.pairs["DE"], self.pairs["HL"] = self.pairs["HL"], self.pairs["DE"]

    def do_exx(self):
        for pair in ("BC", "DE", "HL"):
            self.pairs[pair], self.others[pair] = self.others[pair], self.pairs[pair]

    def do_add(self, to, by):
        if to == "A":
            self.set(to, self.sum(self.get("A"), self.get(by), 0))
        else:
            kept = {name: self.flag(name) for name in "SZP"}
            self.set(to, self.sum(self.pairs[to], self.pairs[by], 0, 16))
            self.flags(**kept)

    def do_adc(self, to, by):
        self.set(to, self.sum(self.get(to), self.get(by), self.flag("C"), 8 if to == "A" else 16))

    def do_sbc(self, to, by):
        bits = 8 if to == "A" else 16
        self.set(to, self.difference(self.get(to), self.get(by), self.flag("C"), bits))

    def do_sub(self, by):
        self.set("A", self.difference(self.get("A"), self.get(by), 0))

    def do_cp(self, by):
        value = self.get(by)
        self.difference(self.get("A"), value, 0)
        self.flags(Y=value & 32, X=value & 8)

    def do_neg(self):
        self.set("A", self.difference(0, self.get("A"), 0))

    def logic(self, value, half):
        self.set("A", self.look(value))
        self.flags(H=half, N=0, C=0)

    def do_and(self, by):
        self.logic(self.get("A") & self.get(by), 1)

    def do_or(self, by):
        self.logic(self.get("A") | self.get(by), 0)

    def do_xor(self, by):
        self.logic(self.get("A") ^ self.get(by), 0)

    def one_more(self, operand, by):
        if operand in self.pairs:
            self.set(operand, self.pairs[operand] + by)
            return
        carry, value = self.flag("C"), self.get(operand)
        self.set(operand, (self.sum if by == 1 else self.difference)(value, 1, 0))
        self.flags(C=carry)

    def do_inc(self, operand):
        self.one_more(operand, 1)

    def do_dec(self, operand):
        self.one_more(operand, -1)

    def do_daa(self):
        a, by = self.get("A"), 0
        if a % 16 > 9 or self.flag("H"):
            by = 6
        if a > 0x99 or self.flag("C"):
            by += 0x60
        after = (a - by if self.flag("N") else a + by) % 256
        half = self.flag("H") and a % 16 < 6 if self.flag("N") else a % 16 > 9
        self.set("A", self.look(after))
        self.flags(H=half, C=by >= 0x60)

    def do_cpl(self):
        self.set("A", 255 - self.get("A"))
        self.flags(H=1, N=1, Y=self.get("A") & 32, X=self.get("A") & 8)

    def do_scf(self):
        self.flags(H=0, N=0, C=1, Y=self.get("A") & 32, X=self.get("A") & 8)

    def do_ccf(self):
        carry = self.flag("C")
        self.do_scf()
        self.flags(H=carry, C=not carry)

    def shift(self, name, value):
        bits = [value >> n & 1 for n in range(8)]
        into = {"RLC": bits[7], "RRC": bits[0], "SLA": 0, "SLL": 1, "SRL": 0, "SRA": bits[7]}
        into = into.get(name, self.flag("C"))
        left = name in ("RLC", "RL", "SLA", "SLL")
        self.flags(C=bits[7 if left else 0])
        bits = [into, *bits[:7]] if left else [*bits[1:], into]
        return sum(bit << n for n, bit in enumerate(bits))

    def of_a(self, name):
        value = self.shift(name, self.get("A"))
        self.set("A", value)
        self.flags(H=0, N=0, Y=value & 32, X=value & 8)

    def of_any(self, name, operand, copy=None):
        value = self.look(self.shift(name, self.get(operand)))
        self.flags(H=0, N=0)
        self.set(operand, value)
        if copy:
            self.set(copy, value)

    def do_bit(self, bit, operand):
        value = self.get(operand)
        self.look(value & 1 << int(bit))
        seen = self.address(operand) >> 8 if operand[:2] == "(I" else value
        self.flags(H=1, N=0, Y=seen & 32, X=seen & 8)

    def do_res(self, bit, operand, copy=None):
        value = self.get(operand) & ~(1 << int(bit))
        for to in filter(None, (operand, copy)):
            self.set(to, value)

    def do_set(self, bit, operand, copy=None):
        value = self.get(operand) | 1 << int(bit)
        for to in filter(None, (operand, copy)):
            self.set(to, value)

    def do_jp(self, *operands):
        if operands[-1][0] == "(":
            self.pc = self.pairs[operands[-1][1:-1]]
        elif len(operands) == 1 or self.holds(operands[0]):
            self.pc = self.get(operands[-1])

    def do_jr(self, *operands):
        if len(operands) == 1 or self.holds(operands[0]):
            self.pc += int(operands[-1])

    def do_djnz(self, by):
        self.set("B", self.get("B") - 1)
        if self.get("B"):
            self.pc += int(by)

    def do_call(self, *operands):
        if len(operands) == 1 or self.holds(operands[0]):
            self.push(self.pc)
            self.pc = self.get(operands[-1])

    def do_rst(self, to):
        self.do_call(to)

    def do_ret(self, *condition):
        if not condition or self.holds(*condition):
            self.pc = self.pop()

    do_reti = do_retn = do_ret

    def do_in(self, to, port):
        if port == "(C)":
            self.look(0)
            self.flags(H=0, N=0)
        if to != "F":
            self.set(to, 0)

    def digits(self, left):
        a, m = self.get("A"), self.get("(HL)")
        three = (m >> 4, m % 16, a % 16) if left else (m % 16, a % 16, m >> 4)
        self.set("A", self.look(a & 0xF0 | three[0]))
        self.set("(HL)", three[1] << 4 | three[2])
        self.flags(H=0, N=0)

    def do_rld(self):
        self.digits(True)

    def do_rrd(self):
        self.digits(False)

    def block(self, name):
        kind, stride, again = name[:-1], 1 if "I" in name[2:] else -1, name[-1] == "R"
        kind, memory, more = name[:2], self.get("(HL)"), True
        if kind == "LD":
            self.set("(DE)", memory)
            self.set("DE", self.get("DE") + stride)
            seen = self.get("A") + memory
            self.flags(H=0, N=0)
        elif kind == "CP":
            carry = self.flag("C")
            value = self.difference(self.get("A"), memory, 0)
            seen, more = value - self.flag("H"), value != 0
            self.flags(C=carry)
        if kind in ("LD", "CP"):
            self.set("BC", self.get("BC") - 1)
            self.flags(P=self.get("BC"), X=seen & 8, Y=seen & 2)
            more = more and self.get("BC") != 0
        else:
            if kind == "IN":
                self.set("(HL)", 0)
            self.set("B", self.get("B") - 1)
            self.flags(Z=self.get("B") == 0, N=1)
            more = self.get("B") != 0
        self.set("HL", self.get("HL") + stride)
        self.pc -= 2 * (again and more)


for _name in ("RLC", "RRC", "RL", "RR", "SLA", "SRA", "SLL", "SRL"):
    setattr(Plain, "do_" + _name.lower(), lambda c, *o, _name=_name: c.of_any(_name, *o))
    setattr(Plain, f"do_{_name.lower()}a", lambda c, _name=_name: c.of_a(_name))
Plain.do_sla = lambda c, *o: c.of_any("SLA", *o)
for _name in "LDI LDD LDIR LDDR CPI CPD CPIR CPDR INI IND INIR INDR OUTI OUTD OTIR OTDR".split():
    setattr(Plain, "do_" + _name.lower(), lambda c, _name=_name: c.block(_name))


def plain_z80(tape, steps):
    c = Plain(tape)
    for n in range(steps):
        if c.halted:
            return c.memory, n
        c.step()
    return c.memory, steps


TAPES = 2400  # always as many: one compilation


def fuzzed(count, seed):
    """Random bytes, some tapes rich in prefixes, stack and blocks."""
    rng = np.random.default_rng(seed)
    tapes = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    rare = [0xED, 0xCB, 0xDD, 0xFD, 0xF5, 0xF1, 0xC5, 0xE3, 0x08, 0xD9, 0x27, *range(0xA0, 0xBC)]
    dense = rng.random(tapes.shape) < rng.choice([0.0, 0.2, 0.5], (count, 1))
    return np.where(dense, rng.choice(rare, tapes.shape), tapes).astype(np.uint8)


def test_equals_an_interpreter_of_its_disassembly():
    tapes, steps = fuzzed(TAPES, seed=1), 90
    after, taken = run_z80(jnp.asarray(tapes), steps=steps)
    plain = [plain_z80(tape, steps) for tape in tapes]
    np.testing.assert_array_equal(taken, [n for _, n in plain])
    np.testing.assert_array_equal(after, [t for t, _ in plain])


# What the manual says of each class of instruction. A program ends with PUSH AF, so that A lies in
# byte 30 and the flags (S Z 5 H 3 P N C) in byte 29; or it writes where it says.
# The bytes: `at` those of this address.
F, A = 29, 30
S, Z, H, P, N, C = 0x80, 0x40, 0x10, 0x04, 0x02, 0x01
DOCUMENTED = 0xD7
MANUAL = {
    "LD r,n; LD r,r'": ("3E 12 47 48 51 5A 63 6C 7D F5", {A: 0x12}),
    "LD (HL),r; LD r,(HL)": ("21 14 00 3E 77 77 46 78 3C 77", {0x14: 0x78}),
    "LD (HL),n": ("21 14 00 36 28", {0x14: 0x28}),
    "LD A,(BC); LD (DE),A": ("01 00 00 11 14 00 0A 12", {0x14: 0x01}),
    "LD A,(DE); LD (BC),A": ("11 00 00 01 14 00 1A 02", {0x14: 0x11}),
    "LD A,(nn); LD (nn),A": ("3A 00 00 32 14 00", {0x14: 0x3A}),
    "LD dd,nn; LD (nn),HL": ("21 3A 48 22 14 00", {0x14: 0x3A, 0x15: 0x48}),
    "LD HL,(nn)": ("2A 00 00 22 14 00", {0x14: 0x2A, 0x15: 0x00}),
    "LD (nn),dd; LD dd,(nn)": ("ED 5B 00 00 ED 53 14 00", {0x14: 0xED, 0x15: 0x5B}),
    "LD SP,HL; PUSH qq": ("21 18 00 F9 01 33 22 C5", {0x16: 0x33, 0x17: 0x22}),
    "POP qq": ("31 00 00 C1 31 18 00 C5", {0x16: 0x31, 0x17: 0x00}),
    "PUSH IX": ("DD 21 33 22 31 18 00 DD E5", {0x16: 0x33, 0x17: 0x22}),
    "EX DE,HL": ("11 22 28 21 9A 49 EB 22 14 00", {0x14: 0x22, 0x15: 0x28}),
    "EX AF,AF'": ("3E 22 08 3E 44 08 F5", {A: 0x22}),
    "EXX": ("21 5A 44 D9 21 88 05 D9 22 14 00", {0x14: 0x5A, 0x15: 0x44}),
    "EX (SP),HL": ("21 12 70 31 14 00 E3 22 16 00", {0x14: 0x12, 0x15: 0x70, 0x16: 0, 0x17: 0}),
    "LDI": ("21 00 00 11 14 00 01 07 00 ED A0 F5", {0x14: 0x21, F: S | Z | P | C}),
    "LDIR": ("11 14 00 01 03 00 ED B0 F5", {0x14: 0x11, 0x15: 0x14, 0x16: 0, F: S | Z | C}, 6),
    "LDDR": ("21 01 00 11 15 00 01 02 00 ED B8", {0x14: 0x21, 0x15: 0x01}, 5),
    "CPI": ("3E 3E 01 01 00 ED A1 F5", {A: 0x3E, F: Z | N | C}),
    "CPIR": ("3E 07 01 07 00 ED B1 22 14 00", {0x14: 0x02, 0x15: 0x00}, 5),
    "ADD A,r": ("3E 44 06 11 80 F5", {A: 0x55, F: 0}),
    "ADD A,n, overflow": ("3E 78 C6 69 F5", {A: 0xE1, F: S | H | P}),
    "ADC A,(HL)": ("3E 16 37 21 08 00 8E F5 10", {A: 0x27, F: 0}, 5),
    "SUB r": ("3E 29 16 11 92 F5", {A: 0x18, F: N}),
    "SUB, borrow": ("3E 01 D6 02 F5", {A: 0xFF, F: S | H | N | C}),
    "SBC A,n": ("3E 16 37 DE 05 F5", {A: 0x10, F: N}),
    "AND": ("3E C3 06 7B A0 F5", {A: 0x43, F: H}),
    "OR": ("3E 12 26 48 B4 F5", {A: 0x5A, F: P}),
    "XOR": ("3E 96 EE 5D F5", {A: 0xCB, F: S}),
    "CP": ("3E 63 FE 60 F5", {A: 0x63, F: N}),
    "INC r": ("AF 3E 7F 3C F5", {A: 0x80, F: S | H | P}),
    "DEC (HL)": ("AF 21 14 00 35 F5", {0x14: 0xFF, F: S | H | N}),
    "INC ss; DEC ss": ("21 FF 0F 23 22 14 00", {0x14: 0x00, 0x15: 0x10}),
    "DEC ss": ("11 01 10 1B 1B ED 53 14 00", {0x14: 0xFF, 0x15: 0x0F}),
    "DAA": ("3E 15 C6 27 27 F5", {A: 0x42, F: P | H}),
    "DAA after SUB": ("3E 42 D6 15 27 F5", {A: 0x27, F: P | N}),
    "CPL": ("AF 3E B4 2F F5", {A: 0x4B, F: Z | P | H | N}),
    "NEG": ("3E 98 ED 44 F5", {A: 0x68, F: H | N | C}),
    "CCF": ("AF 37 3F F5", {A: 0, F: Z | P | H}),
    "SCF": ("AF 37 F5", {A: 0, F: Z | P | C}),
    "ADD HL,ss": ("AF 21 42 42 11 11 11 19 22 14 00 F5", {0x14: 0x53, 0x15: 0x53, F: Z | P}),
    "ADC HL,ss": ("37 21 37 54 01 22 22 ED 4A 22 14 00", {0x14: 0x5A, 0x15: 0x76}),
    "SBC HL,ss": ("37 21 99 99 11 11 11 ED 52 22 14 00", {0x14: 0x87, 0x15: 0x88}),
    "RLCA": ("AF 3E 88 07 F5", {A: 0x11, F: Z | P | C}),
    "RRA": ("AF 3E E1 1F F5", {A: 0x70, F: Z | P | C}),
    "RLC r": ("06 88 CB 00 78 F5", {A: 0x11, F: P | C}),
    "SRA r": ("AF 06 B8 CB 28 78 F5", {A: 0xDC, F: S}),
    "SRL (IX+d)": ("DD CB 08 3E F5 00 00 00 8F", {8: 0x47, F: P | C}, 2),
    "BIT b,r": ("AF 06 FB CB 50 F5", {F: Z | H | P}),
    "SET b,(HL); RES b,(HL)": ("21 14 00 CB E6 CB C6 CB A6", {0x14: 0x01}),
    "RLD": ("21 08 00 3E 7A ED 6F F5 31", {8: 0x1A, A: 0x73, F: 0x01}, 4),
    "RRD": ("21 08 00 3E 84 ED 67 F5 20", {8: 0x42, A: 0x80, F: S | C}, 4),
    "JP nn": ("C3 05 00 3C 3C 3E 01 F5", {A: 1}, 3),
    "JP cc,nn": ("D2 05 00 3E 07 F5", {A: 7}),
    "JR e": ("18 01 76 3E 05 F5", {A: 5}),
    "JR cc,e": ("AF 20 01 3C 3C F5", {A: 2}),
    "DJNZ": ("AF 06 05 3C 10 FD F5", {A: 5}, 13),
    "CALL nn": ("31 18 00 CD 08 00", {0x16: 6, 0x17: 0}, 2),
    "RET": ("CD 06 00 3C F5 76 3E 09 C9", {A: 10, F: C}, 5),
    "CALL cc, not taken": ("AF C4 00 00 3C F5", {A: 1}),
    "RST p": ("31 18 00 EF 00 00 00 00 3E 04 F5", {0x16: 0x04, 0x17: 0x00}, 2),
    "JP (HL)": ("21 05 00 E9 76 3E 03 F5", {A: 3}),
    "HALT": ("3E 01 76 3E 02 F5", {31: 0}),
    "IN A,(n)": ("DB 01 F5", {A: 0}),
    "LD A,I": ("3E 61 ED 47 3E 00 FB ED 57 F5", {A: 0x61, F: P | C}),
    "LD A,R": ("00 00 ED 5F F5", {A: 4}),
    "LD (IX+d),n": ("DD 21 10 00 DD 36 04 5A FD 21 18 00 FD 7E FC F5", {0x14: 0x5A, A: 0x5A}),
    "ADD IX,pp": ("DD 21 33 33 01 55 55 DD 09 DD 22 14 00", {0x14: 0x88, 0x15: 0x88}),
}


@pytest.mark.parametrize("name", MANUAL)
def test_manual(name):
    program, wanted, *steps = MANUAL[name]
    code = bytes.fromhex(program)
    steps = steps[0] if steps else len(disassemble(code))
    tape = np.frombuffer(code.ljust(32, b"\0"), np.uint8)
    after, _ = run_z80(jnp.asarray(tape[None]), steps=steps)
    for place, value in wanted.items():
        mask = DOCUMENTED if place == F else 0xFF
        assert int(after[0, place]) & mask == value & mask, f"byte {place}"


def test_a_trace_shows_every_step():
    tape = np.frombuffer(bytes.fromhex("1E10EDB0").ljust(32, b"\xff"), np.uint8)
    seen = trace_z80(tape, steps=20)
    assert seen.tapes.shape == (21, 32) and list(seen.pc[:4]) == [0, 2, 2, 2]
    for n in (0, 1, 7, 20):
        after, _ = run_z80(jnp.asarray(tape[None]), steps=n)
        np.testing.assert_array_equal(seen.tapes[n], after[0])
    halted = trace_z80(np.full(32, 0x76, np.uint8), steps=20)
    assert halted.tapes.shape == (2, 32) and list(halted.pc) == [0]


def test_only_the_first_tapes_run():
    tapes = jnp.asarray(fuzzed(TAPES, seed=2))
    after, taken = run_z80(tapes, jnp.uint32(3))
    np.testing.assert_array_equal(after[3:], tapes[3:])
    assert not np.asarray(taken[3:]).any() and np.asarray(taken[:3]).all()


def test_text():
    wanted = {
        "1E 10 ED B0": ["LD E,10h", "LDIR"],
        "DD 7E 05 FD CB 03 16 DD 36 01 22": ["LD A,(IX+5)", "RL (IY+3)", "LD (IX+1),22h"],
        "DD E9 DD 26 05 DD EB": ["JP (IX)", "LD IXH,05h", "EX DE,HL"],
        "ED 7B 34 12 20 FE DD FD": ["LD SP,(1234h)", "JR NZ,-2", "NOP"],
        "DD CB FF C1 ED 00 18": ["SET 0,(IX-1),C", "NOP", "JR -35"],  # the last byte is the first
    }
    for code, texts in wanted.items():
        assert [line.text for line in disassemble(bytes.fromhex(code))] == texts


@pytest.mark.parametrize("name, share", [("push", 0.5), ("ldir", 1.0)])
def test_replicators_replicate(name, share):
    """As the first half, on random food: two copies afterwards."""
    food = np.random.default_rng(3).integers(0, 256, (TAPES, 16), dtype=np.uint8)
    program = np.frombuffer(z80.REPLICATORS[name], np.uint8)
    tapes = np.concatenate([np.tile(program, (len(food), 1)), food], axis=1)
    after, _ = run_z80(jnp.asarray(tapes))
    copied = (np.asarray(after).reshape(-1, 2, 16) == program).all((1, 2))
    assert copied.mean() >= share


class PlainSoup:
    """The supplement's soup, one random number after the other."""

    def __init__(self, seed, shape):
        self.state, (self.width, self.height) = seed, shape
        self.count = self.width * self.height
        self.bytes = [self.random() % 256 for _ in range(self.count * 16)]

    def random(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = (self.state ^ self.state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    def neighbour(self, cell, level, ahead):
        x, y = cell % self.width, cell // self.width
        place, side = (x, self.width) if level else (y, self.height)
        ahead = {0: 1, side - 1: -1}.get(place, ahead)
        return cell + ahead * (1 if level else self.width)

    def batch(self, mutation, steps):
        met, vain = [], 0
        while vain < 16 and len(met) < 8192:
            random = self.random()
            cell = (random >> 2) % self.count
            other = self.neighbour(cell, random >> 1 & 1, (random & 1) * 2 - 1)
            taken = {place for pair in met for place in pair}
            vain = vain + 1 if {cell, other} & taken else 0
            if not vain:
                met.append((cell, other))
        for pair in met:
            halves = [slice(16 * place, 16 * place + 16) for place in pair]
            tape, _ = plain_z80(sum((self.bytes[half] for half in halves), []), steps)
            self.bytes[halves[0]], self.bytes[halves[1]] = tape[:16], tape[16:]
        for _ in range(len(met) * mutation // 1024):
            random = self.random()
            self.bytes[(random >> 8) % len(self.bytes)] = random % 256
        return met


SHAPE = (20, 20)


def test_soup_is_that_of_the_supplement():
    plain, soup = PlainSoup(11, SHAPE), z80.primordial(11, SHAPE)
    options = dict(seed=11, shape=SHAPE, mutation=300, steps=128)
    for _ in range(3):
        soup = z80.advance(soup, 1, **options)
        met = plain.batch(300, 128)
        assert np.asarray(soup.met)[: len(met)].tolist() == [list(pair) for pair in met]
        assert int(soup.meetings) == len(met)
        np.testing.assert_array_equal(soup.programs.ravel(), plain.bytes)
    whole = z80.advance(z80.primordial(11, SHAPE), 3, **options)
    np.testing.assert_array_equal(whole.programs, soup.programs)


def test_pairs_are_disjoint_neighbours():
    width, _ = SHAPE
    soup = z80.advance(z80.primordial(1, SHAPE), 3, seed=1, shape=SHAPE, steps=128)
    met = np.asarray(soup.met)[: int(soup.meetings)].astype(int)
    assert len(met) > 40 and len(np.unique(met)) == met.size
    distance = np.abs(met % width - (met % width)[:, ::-1]) + np.abs(
        met // width - (met // width)[:, ::-1]
    )
    assert (distance == 1).all()
    assert set(np.sign(met[:, 1] - met[:, 0])) == {-1, 1}  # the first half lies on either side


def test_what_nobody_meets_stays():
    soup = z80.primordial(2, SHAPE)
    after = z80.advance(soup, 1, seed=2, shape=SHAPE, mutation=0, steps=128)
    alone = np.setdiff1d(np.arange(400), np.asarray(after.met)[: int(after.meetings)])
    np.testing.assert_array_equal(after.programs[alone], soup.programs[alone])
    assert alone.size


@pytest.mark.parametrize("name", z80.REPLICATORS)
def test_a_replicator_spreads(name):
    program = z80.REPLICATORS[name]
    soup = z80.plant(z80.primordial(4, SHAPE), program, range(0, 400, 25))
    soup = z80.advance(soup, 40, seed=4, shape=SHAPE, mutation=0, steps=128)
    assert (np.asarray(soup.programs) == np.frombuffer(program, np.uint8)).all(1).sum() > 32


def test_bad_input_is_named():
    soup = z80.primordial(1, (4, 4))
    wrong = [
        (lambda: z80.primordial(1, (1, 9)), "shape=\\(1, 9\\) must be"),
        (lambda: z80.advance(soup, 1, seed=1, shape=(2, 4)), "not that of a soup of 16"),
        (lambda: z80.advance(soup, 1, seed=1, shape=(4, 4), mutation=-1), "mutation=-1"),
        (lambda: z80.advance(soup, 1, seed=1, shape=(4, 4), steps=-1), "steps=-1"),
        (lambda: z80.plant(soup, bytes(16), [16]), "places=.* between 0 and 15"),
        (lambda: z80.plant(soup, bytes(17), [1]), "program has 17 bytes"),
        (lambda: run_z80(jnp.zeros((2, 32), jnp.uint8), steps=2**32), "steps=4294967296"),
        (lambda: run_z80(jnp.zeros((2, 16), jnp.uint8)), "wanted uint8"),
        (lambda: trace_z80(np.zeros(31, np.uint8)), "tape has 31 bytes"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
