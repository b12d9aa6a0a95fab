"""Letters of another script that look the same."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hybrid_retrieval.data.languages import script
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation
from hybrid_retrieval.evaluation.perturbations.tables import table

LISTED = ("Latn", "Cyrl", "Grek", "Armn", "Arab", "Hebr")
"""Scripts of which it does."""


class Homoglyphs(Perturbation):
    """A letter becomes one that Unicode's list of confusable characters says looks like it, of another script."""

    name = "homoglyphs"
    needs = "a script of which the list holds more than a handful of letters"
    scripts_stay = False

    def knows(self, language: str) -> bool:
        return script(language) in (None, *LISTED)  # None: in Latin letters

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        alike = table("homoglyphs")
        return [Edit(at, at + 1, (draw.choice(alike[unit]),)) for at, unit in enumerate(units) if unit in alike]
