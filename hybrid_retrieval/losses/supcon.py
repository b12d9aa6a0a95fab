"""Supervised contrastive learning by label (SupCon, arXiv 2004.11362, Eq. 2, L_out)."""

from __future__ import annotations

import torch
from torch import Tensor

from hybrid_retrieval.losses.candidates import answering, passages_of, similarity
from hybrid_retrieval.losses.loss import EmbeddedPairs, Scored, SoftmaxLoss


class SupCon(SoftmaxLoss):
    """All texts of one label attract each other, in any language, whichever side of a pair they are on.

    The label is the passage group: pairs i and j have one label when the passage of j answers the query of i, or that of i the
    query of j (by group, by text or by the same question: law 3's relation). A hard negative has the label of i when it answers
    the query of i. Texts are the queries q_1..q_B, the own passages p_1..p_B and the hard negatives.

    Anchors x are the 2B queries and own passages. A(x) is every text but x itself, hard negatives too; P(x) those of A(x) with
    the label of x. With s the cosine over the temperature,
    L(x) = -1/|P(x)| sum_{p in P(x)} log( exp s_xp / sum_{a in A(x)} exp s_xa ),  L_i = (L(q_i) + L(p_i)) / 2.
    """

    def contrasts(self, pairs: EmbeddedPairs) -> Tensor:
        return passages_of(pairs, slice(None)).negative.any(1)

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        count = len(pairs.queries)
        own = torch.arange(count, device=pairs.queries.device)[rows]
        passage = pairs.of_passages.group >= 0
        same = answering(pairs.of_queries[rows], pairs.of_passages)
        same[:, :count] |= answering(pairs.of_queries, pairs.of_passages[rows]).T
        of_texts = torch.cat([same[:, :count], same], 1)
        there = torch.cat([passage.new_ones(count), passage])
        asked = self._scores(pairs, pairs.queries[rows])
        losses = self._anchors(asked, of_texts, there, own)
        losses = losses + self._anchors(self._scores(pairs, pairs.passages[rows]), of_texts, there, own + count)
        best_other = asked[:, count:].masked_fill(same | ~passage, -torch.inf).amax(1)
        return Scored(losses / 2, asked.gather(1, own[:, None] + count).squeeze(1) >= best_other)

    def _scores(self, pairs: EmbeddedPairs, anchors: Tensor) -> Tensor:
        """[r, B + C], over the temperature: queries, then passages."""
        return torch.cat([similarity(anchors, pairs.queries), similarity(anchors, pairs.passages)], 1) / self.divisor

    def _anchors(self, scores: Tensor, same: Tensor, there: Tensor, itself: Tensor) -> Tensor:
        others = there.expand_as(same).scatter(1, itself[:, None], False)
        total = torch.logsumexp(scores.masked_fill(~others, -torch.inf), 1, keepdim=True)
        positives = same & others
        return (total - scores).masked_fill(~positives, 0).sum(1) / positives.sum(1)
