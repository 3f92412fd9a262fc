"""Soups of self-modifying programs (Agüera y Arcas et al., 2024), bit for bit the authors'."""

from lib.life.interpret import run_tapes
from lib.life.languages import LANGUAGES, Bff, Forth, Language, Subleq, language
from lib.life.measures import Complexity, complexity, self_replication, token_counts
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
from lib.life.traces import Trace, disassemble, trace
from lib.life.watch import watch

__all__ = [
    "LANGUAGES",
    "MUTATION",
    "PAIRINGS",
    "REPLICATORS",
    "Bff",
    "Complexity",
    "Forth",
    "Language",
    "Soup",
    "Subleq",
    "Trace",
    "advance",
    "advance_all",
    "complexity",
    "disassemble",
    "language",
    "neighbours",
    "plant",
    "primordial",
    "replicator",
    "run_tapes",
    "self_replication",
    "stack",
    "token_counts",
    "trace",
    "watch",
]
