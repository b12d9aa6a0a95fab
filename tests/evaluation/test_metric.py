"""The metric equals `evaluate`, however the texts come and on however many devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hybrid_retrieval.evaluation.metric import MultilingualRetrieval, part
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from tests.evaluation.metric_ranks import figures_of, given
from tests.training.ranks import Ranks


def expected(collection, scorer: DenseScorer) -> dict[str, float]:
    """Every macro mean of an evaluation, in single precision."""
    found = score(collection, Index(scorer)).metrics
    return {name.partition("/")[2]: float(np.float32(value)) for name, value in found.items() if name.count("/") == 2}


def test_it_equals_evaluate_whatever_the_order_and_the_batches(make_collection, tied_scorer) -> None:
    collection = make_collection(1)
    scorer = tied_scorer(collection, 1)
    metric = MultilingualRetrieval(collection)
    for size in (1, 7, 1000):
        given(metric, scorer, size=size)
        found = {name: value.item() for name, value in metric.compute().items()}
        assert found == expected(collection, scorer)
        metric.reset()
    assert {"monolingual/map", "crosslingual/recall@10", "multilingual/rank_distance"} <= found.keys()


def test_devices_share_the_texts_and_all_get_the_figures_of_one(make_collection, tied_scorer) -> None:
    collection = make_collection(2)
    scorer = tied_scorer(collection, 2)
    with Ranks(3) as ranks:
        for found in ranks(figures_of, [(collection, scorer)] * 3):
            assert found == expected(collection, scorer)


class Embedding(lightning.LightningModule):
    """Someone's module: a vector a row."""

    def __init__(self, metric: MultilingualRetrieval, scorer: DenseScorer) -> None:
        super().__init__()
        self.metric = metric
        self.vectors = nn.ParameterDict({"query": torch.from_numpy(scorer.queries), "passage": torch.from_numpy(scorer.corpus)})

    def validation_step(self, batch, index: int) -> None:
        side, rows = batch
        self.metric.update(self.vectors[side][rows], rows, side)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metric.compute())
        self.metric.reset()


def test_it_works_in_a_lightning_module_on_all_batches_and_on_some(tmp_path: Path, make_collection, tied_scorer) -> None:
    collection = make_collection(3)
    scorer = tied_scorer(collection, 3)
    sides = (("query", scorer.queries), ("passage", scorer.corpus))
    batches = [(side, rows) for side, vectors in sides for rows in torch.arange(len(vectors)).split(10)]
    module = Embedding(MultilingualRetrieval(collection), scorer)
    for limit in (1.0, len(batches) - 2):
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=limit,
            default_root_dir=tmp_path,
        )
        loader = DataLoader(batches, batch_size=None)
        if limit == 1.0:
            (found,) = trainer.validate(module, loader, verbose=False)
            assert found == expected(collection, scorer)
        else:
            with pytest.warns(UserWarning, match=rf"of {len(collection.corpus)} documents"):
                trainer.validate(module, loader, verbose=False)


def test_a_part_of_a_collection_is_scored_as_if_there_were_nothing_else(make_collection, tied_scorer) -> None:
    base = make_collection(4)
    rng = np.random.default_rng(0)
    labels = tuple(rng.integers(0, 3, len(side)) for side in (base.queries, base.corpus))
    excluded = np.array([(row, (row * 7) % len(base.corpus)) for row in range(len(base.queries))])
    judged = set(zip(base.query.tolist(), base.document.tolist(), strict=True))
    collection = replace(
        base, labels=labels, excluded=np.array([pair for pair in excluded.tolist() if tuple(pair) not in judged])
    )
    scorer = tied_scorer(collection, 4)
    queries, documents = (np.arange(0, len(side), 2) for side in (collection.queries, collection.corpus))
    kept = part(collection, queries, documents)
    names = [collection.full_ids(side) for side in (collection.queries, collection.corpus)]
    pairs = {(names[0][query], names[1][document]) for query, document in judged if not query % 2 and not document % 2}
    found = [kept.full_ids(side, rows) for side, rows in ((kept.queries, kept.query), (kept.corpus, kept.document))]
    assert set(zip(*found, strict=True)) == pairs
    hidden = [kept.full_ids(side, rows) for side, rows in zip((kept.queries, kept.corpus), kept.excluded.T, strict=True)]
    assert set(zip(*hidden, strict=True)) == {
        (names[0][query], names[1][document])
        for query, document in collection.excluded.tolist()
        if not query % 2 and not document % 2
    }
    metric = MultilingualRetrieval(collection)
    for side, rows, vectors in (("query", queries, scorer.queries), ("passage", documents, scorer.corpus)):
        metric.update(torch.from_numpy(vectors[rows]), torch.from_numpy(rows), side)
    with pytest.warns(UserWarning, match=f"figures are of {len(queries)} of {len(base.queries)} queries"):
        values = {name: value.item() for name, value in metric.compute().items()}
    assert values == expected(kept, DenseScorer(scorer.queries[queries], scorer.corpus[documents]))


def test_without_a_judged_text_there_are_no_figures_and_lengths_must_agree(make_collection) -> None:
    metric = MultilingualRetrieval(make_collection(0))
    metric.update(torch.ones(2, 3), torch.arange(2), "query")
    with pytest.warns(UserWarning, match="0 of"):
        assert metric.compute() == {}
    with pytest.raises(ValueError, match="2 query embeddings came with 3 rows"):
        metric.update(torch.ones(2, 3), torch.arange(3), "query")
