"""BEIR's layout, one folder per language: how a parallel set of one's own is brought in.

The same query id in two languages is a translation. A judgement of a language joins a query that exists in some language with a
passage of that language; passages that share an id or answer the same query are one group, whatever their ids. Where splits
are cut here, groups that share a text fall into the same one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.config import Name, Share, check
from hybrid_retrieval.data.parallel import SPLITS, PairsWriter
from hybrid_retrieval.data.records import BeirFolder, read_qrels
from hybrid_retrieval.data.source import BuiltSource, choose_languages, components, find_folder, split_of
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hashing import text_hash

SPLIT_NAMES = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}
NO_LETTERS = re.compile(r"[\W_]+")

Judged = Mapping[str, Mapping[str, list[int]]]
"""By split and query id: the numbers of the passages that answer it."""


@dataclass(eq=False)
class BeirPairs(BuiltSource):
    """A parallel set in BEIR's files."""

    path: str | None = None
    languages: list[str] | None = None
    validation_share: Share = 0.05
    test_share: Share = 0.0
    name: Name | None = None  # type: ignore[assignment]

    kind = "beir_parallel"
    version = 4

    def __post_init__(self) -> None:
        if self.path is None:
            raise InputError("dataset.path is missing: name a folder with one sub-folder per language in BEIR's layout")
        check(type(self), vars(self), "dataset")
        self.folder = BeirFolder(find_folder(self.path, self.paths.data, "dataset.path"), "dataset.path")
        self.name = self.name or self.folder.path.resolve().name

    def chosen(self) -> list[str]:
        return choose_languages(self.languages, self.folder.languages())

    def at_hand(self) -> bool:
        return self.folder.path.is_dir()

    def state(self) -> list[Any]:
        folders = [self.folder.path / language for language in self.folder.languages()]
        return [file_state(file) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]

    def write(self, writer: PairsWriter) -> None:
        query_group: dict[str, int] = {}
        for language in writer.languages:
            records = self.folder.records(language, "queries")
            rows = ((query_group.setdefault(id_, len(query_group)), id_, text) for id_, text in records)
            writer.write("queries", language, rows)
        passages = _Passages()
        for language in writer.languages:
            writer.write("passages", language, passages.read(self.folder.records(language, "corpus")))
        others = set(self.folder.languages()) - set(writer.languages)
        known = query_group.keys() | {id_ for other in others for id_, _ in self.folder.records(other, "queries")}
        judged: dict[str, dict[str, list[int]]] = {split: defaultdict(list) for split in SPLITS}
        unused = 0
        for language, numbers in zip(writer.languages, passages.numbers, strict=True):
            for name, file in self.folder.qrels(language).items():
                if name not in SPLIT_NAMES:
                    raise InputError(f"{file}: unknown split; expected one of: {', '.join(SPLIT_NAMES)} (.tsv or .tsv.gz)")
                for query, passage, grade in read_qrels(file, known, numbers):
                    if grade > 0:
                        judged[SPLIT_NAMES[name]][query].append(numbers[passage])
                    else:
                        unused += 1
        if not any(judged.values()):
            raise InputError(f"{self.name}: no passage of {', '.join(writer.languages)} is judged to answer a query")
        group_of, conflicts = passages.group(judged)
        writer.regroup("passages", group_of)
        elsewhere = sum(query not in query_group for queries in judged.values() for query in queries)
        dropped = {
            "judgements below 1": unused,
            "queries in none of the chosen languages": elsewhere,
            "passages kept apart in their group's language": conflicts,
        }
        edges = self._edges(judged, query_group, group_of, passages.names(group_of))
        writer.finish(edges, {"provenance": {"path": str(self.folder.path), "version": self.version}, "dropped": dropped})

    def _edges(
        self, judged: Judged, query_group: Mapping[str, int], group_of: npt.NDArray[np.int32], names: Sequence[str]
    ) -> dict[str, npt.NDArray[np.int32]]:
        """Distinct edges by split; splits without a judgement are cut from train by the names of passage groups."""
        edges = {}
        for split, queries in judged.items():
            known = [(query_group[query], numbers) for query, numbers in queries.items() if query in query_group]
            pairs = np.array([(query, number) for query, numbers in known for number in numbers], np.int32).reshape(-1, 2)
            pairs[:, 1] = group_of[pairs[:, 1]]
            edges[split] = np.unique(pairs, axis=0)
        shares = {"validation": self.validation_share, "test": self.test_share}
        cut = {split: 0.0 if judged[split] else amount for split, amount in shares.items()}
        drawn = np.array([split_of(name, cut["validation"], cut["test"]) for name in names])
        into = drawn[edges["train"][:, 1]]
        return {split: edges["train"][into == split] if split == "train" or cut[split] else edges[split] for split in SPLITS}


class _Passages:
    """Passages as they are read, numbered over all languages."""

    def __init__(self) -> None:
        self.numbers: list[dict[str, int]] = []
        """By language: the number of each id."""
        self._count = 0
        self._first: dict[int, int] = {}
        self._same_words: list[tuple[int, int]] = []

    def read(self, rows: Iterable[tuple[str, str]]) -> Iterator[tuple[int, str, str]]:
        """(number, id, text) of the next language's passages."""
        numbers: dict[str, int] = {}
        self.numbers.append(numbers)
        for id_, text in rows:
            number = numbers[id_] = self._count
            self._count += 1
            # Texts are the same but for case, spacing, punctuation, marks and Unicode form.
            if letters := NO_LETTERS.sub("", unicodedata.normalize("NFKC", text).casefold()):
                first = self._first.setdefault(text_hash(letters), number)
                if first != number:
                    self._same_words.append((first, number))
            yield number, id_, text

    def group(self, judged: Judged) -> tuple[npt.NDArray[np.int32], int]:
        """int32 [passages], the group of each, and how many passages could not join that of a query's other answers.

        Passages that share an id are one meaning, and those that answer the same query. A group has at most one passage a
        language, so these are not the components of a graph: a query with several answers in one language joins none of
        them, and a union that would bring two passages of a language together is left out.
        """
        parent: list[int] = []
        languages: list[int] = []  # as bits, of each root
        language_of: list[int] = []
        first: dict[str, int] = {}
        for bit, numbers in enumerate(self.numbers):
            for id_, number in numbers.items():
                parent.append(first.setdefault(id_, number))
                languages.append(1 << bit)
                languages[parent[number]] |= 1 << bit
                language_of.append(bit)

        def root(number: int) -> int:
            while parent[number] != number:
                parent[number] = number = parent[parent[number]]
            return number

        conflicts = 0
        for answers in (answers for queries in judged.values() for answers in queries.values()):
            if len({language_of[answer] for answer in answers}) < len(answers):
                continue
            for other in answers[1:]:
                left, right = root(answers[0]), root(other)
                if left == right:
                    continue
                if languages[left] & languages[right]:
                    conflicts += 1
                else:
                    parent[right] = left
                    languages[left] |= languages[right]
        roots = np.array([root(number) for number in range(len(parent))], np.int64)
        return np.unique(roots, return_inverse=True)[1].astype(np.int32), conflicts

    def names(self, group_of: npt.NDArray[np.int32]) -> list[str]:
        """For each group the least id of the passages of all groups that a chain of common texts joins it to."""
        links = group_of[np.array(self._same_words, np.int64).reshape(-1, 2)]
        label_of = components(links, int(group_of.max(initial=-1)) + 1)
        least: dict[int, str] = {}
        for numbers in self.numbers:
            for (id_, _), label in zip(numbers.items(), label_of[group_of[list(numbers.values())]].tolist(), strict=True):
                least[label] = min(id_, least.get(label, id_))
        return [least[label] for label in label_of.tolist()]
