"""Words in the wrong case."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from random import Random

from hybrid_retrieval.data.languages import primary, script
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation

TURKIC = ("tr", "az")
CASED = ("Latn", "Cyrl", "Grek", "Armn")
"""Scripts with capitals."""


class Casing(Perturbation):
    """A word in small letters gets capitals, one or all; any other gets small letters alone."""

    name = "casing"
    needs = "a script that has capitals"

    def knows(self, language: str) -> bool:
        return script(language) in (None, *CASED)  # None: in Latin letters

    def by_words(self, language: str) -> bool:
        return True

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        found = []
        for at, unit in enumerate(units):
            low = lowered(unit, language)
            if low != unit:
                found.append(Edit(at, at + 1, (low,)))
            elif (high := raised(unit, language)) != unit:
                found.append(Edit(at, at + 1, (draw.choice([high, raised(unit[0], language) + unit[1:]]),)))
        return found


def lowered(text: str, language: str) -> str:
    """In small letters, the dotless ı where the language has it; in NFC."""
    if primary(language) in TURKIC:
        text = text.replace("İ", "i").replace("I", "ı")
    return unicodedata.normalize("NFC", text.lower())


def raised(text: str, language: str) -> str:
    """In capitals, the dotted İ where the language has it; in NFC."""
    return unicodedata.normalize("NFC", (text.replace("i", "İ") if primary(language) in TURKIC else text).upper())
