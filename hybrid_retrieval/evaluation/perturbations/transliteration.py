"""Words in Latin letters."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from anyascii import anyascii

from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, script, unspaced


class Transliteration(Perturbation):
    """A word is spelt in Latin letters, by anyascii's tables; where no spaces part words, a letter is.

    Chinese becomes pinyin. Of Japanese kana alone does, since Han characters would get Chinese readings.
    """

    name = "transliteration"
    scripts_stay = False

    def by_words(self, language: str) -> bool:
        return not unspaced(language)

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        kept = ("", "Latin", "Han") if primary(language) == "ja" else ("", "Latin")
        spelt = {at: anyascii(unit) for at, unit in enumerate(units) if script(unit) not in kept}
        return [Edit(at, at + 1, (latin,)) for at, latin in spelt.items() if latin]
