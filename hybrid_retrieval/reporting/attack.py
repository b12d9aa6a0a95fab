"""What attacks took from encoders: by budget of words, by language, and from other encoders than the attacked one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hybrid_retrieval.evaluation.degradation import Degradation
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.reporting.table import Column, Row, Table

RANDOM = "(random)"
"""The attacker that knows no scores."""
Found = Mapping[tuple[str, str], Sequence[Degradation]]
"""By attacker (the encoder whose scores led the attack) and attacked one; the severity is the words that may be changed."""


def attack_tables(benchmark: str, found: Found) -> list[Table]:
    """All of one benchmark."""
    every = [one for rows in found.values() for one in rows]
    present = [setting for setting in SETTINGS if any(one.setting == setting for one in every)]
    most = max((one.severity for one in every), default=0)
    systems = [attacker for attacker, attacked in found if attacker == attacked]
    return [
        _by_words(benchmark, found, systems, present),
        *(_by_language(benchmark, found, systems, setting, most) for setting in present),
        _transfer(benchmark, found, systems, present, most),
    ]


def _by_words(benchmark: str, found: Found, systems: Sequence[str], present: Sequence[str]) -> Table:
    columns = [
        column
        for setting in present
        for column in (
            Column(f"{SETTINGS[setting]} mAP"),
            Column("lost ±"),
            Column(f"{SETTINGS[setting]} success%", 1),
            Column("±", 1),
        )
    ]
    rows = []
    for name in systems:
        macro = {
            (one.setting, one.measure.name, int(one.severity)): one for one in found[name, name] if one.query_language is None
        }
        rows.append(Row(f"{name} · 0 words", [*_clean(macro, present)], section=name))
        for words in sorted({words for _, _, words in macro}):
            values: list[float | str | None] = []
            for setting in present:
                first, success = (macro.get((setting, one, words)) for one in ("map", "attack_success"))
                values += [_after(first), _half(first), _after(success, 100), _half(success, 100)]
            rows.append(Row(f"{name} · {words}", values, section=name))
    notes = [
        "success: of the queries that had a relevant passage first, those that have none there any more; ± of the loss, 95%"
    ]
    return Table(f"{benchmark} · attacked by its own scores", "Encoder · words", columns, rows, notes)


def _clean(macro: Mapping[tuple[str, str, int], Degradation], present: Sequence[str]) -> Iterator[float | None]:
    for setting in present:
        one = next((one for (where, name, _), one in macro.items() if (where, name) == (setting, "map")), None)
        yield from (None if one is None else one.clean, None, 0.0, None)


def _by_language(benchmark: str, found: Found, systems: Sequence[str], setting: str, most: float) -> Table:
    by = {
        (name, one.languages, one.measure.name): one
        for name in systems
        for one in found[name, name]
        if one.setting == setting and one.severity == most and one.languages
    }
    columns = [
        column
        for name in systems
        for column in (Column(f"{name} mAP"), Column("lost"), Column("±"), Column("success%", 1), Column("±", 1))
    ]
    rows = []
    for languages in sorted({languages for _, languages, _ in by if languages}):
        values: list[float | str | None] = []
        for name in systems:
            first, success = (by.get((name, languages, one)) for one in ("map", "attack_success"))
            values += [None if first is None else first.clean, _loss(first), _half(first)]
            values += [_after(success, 100), _half(success, 100)]
        rows.append(Row(languages, values))
    return Table(f"{benchmark} · {SETTINGS[setting]} by language, {most:g} words", "Language", columns, rows)


def _transfer(benchmark: str, found: Found, systems: Sequence[str], present: Sequence[str], most: float) -> Table:
    rows = []
    for setting in present:
        for attacker in dict.fromkeys(attacker for attacker, _ in found):
            values: list[float | str | None] = []
            for attacked in systems:
                one = next(
                    (
                        one
                        for one in found[attacker, attacked]
                        if (one.setting, one.severity, one.measure.name, one.query_language) == (setting, most, "map", None)
                    ),
                    None,
                )
                values += [_loss(one), _half(one)]
            rows.append(Row(f"{SETTINGS[setting]} {attacker}", values, section=setting))
    columns = [column for name in systems for column in (Column(f"on {name}"), Column("±"))]
    notes = [
        "a row: the encoder whose scores led the attack; a column: the mAP that its queries take from an encoder",
        f"{RANDOM}: as many words of each query, changed without scores",
    ]
    return Table(f"{benchmark} · transfer, {most:g} words", "Attacker", columns, rows, notes)


def _half(one: Degradation | None, times: float = 1) -> float | None:
    return None if one is None or one.low is None or one.high is None else times * (one.high - one.low) / 2


def _after(one: Degradation | None, times: float = 1) -> float | None:
    return None if one is None else times * one.perturbed


def _loss(one: Degradation | None) -> float | None:
    return None if one is None else -one.difference
