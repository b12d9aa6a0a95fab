"""The perturbations by the names that ``evaluation.perturb`` takes."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import choice
from hybrid_retrieval.evaluation.perturbations.casing import Casing
from hybrid_retrieval.evaluation.perturbations.code_switching import CodeSwitching
from hybrid_retrieval.evaluation.perturbations.diacritics import Diacritics
from hybrid_retrieval.evaluation.perturbations.digits import Digits
from hybrid_retrieval.evaluation.perturbations.drop import Drop
from hybrid_retrieval.evaluation.perturbations.function_words import FunctionWords
from hybrid_retrieval.evaluation.perturbations.homoglyphs import Homoglyphs
from hybrid_retrieval.evaluation.perturbations.keyboard import Keyboard
from hybrid_retrieval.evaluation.perturbations.perturbation import Perturbation
from hybrid_retrieval.evaluation.perturbations.punctuation import Punctuation
from hybrid_retrieval.evaluation.perturbations.repeat import Repeat
from hybrid_retrieval.evaluation.perturbations.spaces import Spaces
from hybrid_retrieval.evaluation.perturbations.swap import Swap
from hybrid_retrieval.evaluation.perturbations.transliteration import Transliteration
from hybrid_retrieval.evaluation.perturbations.vowel_signs import VowelSigns
from hybrid_retrieval.evaluation.perturbations.word_order import WordOrder

PERTURBATIONS: dict[str, type[Perturbation]] = {
    one.name: one
    for one in (
        Keyboard,
        Swap,
        Drop,
        Repeat,
        Diacritics,
        VowelSigns,
        Homoglyphs,
        Transliteration,
        CodeSwitching,
        WordOrder,
        FunctionWords,
        Casing,
        Punctuation,
        Digits,
        Spaces,
    )
}
"""Those of ``all``."""


def chosen(value: str | Sequence[str], key: str = "evaluation.perturb") -> list[str]:
    """The names that the config's `key` asks for: one, a list, ``all`` or ``none``.

    Raises:
        InputError: a name is unknown.
    """
    names = [name for name in ([value] if isinstance(value, str) else value) if name != "none"]
    for name in names:
        choice(key, name, ["all", "none", *PERTURBATIONS])
    return list(PERTURBATIONS) if "all" in names else list(dict.fromkeys(names))


def perturbations(names: Sequence[str], paths: PathsConfig) -> list[Perturbation]:
    """Those of these names, with what they read."""
    return [PERTURBATIONS[name](paths) for name in names]
