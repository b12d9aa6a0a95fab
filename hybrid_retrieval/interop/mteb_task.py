"""Our collections as mteb tasks: ``mteb.evaluate(model, CollectionTask(benchmark.load()))``. Needs the extra ``mteb``.

mteb has no task with a pooled corpus of many languages; here the subsets of the multilingual setting are query languages, each
against the whole pool. What mteb cuts at a depth is cut there: its mAP looks at the first `depth` documents, ours at all.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.benchmarks.belebele import language_and_script
from hybrid_retrieval.evaluation.collection import RetrievalCollection, View
from hybrid_retrieval.evaluation.measures import SETTINGS

SPLIT = "test"
DEPTHS = (1, 3, 5, 10, 20, 100)
"""mteb's cut-offs, besides the depth of the search."""

UNDETERMINED = "und-Zyyy"


class CollectionTask(AbsTaskRetrieval):
    """One setting of a collection. Subsets are called as in our metrics: ``de``, or ``de-en`` where the corpus is another."""

    def __init__(
        self, collection: RetrievalCollection, setting: str = "multilingual", depth: int = 1000, seed: int = 42
    ) -> None:
        """
        Args:
            setting: multilingual: queries of each language against the pool; monolingual; crosslingual: all ordered pairs.
            depth: documents that are ranked for a query. With as many as the pool has, mAP is that of full depth.

        Raises:
            InputError: an argument is at fault, or the collection says what mteb cannot.
        """
        choice("setting", setting, SETTINGS)
        if depth < max(DEPTHS):
            raise InputError(f"depth={depth}; expected {max(DEPTHS)} or more: mteb reports measures to there")
        if len(collection.excluded):
            raise InputError(f"benchmark {collection.name} hides documents from single queries, which a task of mteb cannot")
        self.collection, self.setting, self.depth = collection, setting, depth
        self.k_values = tuple(sorted({*DEPTHS, depth}))
        views = [view for view in collection.views if view.setting == setting and len(collection.judged(view))]
        self._views = {view.name: view for view in views}
        if not self._views:
            raise InputError(f"benchmark {collection.name} has no judgement in the {setting} setting")
        super().__init__(seed=seed)

    @cached_property
    def metadata(self) -> TaskMetadata:  # type: ignore[override]
        """Made anew where mteb, which keeps it in the class, throws away what an instance has."""
        collection = self.collection
        return TaskMetadata(
            name=f"{collection.name}_{self.setting}",
            description=f"{collection.name}, {self.setting}: {len(collection.queries)} queries, "
            f"{len(collection.corpus)} documents in {len(collection.languages)} languages",
            dataset={"path": f"hybrid_retrieval/{collection.name}", "revision": collection.fingerprint},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=[SPLIT],
            eval_langs={name: self._languages(view) for name, view in self._views.items()},
            main_score=_main_score(collection, self.depth),
        )

    def _languages(self, view: View) -> list[str]:
        """Mteb's names of the languages of the queries, and of the corpus where it has one."""
        names = dict.fromkeys([view.query_language, view.corpus_language])
        return [language_and_script(name) or UNDETERMINED for name in names if name is not None]

    def load_data(self, num_proc: int | None = None, **more: Any) -> None:
        """Make mteb's data of the subsets that are asked for; nothing is downloaded."""
        if self.data_loaded:
            return
        collection = self.collection
        query_ids, document_ids = (np.array(collection.full_ids(side)) for side in (collection.queries, collection.corpus))
        corpora: dict[tuple[int, int], Dataset] = {}
        self.dataset: dict[str, dict[str, RetrievalSplitData]] = {}
        for name in self.hf_subsets:
            view = self._views[name]
            rows, judged = view.documents, collection.judged(view)
            among = rows.start, rows.stop
            if among not in corpora:
                corpora[among] = _dataset(document_ids[rows], collection.corpus.texts[rows])
            relevant: dict[str, dict[str, int]] = defaultdict(dict)
            for judgement in judged.tolist():
                query, document = collection.query[judgement], collection.document[judgement]
                relevant[str(query_ids[query])][str(document_ids[document])] = int(collection.grade[judgement])
            queries = np.unique(collection.query[judged])
            texts = [collection.queries.texts[row] for row in queries.tolist()]
            self.dataset[name] = {
                SPLIT: RetrievalSplitData(
                    queries=_dataset(query_ids[queries], texts),
                    corpus=corpora[among],
                    relevant_docs=dict(relevant),
                    top_ranked=None,
                )
            }
        self.data_loaded = True


def _main_score(collection: RetrievalCollection, depth: int) -> str:
    """The first of mAP, nDCG@10, MRR and R@1 that the collection reports, in mteb's name."""
    names = {
        "map": f"map_at_{depth}",
        "ndcg@10": "ndcg_at_10",
        "mrr@100": "mrr_at_100",
        "mrr": f"mrr_at_{depth}",
        "recall@1": "recall_at_1",
    }
    return next((names[measure] for measure in names if measure in collection.measures), "ndcg_at_10")


def _dataset(ids: Any, texts: Any) -> Dataset:
    return Dataset.from_dict({"id": [str(one) for one in ids], "text": list(texts)})
