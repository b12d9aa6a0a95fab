"""Letters without the signs that say which vowel or tone follows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, script

POINTED = ("Arabic", "Hebrew", "Thai")
"""Scripts of which every mark may be left out: points, hamzas on their seats, vowels and tones above and below."""
INDIC = ("Devanagari", "Bengali", "Tamil", "Telugu", "Kannada", "Malayalam", "Gujarati", "Gurmukhi")


class VowelSigns(Perturbation):
    """A letter loses its vowel signs; a letter of the Indic scripts keeps its other marks."""

    name = "vowel_signs"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        found = []
        for at, unit in enumerate(units):
            own = script(unit)
            if own in POINTED or own in INDIC:
                parts = unicodedata.normalize("NFD", unit)
                kept = "".join(part for part in parts if not _lost(part, own))
                if kept != parts and kept:
                    found.append(Edit(at, at + 1, (unicodedata.normalize("NFC", kept),)))
        return found


def _lost(part: str, own: str) -> bool:
    if own in POINTED:
        return unicodedata.category(part) == "Mn"
    return "VOWEL SIGN" in unicodedata.name(part, "")
