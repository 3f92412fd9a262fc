"""A language model small enough to open, taught the game by four agents whose utilities we know.

The agents of the training games are planted: what they choose has a closed form. So whatever is
measured of the model, from outside by asking or from inside by probing and steering, has a right
answer to be compared with.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import log_softmax, softmax

from lib.tradeoffs.endpoint import Completion
from lib.tradeoffs.game import CLAUSES, EXPERIMENTS, LABELS, SCALES, SHORT, Trial, render
from lib.tradeoffs.replies import Reply

WIDTH, HEADS, BLOCKS = 64, 4, 2
RATE, DECAY, PROMPT_WEIGHT = 3e-3, 0.3, 0.02  # of training
CHUNK = 32  # prompts that are read at a time, so that one compiled program reads any number
ORDERS = tuple(itertools.permutations((1, 2, 3)))


class Agent(NamedTuple):
    """How much a planted agent cares, in logits: it chooses by the softmax of its utilities."""

    points: float  # a: gained with each point
    pain: float  # lambda: lost with each degree of pain
    pleasure: float  # mu: gained with each degree of pleasure


AGENTS = {
    "maximiser": Agent(3.0, 0.0, 0.0),  # points only
    "avoider": Agent(3.0, 6.0, 0.0),  # no pain at any price
    "trader": Agent(3.0, 1.0, 1.0),  # a point for three degrees
    "graded": Agent(3.0, 0.25, 0.25),  # feels all degrees, but never enough to give up points
}
HELD_OUT = {"pain": (4, 7), "pleasure": (3, 8)}  # of the quantitative scale: in no training game
SHARES = {"valenced": 0.8, "neutral": 0.1, "none": 0.1}  # of the clauses among training games


# The planted agents ------------------------------------------------------------------------------


def intensity(trial: Trial) -> float:
    """How strong the feeling is that comes with the affected option, 0 to 10.

    The rank on the quantitative scale; on the qualitative one, 10 j / 8 for label j of 8. Without
    a feeling (the neutral clause, or none) it is 0.
    """
    if trial.clause != "valenced":
        return 0.0
    return trial.level * 10 / (10 if trial.scale == "quantitative" else 8)


def planted(agent: str, trials: Sequence[Trial]) -> Float[np.ndarray, "trials 3"]:
    """The probabilities with which an agent chooses 1, 2 and 3: the truth behind the model.

    Softmax of u_i = a i - lambda s [i = 3 and pain] + mu s [i = 2 and pleasure], with s the
    `intensity`. Hence logit P(3) = 3a - log(e^a + e^2a) - lambda s for pain: the paper's logistic.

    Raises ValueError for an unknown agent.
    """
    who, option = AGENTS[_known(agent)], np.arange(1, 4)
    strength = np.array([intensity(trial) for trial in trials])[:, None]
    pain = np.array([trial.experiment == "pain" for trial in trials])[:, None]
    felt = np.where(pain, -who.pain * (option == 3), who.pleasure * (option == 2))
    return softmax(who.points * option + felt * strength, axis=1)


# Words -------------------------------------------------------------------------------------------


def _words(trial: Trial) -> list[str]:
    return render(trial)[0]["content"].split()


def _trials(orders: Sequence[tuple[int, ...]] = ORDERS) -> list[Trial]:
    """All that can be asked in few words, the scale's zero included."""
    return [
        Trial(experiment, scale, level, wording, clause, order)
        for experiment, scale, wording, clause, order in itertools.product(
            EXPERIMENTS, SCALES, SHORT, CLAUSES, orders
        )
        for level in range(scale == "qualitative", len(LABELS[experiment, scale]) + 1)
    ]


START = "<start>"  # fills up to the left, so that every prompt ends in the same place
_TEXTS = [_words(trial) for trial in _trials(ORDERS[:1])]
VOCABULARY = (START, *AGENTS, *sorted(set(itertools.chain(*_TEXTS))))
LONGEST = max(map(len, _TEXTS))
LENGTH = LONGEST + 2  # the start, and the agent
_NUMBER = {word: i for i, word in enumerate(VOCABULARY)}
_DIGITS = [_NUMBER[digit] for digit in "123"]


def encode(agent: str, texts: Sequence[Sequence[str]]) -> Int[np.ndarray, "n t"]:
    """Texts as numbers of words: start, who plays, then the text, all ending in the same place.

    Raises ValueError for an unknown agent, for a word that is not in the vocabulary, and for a
    text that is longer than the longest prompt.
    """
    rows = np.full((len(texts), LENGTH), _NUMBER[START], np.int32)
    for row, text in zip(rows, texts, strict=True):
        unknown = [word for word in text if word not in _NUMBER]
        if unknown:
            raise ValueError(
                f"the word {unknown[0]!r} is not among the {len(VOCABULARY)} words of the tiny "
                f"language model: ask in the wordings {' or '.join(SHORT)}"
            )
        if len(text) > LONGEST:
            raise ValueError(
                f"the text has {len(text)} words, the tiny language model reads {LONGEST}"
            )
        row[LENGTH - len(text) - 1 :] = _NUMBER[_known(agent)], *map(_NUMBER.get, text)
    return rows


# The network -------------------------------------------------------------------------------------


class Block(eqx.Module):
    """Causal attention and a ReLU network of one hidden layer, each behind a normalisation."""

    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    attend: eqx.nn.Linear
    mix: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.norms = (eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH))
        self.attend = eqx.nn.Linear(WIDTH, 3 * WIDTH, use_bias=False, key=keys[0])
        self.mix = eqx.nn.Linear(WIDTH, WIDTH, use_bias=False, key=keys[1])
        self.up = eqx.nn.Linear(WIDTH, 4 * WIDTH, key=keys[2])
        self.down = eqx.nn.Linear(4 * WIDTH, WIDTH, key=keys[3])

    def __call__(self, x: Float[Array, "t d"]) -> Float[Array, "t d"]:
        length = len(x)
        heads = jax.vmap(self.attend)(jax.vmap(self.norms[0])(x)).reshape(length, 3, HEADS, -1)
        query, key, value = heads.transpose(1, 2, 0, 3)
        score = jnp.einsum("hid,hjd->hij", query, key) / (WIDTH // HEADS) ** 0.5
        score = jnp.where(jnp.tri(length, dtype=bool)[None], score, -jnp.inf)
        mixed = jnp.einsum("hij,hjd->ihd", jax.nn.softmax(score), value)
        x = x + jax.vmap(self.mix)(mixed.reshape(length, WIDTH))
        hidden = jax.nn.relu(jax.vmap(self.up)(jax.vmap(self.norms[1])(x)))
        return x + jax.vmap(self.down)(hidden)


class TinyLM(eqx.Module):
    """A decoder of two blocks, 64 wide, four heads, learned positions: 107,776 weights."""

    words: Float[Array, "v d"]
    places: Float[Array, "t d"]
    blocks: tuple[Block, ...]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key: PRNGKeyArray):
        keys = jax.random.split(key, 3 + BLOCKS)
        # small: the words start alike, so that what is learned of one level holds for its neighbour
        self.words = 0.01 * jax.random.normal(keys[0], (len(VOCABULARY), WIDTH))
        self.places = 0.01 * jax.random.normal(keys[1], (LENGTH, WIDTH))
        self.blocks = tuple(map(Block, keys[3:]))
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.head = eqx.nn.Linear(WIDTH, len(VOCABULARY), use_bias=False, key=keys[2])

    def __call__(
        self, tokens: Int[Array, " t"], steering: Float[Array, " d"]
    ) -> tuple[Float[Array, "t v"], Float[Array, "layers d"]]:
        """Logits of the next word at each place, and the residual stream at the last one.

        The stream is given behind the embedding and behind each block. `steering` is added to it
        behind the first block, at the last place.
        """
        x = self.words[tokens] + self.places
        stream = [x[-1]]
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == 0:
                x = x.at[-1].add(steering)
            stream.append(x[-1])
        return jax.vmap(self.head)(jax.vmap(self.norm)(x)), jnp.stack(stream)


# Training ----------------------------------------------------------------------------------------


class Games(NamedTuple):
    """Games that planted agents have played: what they were told, and what they answered."""

    tokens: Int[Array, "n t"]
    answers: Int[Array, " n"]  # as numbers of words


def training_trials() -> list[Trial]:
    """The questions that training games ask: all but the levels in `HELD_OUT`."""
    return [
        trial
        for trial in _trials()
        if trial.scale == "qualitative" or trial.level not in HELD_OUT[trial.experiment]
    ]


def games(key: PRNGKeyArray, n: int) -> Games:
    """`n` training games: agent, question and answer drawn independently, clauses by `SHARES`."""
    trials = training_trials()
    texts = [_words(trial) for trial in trials]
    tokens = jnp.asarray(np.stack([encode(agent, texts) for agent in AGENTS]))
    truth = jnp.asarray(np.log([planted(agent, trials) for agent in AGENTS]), jnp.float32)
    clause = np.array([CLAUSES.index(trial.clause) for trial in trials])
    share = np.array([SHARES[clause] for clause in CLAUSES]) / np.bincount(clause)
    who, which, answer = _draw(key, truth, jnp.asarray(share[clause], jnp.float32), n=n)
    return Games(tokens[who, which], jnp.asarray(_DIGITS, jnp.int32)[answer])


@functools.partial(jax.jit, static_argnames="n")
def _draw(key, truth, share, *, n):
    agents, trials, _ = truth.shape
    keys = jax.random.split(key, 3)
    who = jax.random.randint(keys[0], (n,), 0, agents)
    which = jax.random.choice(keys[1], trials, (n,), p=share)
    return who, which, jax.random.categorical(keys[2], truth[who, which])


def train(
    key: PRNGKeyArray, *, steps: int = 1000, batch: int = 32
) -> tuple[TinyLM, Float[Array, " steps"]]:
    """Teach a model to say what comes next in games of the planted agents, none seen twice.

    AdamW with a warm-up of a tenth of the steps, then a cosine. Each word of the prompt counts for
    .02 of the answer. Also returns the cross-entropy of the answers in each step, in nats.

    Raises ValueError if `steps` or `batch` is not positive.
    """
    if steps < 1 or batch < 1:
        raise ValueError(f"steps={steps} and batch={batch} must be at least 1")
    of_games, of_model = jax.random.split(key)
    played = games(of_games, steps * batch)
    rows = jnp.concatenate([played.tokens, played.answers[:, None]], axis=1)
    return _fit(of_model, rows.reshape(steps, batch, -1))


@eqx.filter_jit
def _fit(key, batches):
    arrays, rest = eqx.partition(TinyLM(key), eqx.is_array)
    steps = len(batches)
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, max(1, steps // 10), steps)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=DECAY)
    )

    def loss(arrays, rows):
        read = jax.vmap(eqx.combine(arrays, rest), in_axes=(0, None))
        scores, _ = read(rows[:, :-1], jnp.zeros(WIDTH))
        each = optax.softmax_cross_entropy_with_integer_labels(scores, rows[:, 1:]).mean(0)
        return PROMPT_WEIGHT * each[:-1].sum() + each[-1], each[-1]

    def step(carry, rows):
        arrays, state = carry
        (_, answers), slope = jax.value_and_grad(loss, has_aux=True)(arrays, rows)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to a count of steps
            update, state = optimiser.update(slope, state, arrays)
        return (optax.apply_updates(arrays, update), state), answers

    (arrays, _), losses = lax.scan(step, (arrays, optimiser.init(arrays)), batches)
    return eqx.combine(arrays, rest), losses


# What the model says -----------------------------------------------------------------------------


def logits(model: TinyLM, tokens: Int[Array | np.ndarray, "n t"]) -> Float[np.ndarray, "n t v"]:
    """Scores of the next word behind each word of each text."""
    return _read(model, np.asarray(tokens), np.zeros(WIDTH))[0]


def answer_probabilities(
    model: TinyLM,
    agent: str,
    trials: Sequence[Trial],
    steering: Float[np.ndarray, "*s d"] | None = None,
) -> Float[np.ndarray, "*s trials 3"]:
    """The probabilities of the words 1, 2 and 3 as the answer; what they lack to 1 is other words.

    `steering`, one vector or a stack of them, is added to the residual stream behind the first
    block, at the last word of the prompt.

    Raises ValueError for an unknown agent, and for a trial whose wording the model cannot read.
    """
    tokens = encode(agent, [_words(trial) for trial in trials])
    steering = np.zeros(WIDTH) if steering is None else np.asarray(steering)
    answers = [
        softmax(_read(model, tokens, one)[0][:, -1].astype(np.float64), axis=1)[:, _DIGITS]
        for one in steering.reshape(-1, WIDTH)
    ]
    return np.reshape(answers, (*steering.shape[:-1], len(trials), 3))


class Player(NamedTuple):
    """One of the agents as the model plays it: a subject that can be asked."""

    model: TinyLM
    agent: str

    @property
    def name(self) -> str:
        """Its name among the models of the endpoint."""
        return f"tiny/{self.agent}"

    def sample(
        self, trial: Trial, n: int, *, temperature: float, max_tokens: int, seed: int
    ) -> list[Reply]:
        """`n` answers of one word each, so that no limit of tokens has an effect: see `generate`.

        Raises ValueError for a trial whose wording the model cannot read.
        """
        text = render(trial)[0]["content"]
        drawn = generate(self.model, self.agent, text, n=n, temperature=temperature, seed=seed)
        return [Reply(text, model=self.name) for text in drawn.texts]


def players(model: TinyLM) -> list[Player]:
    """The four subjects that a model is."""
    return [Player(model, agent) for agent in AGENTS]


def generate(
    model: TinyLM,
    agent: str,
    text: str,
    *,
    n: int = 1,
    temperature: float = 1.0,
    seed: int | None = None,
) -> Completion:
    """`n` answers to a text of words from the vocabulary, and how likely each word is.

    An answer is one word. At temperature 0 it is the likeliest. Answer i is drawn with `seed` + i,
    so that one request for many brings the same as many for one; the text counts as well, so that
    the answers to different prompts are independent under the same seed.

    Raises ValueError if a word is unknown, and if `n` or `temperature` makes no sense.
    """
    if n < 1 or temperature < 0:
        raise ValueError(f"n={n} must be at least 1, temperature={temperature} at least 0")
    words = text.split()
    tokens = encode(agent, [words])
    logprob = log_softmax(_read(model, tokens, np.zeros(WIDTH))[0][0, -1].astype(np.float64))
    if temperature == 0:
        drawn = np.full(n, logprob.argmax())
    else:
        cumulated = softmax(logprob / temperature).cumsum()
        drawn = np.searchsorted(cumulated / cumulated[-1], _uniform(n, seed, tokens[0]), "right")
    order = np.argsort(-logprob)
    likely = {VOCABULARY[i]: float(logprob[i]) for i in order}
    return Completion([VOCABULARY[i] for i in drawn], likely, len(words))


def responder(model: TinyLM) -> Callable[..., Completion]:
    """What `endpoint.serve` calls to answer for the names of the `players`."""
    agents = {player.name: player.agent for player in players(model)}

    def respond(name: str, messages: Sequence[dict], **sampling) -> Completion:
        text = " ".join(message["content"] for message in messages)
        return generate(model, agents[name], text, **sampling)

    return respond


def _uniform(n, seed, tokens):
    if seed is None:
        return np.random.default_rng().random(n)
    seeds = [[(seed + i) % 2**64, *tokens.tolist()] for i in range(n)]
    return np.array([np.random.default_rng(one).random() for one in seeds])


# Inside the model --------------------------------------------------------------------------------


def residuals(
    model: TinyLM, agent: str, trials: Sequence[Trial]
) -> Float[np.ndarray, "layers trials d"]:
    """The residual stream at the last word: behind the embedding, block 1 and block 2."""
    tokens = encode(agent, [_words(trial) for trial in trials])
    return _read(model, tokens, np.zeros(WIDTH))[1].swapaxes(0, 1)


class Probes(NamedTuple):
    """How well straight lines through some features tell what a prompt is about."""

    valence: Float[np.ndarray, " features"]  # share of right guesses, pain or pleasure
    intensity: Float[np.ndarray, " features"]  # R2 of the level


PROBED = ("embedding", "block 1", "block 2", "counts of words")


def probe(model: TinyLM, agent: str) -> Probes:
    """Linear probes of the residual stream, and of the mere counts of words for comparison.

    One row of features for each of `PROBED`: the stream at the last word, then how often each
    word of the vocabulary is in the prompt. The prompts are those of the quantitative scale, levels
    1 to 10, in both experiments, wordings and all orders. Logistic and ridge regression on
    standardised features, each level guessed by a probe that was fitted to other levels (five
    folds).
    """
    # slow to import, and only needed here
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    trials = _felt(range(1, 11), EXPERIMENTS)
    level = np.array([trial.level for trial in trials])
    pain = np.array([trial.experiment == "pain" for trial in trials])
    tokens = encode(agent, [_words(trial) for trial in trials])
    counts = (tokens[:, :, None] == np.arange(len(VOCABULARY))).sum(1)

    def guess(regression, features, truth):
        pipeline = make_pipeline(StandardScaler(), regression)
        return cross_val_predict(pipeline, features, truth, groups=level, cv=GroupKFold(5))

    features = [*residuals(model, agent, trials).astype(np.float64), counts]
    valence = [accuracy_score(pain, guess(LogisticRegression(), x, pain)) for x in features]
    strength = [r2_score(level, guess(Ridge(), x, level)) for x in features]
    return Probes(np.array(valence), np.array(strength))


def steering_direction(
    model: TinyLM, agent: str, *, experiment: str = "pain", clause: str = "valenced"
) -> Float[np.ndarray, " d"]:
    """A tenth of the way from weak to strong pain in the residual stream behind block 1.

    The mean at the last word for pain of 8 to 10, minus that for pain of 1 to 3, over both
    wordings and all orders, divided by 10. A coefficient of 4 thus goes 40 % of that way. Another
    `experiment` or `clause` gives that way for pleasure, or for a mere change of colour.
    """
    strong, weak = (
        residuals(model, agent, _felt(levels, (experiment,), clause))[1].mean(0)
        for levels in ((8, 9, 10), (1, 2, 3))
    )
    return (strong - weak) / 10


def control_directions(
    key: PRNGKeyArray, direction: Float[np.ndarray, " d"], n: int
) -> Float[np.ndarray, "n d"]:
    """Random directions as long as `direction` and at right angles to it, to steer along."""
    random = np.asarray(jax.random.normal(key, (n, WIDTH)))
    random = random - np.outer(random @ direction, direction) / (direction @ direction)
    length = np.linalg.norm(random, axis=1, keepdims=True)
    return random / length * np.linalg.norm(direction)


def pain_switch_point(
    model: TinyLM, agent: str, steering: Float[np.ndarray, "*s d"] | None = None
) -> Float[np.ndarray, "*s"]:
    """The pain at which the model, playing an agent, stops to choose 3 more often than not.

    From exact probabilities for pain of 0 to 10, no samples: the logit of P(3), averaged over the
    two wordings, crosses 0 on the straight line between two levels. NaN if it never does.
    """
    trials = [Trial("pain", "quantitative", s, wording) for wording in SHORT for s in range(11)]
    p = answer_probabilities(model, agent, trials, steering)
    logit = np.log(p[..., 2]) - np.log(p[..., :2].sum(-1))
    curves = logit.reshape(*p.shape[:-2], len(SHORT), 11).mean(-2)
    return np.apply_along_axis(_crossing, -1, curves)


def _crossing(curve: Float[np.ndarray, " n"]) -> float:
    down = np.flatnonzero((curve[:-1] > 0) & (curve[1:] <= 0))
    if not len(down):
        return np.nan
    i = down[0]
    return i + curve[i] / (curve[i] - curve[i + 1])


def _felt(
    levels: Sequence[int], experiments: Sequence[str], clause: str = "valenced"
) -> list[Trial]:
    return [
        Trial(experiment, "quantitative", level, wording, clause, order)
        for experiment, level, wording, order in itertools.product(
            experiments, levels, SHORT, ORDERS
        )
    ]


@eqx.filter_jit
def _read_chunk(model, tokens, steering):
    return jax.vmap(model, in_axes=(0, None))(tokens, steering)


def _read(model, tokens, steering):
    """Logits and residual streams of any number of texts, as NumPy arrays."""
    n = len(tokens)
    padded = np.pad(tokens, ((0, -n % CHUNK), (0, 0)))
    steering = jnp.asarray(steering, jnp.float32)
    chunks = [
        _read_chunk(model, jnp.asarray(padded[start : start + CHUNK]), steering)
        for start in range(0, n, CHUNK)
    ]
    scores, stream = (np.concatenate(parts)[:n] for parts in zip(*chunks, strict=True))
    return scores, stream


def _known(agent: str) -> str:
    if agent not in AGENTS:
        raise ValueError(f"agent={agent!r} is not known: use one of {', '.join(AGENTS)}")
    return agent
