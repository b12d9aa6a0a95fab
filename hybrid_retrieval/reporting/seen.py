"""Languages that an encoder was never trained on: a mark on their names, and what is said below a table."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from hybrid_retrieval.evaluation.measures import SETTINGS

MARK = "†"
SHORT = f"seen{MARK}"
"""Names the mean over the other languages."""


def marked(language: str, never: Container[str]) -> str:
    """A language's name, with the mark where it is among those that were `never` seen."""
    return f"{language}{MARK}" if language in never else language


def footnote(never: Mapping[str, Sequence[str]], means: bool = True) -> list[str]:
    """The line that explains the mark, given what each system never saw; none where all saw all.

    Args:
        means: there are means over the languages seen, which have to be explained too.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for system, languages in never.items():
        if languages:
            alike.setdefault(tuple(languages), []).append(system)
    if not alike:
        return []
    alone = len(alike) == len(never) == 1
    parts = [", ".join(languages) + ("" if alone else f" ({', '.join(names)})") for languages, names in alike.items()]
    mono, cross, multi = SETTINGS.values()
    of_means = f"without them, in {mono} and {multi} as query languages (the pool keeps them), in {cross} on either side"
    means_of = f" {SHORT}: the mean {of_means}." if means else ""
    return [f"{MARK} Never in the training text: {'; '.join(parts)}.{means_of}"]
