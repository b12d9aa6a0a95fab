"""BM25: scores equal the formula's and bm25s's own, in the pool and in each language; and what terms are."""

from __future__ import annotations

import logging
import math
from collections import Counter

import bm25s
import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from hybrid_retrieval.evaluation.retrievers.random import ROWS, RandomVectors
from hybrid_retrieval.evaluation.retrievers.text_analysis import Analyser
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import Scorer

LANGUAGES = ("de", "en", "th", "zh")
WORDS = {
    "de": ["haus", "baum", "rot", "wien", "der", "die", "und", "laufen", "1998", "berlin"],
    "en": ["house", "tree", "red", "vienna", "the", "a", "and", "run", "1998", "berlin"],
    "th": ["บ้าน", "ต้นไม้", "สีแดง", "เวียนนา", "1998", "วิ่ง"],
    "zh": ["房子", "树", "红色", "维也纳", "1998", "跑"],
}


@pytest.fixture
def collection() -> RetrievalCollection:
    """Random texts with repeated words, an empty one, and queries of unknown words only."""
    rng = np.random.default_rng(4)

    def text(language: str, longest: int) -> str:
        return " ".join(rng.choice(WORDS[language], int(rng.integers(1, longest))))

    corpus = {
        language: [(f"d{n}", text(language, 30)) for n in range(int(rng.integers(5, 15)))] + [("empty", "... !")]
        for language in LANGUAGES
    }
    queries = {
        language: [(f"q{n}", text(language, 6)) for n in range(6)] + [("odd", "Quetzalcoatlus")] for language in LANGUAGES
    }
    judged = {(one, other): [(f"q{n}", f"d{n}", 1) for n in range(5)] for one in LANGUAGES for other in LANGUAGES}
    return RetrievalCollection.build("lexical", queries, corpus, judged)


def terms_of(collection: RetrievalCollection, side: Side) -> list[list[str]]:
    return [Analyser(collection.languages[at]).terms(text) for text, at in zip(side.texts, side.language.tolist(), strict=True)]


def brute_force(queries: list[list[str]], documents: list[list[str]], k1: float, b: float) -> np.ndarray:
    """The formula of Lucene, from its documentation (without the constant factor k1 + 1)."""
    mean = sum(map(len, documents)) / len(documents)
    frequency = Counter(term for document in documents for term in set(document))
    scores = np.zeros((len(queries), len(documents)))
    for row, query in enumerate(queries):
        for column, document in enumerate(documents):
            for term in query:
                idf = math.log(1 + (len(documents) - frequency[term] + 0.5) / (frequency[term] + 0.5))
                if tf := document.count(term):
                    scores[row, column] += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
    return scores


def found(scores: np.ndarray) -> np.ndarray:
    """Lucene's: without a term in common a document is not found."""
    result: np.ndarray = np.where(scores > 0, scores, -np.inf)
    return result


def matrix(scorer: Scorer, queries: int, documents: int) -> np.ndarray:
    """All scores, by blocks of different sizes."""
    parts = []
    for start, stop in ((0, 7), (7, documents)):
        block = scorer.against(slice(start, stop))
        parts.append(np.concatenate([block(at, min(at + 5, queries)).numpy() for at in range(0, queries, 5)]))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.0), (2.0, 1.0)])
def test_scores_are_the_formula_s_in_the_pool_and_in_each_language(
    collection: RetrievalCollection, k1: float, b: float
) -> None:
    index = BM25(k1, b).index(collection)
    queries, documents = terms_of(collection, collection.queries), terms_of(collection, collection.corpus)
    assert index.language is not None
    pool, own = (matrix(one, len(queries), len(documents)) for one in (index.pool, index.language))
    assert pool.dtype == np.float32
    np.testing.assert_allclose(pool, found(brute_force(queries, documents, k1, b)), rtol=1e-5, atol=1e-6)
    for at in range(len(LANGUAGES)):
        rows = collection.corpus.rows(at)
        expected = found(brute_force(queries, documents[rows], k1, b))
        np.testing.assert_allclose(own[:, rows], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(pool[np.isfinite(pool)] - own[np.isfinite(pool)]).max() > 0.1
    assert 0.2 < np.isneginf(pool).mean() < 1


def test_scores_are_those_that_bm25s_gives(collection: RetrievalCollection) -> None:
    queries, documents = terms_of(collection, collection.queries), terms_of(collection, collection.corpus)
    theirs = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    theirs.index(documents, show_progress=False)
    ours = BM25().index(collection).pool.against(slice(0, len(documents)))(0, len(queries)).numpy()
    for row, query in enumerate(queries):
        np.testing.assert_allclose(ours[row], found(theirs.get_scores(query)), rtol=1e-5, atol=1e-6)


def test_equal_documents_tie_and_a_query_without_known_terms_scores_nothing(
    collection: RetrievalCollection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        index = BM25().index(collection, "lexical")
    assert "4 of 28 queries have no term that is in the corpus" in caplog.text
    scores = matrix(index.pool, len(collection.queries), len(collection.corpus))
    odd = [row for row, id_ in enumerate(collection.queries.ids) if id_ == "odd"]
    assert np.isneginf(scores[odd]).all()
    texts = ["rot haus", "haus rot", "rot haus"]
    corpus = {"de": [(str(n), text) for n, text in enumerate(texts)]}
    tied = RetrievalCollection.build("tied", {"de": [("q", "haus rot")]}, corpus, {("de", "de"): [("q", "0", 1)]})
    assert count_ranks(BM25().index(tied).pool, tied).pool.tolist() == [3]


def test_ranks_in_a_language_are_those_of_its_own_index(collection: RetrievalCollection) -> None:
    """A term that is frequent in one language and rare in the other weighs differently in the two."""
    pairs = evaluate(BM25(), collection).pairs
    queries, documents = terms_of(collection, collection.queries), terms_of(collection, collection.corpus)
    order = collection.tie_order
    for pair in pairs:
        language = pair.corpus_language
        rows = slice(0, len(documents)) if language is None else collection.corpus.rows(collection.languages.index(language))
        scores = brute_force(queries, documents[rows], 0.9, 0.4).astype(np.float32).round(5)
        for query, value in zip(pair.queries.tolist(), pair.values["mrr"], strict=True):
            ranked = sorted(range(rows.start, rows.stop), key=lambda row: (-scores[query, row - rows.start], -order[row]))
            judged = set(collection.document[collection.query == query].tolist())
            first = next(rank for rank, row in enumerate(ranked, 1) if row in judged)
            there = scores[query, ranked[first - 1] - rows.start] > 0
            assert value == pytest.approx(1 / first if there else 0)


def test_a_corpus_without_terms_is_no_error() -> None:
    bare = RetrievalCollection.build(
        "bare", {"en": [("q", "x")]}, {"en": [("d", "!"), ("e", "")]}, {("en", "en"): [("q", "d", 1)]}
    )
    assert evaluate(BM25(), bare).metrics["bare/monolingual/map"] == 0


@pytest.mark.parametrize(("name", "value"), [("k1", -1.0), ("b", 1.5)])
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"retriever\.bm25\.{name}={value}"):
        BM25(**{name: value})


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("en", "The RUNNING houses, it's 3.5 km!", ["the", "run", "hous", "it", "s", "3", "5", "km"]),
        ("en", "ﬁne ①", ["fine", "1"]),
        ("de", "Häuser STRAẞE", ["haus", "strass"]),
        ("pt_br", "casas", ["cas"]),
        ("tr", "ISPARTA IŞIK İZMİR'de", ["ıspar", "ışık", "izmir", "de"]),
        ("hi", "किताबों", ["किताब"]),
        ("vi", "Thủ đô Hà Nội", ["thủ", "đô", "hà", "nội"]),
        ("zh", "维也纳。红", ["维", "也", "纳", "维也", "也纳", "红"]),
        ("zh_tw", "ABC公司2号", ["abc", "公", "司", "公司", "2", "号"]),
        ("ja", "東京タワー", ["東", "京", "タ", "ワ", "ー", "東京", "京タ", "タワ", "ワー"]),
        ("th", "บ้านแดง 2", ["บ้าน", "านแ", "นแด", "แดง", "2"]),
        ("th", "ดี ฿5", ["ดี", "5"]),
        ("ko", "서울에서 집", ["서울", "울에", "에서", "집"]),
        ("bn", "বাংলাদেশ", ["বাংলা", "লাদে", "দেশ"]),
        ("en", "called 维也纳 there", ["call", "维", "也", "纳", "维也", "也纳", "there"]),
        ("sw", "Watoto", ["watoto"]),
        ("xx", "", []),
    ],
)
def test_terms(language: str, text: str, terms: list[str]) -> None:
    analyser = Analyser(language)
    assert analyser.terms(text) == terms
    assert analyser.terms(text) == terms  # as remembered


def test_composed_and_decomposed_letters_are_the_same_terms() -> None:
    for language, one, other in (("vi", "ệ", "e\u0323\u0302"), ("ko", "각", "\u1100\u1161\u11a8"), ("ja", "ガ", "ｶﾞ")):
        assert Analyser(language).terms(one) == Analyser(language).terms(other) != []


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("ru", "Афины, 98", ["_afi", "afin", "finy", "iny_", "_98_"]),
        ("el", "Αθήνα", ["_ath", "athi", "thin", "hina", "ina_"]),
        ("de", "Über x", ["_übe", "über", "ber_", "_x_"]),
        ("zh", "北京abc", ["北", "京", "北京", "_abc", "abc_"]),
    ],
)
def test_terms_of_characters_in_latin_letters(language: str, text: str, terms: list[str]) -> None:
    assert Analyser(language, characters=4, romanize=True).terms(text) == terms


def test_a_name_is_found_across_scripts_where_alphabets_are_romanised() -> None:
    queries = {"ru": [("q", "Где родился Наполеон?")], "en": [("q", "Where was Napoleon born?")]}
    corpus = {
        "en": [("a", "A garden in the north."), ("b", "Napoleon was an emperor.")],
        "ru": [("b", "Наполеон был императором.")],
    }
    judged = {(one, other): [("q", "b", 1)] for one in ("ru", "en") for other in ("ru", "en")}
    found = RetrievalCollection.build("names", queries, corpus, judged)
    for characters, romanize, best in ((None, False, 0), (4, True, 1)):
        scores = evaluate(BM25(characters=characters, romanize=romanize), found).metrics
        assert scores["names/crosslingual/map/ru-en"] == best


def test_random_directions_depend_on_seed_side_and_row_only(collection: RetrievalCollection) -> None:
    index, again, other = (RandomVectors(seed).index(collection) for seed in (3, 3, 4))
    sizes = len(collection.queries), len(collection.corpus)
    scores = [matrix(one.pool, *sizes) for one in (index, again, other)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 0.1
    assert index.embeddings is not None
    assert not np.array_equal(index.embeddings[0][0:5], index.embeddings[1][0:5])


def test_random_directions_are_the_same_however_they_are_cut_and_point_everywhere() -> None:
    queries = [(str(n), "") for n in range(3 * ROWS // 2)]
    judged = {("en", "en"): [("0", "0", 1)]}
    index = RandomVectors().index(RetrievalCollection.build("wide", {"en": queries}, {"en": queries}, judged))
    assert index.embeddings is not None
    vectors = index.embeddings[0]
    whole = np.asarray(vectors)
    assert whole.shape == (3 * ROWS // 2, 64)
    np.testing.assert_array_equal(whole[ROWS - 3 : ROWS + 9], vectors[ROWS - 3 : ROWS + 9])
    assert vectors[5:5].shape == (0, 64)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
    assert np.abs(whole.mean(0)).max() < 0.02
    assert np.abs(whole.T @ whole / len(whole) - np.eye(64) / 64).max() < 0.002
