"""Any data set of the hub, and local Parquet, JSON lines, CSV or Arrow files: columns are named, or known by their layout.

Files are read row by row, twice: for what is equal, into arrays of hashes (some 60 bytes a passage, whatever the texts'
length), and to write each text once. Rows that share an id are translations of each other: a query has one text in a language,
and its passages are grouped as `hybrid_retrieval.data.judgements` says. Without a column of ids nothing is a translation, and
equal queries are one.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import Cache, file_state, folder_state
from hybrid_retrieval.data.columns import Columns, Row
from hybrid_retrieval.data.dataset_files import LANGUAGE, Files, Part, Wanted
from hybrid_retrieval.data.judgements import Judgements, PairsFromJudgements
from hybrid_retrieval.data.languages import known_language
from hybrid_retrieval.data.parallel import EMPTY, SIDES, SPLITS, PairsWriter
from hybrid_retrieval.data.records import Record, read_rows
from hybrid_retrieval.data.source import BuiltSource, find_folder
from hybrid_retrieval.errors import InputError, nearest
from hybrid_retrieval.hashing import text_hash
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Name, Number, Share, check

SHOWN = 5

Ints = npt.NDArray[np.int64]


@dataclass(eq=False)
class HubPairs(BuiltSource):
    """Pairs, triplets, and rows with lists of passages."""

    repository: str | None = None
    revision: str | None = None
    path: str | None = None
    subset: str | None = None
    files: str | list[str] | None = None
    split: str = "train"
    validation_split: str | None = None
    test_split: str | None = None
    layout: str | None = None
    columns: dict[str, str | list[str] | None] = field(default_factory=dict)
    rows: str | None = None
    language: str | None = None
    query_language: str | None = None
    passage_language: str | None = None
    codes: dict[str, str] = field(default_factory=dict)
    languages: list[str] | None = None
    validation_share: Share = 0.05
    test_share: Share = 0.0
    max_negatives: Number = 32
    name: Name | None = None  # type: ignore[assignment]

    kind = "hub"
    version = 2
    hub: ClassVar[Hub] = Hub()

    def __post_init__(self) -> None:
        check(type(self), vars(self), "dataset")
        if self.path is None and self.repository is None:
            raise InputError("dataset.path is missing: name a file or a folder, or dataset.repository=OWNER/NAME of the hub")
        self._root = find_folder(self.path, self.paths.data, "dataset.path", or_file=True) if self.path is not None else None
        self.name = self.name or (self._root.resolve().stem if self._root else str(self.repository).rpartition("/")[2])
        named = {role: [value] if isinstance(value, str) else value for role, value in self.columns.items() if value}
        self._columns = Columns(named, self.layout)
        if self._columns.wide and not self.languages:
            raise InputError(f"dataset.languages is missing: the languages that stand for {LANGUAGE} in dataset.columns")
        for key in ("language", "query_language", "passage_language"):
            if (code := getattr(self, key)) is not None and not known_language(code):
                raise InputError(f"dataset.{key}={code!r} is no code of a language; expected one such as en")
        for name, code in self.codes.items():
            if not known_language(code):
                raise InputError(f"dataset.codes.{name}={code!r} is no code of a language; expected one such as en")
        spelt = {code: name for name, code in self.codes.items()}
        self._spelt = [spelt.get(language, language) for language in self.languages or ()]
        self._fixed = {one for one in (self.query_language, self.passage_language) if one}
        self._scanned: Scan | None = None

    def at_hand(self) -> bool:
        return self._root.exists() if self._root else self.built()

    def state(self) -> Any:
        if self._root is None or not self._root.exists():
            return None
        return folder_state(self._root) if self._root.is_dir() else file_state(self._root)

    def chosen(self) -> Sequence[str]:
        self._scanned = scan(self)
        return self._scanned.languages

    def offered(self) -> list[str] | None:
        """One language of all texts; else only the columns, or what is on the hub, say which there are."""
        stated = {one for one in (self.query_language or self.language, self.passage_language or self.language) if one}
        both = self.language or (self.query_language and self.passage_language)
        return sorted(stated) if both else None

    def write(self, writer: PairsWriter) -> None:
        found, self._scanned = self._scanned or scan(self), None
        writer.write_mixed(found.texts(self))
        pairs = PairsFromJudgements(self.validation_share, self.test_share, self.max_negatives, dropped=found.dropped)
        pairs.finish(writer, found.judgements, found.same_id, {"provenance": {**found.files.origin, "version": self.version}})

    def find(self) -> Files:
        """The files to read; fetched, where they are the hub's."""
        splits = {self.test_split: "test", self.validation_split: "validation", self.split: "train"}
        named = {name: split for name, split in splits.items() if name is not None}
        if len(named) < sum(one is not None for one in (self.split, self.validation_split, self.test_split)):
            raise InputError(f"dataset.split={self.split!r} and the other splits are one; expected a different name for each")
        files = [self.files] if isinstance(self.files, str) else self.files
        wanted = Wanted(named, self.subset, files, self.codes, self.languages, self._fixed)
        if self._root is not None:
            return wanted.local(self._root)
        return wanted.fetched(self.hub, str(self.repository), self.revision, Cache.at(self.paths.cache))

    def read(self, files: Files, notes: Notes) -> Iterator[tuple[str, Row]]:
        """Every row that has a query and a passage, with its split, in a fixed order; its languages are known and chosen."""
        for part in track(files.parts, f"reading {self.name}"):
            seen: dict[str, None] = {}
            for record in self._records(part, files):
                if not record.values.keys() <= seen.keys():  # a line of JSON may have what those before it lack
                    seen |= dict.fromkeys(record.values)
                    every = Record(seen, record.place)
                    self._columns.settle(every, self._spelt, bool(part.language or self.language))
                    self._check_languages(every, part)
                for row in self._columns.rows(record, self._spelt):
                    if (kept := self._kept(row, part, notes)) is not None:
                        yield part.split, kept

    def looked_for(self) -> str:
        """The columns that were read, for errors."""
        return f" ({said})" if (said := self._columns.said) else ""

    def _records(self, part: Part, files: Files) -> Iterator[Record]:
        for record in read_rows(files.path(part.file)):
            if self.rows is None:
                yield record
            else:
                yield from record.records(self.rows)

    def _check_languages(self, record: Record, part: Part) -> None:
        """Refuse rows of whose sides nobody says the language, or whose file's name says none."""
        if part.language is not None and not known_language(part.language):
            raise InputError(
                f"{part.language!r} stands for {LANGUAGE} of {part.file} and is no code of a language; say what it is with "
                f"dataset.codes={{{part.language}: de}}"
            )
        known = part.language or self.language or self._columns.says("language") or self._columns.wide
        for side, fixed in (("query", self.query_language), ("passage", self.passage_language)):
            if not (known or fixed or self._columns.says(f"{side}_language")):
                raise InputError(
                    f"dataset.language is missing: name the {side}'s language, or its column with dataset.columns.language; "
                    f"the columns of {record.place} are: {', '.join(map(str, record.values))[:400]}"
                )

    def _kept(self, row: Row, part: Part, notes: Notes) -> Row | None:
        """The row with its languages and without empty texts; None where nothing is left of it."""
        sides = (row.query_language, self.query_language), (row.passage_language, self.passage_language)
        found = []
        for by_column, fixed in sides:
            stated = by_column if by_column is not None or fixed is not None else row.language
            language = fixed or part.language or self.language or "" if stated is None else self.codes.get(stated, stated)
            if stated is not None and stated not in self.codes and not known_language(language):
                notes.strange[language] += 1
                return None
            found.append(language)
        asked, answered = found
        for language in found:
            if self.languages is not None and language not in self.languages and language not in self._fixed:
                notes.dropped["rows in languages that were not chosen", language] += 1
                return None
        if not row.query:
            notes.dropped[f"queries {EMPTY}", asked] += 1
            return None
        positives, negatives = ([one for one in passages if one.text] for passages in (row.positives, row.negatives))
        empty = len(row.positives) + len(row.negatives) - len(positives) - len(negatives)
        if empty:
            notes.dropped[f"passages {EMPTY}", answered] += empty
        if not positives and not negatives:
            return None
        return Row(row.query, positives, negatives, row.id, asked, answered, None, row.place)


@dataclass
class Notes:
    """What reading leaves out, by reason and language, and what stands where codes of languages should."""

    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    strange: Counter[str] = field(default_factory=Counter)

    def by_reason(self) -> dict[str, Any]:
        """The first, as a set's meta holds it."""
        found: dict[str, Any] = {}
        for (reason, language), count in self.dropped.items():
            found.setdefault(reason, {})[language] = count
        return found


class Gathered:
    """A number of every row and of every passage of one, in the order in which they are read."""

    def __init__(self) -> None:
        self.split, self.query, self.id, self.asked = array("b"), array("Q"), array("Q"), array("H")
        self.row, self.key, self.text, self.passage_id = array("q"), array("Q"), array("Q"), array("Q")
        self.answered, self.negative, self.score = array("H"), array("b"), array("f")

    def add(self, split: str, row: Row, asked: int, answered: int) -> None:
        number = len(self.query)
        self.split.append(SPLITS.index(split))
        self.query.append(text_hash(f"{row.query_language}\0{row.query}"))
        self.id.append(self.query[-1] if row.id is None else text_hash(row.id))
        self.asked.append(asked)
        for negative, passages in enumerate((row.positives, row.negatives)):
            for one in passages:
                text = text_hash(f"{row.passage_language}\0{one.text}")
                self.row.append(number)
                self.text.append(text)
                self.key.append(text if one.id is None else text_hash(f"{row.passage_language}\0\0{one.id}"))
                self.passage_id.append(0 if one.id is None or row.id is None else text_hash(one.id))
                self.answered.append(answered)
                self.negative.append(negative)
                self.score.append(one.score)


@dataclass(frozen=True)
class Scan:
    """A data set that was read once: what is equal in it, and so what is written of it.

    Attributes:
        group: int64 [rows], the group of a row's query where no earlier row has it, else -1.
        number: int64 [passages], the number of a passage where it is new, else -1.
        place: int64 [passages], how many new passages before it have their name from the same id.
    """

    files: Files
    languages: list[str]
    dropped: dict[str, Any]
    judgements: Judgements
    same_id: Ints
    group: Ints
    number: Ints
    place: Ints

    def texts(self, source: HubPairs) -> Iterator[tuple[str, str, int, str, str]]:
        """What `PairsWriter.write_mixed` writes: each query and each passage once."""
        passage = 0
        for index, (_, row) in enumerate(source.read(self.files, Notes())):
            named = str(index) if row.id is None else row.id
            if self.group[index] >= 0:
                yield SIDES[0], str(row.query_language), int(self.group[index]), named, row.query
            for one in (*row.positives, *row.negatives):
                if self.number[passage] >= 0:
                    id_ = one.id or (f"{named}#{self.place[passage]}" if self.place[passage] else named)
                    yield SIDES[1], str(row.passage_language), int(self.number[passage]), id_, one.text
                passage += 1


def scan(source: HubPairs) -> Scan:
    """Read a data set for what is equal in it.

    Raises:
        InputError: languages that are none, ids that stand for different texts, or negatives that are their row's positive.
    """
    files, notes = source.find(), Notes()
    found, languages, parallel = _gather(source, files, notes)
    order = sorted(languages)
    rank = np.array([order.index(name) for name in languages], np.int64)
    asked, answered = (rank[np.asarray(one, np.int64)] for one in (found.asked, found.answered))
    query, id_, key, text, passage_id = (
        np.asarray(one, np.uint64) for one in (found.query, found.id, found.key, found.text, found.passage_id)
    )
    row = np.asarray(found.row, np.int64)
    named, _ = _equal(id_)
    in_language, first = _equal(named * len(order) + asked)
    _refuse_changes(source, files, query != query[first[in_language]], np.arange(len(query)))
    same, at = _equal(key)
    _refuse_changes(source, files, text != text[at[same]], row)
    group, number = _numbered(named, asked), _numbered(same, answered)
    shared, first_with = _equal(passage_id[at])
    links = np.stack([number[at][first_with[shared]], number[at]], 1)
    base = (named[row] if parallel else row) * len(order) + answered
    new_query, new = (np.zeros(len(one), np.bool_) for one in (query, key))
    new_query[first], new[at] = True, True
    split, negative = np.asarray(found.split, np.int64), np.asarray(found.negative, np.int64) > 0
    return Scan(
        files=files,
        languages=order,
        dropped=notes.by_reason(),
        judgements=Judgements(split[row], group[row], number, negative, np.asarray(found.score, np.float32)),
        same_id=links[(passage_id[at] > 0) & (links[:, 0] != links[:, 1])],
        group=np.where(new_query, group, -1),
        number=np.where(new, number, -1),
        place=_places(base, new),
    )


def _gather(source: HubPairs, files: Files, notes: Notes) -> tuple[Gathered, dict[str, int], bool]:
    """What is gathered of every row, the numbers that languages have in it, and whether rows have ids."""
    found = Gathered()
    languages: dict[str, int] = {}
    twice, with_positive, example = 0, 0, ""
    parallel = False
    for split, row in source.read(files, notes):
        for one in (row.query_language, row.passage_language):
            languages.setdefault(str(one), len(languages))
        found.add(split, row, languages[str(row.query_language)], languages[str(row.passage_language)])
        parallel |= row.id is not None
        with_positive += bool(row.positives)
        if both := {one.text for one in row.positives} & {one.text for one in row.negatives}:
            example = example or f"{min(both)[:60]!r} ({row.place})"
            twice += 1
    if notes.strange:
        most = ", ".join(f"{code!r} {count:,} times" for code, count in notes.strange.most_common(SHOWN))
        more = f" and {len(notes.strange) - SHOWN} others" if len(notes.strange) > SHOWN else ""
        raise InputError(
            f"{source.name}: no codes of languages: {most}{more}; say what they are with dataset.codes={{NAME: de}}"
        )
    if twice:
        raise InputError(f"{source.name}: {twice:,} rows have their positive among their negatives, as {example}")
    if not with_positive:
        raise InputError(f"{source.name}: no row has a query and a passage that answers it{source.looked_for()}{_why(notes)}")
    if absent := set(source.languages or ()) - languages.keys():
        there = sorted({*languages, *(language for _, language in notes.dropped)})
        raise InputError(f"dataset.languages asks for {min(absent)!r}, which {source.name} lacks{nearest(min(absent), there)}")
    return found, languages, parallel


def _equal(values: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """int64 [values], a number that equal values share, and for each number the first place of its value."""
    _, first, same = np.unique(values, return_index=True, return_inverse=True)
    return same.astype(np.int64), first.astype(np.int64)


def _numbered(items: Ints, language: Ints) -> Ints:
    """int64 [occurrences], the number of each one's item: language after language, in the order in which they come."""
    order = np.argsort(language, kind="stable")
    same, first = _equal(items[order])
    number = np.empty(len(items), np.int64)
    number[order] = np.argsort(np.argsort(first))[same]
    return number


def _places(base: Ints, counted: npt.NDArray[np.bool_]) -> Ints:
    """int64 [values]: how many of those that are counted come before with the same base."""
    there = np.flatnonzero(counted)
    order = there[np.argsort(base[there], kind="stable")]
    starts = np.append(True, base[order][1:] != base[order][:-1])[: len(order)]
    begin = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    places = np.zeros(len(base), np.int64)
    places[order] = np.arange(len(order)) - begin
    return places


def _refuse_changes(source: HubPairs, files: Files, changed: npt.NDArray[np.bool_], row_of: Ints) -> None:
    """Refuse ids that have another text than before in the same language; `row_of` are the rows of what `changed`."""
    rows = np.unique(row_of[changed])
    if len(rows):
        _, row = next(itertools.islice(source.read(files, Notes()), int(rows[0]), None))
        said = f"id {row.id!r}, {row.place}" if row.id is not None else row.place
        raise InputError(f"{source.name}: {len(rows):,} rows repeat an id with a different text, the first is {said}")


def _why(notes: Notes) -> str:
    said = ", ".join(f"{count:,} {reason} ({language})" for (reason, language), count in notes.dropped.most_common(SHOWN))
    return f"; left out: {said}" if said else ""
