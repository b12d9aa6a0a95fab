"""Post-hoc removal of language from embeddings, to compare with training: ``evaluation.debias=[center,lir,whiten]``.

Each method is fitted on embeddings of text that is not the benchmark's, in every language of the benchmark, and then
applied to queries and passages alike, each by its own language.

- ``center``: subtract the language's mean. (Libovický et al., arXiv 2004.05160.)
- ``lir``: subtract the projection on the language's first `rank` right singular vectors of the matrix of its embeddings, not
  centred (arXiv 2109.04727; the authors remove 1 or 2 of mBERT's, estimated on 10,000 sentences of Wikipedia, encoded as
  questions, and use the same ones for questions and candidates).
- ``whiten``: subtract the language's mean and divide by the root of the covariance within languages, which all languages share
  (arXiv 2103.15316, per language in its mean only: with a matrix for each language, cosines across languages would compare
  different axes, and small samples would not determine it). Languages weigh the same. Directions in which the text has no
  variance are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.scoring.vectors import Vectors

METHODS = ("center", "lir", "whiten")

LEAST_VARIANCE = 1e-7
"""Of the largest variance: directions with less are removed by `whiten`."""
ROWS_AT_ONCE = 1 << 14
"""Rows that are changed together, in float64."""


@dataclass(frozen=True)
class Debias:
    """A map of embeddings for each language: ``(x - mean) - (x - mean) basis basis^T``, then times a matrix shared by all.

    Attributes:
        mean: float64 [dimensions] by language.
        basis: float64 [dimensions, directions] by language, orthonormal columns.
        matrix: float64 [dimensions, dimensions], or None for the identity.
        normalise: whether rows have unit length afterwards; a row that vanishes stays zero.
    """

    method: str
    mean: Mapping[int, Floats]
    basis: Mapping[int, Floats]
    matrix: Floats | None
    normalise: bool

    def missing(self, languages: Ints) -> list[int]:
        """Those of the languages that the method was not fitted on."""
        return [index for index in np.unique(languages).tolist() if index not in self.mean]

    def apply(self, embeddings: Vectors, languages: Ints) -> npt.NDArray[np.float32]:
        """float32 [rows, dimensions].

        Args:
            languages: int64 [rows].

        Raises:
            InputError: a language was not in the text that the method was fitted on.
        """
        missing = self.missing(languages)
        if missing:
            raise InputError(f"evaluation.debias={self.method}: the text that it is fitted on lacks languages {missing}")
        changed = np.empty(embeddings.shape, np.float32)
        for at in range(0, len(embeddings), ROWS_AT_ONCE):
            block, spoken = embeddings[at : at + ROWS_AT_ONCE], languages[at : at + ROWS_AT_ONCE]
            for index in np.unique(spoken).tolist():
                rows = np.flatnonzero(spoken == index)
                changed[at + rows] = self._of_language(block[rows].astype(np.float64), index)
        return changed

    def _of_language(self, rows: Floats, index: int) -> Floats:
        """float64 [rows, dimensions], from rows of one language."""
        rows = rows - self.mean[index]
        basis = self.basis.get(index)
        if basis is not None:
            rows -= (rows @ basis) @ basis.T
        if self.matrix is not None:
            rows = rows @ self.matrix
        if self.normalise:
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            rows /= np.where(length > 0, length, 1)
        return rows


def fit(method: str, embeddings: Vectors, languages: Ints, *, rank: int = 1, normalise: bool = True) -> Debias:
    """From embeddings [rows, dimensions] of text in `languages` [rows].

    Raises:
        InputError: the method is unknown, or the text is too little for it.
    """
    choice("evaluation.debias", method, METHODS)
    parts = {index: embeddings[languages == index].astype(np.float64) for index in np.unique(languages).tolist()}
    mean = {index: part.mean(0) for index, part in parts.items()}
    if method == "center":
        return Debias(method, mean, {}, None, normalise)
    if method == "whiten":
        return Debias(method, mean, {}, _whitening(parts, mean), normalise)
    origin = {index: np.zeros_like(centre) for index, centre in mean.items()}
    return Debias(method, origin, _first_directions(parts, rank), None, normalise)


def _first_directions(parts: Mapping[int, Floats], rank: int) -> dict[int, Floats]:
    """The first right singular vectors of each language's embeddings, as columns."""
    least = min(min(part.shape) for part in parts.values())
    if rank > least:
        raise InputError(f"evaluation.lir_rank={rank}: expected at most {least}, the fewest texts or the dimensions")
    return {index: np.linalg.eigh(part.T @ part)[1][:, ::-1][:, :rank] for index, part in parts.items()}


def _whitening(parts: Mapping[int, Floats], mean: Mapping[int, Floats]) -> Floats:
    """float64 [dimensions, dimensions]: the inverse root of the covariance within languages."""
    rows, dimensions = sum(len(part) for part in parts.values()), next(iter(mean.values())).shape[0]
    needed = dimensions + len(parts)
    if rows < needed:
        raise InputError(f"evaluation.debias=whiten: {rows} texts are too few for {dimensions} dimensions; expected {needed}")
    covariance = np.mean([(part - mean[index]).T @ (part - mean[index]) / len(part) for index, part in parts.items()], axis=0)
    variance, axes = np.linalg.eigh(covariance)
    kept = variance > LEAST_VARIANCE * variance[-1]
    return np.asarray((axes[:, kept] / np.sqrt(variance[kept])) @ axes[:, kept].T, np.float64)
