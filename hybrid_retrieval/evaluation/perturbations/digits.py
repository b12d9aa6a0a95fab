"""Numbers in the digits of another script."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from random import Random

from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation

ZERO = {"ar": "٠", "fa": "۰", "ur": "۰", "hi": "०", "mr": "०", "ne": "०", "bn": "০", "ta": "௦", "te": "౦", "th": "๐"}
"""The zero of languages that have digits of their own beside European ones."""
WIDE = "\uff10"  # FULLWIDTH DIGIT ZERO, as input methods of East Asia give it


class Digits(Perturbation):
    """A European digit becomes one of the language's own, in full width where it has none; any other becomes European."""

    name = "digits"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        zero = ord(ZERO.get(primary(language), WIDE))
        found = []
        for at, unit in enumerate(units):
            value = unicodedata.decimal(unit, None) if len(unit) == 1 else None
            if value is not None:
                found.append(Edit(at, at + 1, (chr(zero + value) if unit.isascii() else str(value),)))
        return found
