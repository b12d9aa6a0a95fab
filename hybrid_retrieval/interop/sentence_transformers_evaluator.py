"""Mo., Cr. and Mul. of a sentence-transformers model: an evaluator for its trainer, and the model as one of our encoders."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.model import BaseModel

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.bias.suite import chosen
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.measures import CONTRASTS
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.models.encoder import Role


class SentenceTransformerEncoder:
    """A `SentenceTransformer` as an encoder of ours: its own prompts, and its own similarity as the dot product."""

    def __init__(self, model: SentenceTransformer, batch_size: int = 32) -> None:
        """
        Raises:
            InputError: the model compares by something else than cosines or dot products.
        """
        if model.similarity_fn_name not in ("cosine", "dot"):
            raise InputError(f"similarity_fn_name={model.similarity_fn_name} is no product; expected cosine or dot")
        self.model, self.batch_size = model, batch_size

    @property
    def device(self) -> str:
        """On which scores are computed."""
        return str(self.model.device)

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]; with a `label` a progress bar is shown."""
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        found = encode(
            list(texts),
            batch_size=self.batch_size,
            show_progress_bar=bool(label),
            normalize_embeddings=self.model.similarity_fn_name == "cosine",
        )
        return np.asarray(found, np.float32)


class MultilingualEvaluator(BaseEvaluator):
    """The macro means of a collection with their intervals, under the keys of ``metrics.json``.

    They are those of `hybrid_retrieval.evaluation.protocol.evaluate`. ``<name>/multilingual/map`` chooses a trainer's best
    checkpoint, as in ``metric_for_best_model="eval_faq/multilingual/map"``.

    Attributes:
        evaluation: the last one, with the figures of each language and language pair, and the values per query.
    """

    evaluation: Evaluation

    def __init__(
        self,
        collection: RetrievalCollection,
        bias: str | Sequence[str] = "rank_distance",
        replicates: int = 1000,
        batch_size: int = 32,
        write_csv: bool = True,
    ) -> None:
        """
        Args:
            bias: measures of language bias, as in ``evaluation.bias``.
            replicates: of the bootstrap behind the intervals; 0: none.
            batch_size: texts that are encoded at once.
            write_csv: add a line to ``multilingual_evaluation_<name>.csv`` in the output path.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.collection, self.batch_size, self.write_csv = collection, batch_size, write_csv
        setting = "multilingual" if collection.asked is None else "crosslingual"
        first = "map" if "map" in collection.measures else next(iter(collection.measures), CONTRASTS)
        self.name, self.primary_metric = collection.name, f"{collection.name}/{setting}/{first}"
        self.wanted = Wanted(chosen(bias), replicates)

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        encoder = SentenceTransformerEncoder(cast(SentenceTransformer, model), self.batch_size)
        self.evaluation = evaluate(Dense(encoder), self.collection, wanted=self.wanted)
        found: dict[str, float] = {}
        for one in self.evaluation.figures:
            if one.languages is None:
                found |= {one.key: one.value}
                found |= {f"{one.key}.{end}": bound for end in ("low", "high") if (bound := getattr(one, end)) is not None}
        self.store_metrics_in_model_card_data(model, found, epoch, steps)  # type: ignore[arg-type]
        if output_path is not None and self.write_csv:
            file = Path(output_path) / f"multilingual_evaluation_{self.name}.csv"
            self._write(file, {"epoch": epoch, "steps": steps, **found})
        return found

    def _write(self, file: Path, line: dict[str, float]) -> None:
        new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, list(line))
            if new:
                writer.writeheader()
            writer.writerow(line)
