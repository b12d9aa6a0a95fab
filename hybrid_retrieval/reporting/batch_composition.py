"""What the batches of a run held, from ``batch_manifest.parquet``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting import heatmap

FILE = "batch_manifest.parquet"
COLUMNS = ["step", "set", "query_language", "passage_language", "pairs"]


@dataclass(frozen=True)
class BatchComposition:
    """Pairs by language, by step and by data set.

    Attributes:
        languages: L names, in alphabetical order.
        pairs: int64 [L, L], query language x passage language.
        steps: int64 [S], the steps that drew a batch.
        monolingual: int64 [S], pairs of the step in one language.
        drawn: int64 [S], all pairs of the step.
        sets: pairs by data set.
    """

    languages: tuple[str, ...]
    pairs: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    monolingual: npt.NDArray[np.int64]
    drawn: npt.NDArray[np.int64]
    sets: dict[str, int]

    @classmethod
    def read(cls, run: Path) -> BatchComposition | None:
        """From a run directory; None where it has no manifest, or an empty one."""
        path = run / FILE
        if not path.is_file():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path).select(COLUMNS)
        except (pa.ArrowException, KeyError, OSError) as error:
            raise InputError(f"{path} is not a batch manifest: {str(error).splitlines()[0]}") from error
        if not table.num_rows:
            return None
        step, sets, query, passage, pairs = (table[name].to_numpy() for name in COLUMNS)
        languages, cell = np.unique(np.concatenate([query, passage]), return_inverse=True)
        of_pair = np.zeros((len(languages), len(languages)), np.int64)
        np.add.at(of_pair, tuple(cell.reshape(2, -1)), pairs)
        steps, at = np.unique(step, return_inverse=True)
        monolingual, drawn = np.zeros((2, len(steps)), np.int64)
        np.add.at(drawn, at, pairs)
        np.add.at(monolingual, at, np.where(query == passage, pairs, 0))
        by_set = {str(name): int(pairs[sets == name].sum()) for name in np.unique(sets)}
        return cls(tuple(languages.tolist()), of_pair, steps, monolingual, drawn, by_set)

    @property
    def monolingual_so_far(self) -> npt.NDArray[np.float64]:
        """Float64 [S]: the part of monolingual pairs among all drawn up to a step."""
        return np.asarray(self.monolingual.cumsum() / np.maximum(1, self.drawn.cumsum()))

    def monolingual_around(self, window: float, accumulate: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps, half a window apart, and the part of monolingual pairs among those drawn in the window around each.

        Args:
            window: as a part of the run.
            accumulate: batches of a step.
        """
        steps, at = np.unique(self.steps // accumulate, return_inverse=True)
        counts = np.zeros((2, len(steps) + 1))
        np.add.at(counts[0, 1:], at, self.monolingual)
        np.add.at(counts[1, 1:], at, self.drawn)
        before = counts.cumsum(axis=1)
        reach = max(1, round(len(steps) * window / 2))
        middles = np.arange(0, len(steps), reach)
        within = before[:, np.minimum(middles + reach + 1, len(steps))] - before[:, np.maximum(middles - reach, 0)]
        return steps[middles], within[0] / within[1]

    def summary(self) -> dict[str, str]:
        """In words, for a page."""
        drawn = self.pairs[self.pairs > 0]
        lines = {
            "Batches": f"{len(self.steps):,}",
            "Pairs": f"{int(self.drawn.sum()):,}",
            "Monolingual share of the pairs": f"{self.monolingual_so_far[-1]:.4f}",
            "Wholly monolingual share of the batches": f"{float((self.monolingual == self.drawn).mean()):.4f}",
            "Language pairs drawn": f"{len(drawn):,} of {self.pairs.size:,}",
            "Pairs of a language pair that was drawn": f"{int(drawn.min()):,} to {int(drawn.max()):,}",
        }
        return lines | {f"Pairs from {name}": f"{count:,}" for name, count in self.sets.items()}

    def draw(self, alpha: float | None) -> Any:
        """Pairs by language pair, and their monolingual share against the sampler's `alpha` where that stays the same."""
        from matplotlib.colors import LogNorm

        count = len(self.languages)
        figure = heatmap.new_figure(2 * heatmap.side(count) + 1.2, heatmap.side(count) + 0.2)
        left, right = figure.subplots(1, 2)
        figure.get_layout_engine().set(wspace=0.06)
        values = np.where(self.pairs > 0, self.pairs.astype(np.float64), np.nan)
        top = float(self.pairs.max())
        norm = LogNorm(vmin=min(float(np.nanmin(values)), top / 100), vmax=top)
        image = heatmap.draw(left, values, self.languages, heatmap.count_text, cmap="YlGnBu", norm=norm)
        left.set_xlabel("passage language")
        left.set_title(f"{int(self.drawn.sum()):,} pairs in {len(self.steps):,} batches", fontsize=11, loc="left")
        figure.colorbar(image, ax=left, label="pairs drawn (logarithmic)", shrink=0.8)

        heatmap.plain_axes(right, "step", "monolingual share of the pairs drawn so far", "Monolingual share")
        right.plot(self.steps, self.monolingual_so_far, color=heatmap.COLOURS[0], linewidth=1.6, label="drawn")
        if alpha is not None:
            right.axhline(alpha, color=heatmap.COLOURS[1], linewidth=1.2, linestyle="--", label=f"alpha = {alpha:g}")
        right.set_ylim(-0.03, 1.03)
        right.set_box_aspect(1)
        right.legend(frameon=False)
        return figure
