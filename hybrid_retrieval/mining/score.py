"""Have a cross-encoder score a set's answers and hard negatives: ``prepare score cross_encoder=NAME dataset.path=FOLDER``.

A set in BEIR's files gets ``<language>/scores/<split>.tsv`` for each language: lines (query-id, corpus-id, score), the logit of
a query with each passage that is judged for it, both in that language. `BeirPairs` reads them back: what two ids score together
is the mean over the languages that they were read in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import SPLITS, Ints, ParallelPairs
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.data.stored_texts import fingerprint
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.mining.folder import SPLIT_FILES, Unfinished, lines_to
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Count, build, construct

if TYPE_CHECKING:
    from hybrid_retrieval.mining.cross_encoder import CrossEncoder

VERSION = 1
AT_ONCE = 1 << 12
"""Pairs that are scored and kept together."""


@dataclass(frozen=True)
class ScoreConfig:
    """Config of the command."""

    cross_encoder: str
    dataset: dict[str, Any]
    paths: PathsConfig
    splits: list[str]
    languages: list[str] | None = None
    batch_size: Count = 32


def main(composed: DictConfig) -> None:
    """Score, or go on where a killed process was."""
    from hybrid_retrieval.mining.cross_encoder import CrossEncoder
    from hybrid_retrieval.models.checkpoint import scoring_device

    plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    plain["paths"] = construct(PathsConfig, plain["paths"], "paths")
    config = construct(ScoreConfig, plain, "")
    for split in config.splits:
        choice("splits", split, SPLITS)
    source: BeirPairs = build(config.dataset, BeirPairs, "dataset", paths=config.paths)
    model = CrossEncoder(config.cross_encoder, "cross_encoder", scoring_device(), config.batch_size)
    pairs = source.pairs()
    languages = choose_languages(config.languages, pairs.languages, "languages")
    wanted = {
        (split, language): rows
        for split in config.splits
        for language, rows in zip(languages, judged_rows(pairs, split, languages), strict=True)
    }
    texts = [side.column("text") for side in (pairs.queries, pairs.passages)]
    key = {
        "version": VERSION,
        "cross_encoder": model.state,
        "dataset": fingerprint(*texts, *wanted.values()),
        "batch_size": config.batch_size,
        "splits": config.splits,
        "languages": languages,
    }
    folder = source.folder.path
    left = [(folder / one / "scores" / f"{SPLIT_FILES[split]}.tsv", one) for split in config.splits for one in pairs.languages]
    for earlier, language in left:
        if language not in languages and earlier.exists():
            raise InputError(
                f"{earlier} is of an earlier command, and would count beside the new scores: remove it, or have {language} in "
                "languages"
            )
    unfinished = Unfinished(folder / ".scoring", key, "dataset.path")
    unfinished.begin()
    found = {place: scored(pairs, model, rows, unfinished, "-".join(place)) for place, rows in wanted.items()}
    for (split, language), scores in found.items():
        rows = wanted[split, language]
        ids = pairs.queries.ids(rows[:, 0]), pairs.passages.ids(rows[:, 1])
        (folder / language / "scores").mkdir(exist_ok=True)
        with lines_to(folder / language / "scores" / f"{SPLIT_FILES[split]}.tsv") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            file.writelines(f"{query}\t{passage}\t{score:.9g}\n" for query, passage, score in zip(*ids, scores, strict=True))
        print(f"{split} {language}: {len(rows):,} pairs, mean score {np.mean(scores) if scores else np.nan:.4f}")
    unfinished.end()
    print(f"set with scores: {folder}")


def judged_rows(pairs: ParallelPairs, split: str, languages: list[str]) -> Iterator[Ints]:
    """For each language int64 [pairs, 2]: rows of a query and of a passage that is an answer to it or a hard negative."""
    edges = np.asarray(pairs.split_edges(split), np.int64)
    if not (edges[:, 2:] >= 0).any():
        raise InputError(f"{pairs.name} has no hard negatives in its {split} split: prepare mine finds some")
    judged = np.stack([np.repeat(edges[:, 0], edges.shape[1] - 1), edges[:, 1:].ravel()], 1)
    judged = np.unique(judged[judged[:, 1] >= 0], axis=0)
    for language in languages:
        index = pairs.languages.index(language)
        rows = np.stack([side.rows[judged[:, at], index] for at, side in enumerate((pairs.queries, pairs.passages))], 1)
        yield rows[(rows >= 0).all(1)].astype(np.int64)


def scored(pairs: ParallelPairs, model: CrossEncoder, rows: Ints, unfinished: Unfinished, name: str) -> list[float]:
    """The logits of pairs of texts, `AT_ONCE` at a time; what is there already is read."""
    found: list[float] = []
    for start in track(range(0, len(rows), AT_ONCE), f"{pairs.name}: scoring {name}", -(-len(rows) // AT_ONCE)):
        part = f"{name}-{start // AT_ONCE}"
        if not unfinished.part(part).exists():
            mine = rows[start : start + AT_ONCE]
            unfinished.write(part, scores=model.logits(pairs.queries.texts(mine[:, 0]), pairs.passages.texts(mine[:, 1])))
        with np.load(unfinished.part(part)) as arrays:
            found += arrays["scores"].tolist()
    return found
