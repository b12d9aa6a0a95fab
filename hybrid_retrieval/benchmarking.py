"""Score an encoder, and retrievers beside it, on the chosen benchmarks, into a run directory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_retrieval import run_record
from hybrid_retrieval.config import EvaluationConfig, PathsConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation import degradation
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.bias.suite import chosen as bias_measures
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.degradation import PERTURBATIONS, Degradation
from hybrid_retrieval.evaluation.figures import BASELINES, PER_QUERY, RETRIEVED, Figure, Figures
from hybrid_retrieval.evaluation.measures import BYTES, POOLED, measure
from hybrid_retrieval.evaluation.perturbations.suite import chosen as perturbed
from hybrid_retrieval.evaluation.perturbations.suite import perturbations
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, evaluate
from hybrid_retrieval.evaluation.retrieved import retrieved
from hybrid_retrieval.evaluation.retrievers.dense import Dense, OverDense
from hybrid_retrieval.evaluation.retrievers.post_hoc import PostHoc
from hybrid_retrieval.evaluation.retrievers.reduced import Reduced, reductions
from hybrid_retrieval.evaluation.retrievers.retriever import Index, LearnsFromText, Retriever
from hybrid_retrieval.evaluation.robustness import degradations
from hybrid_retrieval.evaluation.scoring.embeddings import Fingerprinted, embedding_store
from hybrid_retrieval.evaluation.scoring.search import search
from hybrid_retrieval.evaluation.trec import write_embeddings, write_qrels, write_run
from hybrid_retrieval.files import recorded
from hybrid_retrieval.models.encoder import BiEncoder, Encoder
from hybrid_retrieval.values import build

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedBenchmark:
    """A benchmark's data and where it came from."""

    collection: RetrievalCollection
    provenance: dict[str, Any]


def configured(nodes: Mapping[str, Any], config: EvaluationConfig, paths: PathsConfig) -> dict[str, Benchmark]:
    """The benchmarks that are chosen, with their options; nothing is read yet.

    Raises:
        InputError: an option of one, or what is asked of them, is not known.
    """
    bias_measures(config.bias)
    perturbed(config.perturb)
    return {name: build(node, Benchmark, f"benchmark.{name}", paths=paths) for name, node in nodes.items()}


def load_benchmarks(
    nodes: Mapping[str, Any], config: EvaluationConfig, paths: PathsConfig, asked_by_name: bool
) -> dict[str, LoadedBenchmark]:
    """The chosen benchmarks; what is not at hand is left out with a notice, unless it was asked for by name.

    Raises:
        InputError: a benchmark that was asked for cannot be had, or none is left.
    """
    found: dict[str, LoadedBenchmark] = {}
    read = {one.name: sets for one in perturbations(perturbed(config.perturb), paths) if (sets := one.provenance())}
    for name, benchmark in configured(nodes, config, paths).items():
        if not asked_by_name and not benchmark.at_hand():
            log.warning("benchmark %s is left out: its data is not at hand (benchmark=%s fetches it or says how)", name, name)
            continue
        collection = benchmark.load()
        if not len(collection.query):
            raise InputError(f"benchmark.{name}: no judgement is above 0, so nothing can be scored: correct its judgements")
        _check_perturbations(collection, config, paths)
        origin = {**benchmark.provenance(), "fingerprint": collection.fingerprint}
        found[name] = LoadedBenchmark(collection, origin | ({PERTURBATIONS: read} if read else {}))
    if not found:
        raise InputError(
            f"no data is at hand for benchmark=[{','.join(nodes)}]; benchmark=held_out scores the training set's own test part"
        )
    return found


def _check_perturbations(collection: RetrievalCollection, config: EvaluationConfig, paths: PathsConfig) -> None:
    """Refuse a perturbation that was asked for by name and knows none of the languages of the queries."""
    asked = [] if "all" in config.perturb else perturbed(config.perturb)
    languages = [collection.languages[at] for at in np.unique(collection.queries.language).tolist()]
    for one in perturbations(asked, paths):
        if not any(one.knows(language) for language in languages):
            there = f"no language of {collection.name} ({', '.join(languages)})"
            raise InputError(f"evaluation.perturb={one.name} knows {there}; it needs {one.needs}")


def check_texts(encoder: BiEncoder, benchmarks: Mapping[str, LoadedBenchmark]) -> None:
    """Before a training whose scores would be refused by ``strict=true``: tokenise the benchmarks' texts."""
    encoder.strict = True
    for name, benchmark in benchmarks.items():
        encoder.tokenise(benchmark.collection.queries.given(), "query", f"{name} queries")
        encoder.tokenise(benchmark.collection.corpus.given(), "passage", f"{name} corpus")


def load_retrievers(nodes: Mapping[str, Any], config: EvaluationConfig) -> dict[str, Retriever]:
    """The retrievers that are chosen, with their options, and the encoder's embeddings at less cost."""
    chosen = {name: build(node, Retriever, f"retriever.{name}") for name, node in nodes.items()}
    return chosen | reductions(config.dimensions, config.quantization)


def learn_from_text(retrievers: Mapping[str, Retriever]) -> bool:
    """Whether training text is needed."""
    return any(isinstance(retriever, LearnsFromText) for retriever in retrievers.values())


def check_retrievers(
    retrievers: Mapping[str, Retriever],
    benchmarks: Mapping[str, LoadedBenchmark],
    config: EvaluationConfig,
    source: Source | None,
    encoder: Encoder | None,
) -> None:
    """Before anything is trained or encoded: what the retrievers need is there.

    Args:
        source: the training text.
        encoder: the one to score, trained or not.

    Raises:
        InputError: it is not.
    """
    keys = {name: one.key if isinstance(one, Reduced) else f"retriever={name}" for name, one in retrievers.items()}
    over = [keys[name] for name, retriever in retrievers.items() if isinstance(retriever, OverDense)]
    learns = [f"retriever={name}" for name, retriever in retrievers.items() if isinstance(retriever, LearnsFromText)]
    if over and not encoder:
        raise InputError(f"{over[0]} works on an encoder's embeddings: give checkpoint=RUN_DIR or model=NAME too")
    if over and config.documents != "whole":
        raise InputError(f"{over[0]} needs an embedding a document: evaluation.documents=whole")
    if encoder:
        Dense(encoder, documents=config.documents, overlap=config.overlap).check()
    dimensions = getattr(encoder, "dimensions", None)
    for one in retrievers.values():
        if isinstance(one, Reduced) and dimensions:
            one.check_dimensions(dimensions)
    if learns and source is None:
        raise InputError(f"{learns[0]} is estimated on training text: name it with dataset=")
    text = _passage_counts(source) if learns and source else {}
    for collection in [benchmark.collection for benchmark in benchmarks.values()] if learns else []:
        missing = [name for name in collection.languages if name not in text]
        if missing:
            kept = ",".join(name for name in collection.languages if name in text)
            restrict = f", or benchmark.{collection.name}.languages=[{kept}]" if kept else ""
            raise InputError(
                f"{learns[0]}: dataset= has no training text in {', '.join(missing)}, which {collection.name} has; "
                f"expected text in every language: add them to dataset.languages{restrict}"
            )
        for one in retrievers.values():
            if isinstance(one, PostHoc) and dimensions:
                one.check([min(one.texts, text[name]) for name in collection.languages], dimensions)


def _passage_counts(source: Source) -> Counter[str]:
    """The training passages of each language that has any."""
    found: Counter[str] = Counter()
    for pairs in source.sets():
        languages = np.bincount(pairs.passages.languages[pairs.split_rows("train")[1]], minlength=len(pairs.languages))
        found += Counter(dict(zip(pairs.languages, languages.tolist(), strict=True)))
    return found


def training_passages(source: Source, count: int) -> dict[str, list[str]]:
    """Up to `count` training passages of each language, always the same ones."""
    found: dict[str, list[str]] = {}
    for pairs in source.sets():
        rows = pairs.split_rows("train")[1]
        for index, language in enumerate(pairs.languages):
            mine = rows[pairs.passages.languages[rows] == index]
            drawn = np.random.default_rng(0).permutation(mine)[: count - len(found.get(language, ()))]
            found.setdefault(language, []).extend(pairs.passages.texts(np.sort(drawn)))
    return {language: texts for language, texts in found.items() if texts}


def identity(encoder: object) -> str | None:
    """A digest of an encoder's weights and settings; None where it does not say."""
    return encoder.fingerprint("passage") if isinstance(encoder, Fingerprinted) else None


def score_benchmarks(
    encoder: Encoder | None,
    retrievers: Mapping[str, Retriever],
    benchmarks: Mapping[str, LoadedBenchmark],
    config: EvaluationConfig,
    paths: PathsConfig,
    directory: Path,
    source: Source | None = None,
    trained_on: Sequence[str] | None = None,
) -> dict[str, float]:
    """Score an encoder, if there is one, and the retrievers on all benchmarks; the flat figures.

    Per-query values (and runs and embeddings on request) are written into `directory`, and those of a retriever into
    ``baselines/NAME`` in it, which `hybrid_retrieval.compare` takes for a run.

    Args:
        source: whose training passages retrievers learn from.
        trained_on: the languages of the text that the encoder was trained on, where that is known.
    """
    figures: dict[str, float] = {}
    browsed: dict[str, list[int]] = {}
    with embedding_store(paths.cache, config.dtype, config.devices, config.cache_embeddings) as store:
        if encoder is not None:
            dense = Dense(encoder, store, config.documents, config.overlap)
            figures |= _score(dense, benchmarks, config, paths, directory, browsed, trained_on=trained_on)
        for name, retriever in retrievers.items():
            if isinstance(retriever, OverDense):
                retriever.dense = dense
            if isinstance(retriever, LearnsFromText) and source is not None:
                retriever.text = training_passages(source, retriever.texts)
            folder = directory / BASELINES / name
            folder.mkdir(parents=True, exist_ok=True)
            of_text = trained_on if isinstance(retriever, OverDense) else None
            found = _score(retriever, benchmarks, config, paths, folder, browsed, f" ({name})", of_text)
            run_record.record_config(folder, _record(directory, name, retriever))
            run_record.write_metrics(folder, found)
            figures |= {f"{BASELINES}/{name}/{key}": value for key, value in found.items()}
    return figures


def _record(directory: Path, name: str, retriever: Retriever) -> dict[str, Any]:
    """The config of a retriever's folder; what works on the encoder's embeddings has the run's own, its seed above all."""
    if not isinstance(retriever, OverDense):
        return {"choices": {"model": name}}
    saved = run_record.read_config(directory) if (directory / run_record.CONFIG).exists() else {}
    return {**saved, "choices": {**(saved.get("choices") or {}), "retriever": name}}


def _score(
    retriever: Retriever,
    benchmarks: Mapping[str, LoadedBenchmark],
    config: EvaluationConfig,
    paths: PathsConfig,
    directory: Path,
    browsed: dict[str, list[int]],
    suffix: str = "",
    trained_on: Sequence[str] | None = None,
) -> dict[str, float]:
    """The flat figures of one retriever, whose files go into `directory`.

    Args:
        browsed: by benchmark, rows of the queries whose passages are kept: those that the first retriever chose.
    """
    figures: list[Figures] = []
    tables: list[pa.Table] = []
    kept: list[pa.Table] = []
    lost: list[Degradation] = []
    changes: list[pa.Table] = []
    noise = perturbations(perturbed(config.perturb), paths)
    wanted = Wanted(bias_measures(config.bias), config.replicates, trained_on=trained_on)
    for name, benchmark in benchmarks.items():
        result = evaluate(retriever, benchmark.collection, f"{name}{suffix}", wanted)
        figures.append(result.figures)
        if config.dimensions or config.quantization:
            figures.append(_size(name, result.index))
        tables.append(result.per_query())
        passages, browsed[name] = retrieved(result, config.browse, browsed.get(name), f"{name}{suffix}: questions to browse")
        kept.append(passages)
        _keep(name, result, config, directory)
        if noise:
            noisy = degradations(retriever, result, noise, config.severity, config.perturb_seed, wanted, f"{name}{suffix}")
            lost += noisy[0]
            changes += noisy[1]
    with recorded(directory / PER_QUERY) as part:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), part)
    if config.browse:
        with recorded(directory / RETRIEVED) as part:
            pq.write_table(pa.concat_tables(kept), part, compression="zstd")
    whole = Figures.joined(figures)
    whole.write(directory)
    if noise:
        degradation.write(lost, directory)
    if changes:
        degradation.write_changes(changes, directory)
    return whole.metrics() | degradation.metrics(lost)


def _size(name: str, index: Index) -> Figures:
    """The bytes of a passage's embedding; nothing of what has none."""
    if index.embeddings is None:
        return Figures()
    _, corpus = index.embeddings
    size = index.bytes_per_passage or corpus.shape[1] * corpus.dtype.itemsize
    return Figures((Figure(name, *POOLED, measure(BYTES), None, None, float(size)),))


def _keep(name: str, result: Evaluation, config: EvaluationConfig, directory: Path) -> None:
    """Write the run and the embeddings, where they are asked for."""
    collection = result.collection
    if config.save_runs and collection.asked is not None:
        log.warning("%s: no TREC run is written, whose queries would be asked of all documents alike", collection.name)
    elif config.save_runs:
        folder = directory / "runs"
        folder.mkdir(exist_ok=True)
        sizes = len(collection.queries), len(collection.corpus)
        top = search(result.index.pool, *sizes, config.run_depth, collection.tie_order, f"{name}: searching for the run")
        write_run(folder / f"{name}.trec", collection, top, "hybrid_retrieval")
        write_qrels(folder / f"{name}.qrels.tsv", collection)
    if config.save_embeddings and result.index.embeddings:
        write_embeddings(directory / "embeddings" / name, collection, *result.index.embeddings)
