"""What the batches of a run held, from ``batch_manifest.parquet``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError

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
        path = run / "batch_manifest.parquet"
        if not path.is_file():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path, columns=COLUMNS)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is not a batch manifest: {str(error).splitlines()[0]}") from error
        if not set(COLUMNS) <= set(table.column_names):
            raise InputError(f"{path} is not a batch manifest: expected the columns {', '.join(COLUMNS)}")
        if not table.num_rows:
            return None
        step, sets, query, passage, pairs = (table[name].to_numpy() for name in COLUMNS)
        languages = sorted({*query.tolist(), *passage.tolist()})
        of_pair = np.zeros((len(languages), len(languages)), np.int64)
        np.add.at(of_pair, (np.searchsorted(languages, query.tolist()), np.searchsorted(languages, passage.tolist())), pairs)
        steps, at = np.unique(step, return_inverse=True)
        monolingual, drawn = np.zeros((2, len(steps)), np.int64)
        np.add.at(drawn, at, pairs)
        np.add.at(monolingual, at, np.where(query == passage, pairs, 0))
        by_set = {str(name): int(pairs[sets == name].sum()) for name in sorted(set(sets.tolist()))}
        return cls(tuple(languages), of_pair, steps, monolingual, drawn, by_set)

    @property
    def cumulative_share(self) -> npt.NDArray[np.float64]:
        """Float64 [S]: the share of monolingual pairs among all drawn so far."""
        share: npt.NDArray[np.float64] = self.monolingual.cumsum() / np.maximum(1, self.drawn.cumsum())
        return share

    def summary(self) -> dict[str, str]:
        """In words, for a page."""
        drawn = self.pairs[self.pairs > 0]
        lines = {
            "Batches": f"{len(self.steps):,}",
            "Pairs": f"{int(self.drawn.sum()):,}",
            "Monolingual share of the pairs": f"{self.cumulative_share[-1]:.4f}",
            "Wholly monolingual share of the batches": f"{float((self.monolingual == self.drawn).mean()):.4f}",
            "Language pairs drawn": f"{len(drawn):,} of {self.pairs.size:,}",
            "Pairs of a language pair that was drawn": f"{int(drawn.min()):,} to {int(drawn.max()):,}",
        }
        return lines | {f"Pairs from {name}": f"{count:,}" for name, count in self.sets.items()}
