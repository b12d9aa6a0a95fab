"""Score an encoder, and baselines, on the chosen benchmarks and write what a run directory holds of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hybrid_retrieval import run_record
from hybrid_retrieval.config import EvaluationConfig, PathsConfig, build
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.bias.suite import chosen
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.faiss_search import faiss_search, library, recall_of
from hybrid_retrieval.evaluation.figures import Figures
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from hybrid_retrieval.evaluation.retrievers.debiased import Debiased, check_languages
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.random_vectors import RandomVectors
from hybrid_retrieval.evaluation.retrievers.retriever import Retriever
from hybrid_retrieval.evaluation.scoring.embeddings import embedding_store
from hybrid_retrieval.evaluation.scoring.search import Top, search
from hybrid_retrieval.evaluation.trec import write_embeddings, write_qrels, write_run
from hybrid_retrieval.files import write_text
from hybrid_retrieval.models.encoder import BiEncoder, Encoder, Model
from hybrid_retrieval.models.sentence_transformer import as_saved
from hybrid_retrieval.models.transformer import PretrainedTransformer

log = logging.getLogger(__name__)

PER_QUERY = "per_query.parquet"
BASELINES = "baselines"
"""The folder of their results, and what the keys of their figures begin with."""


@dataclass(frozen=True)
class LoadedBenchmark:
    """A benchmark's data and where it came from."""

    collection: RetrievalCollection
    provenance: dict[str, Any]


def load_benchmarks(
    nodes: Mapping[str, Any], config: EvaluationConfig, paths: PathsConfig, asked_by_name: bool
) -> dict[str, LoadedBenchmark]:
    """The chosen benchmarks; what is not at hand is left out with a notice, unless it was asked for by name.

    Raises:
        InputError: a benchmark that was asked for cannot be had, or none is left; what is asked of them is not known.
    """
    chosen(config.bias)
    found: dict[str, LoadedBenchmark] = {}
    for name, node in nodes.items():
        benchmark: Benchmark = build(node, f"benchmark.{name}", paths=paths)
        if not asked_by_name and not benchmark.at_hand():
            log.warning("benchmark %s is left out: its data is not at hand (benchmark=%s fetches it or says how)", name, name)
            continue
        found[name] = LoadedBenchmark(benchmark.load(), benchmark.provenance())
    if not found:
        raise InputError(
            f"no data is at hand for benchmark=[{','.join(nodes)}]; benchmark=held_out scores the training set's own test part"
        )
    return found


def check_texts(encoder: BiEncoder, benchmarks: Mapping[str, LoadedBenchmark]) -> None:
    """Before a training whose scores would be refused by ``strict=true``: tokenise the benchmarks' texts."""
    encoder.strict = True
    for name, benchmark in benchmarks.items():
        encoder.tokenise(benchmark.collection.queries.texts, "query", f"{name} queries")
        encoder.tokenise(benchmark.collection.corpus.texts, "passage", f"{name} corpus")


def load_model(node: Mapping[str, Any], paths: PathsConfig, strict: bool) -> Encoder:
    """A published encoder, or an endpoint, as a config of the group ``model`` names it.

    Raises:
        InputError: it has no weights before it is trained, or its directory says that it is used otherwise.
    """
    if isinstance(node.get("projection"), int):
        raise InputError(f"model.projection={node['projection']} is a layer that only training gives weights; choose null")
    model = build(node, "model", paths=paths)
    if not isinstance(model, Model):
        model.strict = strict
        return cast(Encoder, model)
    encoder = model.build(model.tokenizer(Untrained()))
    encoder.strict = strict
    if isinstance(model, PretrainedTransformer):
        encoder.settings = as_saved(model.directory, encoder.settings)
    return encoder.eval()


class Untrained:
    """Stands for the training text of a model that is not trained."""

    @property
    def key(self) -> Any:
        raise InputError("this model= has no weights before it is trained; choose a published one, or checkpoint=RUN_DIR")

    def sample(self, characters: int) -> list[str]:
        del characters
        return list(self.key)


def score_benchmarks(
    encoder: Encoder | None,
    benchmarks: Mapping[str, LoadedBenchmark],
    config: EvaluationConfig,
    paths: PathsConfig,
    directory: Path,
    source: Source | None = None,
) -> dict[str, float]:
    """Score an encoder and the baselines on all benchmarks; the flat figures.

    Per-query values (and runs and embeddings on request) are written into `directory`, and those of a baseline into
    ``baselines/NAME`` in it, which `hybrid_retrieval.compare` takes for a run.

    Args:
        source: whose training passages the methods of ``evaluation.debias`` are estimated on.
    """
    figures: dict[str, float] = {}
    check(benchmarks, config, source, encoder is not None)
    if encoder is not None:
        with embedding_store(paths.cache, config.dtype, config.devices, config.cache_embeddings) as store:
            dense = Dense(encoder, store, config.documents, config.overlap)
            figures |= _score(dense, benchmarks, config, directory)
            text = passages_by_language(source, config.debias_texts) if config.debias and source else {}
            for name in dict.fromkeys(config.debias):
                retriever = Debiased(dense, name, text, config.lir_rank)
                figures |= _beside(name, retriever, benchmarks, config, directory, _config_of(directory, name))
    for name in dict.fromkeys(config.baselines):
        figures |= _beside(name, baseline(name, config), benchmarks, config, directory, {"choices": {"model": name}})
    return figures


def _config_of(directory: Path, method: str) -> dict[str, Any]:
    """The run's own config, its seed above all, with the method among its choices."""
    saved = run_record.read_config(directory) if (directory / run_record.CONFIG).exists() else {}
    return {**saved, "choices": {**(saved.get("choices") or {}), "debias": method}}


def check(benchmarks: Mapping[str, LoadedBenchmark], config: EvaluationConfig, source: Source | None, encoder: bool) -> None:
    """Before anything is trained or encoded: whether what ``evaluation`` asks for can be had.

    Raises:
        InputError: it cannot.
    """
    if config.save_runs and config.search != "exact":
        library(config.search)
    if not config.debias:
        return
    asked = f"evaluation.debias={config.debias}"
    if not encoder:
        raise InputError(f"{asked} works on an encoder's embeddings: give checkpoint=RUN_DIR or model=NAME too")
    if config.documents != "whole":
        raise InputError(f"{asked} needs an embedding a document: evaluation.documents=whole")
    if source is None:
        raise InputError(f"{asked} is estimated on training text: name it with dataset=")
    text = passages_by_language(source, 1)
    for benchmark in benchmarks.values():
        check_languages(config.debias[0], benchmark.collection, text)


def passages_by_language(source: Source, count: int) -> dict[str, list[str]]:
    """Up to `count` training passages of each language, always the same ones."""
    found: dict[str, list[str]] = {}
    for pairs in (one.pairs for one in source.sets()):
        rows = pairs.split_rows("train")[1]
        for index, language in enumerate(pairs.languages):
            mine = rows[pairs.passages.languages[rows] == index]
            chosen = np.random.default_rng(0).permutation(mine)[: count - len(found.get(language, ()))]
            found.setdefault(language, []).extend(pairs.passages.texts(np.sort(chosen)))
    return found


def _beside(
    name: str,
    retriever: Retriever,
    benchmarks: Mapping[str, LoadedBenchmark],
    config: EvaluationConfig,
    directory: Path,
    record: Mapping[str, Any],
) -> dict[str, float]:
    """Score what is named beside the encoder, into a folder that reads like a run with the config `record`."""
    folder = directory / BASELINES / name
    folder.mkdir(parents=True, exist_ok=True)
    found = _score(retriever, benchmarks, config, folder, f" ({name})")
    write_text(folder / run_record.CONFIG, yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True))
    run_record.write_metrics(folder, found)
    return {f"{BASELINES}/{name}/{key}": value for key, value in found.items()}


def baseline(name: str, config: EvaluationConfig) -> Retriever:
    """A retriever that needs no training."""
    return BM25(config.bm25_k1, config.bm25_b) if name == "bm25" else RandomVectors()


def _score(
    retriever: Retriever,
    benchmarks: Mapping[str, LoadedBenchmark],
    config: EvaluationConfig,
    directory: Path,
    suffix: str = "",
) -> dict[str, float]:
    figures: list[Figures] = []
    tables: list[pa.Table] = []
    wanted = Wanted(chosen(config.bias), config.replicates)
    for name, benchmark in benchmarks.items():
        result = evaluate(retriever, benchmark.collection, f"{name}{suffix}", wanted)
        figures.append(result.figures)
        tables.append(result.per_query())
        _keep(name, result, config, directory)
    pq.write_table(pa.concat_tables(tables, promote_options="default"), directory / PER_QUERY)
    whole = Figures.joined(figures)
    whole.write(directory)
    return whole.metrics()


def _keep(name: str, result: Evaluation, config: EvaluationConfig, directory: Path) -> None:
    if config.save_runs:
        folder = directory / "runs"
        folder.mkdir(exist_ok=True)
        write_run(folder / f"{name}.trec", result.collection, _found(name, result, config), "hybrid_retrieval")
        write_qrels(folder / f"{name}.qrels.tsv", result.collection)
    if config.save_embeddings and result.index.embeddings:
        write_embeddings(directory / "embeddings" / name, result.collection, *result.index.embeddings)


def _found(name: str, result: Evaluation, config: EvaluationConfig) -> Top:
    """The documents of a written run: exact, in trec_eval's order of ties, or as ``evaluation.search`` finds them."""
    collection, index = result.collection, result.index
    exact = config.search == "exact"
    if not exact and (index.embeddings is None or len(collection.excluded)):
        log.info(
            "%s: evaluation.search=%s needs an embedding a document and nothing excluded: searched exactly", name, config.search
        )
    if exact or index.embeddings is None or len(collection.excluded):
        sizes = len(collection.queries), len(collection.corpus)
        return search(index.pool, *sizes, config.run_depth, collection.tie_order, f"{name}: searching for the run")
    found = faiss_search(config.search, *index.embeddings, config.run_depth, name)
    recall = recall_of(found, *index.embeddings, collection.tie_order)
    log.info("%s: %s finds %.1f%% of the exact lists at depth %d", name, config.search, 100 * recall, found.documents.shape[1])
    return found
