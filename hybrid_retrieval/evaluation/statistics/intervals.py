"""Intervals for the figures of an evaluation, from one cluster bootstrap over the questions of each setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.settings import SETTINGS, Slice, view_name
from hybrid_retrieval.evaluation.statistics.resampling import Floats, bootstrap_intervals


def interval_figures(
    collection: RetrievalCollection, views: Sequence[Slice], replicates: int, seed: int, confidence: float = 0.95
) -> dict[str, float]:
    """Bounds of every figure of `settings.aggregate`: ``<name>/<setting>/<measure>.low`` and ``.high``, and by view.

    Queries with the same id are translations of one question and are drawn together. Where a benchmark gives the same id to
    unrelated questions of different languages, intervals stay valid: independent questions in one cluster cost some precision.
    A figure of fewer than two questions, and one that is not a number, has no bounds.
    """
    questions = pa.array(list(collection.queries.ids), pa.large_string()).dictionary_encode().indices.to_numpy()
    figures: dict[str, float] = {}
    for setting in SETTINGS:
        chosen = [view for view in views if view.setting == setting and len(view.queries)]
        if not chosen:
            continue
        names = [f"/{view_name(collection, view)}" for view in chosen] + [""]
        measures = list(chosen[0].values)
        panels = _panels(chosen, questions.astype(np.int64), measures)
        for measure, bounds in zip(measures, bootstrap_intervals(panels, replicates, seed, confidence), strict=True):
            for name, low, high in zip(names, *bounds.tolist(), strict=True):
                if np.isfinite(low):
                    key = f"{collection.name}/{setting}/{measure}{name}"
                    figures |= {f"{key}.low": low, f"{key}.high": high}
    return figures


def _panels(views: Sequence[Slice], questions: Ints, measures: Sequence[str]) -> list[Floats]:
    """[questions, views] of each measure; rows are the questions that any of the views has."""
    asked, row = np.unique(np.concatenate([questions[view.queries] for view in views]), return_inverse=True)
    column = np.repeat(np.arange(len(views)), [len(view.queries) for view in views])
    panels = []
    for measure in measures:
        panel = np.full((len(asked), len(views)), np.nan)
        panel[row, column] = np.concatenate([view.values[measure] for view in views])
        panels.append(panel)
    return panels
