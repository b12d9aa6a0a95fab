from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_retrieval.evaluation.bias import language_probe as module
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from tests.evaluation.bias.brute_force import flat

LANGUAGES = ("de", "en", "ru")


def parallel(questions: int, counts: tuple[int, ...] = (1, 1, 1)) -> RetrievalCollection:
    """The first questions / count questions are asked in each language, and answered by sentences of every language."""
    asked = {name: [(str(q), "") for q in range(questions // part)] for name, part in zip(LANGUAGES, counts, strict=True)}
    answers = {name: [(str(q), "") for q in range(questions)] for name in LANGUAGES}
    judged = {(one, other): [(id_, id_, 1) for id_, _ in asked[one]] for one in LANGUAGES for other in LANGUAGES}
    return RetrievalCollection.build("parallel", asked, answers, judged)


def vectors(collection: RetrievalCollection, shift: float, seed: int = 0, dimensions: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = shift * rng.standard_normal((3, dimensions))
    sides = (collection.queries, collection.corpus)
    return [(centres[side.language] + rng.standard_normal((len(side), dimensions))).astype(np.float32) for side in sides]


def test_shifted_languages_are_told_apart_and_equal_ones_are_not(gather) -> None:
    collection = parallel(300)
    far = bias_suite(gather(collection, DenseScorer(*vectors(collection, 10))), ["language_probe"])
    near = bias_suite(gather(collection, DenseScorer(*vectors(collection, 0))), ["language_probe"])
    for key in ("language_probe", "language_probe_corpus"):
        assert flat(far)[key] == 1
        assert flat(near)[key] == pytest.approx(1 / 3, abs=0.06)
        assert flat(near)[f"{key}_chance"] == pytest.approx(1 / 3)


def test_figures_are_macro_means_of_the_queries_and_chance_does_not_follow_the_sizes(gather) -> None:
    collection = parallel(600, (1, 1, 10))
    found = bias_suite(gather(collection, DenseScorer(*vectors(collection, 0.3))), ["language_probe"])
    column = found.per_query["language_probe"]
    means = [column[collection.queries.rows(index)].mean() for index in range(3)]
    assert set(np.unique(column)) == {0, 1}
    assert [flat(found)[f"language_probe/{name}"] for name in LANGUAGES] == pytest.approx(means)
    assert flat(found)["language_probe"] == pytest.approx(np.mean(means))
    near = bias_suite(gather(collection, DenseScorer(*vectors(collection, 0))), ["language_probe"])
    assert flat(near)["language_probe/ru"] > 0.15  # one that goes by the sizes never says the rarest


def test_folds_keep_translations_together() -> None:
    """Each meaning has a direction of its own, and its language's sign in it: to be learned only from its own translations."""
    rng = np.random.default_rng(0)
    meanings, copies = 40, 6
    group = np.repeat(np.arange(meanings), copies)
    language = np.tile([0, 1], len(group) // 2)
    rows = np.zeros((len(group), meanings))
    rows[np.arange(len(group)), group] = np.where(language, 1.0, -1.0) * rng.choice([-1, 1], meanings)[group]
    together = module.identified(rows, language, group)
    apart = module.identified(rows, language, np.arange(len(group)))
    assert together is not None
    assert apart is not None
    assert apart.mean() > 0.9
    assert together.mean() < 0.7


@pytest.mark.parametrize("ridge", [module.RIDGE, 2.0])
def test_it_equals_a_probe_fitted_fold_by_fold(ridge: float, gather) -> None:
    collection = parallel(60, (1, 2, 3))
    rows, language = vectors(collection, 0.4)[0].astype(float), collection.queries.language
    evidence = gather(collection, DenseScorer(*vectors(collection, 0.4)))
    groups = np.unique(evidence.question)
    fold = (np.random.default_rng(module.SEED).permutation(len(groups)) % module.FOLDS)[evidence.question]
    weight = 1 / np.bincount(language)[language]
    centred = rows - np.average(rows, axis=0, weights=weight)
    penalty = ridge * np.average(np.square(centred).sum(1), weights=weight) * weight.sum() / rows.shape[1]
    expected = np.zeros(len(rows))
    for part in range(module.FOLDS):
        here, rest = fold == part, fold != part
        root = np.sqrt(weight[rest])[:, None]
        design = np.concatenate([root * np.c_[centred[rest], np.ones(rest.sum())], np.sqrt(penalty) * np.eye(9)])
        targets = np.concatenate([root * np.eye(3)[language[rest]], np.zeros((9, 3))])
        probe = np.linalg.lstsq(design, targets, rcond=None)[0]
        expected[here] = (np.c_[centred[here], np.ones(here.sum())] @ probe).argmax(1) == language[here]
    assert 0.3 < expected.mean() < 0.9
    np.testing.assert_array_equal(module.language_probe(evidence, ridge=ridge).per_query["language_probe"], expected)


def test_documents_that_answer_the_same_question_are_one_group(gather) -> None:
    rows = {"de": [("0", ""), ("1", ""), ("2", "")], "en": [("7", ""), ("8", "")]}
    asked = {"de": [("a", ""), ("b", "")], "en": [("a", "")]}
    judged = {("de", "de"): [("a", "0", 1), ("b", "1", 1)], ("en", "en"): [("a", "7", 1)], ("de", "en"): [("b", "8", 1)]}
    collection = RetrievalCollection.build("ragged", asked, rows, judged)
    evidence = gather(collection, DenseScorer(np.ones((3, 1), np.float32), np.ones((5, 1), np.float32)))
    number = module.document_groups(evidence).tolist()
    assert number[0] == number[3]
    assert number[1] == number[4]
    assert len({number[0], number[1], number[2]}) == 3


def test_large_sets_are_drawn_from(gather) -> None:
    collection = parallel(90)
    evidence = gather(collection, DenseScorer(*vectors(collection, 1)))
    column = module.language_probe(evidence, per_language=40).per_query["language_probe"]
    assert [int((~np.isnan(column[collection.queries.rows(index)])).sum()) for index in range(3)] == [40] * 3


def test_without_embeddings_or_languages_it_says_so(gather) -> None:
    collection = parallel(30)
    evidence = gather(collection, DenseScorer(*vectors(collection, 1)))
    found = bias_suite(replace(evidence, embeddings=None), ["language_probe", "centroid_distance"])
    assert not flat(found)
    assert [note.split(":")[0] for note in found.notes] == ["language_probe", "centroid_distance"]
    few = parallel(3)
    assert not bias_suite(gather(few, DenseScorer(*vectors(few, 1))), ["language_probe"]).figures


def test_centroid_distances_by_hand(gather) -> None:
    """Two queries a language, one to either side of its centre: centres 6 and 8 apart from the first, spread 2."""
    asked = {name: [("0", ""), ("1", "")] for name in LANGUAGES}
    answers = {name: [("0", "")] for name in LANGUAGES}
    judged = {(name, name): [("0", "0", 1)] for name in LANGUAGES}
    collection = RetrievalCollection.build("hand", asked, answers, judged)
    centres = np.repeat([[0, 0, 0], [6, 0, 0], [0, 8, 0]], 2, axis=0)
    queries = (centres + np.array([[0, 0, 2], [0, 0, -2]] * 3)).astype(np.float32)
    corpus = np.eye(3, dtype=np.float32)
    found = bias_suite(gather(collection, DenseScorer(queries, corpus)), ["centroid_distance"])
    expected = {
        "centroid_distance/de": 7 / 2,
        "centroid_distance/en": 8 / 2,
        "centroid_distance/ru": 9 / 2,
        "centroid_distance": 4,
    }
    assert flat(found) == pytest.approx(expected)
    assert found.notes == ["centroid_distance_corpus: fewer than two languages, or no spread within them"]
