"""What the tests of this folder share: a cache that is thrown away, and writers of small sets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from hybrid_retrieval.config import PathsConfig

Texts = Mapping[str, Mapping[str, str]]
Judged = Mapping[str, Sequence[tuple[str, str, int]]]


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(data=str(tmp_path / "local"), cache=str(tmp_path / "cache"))


@pytest.fixture
def write_beir(tmp_path: Path) -> Callable[..., Path]:
    """Writes a set in BEIR's layout: {language: {id: text}} for both sides, {language: [(query, passage, grade)]}."""

    def write(
        queries: Texts, passages: Texts, judged: Judged, folder: str = "set", split: str = "train", zipped: bool = False
    ) -> Path:
        root = tmp_path / "local" / folder
        for language in {*queries, *passages, *judged}:
            (root / language / "qrels").mkdir(parents=True, exist_ok=True)
        for stem, side in (("queries", queries), ("corpus", passages)):
            for language, records in side.items():
                text = "".join(json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in records.items())
                if zipped:
                    (root / language / f"{stem}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
                else:
                    (root / language / f"{stem}.jsonl").write_text(text)
        for language, lines in judged.items():
            body = "".join(f"{query}\t{passage}\t{grade}\n" for query, passage, grade in lines)
            (root / language / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + body)
        return root

    return write


@pytest.fixture
def write_mmarco(tmp_path: Path) -> Callable[..., Path]:
    """Writes mMARCO's layout: {language name: {id: text}} for both sides, and (query, positive, negative) triples."""

    def write(
        queries: Mapping[str, Mapping[int, str]],
        passages: Mapping[str, Mapping[int, str]],
        triples: Sequence[tuple[int, int, int]],
        folder: str = "mmarco/data",
    ) -> Path:
        root = tmp_path / "local" / folder
        (root / "google" / "queries" / "train").mkdir(parents=True, exist_ok=True)
        (root / "google" / "collections").mkdir(exist_ok=True)
        for name, texts in queries.items():
            file = root / "google" / "queries" / "train" / f"{name}_queries.train.tsv"
            file.write_text("".join(f"{id_}\t{text}\n" for id_, text in texts.items()))
        for name, texts in passages.items():
            file = root / "google" / "collections" / f"{name}_collection.tsv"
            file.write_text("".join(f"{id_}\t{text}\n" for id_, text in texts.items()))
        (root / "triples.train.ids.small.tsv").write_text("".join("\t".join(map(str, triple)) + "\n" for triple in triples))
        return root

    return write
