"""What each method takes away is gone, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers import debias as fitting
from hybrid_retrieval.evaluation.retrievers import debiased as module
from hybrid_retrieval.evaluation.retrievers.debias import METHODS, fit
from hybrid_retrieval.evaluation.retrievers.debiased import Changed, Debiased, missing_languages
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.scoring.vectors import Joined


def text(seed: int = 0, rows: int = 400, dimensions: int = 12, languages: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Languages, interleaved, whose means and spreads differ; directions of different variance."""
    rng = np.random.default_rng(seed)
    language = np.arange(rows) % languages
    noise = rng.standard_normal((rows, dimensions)) @ np.diag(np.linspace(0.2, 2, dimensions))
    return (noise + 5 * rng.standard_normal((languages, dimensions))[language]).astype(np.float32), language


def test_centred_languages_have_mean_zero_and_keep_their_differences() -> None:
    embeddings, language = text()
    changed = fit("center", embeddings, language, normalise=False).apply(embeddings, language)
    assert changed.dtype == np.float32
    for index in range(3):
        mine = language == index
        np.testing.assert_allclose(changed[mine].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(changed[mine] - changed[mine][0], embeddings[mine] - embeddings[mine][0], atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_lir_removes_the_first_right_singular_vectors_of_each_language(rank: int) -> None:
    embeddings, language = text()
    other, spoken = text(1, rows=60)
    changed = fit("lir", embeddings, language, rank=rank, normalise=False).apply(other, spoken)
    for index in range(3):
        basis = np.linalg.svd(embeddings[language == index].astype(float))[2][:rank]
        mine = other[spoken == index]
        np.testing.assert_allclose(changed[spoken == index], mine - mine @ basis.T @ basis, atol=1e-4)
        np.testing.assert_allclose(changed[spoken == index] @ basis.T, 0, atol=1e-4)


def test_whitened_languages_have_mean_zero_and_together_the_identity_as_covariance() -> None:
    embeddings, language = text()
    changed = fit("whiten", embeddings, language, normalise=False).apply(embeddings, language).astype(float)
    covariance = np.mean([np.cov(changed[language == index].T, bias=True) for index in range(3)], axis=0)
    np.testing.assert_allclose(covariance, np.eye(12), atol=1e-5)
    for index in range(3):
        np.testing.assert_allclose(changed[language == index].mean(0), 0, atol=1e-5)


def test_whitening_removes_directions_without_variance() -> None:
    embeddings, language = text()
    embeddings[:, 4] = 7
    changed = fit("whiten", embeddings, language, normalise=False).apply(embeddings + 1, language)
    assert np.abs(changed).max() < 20
    np.testing.assert_allclose(changed[:, 4], 0, atol=1e-3)


def test_languages_weigh_the_same_in_the_covariance() -> None:
    embeddings, language = text(rows=900)
    some = (language != 0) | (np.arange(900) < 300)
    one = fit("whiten", embeddings[some], language[some])
    doubled = fit(
        "whiten",
        np.concatenate([embeddings[some], embeddings[language == 1]]),
        np.concatenate([language[some], language[language == 1]]),
    )
    assert one.matrix is not None
    np.testing.assert_allclose(one.matrix, doubled.matrix, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_lengths_are_one_where_asked_for_and_rows_depend_on_themselves_only(method: str) -> None:
    embeddings, language = text()
    debias = fit(method, embeddings, language)
    other, spoken = text(2, rows=30)
    whole = debias.apply(other.astype(np.float16), spoken)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(whole[::4], debias.apply(other[::4].astype(np.float16), spoken[::4]), atol=1e-6)


def test_a_row_that_vanishes_stays_zero() -> None:
    embeddings = np.array([[1, 0], [2, 0], [-1, 0]], np.float32)
    language = np.zeros(3, np.int64)
    np.testing.assert_array_equal(fit("lir", embeddings, language).apply(embeddings, language), 0)


@pytest.mark.parametrize("method", METHODS)
def test_it_helps_where_languages_are_shifted_copies(method: str) -> None:
    """A query finds its own language first; afterwards it finds its translation."""
    rng = np.random.default_rng(0)
    language = np.repeat([0, 1], 500)
    shift = 3 * rng.standard_normal((2, 16))

    def encode(meaning: np.ndarray) -> np.ndarray:
        noise = 0.1 * rng.standard_normal((len(language), 16))
        return (np.concatenate([meaning, meaning]) + shift[language] + noise).astype(np.float32)

    debias = fit(method, encode(rng.standard_normal((500, 16))), language)
    meaning = rng.standard_normal((500, 16))
    queries, corpus = encode(meaning)[:500], encode(meaning)

    def found(queries: np.ndarray, corpus: np.ndarray) -> float:
        best = np.argsort(-(queries @ corpus.T), axis=1)[:, :2] % 500
        return float((best == np.arange(500)[:, None]).all(1).mean())

    before = found(queries / np.linalg.norm(queries, axis=1)[:, None], corpus / np.linalg.norm(corpus, axis=1)[:, None])
    after = found(debias.apply(queries, language[:500]), debias.apply(corpus, language))
    assert before < 0.1
    assert after > 0.8


def test_bad_input_is_named() -> None:
    embeddings, language = text()
    debias = fit("center", embeddings, language)
    assert debias.missing(np.array([0, 5, 7])) == [5, 7]
    with pytest.raises(InputError, match=r"lacks languages \[5\]"):
        debias.apply(embeddings[:2], np.array([0, 5]))
    with pytest.raises(InputError, match=r"evaluation.debias='centre' is unknown; did you mean 'center'"):
        fit("centre", embeddings, language)
    with pytest.raises(InputError, match=r"evaluation\.lir_rank=13: expected at most 12"):
        fit("lir", embeddings, language, rank=13)
    with pytest.raises(InputError, match="14 texts are too few for 12 dimensions; expected 15"):
        fit("whiten", embeddings[:14], language[:14])


class Spoken:
    """Meaning by word, and a strong direction for each language, the text's first word."""

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        rows = []
        for text in texts:
            language, *words = text.split()
            meaning = sum(np.random.default_rng(sum(word.encode())).standard_normal(24) for word in words)
            offset = 30 * np.random.default_rng(sum(language.encode())).standard_normal(24)
            rows.append((meaning + offset) / np.linalg.norm(meaning + offset))
        return np.array(rows, np.float32)


def words(language: str, numbers: range) -> list[str]:
    return [f"{language} w{number} v{number * 7}" for number in numbers]


SPOKEN = ("de", "en", "th")


def parallel() -> RetrievalCollection:
    """Forty questions in three languages, each with an answer in each."""
    rows = {language: [(str(number), text) for number, text in enumerate(words(language, range(40)))] for language in SPOKEN}
    answers = {language: [(str(number), str(number), 1) for number in range(40)] for language in SPOKEN}
    return RetrievalCollection.parallel("parallel", rows, rows, answers)


@pytest.mark.parametrize("method", METHODS)
def test_a_retriever_finds_translations_after_it(method: str) -> None:
    collection, dense = parallel(), Dense(Spoken())
    plain = evaluate(dense, collection).metrics
    text = {language: words(language, range(100, 400)) for language in (*SPOKEN, "fr")}
    better = evaluate(Debiased(dense, method, text), collection).metrics
    assert plain["parallel/crosslingual/map/de-en"] < 0.3
    assert plain["parallel/multilingual/map"] < 0.6
    assert better["parallel/crosslingual/map/de-en"] > 0.7
    assert better["parallel/multilingual/map"] > 0.7


@pytest.mark.parametrize("method", METHODS)
def test_text_in_every_language_is_needed_and_missed_before_anything_is_encoded(method: str) -> None:
    """With and without the method, embeddings would be ranked in one pool."""

    class Silent:
        def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
            raise AssertionError("encoded")

    text = {"de": ["de a"], "en": [], "fr": ["fr a"]}
    assert missing_languages(parallel(), text) == ["en", "th"]
    assert missing_languages(parallel(), {language: ["a"] for language in SPOKEN}) == []
    with pytest.raises(InputError) as raised:
        evaluate(Debiased(Dense(Silent()), method, text), parallel())
    assert f"evaluation.debias={method}: dataset= has no training text in en, th, which parallel has" in str(raised.value)
    assert "dataset.languages, or benchmark.parallel.languages=[de]" in str(raised.value)
    with pytest.raises(InputError, match=r"add them to dataset\.languages$"):
        evaluate(Debiased(Dense(Silent()), method, {"fr": ["fr a"]}), parallel())


@pytest.mark.parametrize("method", METHODS)
def test_what_is_applied_when_asked_for_gives_the_same_rows_and_figures(method: str, monkeypatch) -> None:
    collection, dense = parallel(), Dense(Spoken())
    text = {language: words(language, range(100, 400)) for language in SPOKEN}
    at_once = evaluate(Debiased(dense, method, text), collection)
    assert all(type(vectors) is np.ndarray for vectors in at_once.index.embeddings)
    monkeypatch.setattr(module, "JOINED_BYTES", 120 * 24 * 4 - 1)
    monkeypatch.setattr(fitting, "ROWS_AT_ONCE", 7)
    lazy = evaluate(Debiased(dense, method, text), collection)
    assert all(isinstance(vectors, Changed) for vectors in lazy.index.embeddings)
    assert lazy.metrics == pytest.approx(at_once.metrics)
    for some, every in zip(lazy.index.embeddings, at_once.index.embeddings, strict=True):
        assert (some.shape, some.dtype, some.nbytes, len(some)) == (every.shape, every.dtype, every.nbytes, len(every))
        for rows in (slice(None), slice(35, 90), slice(110, 500), slice(5, 5), np.array([119, 0, 41, 41])):
            np.testing.assert_allclose(some[rows], every[rows], atol=1e-6)
            assert some[rows].dtype == np.float32
        np.testing.assert_allclose(np.asarray(some), every, atol=1e-6)


def test_only_the_rows_that_are_asked_for_are_read_from_files(tmp_path) -> None:
    embeddings, language = text()
    order = np.argsort(language, kind="stable")
    embeddings, language = embeddings[order], language[order]
    debias = fit("whiten", embeddings, language)
    parts = []
    for index, part in enumerate(np.split(embeddings, [150, 300])):
        np.save(tmp_path / f"{index}.npy", part)
        parts.append(np.load(tmp_path / f"{index}.npy", mmap_mode="r"))
    read = []

    class Watched(Joined):
        def __getitem__(self, rows):
            found = super().__getitem__(rows)
            read.append(len(found))
            return found

    lazy = Changed(debias, Watched(parts), language)
    whole = debias.apply(embeddings, language)
    np.testing.assert_allclose(lazy[140:310], whole[140:310], atol=1e-6)
    np.testing.assert_allclose(lazy[np.array([399, 2, 200])], whole[[399, 2, 200]], atol=1e-6)
    assert read == [170, 3]


def test_a_retriever_needs_whole_documents() -> None:
    class Cutting(Spoken):
        def pieces(self, texts: Sequence[str], overlap: int) -> list[list[str]]:
            return [[text] for text in texts]

    text = {language: words(language, range(100, 110)) for language in SPOKEN}
    with pytest.raises(InputError, match=r"evaluation\.documents=whole"):
        evaluate(Debiased(Dense(Cutting(), documents="chunks"), "lir", text), parallel())
