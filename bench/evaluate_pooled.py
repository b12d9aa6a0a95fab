"""Scoring the pooled task of XQuAD-R from given embeddings, beside sentence-transformers' InformationRetrievalEvaluator.

Ours, `hybrid_retrieval.evaluation.protocol.score`, ranks the judged documents among the whole pool and among those of their
own language, and derives mAP (full depth), MRR, recall@1, 10, 100 and nDCG@10 of all three settings, per language and per
pair, and rank distance: more than the peer does, and none of it is left out here.

The peer ranks documents of the pool for each query, to the depth of the deepest measure, and derives accuracy, precision,
recall, MRR, nDCG and mAP of the pooled task alone. Full depth means `map_at_k` of the pool's size, so that its mAP is mAP.
Its model is a stand-in that hands out the stored embeddings, and its similarity is the dot product (they have length 1, so
that this is the cosine without the work).

Embeddings are random: each meaning has a direction, its question and sentences in every language are that with noise. The
collection is XQuAD-R (13,090 questions, 13,014 sentences, 11 relevant to each question) where HYBRID_RETRIEVAL_DATA has it,
else a generated one of the same size.

The peer holds a Python object for every query and document of the depth. To full depth, 13,090 x 13,014 of them do not fit
into memory, so that row asks a fixed sample, every tenth question of each language, on both sides; the peer needs 5 GB for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import dot_score

from bench.row import Row, busy_neighbour, interleaved
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.benchmarks.lareqa import RELEASES, Lareqa
from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer

DIMENSIONS = 384
NOISE = 1.5
"""Length of the noise beside a meaning's direction of length 1."""
EVERY = 10
"""The sample of the row to full depth: every tenth question."""
AGREEMENT = 1e-4
FULL_DEPTH_TARGET = 60.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """A collection and the embeddings of its sides."""

    collection: RetrievalCollection
    queries: Floats
    corpus: Floats
    origin: str

    def sample(self, every: int) -> Task:
        """Every n-th question of each language; all of the corpus."""
        side = self.collection.queries
        languages = range(len(self.collection.languages))
        kept = np.concatenate([np.arange(side.rows(index).start, side.rows(index).stop, every) for index in languages])
        new_row = np.full(len(side), -1)
        new_row[kept] = np.arange(len(kept))
        judged = new_row[self.collection.query] >= 0
        collection = replace(
            self.collection,
            queries=Side([side.texts[row] for row in kept], [side.ids[row] for row in kept], side.language[kept]),
            query=new_row[self.collection.query[judged]],
            document=self.collection.document[judged],
            grade=self.collection.grade[judged],
        )
        return replace(self, collection=collection, queries=self.queries[kept])


class StoredEmbeddings:
    """What the evaluator takes for a model: it encodes nothing."""

    similarity_fn_name = "dot"

    def __init__(self, task: Task) -> None:
        self._queries, self._corpus = torch.from_numpy(task.queries), torch.from_numpy(task.corpus)
        self.model_card_data = self

    def encode_query(self, texts: list[str], **_: Any) -> torch.Tensor:
        return self._queries

    def encode_document(self, texts: list[str], **_: Any) -> torch.Tensor:
        return self._corpus

    def similarity(self, queries: torch.Tensor, corpus: torch.Tensor) -> torch.Tensor:
        return dot_score(queries, corpus)

    def set_evaluation_metrics(self, *_: Any) -> None:
        """No model card is kept."""


def load_task() -> Task:
    """XQuAD-R's collection, or one of its size, with random embeddings."""
    paths = PathsConfig(data=os.environ.get("HYBRID_RETRIEVAL_DATA"))
    benchmark = Lareqa(paths, "xquad_r")
    real = benchmark.at_hand()
    collection = benchmark.load() if real else generated()
    rng = np.random.default_rng(0)
    meaning_of_id = {id_: number for number, id_ in enumerate(dict.fromkeys(collection.queries.ids))}
    meanings = unit(rng.standard_normal((len(meaning_of_id), DIMENSIONS), np.float32))
    meaning = np.array([meaning_of_id[id_] for id_ in collection.queries.ids])
    queries = noisy(meanings[meaning], rng)
    centres = unit(rng.standard_normal((len(collection.corpus), DIMENSIONS), np.float32))
    centres[collection.document] = meanings[meaning[collection.query]]
    return Task(collection, queries, noisy(centres, rng), "XQuAD-R" if real else "generated, of XQuAD-R's size")


def generated() -> RetrievalCollection:
    """XQuAD-R's languages and counts; a question's answer is the sentence at the same place in every language."""
    queries, corpus = {}, {}
    for language, (questions, sentences, _) in RELEASES["xquad_r"].files.items():
        queries[language] = [(str(number), "") for number in range(questions)]
        corpus[language] = [(str(number), "") for number in range(sentences)]
    judgements = {
        (asked, answered): [(id_, str(int(id_) % len(corpus[answered])), 1) for id_, _ in queries[asked]]
        for asked in queries
        for answered in corpus
    }
    return RetrievalCollection.build("xquad_r", queries, corpus, judgements)


def noisy(vectors: Floats, rng: np.random.Generator) -> Floats:
    """Unit vectors near the given ones."""
    return unit(vectors + NOISE * unit(rng.standard_normal(vectors.shape, np.float32)))


def unit(vectors: Floats) -> Floats:
    """Length 1."""
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def evaluator(task: Task, **depths: list[int]) -> InformationRetrievalEvaluator:
    """The peer, prepared: queries, corpus and judgements by id."""
    collection = task.collection
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    relevant: dict[str, set[str]] = {name: set() for name in queries}
    for query, document in zip(collection.query.tolist(), collection.document.tolist(), strict=True):
        relevant[queries[query]].add(documents[document])
    return InformationRetrievalEvaluator(dict.fromkeys(queries, ""), dict.fromkeys(documents, ""), relevant, **depths)


def side_by_side(name: str, task: Task, depth: int | None, target: float | None, rounds: int) -> Row:
    """Time both and compare their figures.

    Args:
        depth: of the peer's mAP; None for its default of 100.

    Raises:
        AssertionError: the two sides disagree on what both measure.
    """
    collection, scorer, model = task.collection, DenseScorer(task.queries, task.corpus), StoredEmbeddings(task)
    peer_evaluator = evaluator(task, **({"map_at_k": [depth]} if depth else {}))
    figures: dict[str, dict[str, float]] = {}

    def ours() -> None:
        figures["ours"] = score(collection, Index(scorer)).metrics

    def peer() -> None:
        figures["peer"] = peer_evaluator(model)

    mine, theirs = interleaved(ours, peer, rounds)
    shared = {"recall@10": "recall@10", "ndcg@10": "ndcg@10"} | ({"map": f"map@{depth}"} if depth else {})
    compared = {
        measure: (figures["ours"][f"xquad_r/multilingual/{measure}"], float(figures["peer"][f"dot_{name_there}"]))
        for measure, name_there in shared.items()
    }
    for measure, (one, other) in compared.items():
        assert abs(one - other) < AGREEMENT, f"{name}: {measure} is {one} here and {other} there"
    size = f"{len(collection.queries):,} queries x {len(collection.corpus):,} sentences"
    details = {
        "collection": task.origin,
        "relevant": len(collection.query) / len(collection.queries),
        "ours": mine.details(),
        "peer": theirs.details(),
        "agreement": {measure: {"ours": one, "peer": other} for measure, (one, other) in compared.items()},
    }
    return Row(name, f"s, {size}, depth {depth or 100:,}", mine.median, theirs.median, target, details=details)


def evaluate_pooled() -> Row:
    """Both to full depth, on a tenth of the questions."""
    task = load_task().sample(EVERY)
    return side_by_side("evaluate_pooled", task, len(task.collection.corpus), FULL_DEPTH_TARGET, rounds=3)


def evaluate_pooled_busy() -> Row:
    """Beside a process that wants a core too."""
    task = load_task().sample(EVERY)
    with busy_neighbour():
        return side_by_side("evaluate_pooled_busy", task, len(task.collection.corpus), FULL_DEPTH_TARGET, rounds=3)


def evaluate_pooled_depth_100() -> Row:
    """The peer at its default depth of 100, on all questions; ours to full depth all the same."""
    return side_by_side("evaluate_pooled_depth_100", load_task(), None, None, rounds=5)
