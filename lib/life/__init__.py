"""Soups of self-modifying programs (Agüera y Arcas et al., 2024), bit for bit the authors'."""

from lib.life.experiments import (
    KINDS,
    colony,
    kinds,
    portrait,
    relatives,
    resemblance,
    transitions,
    z80_succession,
)
from lib.life.interpret import run_tapes
from lib.life.languages import LANGUAGES, Bff, Forth, Language, Subleq, language
from lib.life.measures import Complexity, complexity, different_tokens, self_replication
from lib.life.replicators import REPLICATORS, replicator
from lib.life.soup import (
    MUTATION,
    PAIRINGS,
    Soup,
    advance,
    advance_all,
    neighbours,
    plant,
    primordial,
    stack,
)
from lib.life.tables import DIGESTS, FIGURE_6, LOG
from lib.life.traces import WORDS, Trace, disassemble, trace, until_cycle
from lib.life.watch import watch

__all__ = [
    "DIGESTS",
    "FIGURE_6",
    "KINDS",
    "LANGUAGES",
    "LOG",
    "MUTATION",
    "PAIRINGS",
    "REPLICATORS",
    "WORDS",
    "Bff",
    "Complexity",
    "Forth",
    "Language",
    "Soup",
    "Subleq",
    "Trace",
    "advance",
    "advance_all",
    "colony",
    "complexity",
    "different_tokens",
    "disassemble",
    "kinds",
    "language",
    "neighbours",
    "plant",
    "portrait",
    "primordial",
    "relatives",
    "replicator",
    "resemblance",
    "run_tapes",
    "self_replication",
    "stack",
    "trace",
    "transitions",
    "until_cycle",
    "watch",
    "z80_succession",
]
