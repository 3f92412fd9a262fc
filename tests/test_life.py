"""The soups' kernels against interpreters in plain Python and against the reference program."""

from __future__ import annotations

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lib import life, parallel
from lib.life import gpu, replicators, splitmix

pytestmark = pytest.mark.computes
STEPS = 8192


@functools.cache
def symbols(language):
    """For each byte the instruction that it is, and by how much the nesting is deeper behind it."""
    return language.symbols, [(s == "[") - (s == "]") for s in language.symbols]


def plain_bff(tape, language, steps, origin=None):
    """Section 2 of the paper, one byte after the other; `origin` travels with the bytes."""
    origin = [0] * 128 if origin is None else origin
    t, (symbol, nesting) = list(tape), symbols(language)
    head0 = head1 = pc = 0
    if language.heads_on_tape:
        head0, head1, pc = t[0] % 128, t[1] % 128, 2
    for step in range(steps):
        s = symbol[t[pc]]
        if not s:
            pass
        elif s in "<>":
            head0 = (head0 + (1 if s == ">" else -1)) % 128
        elif s in "{}":
            head1 = (head1 + (1 if s == "}" else -1)) % 128
        elif s in "+-":
            t[head0] = (t[head0] + (1 if s == "+" else -1)) % 256
        elif s == ".":
            t[head1], origin[head1] = t[head0], origin[head0]
        elif s in ",⊲":
            t[head0], origin[head0] = t[head1], origin[head1]
            head1 = (head1 + (s == "⊲")) % 128
        elif (t[head0] & language.null == 0) == (s == "["):
            stride = 1 if s == "[" else -1
            if language.jump:
                pc += stride * language.jump
            else:
                depth, pc = 1, pc + stride
                while 0 <= pc < 128:
                    depth += stride * nesting[t[pc]]
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
    if isinstance(language, life.Forth):  # as many words as constants and jumps
        codes += list(range(len(language.words))) * (len(codes) // len(language.words))
    dense = rng.random(tapes.shape) < rng.choice([0.04, 0.1, 0.25, 0.5, 0.8, 1.0], (count, 1))
    tapes = np.where(dense, rng.choice(codes, tapes.shape), tapes)
    zero = rng.random(tapes.shape) < rng.choice([0.0, 0.2, 0.6], (count, 1))
    if getattr(language, "reset", False):  # many cells that must not be written to
        tapes = np.where(rng.random(tapes.shape) < 0.3, 0x13, tapes)
    return np.where(zero, 0, tapes).astype(np.uint8)


def run(tapes, language, steps=STEPS):
    with jax.enable_x64(True):
        after, _, taken = life.run_tapes(jnp.asarray(tapes), language, steps=steps)
    return np.asarray(after), np.asarray(taken)


@pytest.mark.parametrize("name", life.LANGUAGES)
def test_every_language_equals_a_plain_interpreter(name):
    language, steps = life.language(name), STEPS if name == "bff_noheads" else 200
    tapes = tapes_for(language, 10_240, seed=1)
    after, taken = run(tapes, language, steps)
    plain = [PLAIN[type(language)](tape, language, steps) for tape in tapes.tolist()]
    np.testing.assert_array_equal(taken, [n for _, n in plain])
    np.testing.assert_array_equal(after, [tape for tape, _ in plain])
    assert {1, steps} < set(taken) and len(set(taken)) > 20  # ended at once, stopped, all between
    np.testing.assert_array_equal(run(tapes, language, 0)[0], tapes)


BFF = [name for name, language in life.LANGUAGES.items() if isinstance(language, life.Bff)]


def with_tokens(tapes):
    """A token for each byte: its place among all of them, and the byte."""
    places = np.arange(tapes.size, dtype=np.uint64).reshape(tapes.shape)
    return places << np.uint64(8) | tapes.astype(np.uint64)


@pytest.mark.parametrize("name", BFF)
def test_tokens_travel_as_in_a_plain_interpreter_and_change_nothing(name):
    language = life.language(name)
    tapes = tapes_for(language, 512, seed=2)
    with jax.enable_x64(True):
        tokens = jnp.asarray(with_tokens(tapes))
        after, tokens, taken = life.run_tapes(jnp.asarray(tapes), language, tokens=tokens)
        tokens = np.asarray(tokens)
    alone, alone_taken = run(tapes, language)
    np.testing.assert_array_equal(after, alone)
    np.testing.assert_array_equal(taken, alone_taken)
    np.testing.assert_array_equal(tokens & np.uint64(255), alone)
    origins = np.arange(tapes.size).reshape(tapes.shape).tolist()
    for tape, origin in zip(tapes[:100].tolist(), origins[:100], strict=True):
        plain_bff(tape, language, STEPS, origin)
    np.testing.assert_array_equal(tokens[:100] >> np.uint64(8), origins[:100])


@pytest.mark.parametrize("name, track", [("bff_noheads", True), ("bff8", False)])
def test_the_kernel_for_a_gpu_has_the_same_bits(name, track):
    language = life.language(name)
    tapes = tapes_for(language, 256, seed=3)
    with jax.enable_x64(True):
        tokens = jnp.asarray(with_tokens(tapes)) if track else None
        args = (jnp.asarray(tapes), tokens, jnp.uint32(250))  # the last six do not run
        ours = gpu.run_bff(*args, language=language, steps=STEPS, interpret=True)
        cpu = life.run_tapes(args[0], language, count=args[2], tokens=tokens)
        jax.tree.map(np.testing.assert_array_equal, ours, cpu)
        traced = gpu.run_bff.trace(*args, language=language, steps=STEPS)
        assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


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


@pytest.mark.parametrize("n, seed, epochs", life.DIGESTS)
def test_soups_are_those_of_the_reference_program(n, seed, epochs):
    soup = life.advance(life.primordial(seed, n), epochs, seed=seed)
    assert soup.digest() == life.DIGESTS[n, seed, epochs]


@pytest.mark.parametrize("name", sorted({name for name, _ in life.LOG}))
def test_soups_have_the_complexity_that_the_reference_program_logs(name):
    soup = life.primordial(10248, 2**17)
    for (_, epoch), line in [item for item in life.LOG.items() if item[0][0] == name]:
        soup = life.advance(soup, epoch - int(soup.epoch), seed=10248, language_name=name)
        seen = life.complexity(soup.in_order())
        assert abs(seen.compressed - line.compressed) <= 1  # two ways to call brotli
        assert abs(seen.high_order - line.high_order) <= 5e-7 + 8 / soup.programs.size


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


def test_without_mutation_origins_only_die_out():
    soup = life.plant(life.primordial(10, 64, tokens=True), life.replicator("bff_noheads"), [0])
    counts = []
    for _ in range(25):  # a token without its byte, which "+" and "-" change
        counts.append(len(np.unique(np.asarray(soup.tokens) >> np.uint64(8))))
        soup = life.advance(soup, 1, seed=10, mutation=0)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 64 * 64 and counts[-1] < counts[0] / 4  # the replicator takes over


def test_many_soups_are_the_single_ones_on_any_number_of_devices():
    seeds = (5, 6, 7)  # one too many for two devices
    alone = [life.advance(life.primordial(seed, 64), 9, seed=seed) for seed in seeds]
    soups = life.stack([life.primordial(seed, 64) for seed in seeds])
    two = parallel.device_mesh("soups")
    assert two.size == 2
    for mesh in (None, two):
        after = life.advance_all(soups, 9, seeds=seeds, mesh=mesh)
        jax.tree.map(np.testing.assert_array_equal, after, life.stack(alone))


@pytest.mark.parametrize("n", [2, 601])
def test_the_shuffle_without_a_loop_is_the_one_with_it(n):
    ways = [jax.jit(way) for way in (splitmix._exchange_in_turn, splitmix._exchange_at_once)]
    index, rng = np.arange(n), np.random.default_rng(n)
    for swap in (rng.integers(0, index + 1), index, 0 * index, index // 2):
        swap = jnp.asarray(swap, jnp.uint32)
        order = list(range(n))
        for i, j in reversed(list(enumerate(swap.tolist()))):
            order[i], order[j] = order[j], order[i]
        for exchange in ways:
            np.testing.assert_array_equal(np.asarray(exchange(swap))[order], index)


def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    looked = []

    def look(soup):
        looked.append(int(soup.epoch))
        if broken and looked[-1] > 9:
            raise InterruptedError
        return {"tokens": life.different_tokens(soup.tokens)}

    def watched():
        looked.clear()
        return life.watch(
            life.primordial(5, 64, tokens=True), 20, every=3, look=look, name="soup", seed=5
        )

    broken = False
    whole, series = watched()
    monkeypatch.setattr(importlib.import_module("lib.life.watch"), "KEEP", -1)  # at every look
    monkeypatch.setenv("EXECUTABLE_PAPERS_RESUME", str(tmp_path))
    broken = True
    with pytest.raises(InterruptedError):
        watched()
    broken = False
    soup, again = watched()
    assert looked == [12, 15, 18, 20]
    jax.tree.map(np.testing.assert_array_equal, soup, whole)
    jax.tree.map(np.testing.assert_array_equal, again, series)
    assert list(series["epoch"]) == [0, 3, 6, 9, 12, 15, 18, 20]


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


def foods(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 64), dtype=np.uint8)


@pytest.mark.parametrize("name", life.REPLICATORS)
def test_a_replicator_copies_itself_and_so_do_its_copies(name):
    program, count = life.replicator(name), 4096 if name == "bff_noheads" else 512
    parents = np.tile(program, (count, 1))
    for generation in range(5):
        tapes = np.concatenate([parents, foods(count, generation)], axis=1)
        after, taken = run(tapes, life.language(name))
        np.testing.assert_array_equal(after, np.tile(program, (count, 2)))  # twice the program
        stops = {"subleq": 518, "rsubleq4": 194}  # the others do not
        np.testing.assert_array_equal(taken, stops.get(name, STEPS))
        parents = after[:, 64:]


# how often a replicator comes second and is still there afterwards
SURVIVAL = {"bff_noheads": 0.21, "forthtrivial": 0.90, "subleq": 0.22, "rsubleq4": 0.27}


@pytest.mark.parametrize("name", life.REPLICATORS)
def test_behind_its_food_a_replicator_hardly_ever_replicates(name):
    program, food = life.replicator(name), foods(2048, seed=9)
    tapes = np.concatenate([food, np.tile(program, (2048, 1))], axis=1)
    after, _ = run(tapes, life.language(name))
    copied, left = ((half == program).all(1).mean() for half in (after[:, :64], after[:, 64:]))
    assert copied < 0.01 and abs(left - SURVIVAL[name]) < 0.06


def test_one_byte_of_forth_copies_that_byte():
    program = replicators.one_byte()
    tapes = np.concatenate([np.tile(program, (512, 1)), foods(512, seed=1)], axis=1)
    after, _ = run(tapes, life.language("forthtrivial"))
    assert np.mean((after[:, 0] == 0x0C) & (after[:, 64] == 0x0C)) > 0.95  # food can spoil it
    assert life.self_replication(program[None], language_name="forthtrivial")[0] == 1


@pytest.mark.parametrize("name", ["bff_noheads", "subleq"])
def test_the_score_knows_replicators_from_random_programs(name):
    programs = np.concatenate([life.replicator(name)[None], foods(255, seed=4)])
    score = life.self_replication(programs, language_name=name)
    assert score[0] >= 48 and score[1:].max() < 5


def test_an_old_brotli_is_refused(monkeypatch):
    monkeypatch.setattr("brotli.__version__", "1.0.9")
    with pytest.raises(RuntimeError, match="brotli 1.0.9 is too old"):
        life.complexity(foods(2, seed=1))


def test_bad_input_is_named():
    soup = life.primordial(1, 6)
    wrong = [
        (lambda: life.language("brainfuck"), "language='brainfuck' is not known"),
        (lambda: life.replicator("bff8"), "language_name='bff8' has no replicator"),
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


def test_transitions_are_told_by_seed_and_do_not_depend_on_who_stands_beside():
    setting = dict(n=1024, until=48, every=16, language_name="bff_noheads_4bit", threshold=0.3)
    planted = np.tile(np.frombuffer(b"[[{.>]-]", np.uint8), 8)
    alone = life.transitions(range(4), planted=planted, **setting)
    together = life.transitions(range(4), planted=planted, side_by_side=3, **setting)
    assert alone == together and any(epoch is not None for epoch in alone)
    with pytest.raises(ValueError, match="every=0"):
        life.transitions([1], 64, until=10, every=0)


def test_resemblance_counts_a_program_and_its_mirror_image():
    program = np.arange(64, dtype=np.uint8)
    others = np.stack([program, program[::-1], np.full(64, 200, np.uint8)])
    assert life.resemblance(others, program).tolist() == [64, 64, 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_for_cycles_on_a_trace_is_sound(seed):
    """What is executed up to a cycle leaves the tape as the whole run does."""
    language = life.language("bff_noheads")
    for tape in tapes_for(language, 40, seed):
        done = life.trace(tape, language)
        stop = life.until_cycle(done, language)
        assert stop <= len(done.pc)
        np.testing.assert_array_equal(done.after(stop), done.after(len(done.pc)))


def plain_pairs(pairing, seed, epoch, shape):
    """Rows of programs and how many pairs meet, by the rules of the reference program."""

    def sub(x):
        return plain_splitmix(plain_splitmix(seed) ^ plain_splitmix(x))

    (width, height), n = shape, shape[0] * shape[1]
    if pairing == "fixed":
        stride = 2 ** (epoch % (n.bit_length() - 1) + 1) - 1
        return [(i * stride) % n ^ epoch & 1 for i in range(n)], n // 2
    if pairing == "ring":
        return [i if epoch % 2 else (i - 1) % n for i in range(n)], n // 2
    order = list(range(n))
    for i in reversed(range(n)):
        j = plain_splitmix(sub(epoch * n + i)) % (i + 1)
        order[i], order[j] = order[j], order[i]
    if pairing == "shuffle":
        return order, n // 2
    rows = []
    for i in order:
        y, x = divmod(i, width)
        near = [
            b * width + a
            for b in range(max(y - 2, 0), min(y + 3, height))
            for a in range(max(x - 2, 0), min(x + 3, width))
            if (a, b) != (x, y)
        ]
        other = near[sub(sub(epoch) ^ sub(i)) % len(near)]
        if i not in rows and other not in rows:
            rows += [i, other]
    return rows + [i for i in range(n) if i not in rows], len(rows) // 2


@pytest.mark.parametrize("pairing", life.PAIRINGS)
def test_pairs_are_those_of_the_reference_program(pairing):
    shape, soup = (8, 4), life.primordial(6, 32)
    options = dict(seed=6, pairing=pairing, shape=shape if pairing == "grid" else None)
    for epoch in range(6):
        soup = life.advance(soup, 1, **options)
        rows, pairs = plain_pairs(pairing, 6, epoch, shape)
        assert np.asarray(soup.where).tolist() == rows
        assert (np.asarray(soup.steps)[:pairs] > 0).all() and not soup.steps[pairs:].any()


WRONG_KERNELS = {  # and the claims that must not survive
    "mutations ten per cent too frequent": (
        "from lib.life import splitmix\nright = splitmix.mutations\n"
        "splitmix.mutations = lambda *a: right(*a[:3], a[3] * 11 // 10)",
        {"C0"},
    ),
    "cycles are detected though bytes have changed": (
        "from lib.life import bff\nbff._forget = lambda seen, changed: seen",
        {"C0"},
    ),
    "copies go the other way": (
        "from lib.life import languages as l\nl.EFFECT['.'], l.EFFECT[','] = "
        "l.EFFECT[','], l.EFFECT['.']",
        {"C0", "C3", "C7"},
    ),
}


@pytest.mark.slow
@pytest.mark.xdist_group("chapter-life")
@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_flips_a_verdict(flipped, name):
    assert flipped("life", WRONG_KERNELS, name) == WRONG_KERNELS[name][1]
