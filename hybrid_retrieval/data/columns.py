"""Which columns of a record hold what: its query, the passages that answer it, those that do not, and what a teacher gave them.

A column is named by itself, or by a path into what it holds (``answers.text``). A passage is a text, or an object with a
``text`` (with a ``title`` before it, and a ``docid`` that names it), or a list of either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hybrid_retrieval.data.dataset_files import LANGUAGE
from hybrid_retrieval.data.records import Record, check_characters, check_id
from hybrid_retrieval.errors import InputError, choice, nearest

Names = list[str]
"""Of columns that make up one value."""

LAYOUTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "tevatron": {"query": ["query"], "passage": ["positive_passages"], "negatives": ["negative_passages"]},
    "flag_embedding": {"query": ["query"], "passage": ["pos"], "negatives": ["neg"]},
    "sentence_transformers": {
        "query": ["anchor", "query", "question"],
        "passage": ["positive", "passage", "answer"],
        "negatives": ["negative", "negatives"],
    },
}
"""By layout and by what they hold, the columns that may hold it; the first that is there does."""
ALSO = {"language": ["language", "lang"], "score": ["score", "scores"], "label": ["label"]}
"""Columns of any layout."""
LANGUAGES = ("query_language", "passage_language", "language")
ROLES = ("query", "passage", "negatives", *LANGUAGES, "id", "score", "label")
NUMBERED = re.compile(r"negative_\d+")
IDS = ("docid", "_id", "id")
HIGHEST = 3e38
"""Of scores, which are kept in single precision."""
LABELS = ("0", "1", "0.0", "1.0")


@dataclass(frozen=True)
class Passage:
    """A passage of a row; `id` where an object names it, `score` as a teacher gave it."""

    text: str
    id: str | None = None
    score: float = float("nan")


@dataclass(frozen=True)
class Row:
    """A query with passages, all as they stand; texts may be empty.

    Attributes:
        id: of what is parallel across languages, where a column holds it.
        query_language, passage_language, language: of the one, of the others, of both, as columns say; None where none does.
        place: file and line, for errors.
    """

    query: str
    positives: Sequence[Passage]
    negatives: Sequence[Passage]
    id: str | None
    query_language: str | None
    passage_language: str | None
    language: str | None
    place: str


@dataclass
class Columns:
    """Reads the rows of records.

    Attributes:
        named: by role, the columns that the config names.
        layout: one of `LAYOUTS`; found by the columns by default.
        key: of the config, for errors.
    """

    named: Mapping[str, Names]
    layout: str | None = None
    key: str = "dataset"
    _settled: dict[str, Names] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layout is not None:
            choice(f"{self.key}.layout", self.layout, LAYOUTS)
        for role in self.named:
            if role not in ROLES:
                raise InputError(f"unknown config key {self.key}.columns.{role}{nearest(role, ROLES)}")

    @property
    def wide(self) -> bool:
        """Whether a record holds several languages, each under its name."""
        return any(LANGUAGE in name for names in self.named.values() for name in names)

    def settle(self, record: Record, languages: Sequence[str] = (), language_known: bool = False) -> None:
        """Choose the columns by those that a record has.

        Args:
            languages: as they are spelt in the names of columns.

        Raises:
            InputError: a column that is named is not there, or none holds a query or a passage; with those that are there.
        """
        there = list(record.values)
        said = f"the columns of {record.place} are: {', '.join(map(str, there))[:400]}"
        settled = {role: list(names) for role, names in self.named.items()}
        for role, names in settled.items():
            for name in names:
                spelt = [name.replace(LANGUAGE, language) for language in languages] if LANGUAGE in name else [name]
                if not any(one in record.values or one.split(".")[0] in record.values for one in spelt):
                    raise InputError(f"{self.key}.columns.{role}={name!r} is no column; {said}")
        layouts = LAYOUTS if self.layout is None else {self.layout: LAYOUTS[self.layout]}
        for layout in layouts.values():
            found = {role: [name] for role, names in layout.items() for name in names if name in there and role not in settled}
            found = {role: next([name] for name in layout[role] if name in there) for role in found}
            if {"query", "passage"} <= found.keys() | settled.keys():
                settled = found | settled
                break
        for role in ("query", "passage"):
            if role not in settled:
                raise InputError(f"{self.key}.columns.{role} is not known: name the column; {said}")
        used = {name for names in settled.values() for name in names}
        if "negatives" not in settled and (numbered := [name for name in there if NUMBERED.fullmatch(str(name))]):
            settled["negatives"] = sorted(numbered, key=lambda name: int(name.removeprefix("negative_")))
        if "score" not in settled and {"pos_scores", "neg_scores"} & set(there):
            settled["score"] = [name for name in ("pos_scores", "neg_scores") if name in there]
        for role, names in ALSO.items():
            known = [name for name in names if name in there and name not in used]
            if role not in settled and known and not (role == "language" and language_known):
                settled[role] = known[:1]
        self._settled = settled

    @property
    def said(self) -> str:
        """Where a query and a passage were looked for, for errors."""
        roles = [role for role in ("query", "passage") if role in self._settled]
        return ", ".join(f"{self.key}.columns.{role}={' and '.join(self._settled[role])}" for role in roles)

    def says(self, role: str) -> bool:
        """Whether a column holds this, after `settle`."""
        return role in self._settled

    def rows(self, record: Record, languages: Sequence[str]) -> Iterator[Row]:
        """The row of a record; of a wide one, a row for each of the `languages` that it has."""
        if not self.wide:
            yield self._row(record, None)
            return
        for language in languages:
            row = self._row(record, language)
            if row.query and any(one.text for one in row.positives):
                yield row

    def _row(self, record: Record, language: str | None) -> Row:
        query = " ".join(_text(value, record, name) for name, value in self._values(record, "query", language))
        positives = self._passages(record, "passage", language)
        negatives = self._passages(record, "negatives", language)
        positives, negatives = self._scored(record, positives, negatives, language)
        if self.says("label"):
            label = self._one(record, "label", language)
            if label not in (0, 1) and str(label) not in LABELS:
                name = self._settled["label"][0]
                raise InputError(
                    f"{record.place}: {name} is {str(label)[:30]!r}; expected a label of 0 or 1 ({self.key}.columns.score "
                    "names a teacher's scores)"
                )
            if not float(label):
                positives, negatives = [], [*positives, *negatives]
        asked, answered, both = (language or self._said(record, role) for role in LANGUAGES)
        id_ = self._one(record, "id", language)
        if id_ is not None:
            if not isinstance(id_, (str, int, float)):
                name = self._settled["id"][0]
                raise Record({name: id_}, record.place).error(name, "an id")
            id_ = check_id(str(id_), f"{record.place}: {self._settled['id'][0]}")
        return Row(query, positives, negatives, id_, asked, answered, both, record.place)

    def _said(self, record: Record, role: str) -> str | None:
        """The language that a column says; an empty text where it says none."""
        if not self.says(role):
            return None
        value = self._one(record, role, None)
        return "" if value is None else str(value)[:40]

    def _values(self, record: Record, role: str, language: str | None) -> Iterator[tuple[str, Any]]:
        """The columns of a role and what they hold; None for what is missing."""
        for name in self._settled.get(role, ()):
            whole = name if language is None else name.replace(LANGUAGE, language)
            yield whole, look_up(record.values, whole)

    def _one(self, record: Record, role: str, language: str | None) -> Any:
        return next((value for _, value in self._values(record, role, language)), None)

    def _passages(self, record: Record, role: str, language: str | None) -> list[Passage]:
        found = [
            list(_passages(value, record, name)) for name, value in self._values(record, role, language) if value is not None
        ]
        if role == "passage" and len(self._settled["passage"]) > 1:  # columns that make up one text, as a title and a body
            return [Passage(" ".join(part.text for parts in found for part in parts))]
        return [passage for part in found for passage in part] or ([Passage("")] if role == "passage" else [])

    def _scored(
        self, record: Record, positives: list[Passage], negatives: list[Passage], language: str | None
    ) -> tuple[list[Passage], list[Passage]]:
        """The passages with their scores: one number for the first, or a number for each, positives before negatives."""
        given: list[Any] = []
        for _, value in self._values(record, "score", language):
            given += value if isinstance(value, list) else [] if value is None else [value]
        try:
            scores = [float("nan") if score is None else float(score) for score in given]
        except (TypeError, ValueError) as error:
            raise InputError(f"{record.place}: {' and '.join(self._settled['score'])} must hold numbers ({error})") from error
        if beyond := [score for score in scores if abs(score) > HIGHEST]:
            raise InputError(f"{record.place}: {' and '.join(self._settled['score'])} is {beyond[0]}; expected a finite number")
        every = [*positives, *negatives]
        if len(scores) > 1 and len(scores) != len(every):
            name = " and ".join(self._settled["score"])
            raise InputError(f"{record.place}: {name} has {len(scores)} scores; expected one for each of {len(every)} passages")
        if scores:
            scores += [float("nan")] * (len(every) - len(scores))
            every = [Passage(one.text, one.id, score) for one, score in zip(every, scores, strict=True)]
        return every[: len(positives)], every[len(positives) :]


def look_up(values: Any, path: str) -> Any:
    """What is under a name, or under a path of names with dots between; of a list, what its objects have there."""
    if isinstance(values, list):
        return [found for value in values if (found := look_up(value, path)) is not None]
    if not isinstance(values, Mapping):
        return None
    if path in values:
        return values[path]
    first, _, rest = path.partition(".")
    return look_up(values[first], rest) if rest and first in values else None


def _text(value: Any, record: Record, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Record({name: value}, record.place).error(name, "a text")
    check_characters(value, f"{record.place}: {name}")
    return " ".join(value.split())


def _passages(value: Any, record: Record, name: str) -> Iterator[Passage]:
    if isinstance(value, list):
        for one in value:
            yield from _passages(one, record, name)
    elif isinstance(value, Mapping) and "text" in value:
        if isinstance(value["text"], list):  # a list of objects as older versions of `datasets` keep it
            for place in range(len(value["text"])):
                yield from _passages({key: part[place] for key, part in value.items()}, record, name)
            return
        text = " ".join(filter(None, (_text(value.get(part), record, f"{name}.{part}") for part in ("title", "text"))))
        id_ = next((value[key] for key in IDS if value.get(key) is not None), None)
        yield Passage(text, None if id_ is None else check_id(str(id_), f"{record.place}: the id of a passage in {name}"))
    else:
        yield Passage(_text(value, record, name))
