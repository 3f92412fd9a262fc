"""Soups of self-modifying programs (Agüera y Arcas et al., 2024), bit for bit the authors'."""

from lib.life.interpret import run_tapes
from lib.life.languages import LANGUAGES, Bff, Forth, Language, Subleq, language
from lib.life.soup import MUTATION, PAIRINGS, Soup, advance, neighbours, primordial

__all__ = [
    "LANGUAGES",
    "MUTATION",
    "PAIRINGS",
    "Bff",
    "Forth",
    "Language",
    "Soup",
    "Subleq",
    "advance",
    "language",
    "neighbours",
    "primordial",
    "run_tapes",
]
