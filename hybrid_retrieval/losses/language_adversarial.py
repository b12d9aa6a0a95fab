"""InfoNCE against a language discriminator (gradient reversal: DANN, arXiv 1505.07818; for languages: arXiv 1606.01614)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.loss import EmbeddedPairs, Scored
from hybrid_retrieval.values import Count, NotNegative


@dataclass(eq=False, repr=False, kw_only=True)
class LanguageAdversarial(InfoNCE):
    """The discriminator learns to tell a text's language from its embedding, the encoder to leave it nothing to tell by.

    With D_i the mean cross-entropy of the discriminator on the query and the own passage of pair i,
    L_i = InfoNCE_i + D_i, where the gradient of D_i reaches the embeddings times -weight (lambda of the papers). Each of the
    `dimensions` has its own discriminator.
    """

    weight: NotNegative = 0.1
    hidden: Count = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminators = nn.ModuleDict()

    def bind(self, dimensions: int, languages: Sequence[str], teacher_dimensions: int = 0) -> None:
        super().bind(dimensions, languages, teacher_dimensions)
        if len(languages) < 2:
            raise InputError(f"dataset.languages={list(languages)}; the language-adversarial loss expects two or more")
        for width in self.widths:
            self.discriminators[str(width)] = nn.Sequential(
                nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, len(languages))
            )

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        contrast = super().score(pairs, rows)
        texts = torch.cat([pairs.queries[rows], pairs.passages[rows]])
        languages = torch.cat([pairs.of_queries.language[rows], pairs.of_passages.language[rows]])
        reversed_texts: Tensor = _Reversed.apply(texts, self.weight)  # type: ignore[no-untyped-call]
        logits = self.discriminators[str(texts.shape[1])](reversed_texts)
        wrong = nn.functional.cross_entropy(logits, languages, reduction="none").view(2, -1).mean(0)
        with torch.no_grad():
            right = (logits.argmax(1) == languages).to(wrong.dtype).view(2, -1).mean(0)
        figures = {"contrast": contrast.loss.detach(), "language_loss": wrong.detach(), "language_accuracy": right}
        return Scored(contrast.loss + wrong, contrast.hit, figures)


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -weight."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None
