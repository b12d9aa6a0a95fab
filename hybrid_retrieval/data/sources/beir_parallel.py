"""BEIR's layout, one folder per language: how a parallel set of one's own is brought in.

The same query id in two languages is a translation. A judgement of a language joins a query that exists in some language with a
passage of that language, of grade 0 as a hard negative; passages that share an id or answer the same query are one group,
whatever their ids. Where splits are cut here, groups that share a text fall into the same one.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.data.beir_folder import BeirFolder, read_qrels
from hybrid_retrieval.data.judgements import Judgements, PairsFromJudgements
from hybrid_retrieval.data.mined import SET, mean_scores
from hybrid_retrieval.data.parallel import SPLIT_NAMES, SPLITS, PairsWriter
from hybrid_retrieval.data.source import BuiltSource, choose_languages, find_folder
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.values import Name, Number, Share, check


@dataclass(eq=False)
class BeirPairs(BuiltSource):
    """A parallel set in BEIR's files."""

    path: str | None = None
    languages: list[str] | None = None
    validation_share: Share = 0.05
    test_share: Share = 0.0
    max_negatives: Number = 32
    name: Name | None = None  # type: ignore[assignment]

    kind = "beir_parallel"
    version = 5

    def __post_init__(self) -> None:
        if self.path is None:
            raise InputError("dataset.path is missing: name a folder with one sub-folder per language in BEIR's layout")
        check(type(self), vars(self), "dataset")
        self.folder = BeirFolder(find_folder(self.path, self.paths.data, "dataset.path"), "dataset.path")
        self.name = self.name or self.folder.path.resolve().name

    def chosen(self) -> list[str]:
        return choose_languages(self.languages, self.folder.languages())

    def offered(self) -> list[str] | None:
        return self.folder.languages() if self.at_hand() else None

    def at_hand(self) -> bool:
        return self.folder.path.is_dir()

    def state(self) -> list[Any]:
        folders = [self.folder.path / language for language in self.folder.languages()]
        files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
        return [file_state(file) for file in (*files, self.folder.path / SET) if file.exists()]

    def write(self, writer: PairsWriter) -> None:
        query_group: dict[str, int] = {}
        for language in writer.languages:
            records = self.folder.records(language, "queries")
            rows = ((query_group.setdefault(id_, len(query_group)), id_, text) for id_, text in records)
            writer.write("queries", language, rows)
        asked = len(query_group)
        numbers: list[dict[str, int]] = []
        for language in writer.languages:
            writer.write("passages", language, _numbered(self.folder.records(language, "corpus"), numbers))
        others = set(self.folder.languages()) - set(writer.languages)
        known = query_group.keys() | {id_ for other in others for id_, _ in self.folder.records(other, "queries")}
        judged, scores = array("q"), array("f")
        scored: dict[str, Mapping[tuple[str, str], float]] = {}
        for language, number_of in zip(writer.languages, numbers, strict=True):
            for name, file in self.folder.qrels(language).items():
                if name not in SPLIT_NAMES:
                    raise InputError(f"{file}: unknown split; expected one of: {', '.join(SPLIT_NAMES)} (.tsv or .tsv.gz)")
                split = SPLITS.index(SPLIT_NAMES[name])
                if name not in scored:
                    scored[name] = mean_scores(self.folder, writer.languages, name)
                for query, passage, grade in read_qrels(file, known, number_of):
                    judged.extend((split, query_group.setdefault(query, len(query_group)), number_of[passage], grade < 1))
                    scores.append(scored[name].get((query, passage), math.nan))
        splits, asking, numbered, negative = np.asarray(judged, np.int64).reshape(-1, 4).T
        judgements = Judgements(splits, asking, numbered, negative > 0, np.asarray(scores, np.float32))
        if not (negative == 0).any():
            raise InputError(f"{self.name}: no passage of {', '.join(writer.languages)} is judged to answer a query")
        elsewhere = np.unique(np.stack([splits, asking], 1)[(asking >= asked) & (negative == 0)], axis=0)
        as_written = (self.folder.path / SET).exists()
        shares = (0.0, 0.0) if as_written else (self.validation_share, self.test_share)
        pairs = PairsFromJudgements(*shares, self.max_negatives, groups_by_id=as_written)
        pairs.dropped["queries in none of the chosen languages"] = len(elsewhere)
        provenance = {"path": str(self.folder.path), "version": self.version}
        pairs.finish(writer, judgements, _same_id(numbers), {"provenance": provenance})


def _numbered(rows: Iterable[tuple[str, str]], numbers: list[dict[str, int]]) -> Iterator[tuple[int, str, str]]:
    """(number, id, text) of the next language's passages; the numbers of its ids are added to `numbers`."""
    start = sum(map(len, numbers))
    found: dict[str, int] = {}
    numbers.append(found)
    for number, (id_, text) in enumerate(rows, start):
        found[id_] = number
        yield number, id_, text


def _same_id(numbers: Iterable[dict[str, int]]) -> npt.NDArray[np.int64]:
    """int64 [links, 2]: the first passage of each id and every later one."""
    first: dict[str, int] = {}
    links = ((first.setdefault(id_, number), number) for found in numbers for id_, number in found.items())
    return np.array([link for link in links if link[0] != link[1]], np.int64).reshape(-1, 2)
