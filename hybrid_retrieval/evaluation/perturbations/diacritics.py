"""Letters without their diacritics."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from anyascii import anyascii

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, script


class Diacritics(Perturbation):
    """A letter of the Latin, Greek or Cyrillic script loses its marks, those that are part of it too: é and ø are e and o."""

    name = "diacritics"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        return [Edit(at, at + 1, (bare,)) for at, unit in enumerate(units) if not unit.isascii() and (bare := _bare(unit))]


@lru_cache(1 << 16)
def _bare(unit: str) -> str:
    """The letter alone; empty where it has lost nothing."""
    parts = unicodedata.normalize("NFD", unit)
    own = script(unit)
    if own not in ("Latin", "Greek", "Cyrillic") or unit == "й":
        return ""
    if len(parts) > 1 and all(unicodedata.category(part)[0] == "M" for part in parts[1:]):
        return parts[0]
    plain = anyascii(unit) if own == "Latin" else ""
    return plain if len(plain) == 1 and plain.isalpha() and plain != unit else ""
