"""MLflow's logger, with names that MLflow can store.

Its files are folders by the slashes of a name, so that ``train/loss`` cannot be beside ``train/loss/monolingual``; a name has
no @, and a request a thousand names at most.
"""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import MLFlowLogger

MOST = 1000


class MLflowLogger(MLFlowLogger):
    """Lightning's, with figures under `stored_name`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        items = [(stored_name(name), value) for name, value in metrics.items()]
        for start in range(0, len(items), MOST):
            super().log_metrics(dict(items[start : start + MOST]), step)


def stored_name(name: str) -> str:
    """A figure's name in MLflow: ``xquad_r/monolingual.recall_at_10.de`` for ``xquad_r/monolingual/recall@10/de``."""
    group, slash, rest = name.partition("/")
    return (group + slash + rest.replace("/", ".")).replace("@", "_at_")
