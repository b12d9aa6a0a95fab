"""The content of a run's batches, from ``batch_manifest.parquet``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import check_recorded
from hybrid_retrieval.reporting import charts, heatmap

if TYPE_CHECKING:
    import altair as alt

FILE = "batch_manifest.parquet"
COLUMNS = {"step": "int64", "set": "str", "query_language": "str", "passage_language": "str", "pairs": "int64"}
LAST_STEP = 10**9
"""No run has more steps."""


@dataclass(frozen=True)
class BatchComposition:
    """Pairs by language, by step and by data set.

    Attributes:
        pairs: [languages, languages], query language x passage language, in alphabetical order.
        steps: by step that drew a batch, the columns ``drawn`` (all its pairs) and ``monolingual`` (those in one language).
        sets: pairs by data set.
    """

    pairs: pd.DataFrame
    steps: pd.DataFrame
    sets: pd.Series[int]

    @classmethod
    def read(cls, run: Path) -> BatchComposition | None:
        """From a run directory; None where it has no manifest, or an empty one."""
        path = run / FILE
        if not path.exists():
            return None
        check_recorded(path)
        with reading(f"{path} is not a batch manifest", whole=True):
            table = pd.read_parquet(path, columns=list(COLUMNS))
            if table.isna().any(axis=None):
                raise InputError("it has empty cells")
            table = table.astype(COLUMNS)
            if not (table.step.between(0, LAST_STEP) & (table.pairs > 0)).all():
                raise InputError("there are steps below 0 or beyond any run, or rows without pairs")
        if table.empty:
            return None
        languages = sorted({*table.query_language, *table.passage_language})
        pairs = table.pivot_table("pairs", "query_language", "passage_language", "sum", fill_value=0, observed=True)
        table["monolingual"] = table.pairs.where(table.query_language == table.passage_language, 0)
        steps = table.rename(columns={"pairs": "drawn"}).groupby("step")[["drawn", "monolingual"]].sum()
        by_set = table.groupby("set", observed=True).pairs.sum()
        return cls(pairs.reindex(index=languages, columns=languages, fill_value=0), steps, by_set)

    @property
    def monolingual_so_far(self) -> pd.Series[float]:
        """The part of monolingual pairs among all drawn up to a step."""
        return self.steps.monolingual.cumsum() / self.steps.drawn.cumsum().clip(lower=1)

    def monolingual_around(self, window: float, accumulate: int = 1) -> pd.Series[float]:
        """The part of monolingual pairs among those drawn in the window around a step, of steps half a window apart.

        Args:
            window: as a part of the run.
            accumulate: batches of a step.
        """
        steps = self.steps.groupby(self.steps.index // accumulate).sum()
        reach = max(1, round(len(steps) * window / 2))
        around = steps.rolling(2 * reach + 1, center=True, min_periods=1).sum().iloc[::reach]
        return around.monolingual / around.drawn

    def summary(self) -> dict[str, str]:
        """Names and values for a page."""
        counts = self.pairs.to_numpy()
        drawn = counts[counts > 0]
        whole = (self.steps.monolingual == self.steps.drawn).mean()
        lines = {
            "Batches": f"{len(self.steps):,}",
            "Pairs": f"{self.steps.drawn.sum():,}",
            "Monolingual share of the pairs": f"{self.monolingual_so_far.iloc[-1]:.4f}",
            "Wholly monolingual share of the batches": f"{whole:.4f}",
            "Language pairs drawn": f"{len(drawn):,} of {counts.size:,}",
            "Pairs of a language pair that was drawn": f"{drawn.min():,} to {drawn.max():,}",
        }
        return lines | {f"Pairs from {name}": f"{count:,}" for name, count in self.sets.items()}

    def draw(self, alpha: float | None) -> alt.ConcatChart:
        """Pairs by language pair, and their monolingual share against the sampler's `alpha` where that stays the same."""
        languages = list(self.pairs.index)
        values = self.pairs.where(self.pairs > 0).to_numpy(np.float64)
        top = float(np.nanmax(values))
        low = min(float(np.nanmin(values)), top / 100)
        scale = heatmap.Scale("pairs drawn", low, top, heatmap.count_text, "yellowgreenblue", ((0.6, 1.0),), logarithmic=True)
        title = (f"{self.steps.drawn.sum():,} pairs in {len(self.steps):,} batches", "")
        pairs = heatmap.language_pairs(values, languages, scale, title, sides=("query language", "passage language"))
        return charts.beside([pairs, self._share(alpha)], columns=2)

    def _share(self, alpha: float | None) -> alt.LayerChart:
        curves = {"drawn": self.monolingual_so_far}
        panel = charts.Panel("Monolingual share", "step", "monolingual share of the pairs drawn so far", domain=(0.0, 1.0))
        if alpha is not None:
            curves[f"alpha = {alpha:g}"] = pd.Series(alpha, self.steps.index[[0, -1]])
        return panel.lines(curves)
