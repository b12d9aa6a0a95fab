"""Slips to a neighbouring key, by the usual layout of a language."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.evaluation.perturbations.casing import lowered, raised
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation
from hybrid_retrieval.evaluation.perturbations.tables import table


class Keyboard(Perturbation):
    """A letter becomes one of its neighbours on the keyboard; its case and its marks stay.

    Of a Korean syllable one of its letters slips. Chinese and Japanese, which are typed through an input method, have no table.
    """

    name = "keyboard"
    needs = "a keyboard of it"

    def knows(self, language: str) -> bool:
        return primary(language) in table("keyboards")

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        known = ((at, _slips(unit, primary(language))) for at, unit in enumerate(units))
        return [Edit(at, at + 1, (draw.choice(slips),)) for at, slips in known if slips]


@lru_cache(1 << 16)
def _slips(unit: str, language: str) -> list[str]:
    """A grapheme with one of its letters slipped, each way."""
    near = table("keyboards")[language]
    low = lowered(unit, language)
    whole = near.get(low)
    if whole is None and unit not in near:
        parts = unicodedata.normalize("NFD", low)
        jamo = [unicodedata.normalize("NFKC", letter) for letter in near] if "\u1100" <= parts[0] <= "\u11ff" else []
        keys = dict(zip(jamo, near, strict=True)) if jamo else {letter: letter for letter in near}
        made = [
            unicodedata.normalize("NFC", parts[:at] + unicodedata.normalize("NFKC", other) + parts[at + 1 :])
            for at, part in enumerate(parts)
            for other in near.get(keys.get(part, ""), "")
        ]
        made = [one for one in made if len(one) == len(unit)]
    else:
        made = list(whole or near[unit])
    if low == unit:
        return made
    return [high for one in made if len(high := raised(one, language)) == len(one)]  # not ß, whose capital is two letters
