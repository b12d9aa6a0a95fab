"""What holds of every loss: it is a sum over queries, blocks change nothing, and it can be taken at leading dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybrid_retrieval.config import config_directory
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.distill_embeddings import DistillEmbeddings
from hybrid_retrieval.losses.distill_scores import DistillScores
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.language_adversarial import LanguageAdversarial
from hybrid_retrieval.losses.loss import EmbeddedPairs, Loss
from hybrid_retrieval.losses.supcon import SupCon
from tests.losses.oracles import ALL, DIMENSIONS, PAIRS, random_pairs

TEACHER = 4
LOSSES: dict[str, Callable[..., Loss]] = {
    "infonce": lambda **more: InfoNCE(learn_temperature=True, **more),
    "infonce_both": lambda **more: InfoNCE(learn_temperature=True, directions="both", mask="positive", **more),
    "infonce_pool": lambda **more: InfoNCE(learn_temperature=True, directions="both", pool="same_language", **more),
    "translation_ranking": lambda **more: InfoNCE(learn_temperature=True, directions="both", margin=0.3, **more),
    "supcon": lambda **more: SupCon(learn_temperature=True, **more),
    "distill_embeddings": lambda **more: DistillEmbeddings(teacher={}, **more),
    "distill_embeddings_and_rank": lambda **more: DistillEmbeddings(teacher={}, translation_ranking=0.7, **more),
    "distill_scores": lambda **more: DistillScores(teacher={}, weight=0.7, learn_temperature=True, **more),
    "distill_scores_of_data": lambda **more: DistillScores(
        **{"teacher": {}, "targets": "data", "weight": 0.7, "learn_temperature": True, "hard_negatives": 2, **more}
    ),
    "language_adversarial": lambda **more: LanguageAdversarial(weight=0.3, hidden=5, learn_temperature=True, **more),
}


def bound(name: str, **more: Any) -> Loss:
    torch.manual_seed(1)
    loss = LOSSES[name](**more)
    loss.bind(DIMENSIONS, ["aa", "bb", "cc"], TEACHER)
    return loss.double()


def result(loss: Loss, pairs: EmbeddedPairs, blocks: list[slice]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Losses and hits of all queries, and the gradients of their sum, taken block by block as the engine does."""
    queries, passages = pairs.queries.clone().requires_grad_(), pairs.passages.clone().requires_grad_()
    wanted = [queries, passages, *(parameter for parameter in loss.parameters() if parameter.requires_grad)]
    total = [torch.zeros_like(one) for one in wanted]
    losses, hits = [], []
    for rows in blocks:
        scored = loss(replace(pairs, queries=queries, passages=passages), rows)
        for sum_, part in zip(total, torch.autograd.grad(scored.loss.sum(), wanted), strict=True):
            sum_ += part
        losses.append(scored.loss.detach())
        hits.append(scored.hit)
        assert all(value.shape == scored.loss.shape and not value.requires_grad for value in scored.figures.values())
    return torch.cat(losses), torch.cat(hits), total


@pytest.mark.parametrize("dimensions", [None, {2: 1.0, DIMENSIONS: 0.5}], ids=["whole", "matryoshka"])
@pytest.mark.parametrize("name", LOSSES)
def test_blocks_of_queries_sum_to_the_whole(name: str, dimensions: Any) -> None:
    """Values, hits, and gradients with respect to embeddings and to the loss's own parameters, whatever the partition."""
    loss, pairs = bound(name, dimensions=dimensions), random_pairs(2, teacher=TEACHER)
    whole = result(loss, pairs, [ALL])
    assert all(float(gradient.abs().max()) > 1e-6 for gradient in whole[2])
    for cuts in ([0, 3, 7], [0, 1, 2, 6, 7], list(range(PAIRS + 1))):
        parts = result(loss, pairs, [slice(a, b) for a, b in itertools.pairwise(cuts)])
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


def test_every_loss_is_in_the_tests_of_blocks() -> None:
    """But for those that are InfoNCE by other names."""
    assert {path.stem for path in (config_directory() / "loss").glob("*.yaml")} <= LOSSES.keys() | {"simcse", "msimcse"}


@pytest.mark.parametrize(
    "name", [name for name in LOSSES if not name.startswith(("distill_embeddings", "language_adversarial"))]
)
def test_matryoshka_is_the_weighted_mean_over_leading_dimensions(name: str) -> None:
    pairs = random_pairs(4, teacher=TEACHER)

    def alone(width: int) -> Tensor:
        cut = {side: nn.functional.normalize(getattr(pairs, side)[:, :width], dim=1) for side in ("queries", "passages")}
        return bound(name)(replace(pairs, **cut), ALL).loss.detach()

    found = bound(name, dimensions=[2, 4, DIMENSIONS])(pairs, ALL)
    torch.testing.assert_close(found.loss.detach(), (alone(2) + alone(4) + alone(DIMENSIONS)) / 3)
    torch.testing.assert_close(found.figures["loss@4"], alone(4))
    assert torch.equal(found.hit, bound(name)(pairs, ALL).hit)
    found = bound(name, dimensions={5: 1.0, 2: 3.0})(pairs, ALL)
    torch.testing.assert_close(found.loss.detach(), 0.75 * alone(2) + 0.25 * alone(5))


def test_whole_embeddings_are_not_rescaled() -> None:
    """An encoder that does not normalise keeps its lengths where all dimensions are taken."""
    pairs = random_pairs(1)
    long = replace(pairs, queries=3 * pairs.queries)
    torch.testing.assert_close(bound("infonce", dimensions=[DIMENSIONS])(long, ALL).loss, bound("infonce")(long, ALL).loss)
    assert long.leading(DIMENSIONS) is long
    torch.testing.assert_close(long.leading(3).queries, pairs.leading(3).queries)


def test_more_dimensions_than_the_encoder_has_are_refused() -> None:
    with pytest.raises(InputError, match=r"loss\.dimensions has 8, but the encoder gives 6"):
        InfoNCE(dimensions=[4, 8]).bind(6, ["aa"])
    InfoNCE(dimensions=[4, 6]).bind(6, ["aa"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sides": ["query", "passages"]}, r"loss\.sides='passages'.*'passage'"),
        ({"sides": ["query"]}, r"loss\.sides=\['query'\]; expected two"),
        ({"dimensions": []}, r"loss\.dimensions=\[\]"),
        ({"dimensions": [4, 4]}, r"loss\.dimensions=\[4, 4\]; expected different"),
        ({"dimensions": [0]}, r"loss\.dimensions=0"),
        ({"dimensions": {4: -1.0}}, r"loss\.dimensions\.4=-1\.0"),
        ({"dimensions": {"4": 1.0}}, r"loss\.dimensions=.*expected list\[int\] \| dict\[int, float\]"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InfoNCE(**values)
