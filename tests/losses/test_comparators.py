"""The losses of other papers equal their formulas written as loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.distill_embeddings import DistillEmbeddings
from hybrid_retrieval.losses.distill_scores import DistillScores
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.language_adversarial import LanguageAdversarial
from hybrid_retrieval.losses.loss import EmbeddedPairs, PassageIds, QueryIds, Scored
from hybrid_retrieval.losses.supcon import SupCon
from tests.losses.oracles import (
    ALL,
    DIMENSIONS,
    HARD,
    LANGUAGES,
    PAIRS,
    both_loops,
    distinct_ids,
    exact,
    is_answer,
    random_pairs,
    vectors,
)


def two_views(seed: int, groups: list[int], languages: tuple[list[int], list[int]]) -> EmbeddedPairs:
    """Passages of the given groups on both sides, each side in its languages; a text is named by group and language."""
    group, first, second = (torch.tensor(part) for part in (groups, *languages))
    text, other = 10 * group + first, 10 * group + second
    return EmbeddedPairs(
        vectors(seed, len(groups)),
        vectors(seed + 1, len(groups)),
        QueryIds(text, group[:, None], other, first),
        PassageIds(group, other, text, second),
    )


@pytest.mark.parametrize(
    "languages", [([0, 0, 0, 1], [0, 0, 0, 1]), ([0, 1, 0, 1], [1, 0, 2, 0])], ids=["dropout", "translation"]
)
def test_simcse_is_the_softmax_over_second_views(languages: tuple[list[int], list[int]]) -> None:
    """The own view is always the positive, the same text though it is; another view of the same passage is no negative."""
    pairs = two_views(5, [1, 2, 1, 3], languages)
    scores = (pairs.queries @ pairs.passages.T / 0.05).tolist()
    negatives = [[1, 3], [0, 2, 3], [1, 3], [0, 1, 2]]
    expected = []
    for i, row in enumerate(scores):
        expected.append(-math.log(math.exp(row[i]) / (math.exp(row[i]) + sum(math.exp(row[j]) for j in negatives[i]))))
    found = exact(InfoNCE(), 0.05)(pairs, slice(0, 4)).loss
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_simcse_by_language_is_each_language_alone() -> None:
    pairs = two_views(7, [1, 2, 3, 4, 5], ([0, 0, 1, 1, 1], [0, 0, 1, 1, 1]))
    found = exact(InfoNCE(pool="same_language"), 0.1)(pairs, slice(0, 5)).loss
    for rows in (slice(0, 2), slice(2, 5)):
        scores = pairs.queries[rows] @ pairs.passages[rows].T / 0.1
        expected = nn.functional.cross_entropy(scores, torch.arange(len(scores)), reduction="none")
        torch.testing.assert_close(found[rows], expected)


@pytest.mark.parametrize("mask", ["ignore", "positive", "keep"])
@pytest.mark.parametrize("seed", range(3))
def test_translation_ranking_sets_its_own_translation_back_in_both_directions(seed: int, mask: str) -> None:
    pairs = random_pairs(seed)
    found = exact(InfoNCE(margin=0.3, directions="both", mask=mask), 0.2)(pairs, ALL)
    forth, back = both_loops(pairs, 0.2, mask, "all", margin=0.3)
    torch.testing.assert_close(found.loss, (forth + back) / 2)
    plain = exact(InfoNCE(directions="both", mask=mask), 0.2)(pairs, ALL)
    assert torch.equal(found.hit, plain.hit)
    assert (found.loss >= plain.loss).all()


@pytest.mark.parametrize("seed", range(8))
def test_supcon_equals_the_formula(seed: int) -> None:
    pairs = random_pairs(seed)
    texts = [("query", i) for i in range(PAIRS)] + [("passage", j) for j in range(PAIRS * (1 + HARD))]
    place = torch.cat([pairs.queries, pairs.passages])
    there = [kind == "query" or pairs.of_passages.group[j] >= 0 for kind, j in texts]

    def of_label(i: int, j: int) -> bool:
        """Whether text number j of its kind has the label of pair i."""
        return is_answer(pairs, i, j) or (j < PAIRS and is_answer(pairs, j, i))

    def one(x: int, i: int) -> float:
        others = [a for a in range(len(texts)) if a != x and there[a]]
        scores = {a: float(place[x] @ place[a]) / 0.3 for a in others}
        total = sum(math.exp(score) for score in scores.values())
        positives = [a for a in others if of_label(i, texts[a][1])]
        return -sum(math.log(math.exp(scores[p]) / total) for p in positives) / len(positives)

    expected = [(one(i, i) + one(PAIRS + i, i)) / 2 for i in range(PAIRS)]
    found = exact(SupCon(hard_negatives=HARD), 0.3)(pairs, ALL)
    torch.testing.assert_close(found.loss, torch.tensor(expected, dtype=torch.float64))
    others = [
        [j for j in range(PAIRS * (1 + HARD)) if pairs.of_passages.group[j] >= 0 and not of_label(i, j)] for i in range(PAIRS)
    ]
    scores = pairs.queries @ pairs.passages.T
    assert found.hit.tolist() == [all(scores[i, i] >= scores[i, j] for j in others[i]) for i in range(PAIRS)]


def test_supcon_without_coincidences_is_nt_xent() -> None:
    """One positive each: cross-entropy of the 2B texts over all others (SimCLR's loss)."""
    pairs = EmbeddedPairs(vectors(1, 5), vectors(2, 5), *distinct_ids(5))
    texts = torch.cat([pairs.queries, pairs.passages])
    scores = (texts @ texts.T / 0.1).fill_diagonal_(-torch.inf)
    each = nn.functional.cross_entropy(scores, torch.cat([torch.arange(5, 10), torch.arange(5)]), reduction="none")
    torch.testing.assert_close(exact(SupCon(), 0.1)(pairs, slice(0, 5)).loss, (each[:5] + each[5:]) / 2)


def taught(dimensions: int) -> tuple[EmbeddedPairs, Tensor, Tensor]:
    pairs = random_pairs(3, teacher=dimensions)
    return pairs, *pairs.taught


def test_distilled_embeddings_are_drawn_to_the_teachers() -> None:
    pairs, asked, answered = taught(DIMENSIONS)
    loss = DistillEmbeddings(teacher={"run": "somewhere"})
    loss.bind(DIMENSIONS, ["aa"], DIMENSIONS)
    assert not list(loss.parameters())
    expected = [
        sum(float((a[i] - b[i]).pow(2).sum()) for a, b in ((pairs.queries, asked), (pairs.passages, answered))) / 2
        for i in range(PAIRS)
    ]
    found = loss(pairs, ALL)
    torch.testing.assert_close(found.loss, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(found.hit, InfoNCE()(pairs, ALL).hit)
    same = replace(pairs, taught=(pairs.queries, pairs.passages))
    assert (loss(same, ALL).loss == 0).all()


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_translation_ranking_beside_a_teacher_is_infonce_between_the_sides(weight: float) -> None:
    pairs, *_ = taught(DIMENSIONS)

    def scored(weight: float) -> Scored:
        loss = DistillEmbeddings(teacher={}, translation_ranking=weight, temperature=0.2)
        loss.bind(DIMENSIONS, ["aa"], DIMENSIONS)
        return loss(pairs, ALL)

    found, ranked = scored(weight), exact(InfoNCE(), 0.2)(pairs, ALL)
    torch.testing.assert_close(found.loss, scored(0).loss + weight * ranked.loss)
    torch.testing.assert_close(found.figures["distance"] + weight * found.figures["translation_ranking"], found.loss)
    assert torch.equal(found.hit, ranked.hit)


def test_a_teacher_of_other_dimensions_is_met_through_a_learned_layer_of_each_width() -> None:
    pairs, asked, answered = taught(4)
    loss = DistillEmbeddings(teacher={}, dimensions=[4, DIMENSIONS])
    loss.bind(DIMENSIONS, ["aa"], 4)
    loss.double()
    assert set(loss.projections) == {str(DIMENSIONS)}
    layer = loss.projections[str(DIMENSIONS)]
    whole = sum(
        (layer(mine[ALL]) - theirs[ALL]).pow(2).sum(1) / 2
        for mine, theirs in ((pairs.queries, asked), (pairs.passages, answered))
    )
    cut = [nn.functional.normalize(mine[ALL, :4], dim=1) for mine in (pairs.queries, pairs.passages)]
    short = sum((mine - theirs[ALL]).pow(2).sum(1) / 2 for mine, theirs in zip(cut, (asked, answered), strict=True))
    torch.testing.assert_close(loss(pairs, ALL).loss, (whole + short) / 2)


@pytest.mark.parametrize("weight", [1.0, 0.25, 0.0])
def test_distilled_scores_are_the_divergence_from_the_teachers_softmax(weight: float) -> None:
    pairs, asked, answered = taught(4)
    candidates = [j for j in range(len(pairs.passages)) if pairs.of_passages.group[j] >= 0]
    expected = []
    for i in range(PAIRS):
        mine = [math.exp(float(pairs.queries[i] @ pairs.passages[j]) / 0.2) for j in candidates]
        theirs = [math.exp(float(asked[i] @ answered[j]) / 0.1) for j in candidates]
        shares = [(t / sum(theirs), s / sum(mine)) for t, s in zip(theirs, mine, strict=True)]
        expected.append(sum(t * math.log(t / s) for t, s in shares))
    contrast = exact(InfoNCE(), 0.2)(pairs, ALL).loss
    found = exact(DistillScores(teacher={}, weight=weight, teacher_temperature=0.1), 0.2)(pairs, ALL)
    mixed = weight * torch.tensor(expected, dtype=torch.float64) + (1 - weight) * contrast
    torch.testing.assert_close(found.loss, mixed)
    torch.testing.assert_close(found.figures["divergence"], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_datas_scores_are_met_over_the_pairs_own_passages_alone(weight: float) -> None:
    """Values and gradients, by the formula; unknown scores take part in nothing."""
    pairs = random_pairs(3)
    assert pairs.scores is not None
    queries, passages = pairs.queries.clone().requires_grad_(), pairs.passages.clone().requires_grad_()
    expected = []
    for i in range(PAIRS):
        known = [n for n in range(1 + HARD) if not math.isnan(pairs.scores[i, n])]
        mine = [torch.exp(queries[i] @ passages[n * PAIRS + i] / 0.2) for n in known]
        theirs = [math.exp(float(pairs.scores[i, n]) / 0.7) for n in known]
        shares = [(t / sum(theirs), s / sum(mine)) for t, s in zip(theirs, mine, strict=True)]
        expected.append(sum((t * (math.log(t) - torch.log(s)) for t, s in shares), queries.new_zeros(())))
    assert sum(float(one.detach()) > 1e-3 for one in expected) > 2
    live = replace(pairs, queries=queries, passages=passages)
    mixed = weight * torch.stack(expected) + (1 - weight) * exact(InfoNCE(), 0.2)(live, ALL).loss
    loss = DistillScores(teacher={}, targets="data", weight=weight, teacher_temperature=0.7, hard_negatives=HARD)
    found = exact(loss, 0.2)(live, ALL)
    torch.testing.assert_close(found.loss, mixed)
    of_found, of_mixed = (torch.autograd.grad(one.sum(), [queries, passages]) for one in (found.loss, mixed))
    torch.testing.assert_close(of_found, of_mixed)


def test_a_pair_without_two_known_scores_teaches_nothing() -> None:
    pairs = random_pairs(3)
    scores = torch.full((PAIRS, 1 + HARD), math.nan)
    scores[1, 0] = 2.0
    live = replace(pairs, queries=pairs.queries.clone().requires_grad_(), scores=scores)
    found = DistillScores(teacher={}, targets="data", hard_negatives=HARD)(live, ALL).loss
    (gradient,) = torch.autograd.grad(found.sum(), live.queries)
    assert not found.detach().any()
    assert not gradient.any()


def test_a_student_that_scores_as_its_teacher_has_nothing_to_learn() -> None:
    pairs = random_pairs(1)
    queries = pairs.queries.clone().requires_grad_()
    same = replace(pairs, queries=queries, taught=(pairs.queries, pairs.passages))
    found = DistillScores(teacher={}, temperature=0.1, teacher_temperature=0.1)(same, ALL).loss
    (gradient,) = torch.autograd.grad(found.sum(), queries)
    assert float(found.detach().abs().max()) < 1e-6
    assert float(gradient.abs().max()) < 1e-5


def test_the_discriminator_learns_and_the_encoder_unlearns_by_the_weight() -> None:
    pairs = random_pairs(6)
    loss = LanguageAdversarial(weight=0.3, hidden=8, temperature=0.2)
    loss.bind(DIMENSIONS, ["aa", "bb", "cc"])
    exact(loss, 0.2)
    (network,) = loss.discriminators.values()
    embeddings = pairs.queries.clone().requires_grad_(), pairs.passages.clone().requires_grad_()
    spoken = pairs.of_queries.language, pairs.of_passages.language[ALL]
    told = [
        nn.functional.cross_entropy(network(mine[ALL]), which, reduction="none")
        for mine, which in zip(embeddings, spoken, strict=True)
    ]
    language = (told[0] + told[1]) / 2
    contrast = exact(InfoNCE(), 0.2)(replace(pairs, queries=embeddings[0], passages=embeddings[1]), ALL).loss
    found = loss(replace(pairs, queries=embeddings[0], passages=embeddings[1]), ALL)
    torch.testing.assert_close(found.loss, contrast + language)
    torch.testing.assert_close(found.figures["language_loss"], language.detach())
    right = sum((network(mine[ALL]).argmax(1) == which).double() for mine, which in zip(embeddings, spoken, strict=True)) / 2
    torch.testing.assert_close(found.figures["language_accuracy"], right)

    weights = list(network.parameters())
    gradients = torch.autograd.grad(found.loss.sum(), [*embeddings, *weights])
    of_contrast = torch.autograd.grad(contrast.sum(), embeddings)
    of_language = torch.autograd.grad(language.sum(), [*embeddings, *weights])
    for place in range(2):
        torch.testing.assert_close(gradients[place], of_contrast[place] - 0.3 * of_language[place])
    for place in range(2, len(gradients)):
        torch.testing.assert_close(gradients[place], of_language[place])
    assert network[-1].out_features == LANGUAGES


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistillScores(teacher={}, weight=1.5), r"loss\.weight=1\.5"),
        (lambda: DistillScores(teacher={}, teacher_temperature=0.0), r"loss\.teacher_temperature=0"),
        (lambda: DistillScores(teacher={}, targets="none"), r"loss\.targets='none'"),
        (lambda: DistillScores(teacher={}, targets="data"), r"loss\.targets=data needs loss\.hard_negatives=1"),
        (
            lambda: DistillScores(teacher={"run": "r"}, targets="data", hard_negatives=1),
            r"loss\.targets=data and loss\.teacher\.run",
        ),
        (lambda: DistillScores(teacher={}, mask="none"), r"loss\.mask='none'"),
        (lambda: DistillScores(teacher={}, pool="none"), r"loss\.pool='none'"),
        (lambda: LanguageAdversarial(weight=-1.0), r"loss\.weight=-1"),
        (lambda: LanguageAdversarial(hidden=0), r"loss\.hidden=0"),
        (lambda: LanguageAdversarial().bind(6, ["de"]), r"dataset\.languages=\['de'\]"),
        (lambda: SupCon(hard_negatives=-1), r"loss\.hard_negatives=-1"),
    ],
)
def test_bad_values_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
