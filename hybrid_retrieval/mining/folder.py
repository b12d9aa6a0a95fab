"""A set in BEIR's files, one folder per language, that `BeirPairs` reads back to the same groups, edges and splits.

``set.json`` beside the languages says that groups are told by their ids alone, and that no split is to be cut. A group goes by
the id that it has in the first of its languages. Everything is written to identical bytes from the same set.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from hybrid_retrieval.data.mined import SET
from hybrid_retrieval.data.parallel import SPLITS, Ints, ParallelPairs, TextTable
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import read_mapping, replaced, write_text
from hybrid_retrieval.progress import track

REPORT = "mining.json"
ROWS_AT_ONCE = 1 << 14
SPLIT_FILES = {"train": "train", "validation": "dev", "test": "test"}
"""What BEIR calls a split."""


@dataclass(frozen=True)
class Unfinished:
    """A folder in another one for the parts of work that may be killed, each whole or not there at all.

    Attributes:
        key: all that the parts depend on, plain values by name.
        what: the config key that named the folder, for errors.
    """

    folder: Path
    key: Mapping[str, Any]
    what: str

    def begin(self) -> None:
        """Make the folder, or go on in it.

        Raises:
            InputError: it is of other work.
        """
        if (self.folder / "key.json").exists():
            check_same(read_mapping(self.folder / "key.json"), self.key, f"{self.what}={self.folder.parent} is unfinished")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "key.json", json.dumps(self.key, indent=1))

    def part(self, name: str) -> Path:
        """The file of a part."""
        return self.folder / f"{name}.npz"

    def write(self, name: str, **arrays: Any) -> None:
        """Write a part."""
        with replaced(self.part(name)) as path, path.open("wb") as file:
            np.savez(file, **arrays)

    def end(self) -> None:
        """Take the parts away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuse work that was begun with other settings, naming the first that differs."""
    plain = json.loads(json.dumps(now))
    for name in {**plain, **before}:
        if before.get(name) != plain.get(name):
            said = f"{name}={json.dumps(before.get(name), ensure_ascii=False)[:80]}"
            raise InputError(f"{where}, and was made with another {said}: remove it, or choose another folder")


def write_set(pairs: ParallelPairs, folder: Path, negatives: Mapping[str, Ints]) -> None:
    """Write texts and judgements, with the hard negatives that the set has and then with others.

    Args:
        negatives: by split int64 [negatives, 3], query group, passage group, language in whose file it is judged 0.
    """
    queries, passages = group_ids(pairs.queries), group_ids(pairs.passages)
    for language in track(pairs.languages, f"{folder.name}: writing texts", len(pairs.languages)):
        (folder / language / "qrels").mkdir(parents=True, exist_ok=True)
        for stem, table, ids in (("queries", pairs.queries, queries), ("corpus", pairs.passages, passages)):
            if lines := texts_of(table, pairs.languages.index(language), ids):
                with lines_to(folder / language / f"{stem}.jsonl.gz") as file:
                    file.writelines(lines)
    for split in SPLITS:
        edges = np.unique(np.asarray(pairs.split_edges(split)[:, :2], np.int64), axis=0)
        edges = edges[(pairs.queries.rows[edges[:, 0]] >= 0).any(1)]  # without a text nothing is asked
        refused = np.concatenate([hard_negatives(pairs, split), negatives.get(split, np.empty((0, 3), np.int64))])
        for index, language in enumerate(pairs.languages):
            there = edges[pairs.passages.rows[edges[:, 1], index] >= 0]
            mine = refused[refused[:, 2] == index]
            if not len(there) and not len(mine):
                continue
            with lines_to(folder / language / "qrels" / f"{SPLIT_FILES[split]}.tsv") as file:
                file.write("query-id\tcorpus-id\tscore\n")
                for grade, judged in ((1, there), (0, mine)):
                    file.writelines(f"{queries[row[0]]}\t{passages[row[1]]}\t{grade}\n" for row in judged.tolist())
    write_text(folder / SET, json.dumps({"name": pairs.name, "groups": "by id", "splits": "as judged"}, ensure_ascii=False))


def hard_negatives(pairs: ParallelPairs, split: str) -> Ints:
    """int64 [negatives, 3]: those that a split has, in order: query group, passage group, the first language of that."""
    edges = np.asarray(pairs.split_edges(split), np.int64)
    every = np.stack([np.repeat(edges[:, 0], edges.shape[1] - 2), edges[:, 2:].ravel()], 1)
    every = every[every[:, 1] >= 0]
    _, first = np.unique(every[:, 0] * len(pairs.passages.rows) + every[:, 1], return_index=True)
    every = every[np.sort(first)]
    return np.concatenate([every, (pairs.passages.rows[every[:, 1]] >= 0).argmax(1)[:, None]], 1)


def group_ids(table: TextTable) -> list[str]:
    """An id for each group: that of its first text, with a number after it where another group has that."""
    first = table.rows[np.arange(len(table.rows)), (table.rows >= 0).argmax(1)]
    ids = np.full(len(first), "", object)
    ids[first >= 0] = table.ids(first[first >= 0])
    taken: dict[str, int] = {}
    for group, id_ in enumerate(ids.tolist()):
        name, again = id_, 1
        while name in taken:
            again += 1
            name = f"{id_}~{again}"
        taken[name] = group
    return list(taken)


def texts_of(table: TextTable, language: int, ids: Sequence[str]) -> Iterable[str]:
    """JSON lines of a language's texts; none where it has none."""
    start, stop = np.searchsorted(table.languages, [language, language + 1]).tolist()

    def lines() -> Iterator[str]:
        for at in range(start, stop, ROWS_AT_ONCE):
            rows = np.arange(at, min(at + ROWS_AT_ONCE, stop))
            for group, text in zip(table.groups[rows].tolist(), table.texts(rows), strict=True):
                yield json.dumps({"_id": ids[group], "text": text}, ensure_ascii=False) + "\n"

    return lines() if stop > start else ()


@contextmanager
def lines_to(path: Path) -> Iterator[TextIO]:
    """A text file that appears whole, gzip by its name; the same lines are the same bytes."""
    with replaced(path) as part, part.open("wb") as raw:
        if path.suffix != ".gz":
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as plain:
                yield plain
            return
        with (
            gzip.GzipFile("", "wb", 6, cast(Any, raw), mtime=0) as packed,
            io.TextIOWrapper(packed, "utf-8", newline="\n") as text,
        ):
            yield text
