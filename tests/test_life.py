"""The soups' kernels against interpreters in plain Python and against the reference program."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lib import life

STEPS = 8192


def plain_bff(tape, language, steps):
    """Section 2 of the paper, one byte after the other."""
    t, symbol = [int(b) for b in tape], language.symbols
    head0 = head1 = pc = 0
    if language.heads_on_tape:
        head0, head1, pc = t[0] % 128, t[1] % 128, 2
    for step in range(steps):
        head0, head1 = head0 % 128, head1 % 128
        s = symbol[t[pc]]
        if s in ("<", ">"):
            head0 += 1 if s == ">" else -1
        elif s in ("{", "}"):
            head1 += 1 if s == "}" else -1
        elif s in ("+", "-"):
            t[head0] = (t[head0] + (1 if s == "+" else -1)) % 256
        elif s == ".":
            t[head1] = t[head0]
        elif s in (",", "⊲"):
            t[head0] = t[head1]
            head1 += s == "⊲"
        elif s in ("[", "]") and (t[head0] & language.null == 0) == (s == "["):
            stride = 1 if s == "[" else -1
            if language.jump:
                pc += stride * language.jump
            else:
                depth, pc = 1, pc + stride
                while 0 <= pc < 128:
                    depth += {"[": stride, "]": -stride}.get(symbol[t[pc]], 0)
                    if depth == 0:
                        break
                    pc += stride
            if not 0 <= pc < 128:
                return t, step + 1
        pc += 1
        if pc == 128:
            return t, step + 1
    return t, steps


def plain_subleq(tape, language, steps):
    t, pc, width = [int(b) for b in tape], 0, 4 if language.relative else 3
    for step in range(steps):
        if language.relative:
            a, b, c = ((pc + t[pc + k]) % 128 for k in range(3))
            t[a] = (t[b] - t[c]) % 256
        else:
            a, b = t[pc] % 128, t[pc + 1] % 128
            t[a] = (t[a] - t[b]) % 256
        if t[a] == 0 or t[a] >= 128:
            to = t[pc + width - 1]
            pc = pc + (to - 256 if to >= 128 else to) if language.relative else to
        else:
            pc += width
        if pc < 0 or pc + width > 128:
            return t, step + 1
    return t, steps


def plain_splitmix(x):
    z = (x + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def renewed(tape, pc):
    """Random bytes for the first program, drawn from the tape and the pointer."""
    seed = 0
    for byte in tape:
        seed = plain_splitmix(seed ^ byte)
    return [plain_splitmix((seed * 4096 + pc * 64 + i) % 2**64) % 256 for i in range(64)]


def plain_forth(tape, language, steps):
    t, stack, pc, full = [int(b) for b in tape], [], 0, False

    def pop():
        return stack.pop() if stack else 0

    def push(value):
        nonlocal full
        full |= len(stack) == 128
        if not full:
            stack.append(value % 256)

    for step in range(steps):
        byte = t[pc]
        word = language.words[byte] if byte < len(language.words) else ""
        space = 64 if word.endswith("1") else 0
        cells = 64 if word[-1:] in ("0", "1") else 128
        pc += 1
        if byte >= 128:
            pc += -1 - (byte % 64 + 1) if byte & 64 else byte % 64
        elif byte >= 64:
            push(byte - 64)
        elif word.startswith("read"):
            push(t[space + pop() % cells])
        elif word.startswith("write"):
            value, at = pop(), pop() % cells
            if language.reset and word == "write1" and t[64 + at] == 0x13:
                t[:64] = renewed(t, pc - 1)
            else:
                t[space + at] = value
        elif word == "copy":
            to, source = pop() % 128, pop() % 128
            t[to] = t[source]
        elif word in ("copy0", "copy1"):
            at = pop() % 64
            if language.reset and word == "copy0" and t[64 + at] == 0x13:
                t[:64] = renewed(t, pc - 1)
            else:
                t[at + (64 - space)] = t[at + space]
        elif word == "if0":
            value = pop()
            pc += value != 0
            push(value)
        elif word == "dup":
            value = pop()
            push(value), push(value)
        elif word == "swap":
            a, b = pop(), pop()
            push(a), push(b)
        elif word in ("add", "sub"):
            a, b = pop(), pop()
            push(a + b if word == "add" else a - b)
        elif word:
            value = pop()
            if word != "drop":
                push({"inc": value + 1, "dec": value - 1, "xor": value ^ 64}[word])
        if not 0 <= pc < 128 or full:
            return t, step + 1
    return t, steps


PLAIN = {life.Bff: plain_bff, life.Subleq: plain_subleq, life.Forth: plain_forth}


def tapes_for(language, count, seed):
    """Tapes from nearly empty of instructions to full of them, some with many zeros."""
    rng = np.random.default_rng(seed)
    tapes = rng.integers(0, 256, (count, 128), dtype=np.uint8)
    if isinstance(language, life.Subleq):
        return tapes
    codes = [b for b in range(256) if language.symbols[b]]
    dense = rng.random(tapes.shape) < rng.choice([0.04, 0.1, 0.25, 0.5, 0.8, 1.0], (count, 1))
    tapes = np.where(dense, rng.choice(codes, tapes.shape), tapes)
    zero = rng.random(tapes.shape) < rng.choice([0.0, 0.2, 0.6], (count, 1))
    if getattr(language, "reset", False):  # many cells that must not be written to
        tapes = np.where(rng.random(tapes.shape) < 0.3, 0x13, tapes)
    return np.where(zero, 0, tapes).astype(np.uint8)


@pytest.mark.parametrize("name", life.LANGUAGES)
def test_every_language_equals_a_plain_interpreter(name):
    language, steps = life.language(name), 1000
    count = 600 if name == "bff_noheads" else 200
    tapes = tapes_for(language, count, seed=1)
    with jax.enable_x64(True):
        after, _, taken = life.run_tapes(jnp.asarray(tapes), language, steps=steps)
    plain = [PLAIN[type(language)](tape, language, steps) for tape in tapes]
    np.testing.assert_array_equal(taken, [n for _, n in plain])
    np.testing.assert_array_equal(after, [t for t, _ in plain])


@pytest.mark.parametrize(
    "name", [n for n, x in life.LANGUAGES.items() if isinstance(x, life.Forth)]
)
def test_loops_over_a_deep_stack_end_as_in_a_plain_interpreter(name):
    language, rng, count = life.language(name), np.random.default_rng(2), 100
    tapes = np.full((count, 128), 0x3F, np.uint8)  # does nothing
    tapes[:, :40] = rng.integers(0x40, 0x80, (count, 40))  # constants
    tapes[:, 40:48] = rng.integers(0, len(language.words), (count, 8))
    tapes[:, 40:48][rng.random((count, 8)) < 0.2] = 0x41
    tapes[:, 48:50] = 0xC7, 0xC8  # back to byte 40; the second where `if0` skips the first
    inc, if0 = (language.words.index(word) for word in ("inc", "if0"))
    tapes[0, :5] = 0x41, inc, if0, 0xBF, 0xC2  # counts to 256, then jumps out
    with jax.enable_x64(True):
        after, _, taken = life.run_tapes(jnp.asarray(tapes), language, steps=STEPS)
    plain = [plain_forth(tape, language, STEPS) for tape in tapes]
    np.testing.assert_array_equal(taken, [n for _, n in plain])
    np.testing.assert_array_equal(after, [t for t, _ in plain])
    assert np.mean(np.asarray(taken) == STEPS) > 0.3


# SHA-256 of the soup's bytes by program number, from checkpoints of the reference program
DIGESTS = {
    (256, 10248, 33): "8a42488f7b3efac6c126d8e5d378fc6b4a90fd84cf2bf9073b6928f45cfd1fc9",
    (1024, 7, 129): "2333d2d72adce3ee2000095e37e60d7fd7e237ff5880e6bbd8a39eb65f1e774e",
    (32768, 103, 126): "5266d079a78bdc0b91aedcff50fcf3b1fec202934ebf27e77d6580a1ac8e6bc2",
}


@pytest.mark.parametrize("n, seed, epochs", DIGESTS)
def test_soups_are_those_of_the_reference_program(n, seed, epochs):
    soup = life.advance(life.primordial(seed, n), epochs, seed=seed)
    digest = hashlib.sha256(soup.in_order().tobytes()).hexdigest()
    assert digest == DIGESTS[n, seed, epochs]


def test_epochs_can_be_cut_anywhere_and_tokens_change_nothing():
    whole = life.advance(life.primordial(5, 64), 20, seed=5)
    parts = life.primordial(5, 64, tokens=True)
    for epochs in (3, 17):
        parts = life.advance(parts, epochs, seed=5)
    np.testing.assert_array_equal(whole.in_order(), parts.in_order())
    assert parts.tokens.shape == parts.programs.shape


def test_a_token_travels_with_its_byte():
    soup = life.primordial(5, 64, tokens=True)
    soup = life.advance(soup, 1, seed=5, mutation=0)
    with jax.enable_x64(True):
        tokens = np.asarray(soup.tokens)
    np.testing.assert_array_equal(tokens & 0xFF, np.asarray(soup.programs))
    assert len(np.unique(tokens)) < tokens.size  # something was copied


@pytest.mark.parametrize("pairing", life.PAIRINGS)
def test_every_program_meets_one_other_at_most(pairing):
    soup = life.primordial(3, 64)
    options = dict(pairing=pairing, shape=(8, 8) if pairing == "grid" else None)
    after = life.advance(soup, 2, seed=3, mutation=0, steps=1, **options)
    assert sorted(np.asarray(after.where)) == list(range(64))


def test_on_a_grid_partners_are_neighbours():
    near, count = life.neighbours((8, 8))
    assert count[0] == 8 and count.max() == 24  # a corner, and the middle
    soup = life.advance(life.primordial(3, 64), 1, seed=3, pairing="grid", shape=(8, 8))
    where = np.asarray(soup.where)
    met = [k for k in range(32) if where[2 * k + 1] in near[where[2 * k], : count[where[2 * k]]]]
    assert len(met) > 20  # the rest met nobody


def test_bad_input_is_named():
    soup = life.primordial(1, 6)
    wrong = [
        (lambda: life.language("brainfuck"), "language='brainfuck' is not known"),
        (lambda: life.primordial(1, 7), "n=7 must be an even number"),
        (lambda: life.advance(soup, 1, seed=1, pairing="love"), "pairing='love' is not known"),
        (lambda: life.advance(soup, 1, seed=1, pairing="grid", shape=(2, 2)), "shape="),
        (lambda: life.advance(soup, 1, seed=1, pairing="fixed"), "power of two"),
        (lambda: life.advance(soup, 1, seed=1, mutation=-1), "mutation=-1"),
        (
            lambda: life.run_tapes(jnp.zeros((2, 64), jnp.uint8), life.language("bff")),
            "wanted uint8",
        ),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
