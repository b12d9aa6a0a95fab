"""MASSIVE 1.1 as training pairs: an utterance and another one of its intent, or its translation.

Query groups and passage groups are both the utterances: a group is an utterance in several languages. With
``pair_by=translation`` an edge joins an utterance to itself; with ``pair_by=intent`` to others of its intent, and all that have
its intent are known to answer it (law 3), so that no loss has them as negatives and SupCon has them as positives: intents are
the labels. The train partition is the train split and dev is validation; texts with the words of one of the test partition, in
whichever of the languages, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.data.judgements import words_key
from hybrid_retrieval.data.massive import FILES, FOLDER, read_meta, read_utterances
from hybrid_retrieval.data.parallel import PairsWriter
from hybrid_retrieval.data.source import BuiltSource, choose_languages, find_folder
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.hashing import mix, text_hash
from hybrid_retrieval.values import Count, Number, check

SPLITS = {"train": "train", "dev": "validation"}
"""By partition."""

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


@dataclass(eq=False)
class Massive(BuiltSource):
    """The train and dev partitions, as `data.massive` reads them."""

    path: str = FOLDER
    languages: list[str] | None = field(default_factory=lambda: ["de", "en", "es", "fr", "hi", "th"])
    pair_by: str = "intent"
    partners: Count = 4
    max_negatives: Number = 4

    name = kind = "massive"
    license = "cc-by-4.0"
    version = 1

    def __post_init__(self) -> None:
        check(type(self), vars(self), "dataset")
        choice("dataset.pair_by", self.pair_by, ["translation", "intent"])
        self.folder = find_folder(self.path, self.paths.data, "dataset.path")
        self.languages = choose_languages(self.languages, list(FILES))

    def chosen(self) -> list[str]:
        assert self.languages is not None
        return self.languages

    def offered(self) -> list[str]:
        return list(FILES)

    def at_hand(self) -> bool:
        return self.folder.is_dir()

    def state(self) -> list[Any]:
        if not self.folder.is_dir():
            raise InputError(
                f"dataset.path={self.path} is not a folder; expected MASSIVE 1.1's meta.tsv.gz and <language>.tsv.gz"
            )
        names = ["meta", *(FILES[language] for language in self.chosen())]
        return [file_state(self.folder / f"{name}.tsv.gz") for name in names]

    def write(self, writer: PairsWriter) -> None:
        meta = read_meta(self.folder)
        kept = [id_ for id_, one in meta.items() if one.partition in SPLITS]
        group_of = {id_: group for group, id_ in enumerate(kept)}
        every = {language: read_utterances(self.folder, language) for language in writer.languages}
        tested = {
            words_key(text) for texts in every.values() for id_, text in texts.items() if id_ in meta and id_ not in group_of
        }
        there = np.zeros(len(kept), np.bool_)
        dropped = {}
        for language, texts in every.items():
            known = [(group_of[id_], id_, text) for id_, text in texts.items() if id_ in group_of]
            rows = [row for row in known if words_key(row[2]) not in tested]
            dropped[language] = len(known) - len(rows)
            there[[group for group, _, _ in rows]] = True
            for side in ("queries", "passages"):
                writer.write(side, language, rows)
        keys = np.array([text_hash(id_) for id_ in kept], np.uint64)
        intent, scenario = (_numbers(getattr(meta[id_], name) for id_ in kept) for name in ("intent", "scenario"))
        edges = {}
        for partition, split in SPLITS.items():
            mine = there & np.array([meta[id_].partition == partition for id_ in kept])
            edges[split] = self._edges(keys, *(np.where(mine, label, -1) for label in (intent, scenario)))
        if not len(edges["train"]):
            raise InputError(
                f"{self.folder}: no pair by {self.pair_by} in the train partition; expected utterances of one intent"
            )
        answers = None
        if self.pair_by == "intent":
            answers = np.concatenate([_all_pairs(np.flatnonzero(there & (intent == one))) for one in np.unique(intent)])
        provenance = {"path": str(self.folder), "version": self.version}
        writer.finish(
            edges,
            {"provenance": provenance, "dropped": {"utterances with the words of a test utterance": dropped}},
            answers=answers,
        )

    def _edges(self, keys: npt.NDArray[np.uint64], intent: Ints, scenario: Ints) -> Int32s:
        """int32 [edges, 2 + max_negatives] among the groups whose `intent` is not -1, drawn by the hash of two ids."""
        parts = [np.empty((0, 2 + self.max_negatives), np.int32)]
        for one in np.unique(intent[intent >= 0]).tolist():
            asked = np.flatnonzero(intent == one)
            if self.pair_by == "translation":
                answer, wrong = asked[:, None], asked
            else:
                answer = draw(keys, asked, asked, self.partners)
                wrong = np.flatnonzero((scenario == scenario[asked[0]]) & (intent != one))
            each = answer.shape[1]
            negatives = draw(keys, asked, wrong, each * self.max_negatives).reshape(len(asked), each, self.max_negatives)
            query = np.broadcast_to(asked[:, None, None], (len(asked), each, 1))
            part = np.concatenate([query, answer[:, :, None], negatives], 2).reshape(-1, 2 + self.max_negatives)
            parts.append(part[part[:, 1] >= 0].astype(np.int32))
        return np.concatenate(parts)


def draw(keys: npt.NDArray[np.uint64], groups: Ints, pool: Ints, count: int) -> Ints:
    """int64 [groups, count]: for each group others of the `pool`, by the hash of both keys; -1 where there are no more."""
    order = mix(keys[groups][:, None], keys[pool][None, :])
    order[groups[:, None] == pool[None, :]] = np.iinfo(np.uint64).max
    few = min(count, len(pool))
    first = np.argpartition(order, few - 1, axis=1)[:, :few] if few else np.empty((len(groups), 0), np.int64)
    first = np.take_along_axis(first, np.take_along_axis(order, first, 1).argsort(1), 1)
    found = np.full((len(groups), count), -1, np.int64)
    found[:, :few] = pool[first]
    found[found == groups[:, None]] = -1
    return found


def _all_pairs(groups: Ints) -> Int32s:
    """int32 [pairs, 2]: each group with each, itself too."""
    return np.stack(np.meshgrid(groups, groups, indexing="ij"), -1).reshape(-1, 2).astype(np.int32)


def _numbers(values: Iterable[str]) -> Ints:
    """The same number for the same string, from 0."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], np.int64)
