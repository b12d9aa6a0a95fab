"""What each method takes away is gone, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.center import Center
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.lir import Lir
from hybrid_retrieval.evaluation.retrievers.post_hoc import Changed, PostHoc
from hybrid_retrieval.evaluation.retrievers.whiten import Whiten
from hybrid_retrieval.evaluation.scoring.vectors import Joined

METHODS = pytest.mark.parametrize("method", [Center(), Lir(), Whiten()], ids=lambda method: method.name)


def text(seed: int = 0, rows: int = 400, dimensions: int = 12, languages: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Languages, interleaved, whose means and spreads differ; directions of different variance."""
    rng = np.random.default_rng(seed)
    language = np.arange(rows) % languages
    noise = rng.standard_normal((rows, dimensions)) @ np.diag(np.linspace(0.2, 2, dimensions))
    return (noise + 5 * rng.standard_normal((languages, dimensions))[language]).astype(np.float32), language


def fitted(method: PostHoc, embeddings: np.ndarray, language: np.ndarray):
    """The change that a method makes, as a function of rows and their languages."""
    change = method.fit({index: embeddings[language == index].astype(float) for index in np.unique(language).tolist()})
    return lambda rows, spoken, unit=False: Changed(rows, spoken, change, unit)[:]


def test_centred_languages_have_mean_zero_and_keep_their_differences() -> None:
    embeddings, language = text()
    changed = fitted(Center(), embeddings, language)(embeddings, language)
    assert changed.dtype == np.float32
    for index in range(3):
        mine = language == index
        np.testing.assert_allclose(changed[mine].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(changed[mine] - changed[mine][0], embeddings[mine] - embeddings[mine][0], atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_lir_removes_the_first_right_singular_vectors_of_each_language(rank: int) -> None:
    embeddings, language = text()
    other, spoken = text(1, rows=60)
    changed = fitted(Lir(rank=rank), embeddings, language)(other, spoken)
    for index in range(3):
        basis = np.linalg.svd(embeddings[language == index].astype(float))[2][:rank]
        mine = other[spoken == index]
        np.testing.assert_allclose(changed[spoken == index], mine - mine @ basis.T @ basis, atol=1e-4)
        np.testing.assert_allclose(changed[spoken == index] @ basis.T, 0, atol=1e-4)


def test_whitened_languages_have_mean_zero_and_together_the_identity_as_covariance() -> None:
    embeddings, language = text()
    changed = fitted(Whiten(), embeddings, language)(embeddings, language).astype(float)
    covariance = np.mean([np.cov(changed[language == index].T, bias=True) for index in range(3)], axis=0)
    np.testing.assert_allclose(covariance, np.eye(12), atol=1e-5)
    for index in range(3):
        np.testing.assert_allclose(changed[language == index].mean(0), 0, atol=1e-5)


def test_whitening_removes_directions_without_variance() -> None:
    embeddings, language = text()
    embeddings[:, 4] = 7
    changed = fitted(Whiten(), embeddings, language)(embeddings + 1, language)
    assert np.abs(changed).max() < 20
    np.testing.assert_allclose(changed[:, 4], 0, atol=1e-3)


def test_languages_weigh_the_same_in_the_covariance() -> None:
    embeddings, language = text(rows=900)
    some = (language != 0) | (np.arange(900) < 300)
    embeddings, language = embeddings[some], language[some]
    twice = np.concatenate([np.arange(len(language)), np.flatnonzero(language == 1)])
    one, doubled = (fitted(Whiten(), embeddings[rows], language[rows]) for rows in (slice(None), twice))
    np.testing.assert_allclose(one(embeddings, language), doubled(embeddings, language), rtol=1e-4, atol=1e-5)


@METHODS
def test_lengths_are_one_where_asked_for_and_rows_depend_on_themselves_only(method: PostHoc) -> None:
    change = fitted(method, *text())
    other, spoken = text(2, rows=30)
    whole = change(other.astype(np.float16), spoken, True)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(whole[::4], change(other[::4].astype(np.float16), spoken[::4], True), atol=1e-6)


def test_a_row_that_vanishes_stays_zero() -> None:
    embeddings = np.array([[1, 0], [2, 0], [-1, 0]], np.float32)
    language = np.zeros(3, np.int64)
    np.testing.assert_array_equal(fitted(Lir(), embeddings, language)(embeddings, language, True), 0)


@METHODS
def test_it_helps_where_languages_are_shifted_copies(method: PostHoc) -> None:
    """A query finds its own language first; afterwards it finds its translation."""
    rng = np.random.default_rng(0)
    language = np.repeat([0, 1], 500)
    shift = 3 * rng.standard_normal((2, 16))

    def encode(meaning: np.ndarray) -> np.ndarray:
        noise = 0.1 * rng.standard_normal((len(language), 16))
        return (np.concatenate([meaning, meaning]) + shift[language] + noise).astype(np.float32)

    change = fitted(method, encode(rng.standard_normal((500, 16))), language)
    meaning = rng.standard_normal((500, 16))
    queries, corpus = encode(meaning)[:500], encode(meaning)

    def found(queries: np.ndarray, corpus: np.ndarray) -> float:
        best = np.argsort(-(queries @ corpus.T), axis=1)[:, :2] % 500
        return float((best == np.arange(500)[:, None]).all(1).mean())

    before = found(queries / np.linalg.norm(queries, axis=1)[:, None], corpus / np.linalg.norm(corpus, axis=1)[:, None])
    assert before < 0.1
    assert found(change(queries, language[:500], True), change(corpus, language, True)) > 0.8


def test_too_little_text_and_bad_options_are_named() -> None:
    with pytest.raises(InputError, match=r"retriever\.lir\.rank=13: expected at most 12"):
        fitted(Lir(rank=13), *text())
    with pytest.raises(InputError, match=r"retriever\.whiten: 14 texts are too few for 12 dimensions; expected 15"):
        fitted(Whiten(), *text(rows=14))
    with pytest.raises(InputError, match=r"retriever\.lir\.rank=0 must be above 0"):
        Lir(rank=0)
    with pytest.raises(InputError, match=r"retriever\.center\.texts=0 must be above 0"):
        Center(texts=0)


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


@METHODS
def test_a_retriever_finds_translations_after_it(method: PostHoc) -> None:
    """Forty questions in three languages, each with an answer in each."""
    languages = ("de", "en", "th")
    rows = {language: [(str(number), text) for number, text in enumerate(words(language, range(40)))] for language in languages}
    answers = {language: [(str(number), str(number), 1) for number in range(40)] for language in languages}
    collection = RetrievalCollection.parallel("parallel", rows, rows, answers)
    method.dense = Dense(Spoken())
    method.text = {language: words(language, range(100, 400)) for language in (*languages, "fr")}
    plain = evaluate(method.dense, collection).metrics
    better = evaluate(method, collection).metrics
    assert plain["parallel/crosslingual/map/de-en"] < 0.3
    assert plain["parallel/multilingual/map"] < 0.6
    assert better["parallel/crosslingual/map/de-en"] > 0.7
    assert better["parallel/multilingual/map"] > 0.7


@METHODS
def test_what_is_applied_when_asked_for_gives_the_same_rows(method: PostHoc) -> None:
    embeddings, language = text()
    change = method.fit({index: embeddings[language == index].astype(float) for index in range(3)})
    lazy = Changed(embeddings, language, change, True, at_once=7)
    assert lazy.in_memory(lazy.nbytes - 1) is lazy
    whole = lazy.in_memory()
    assert (lazy.shape, lazy.dtype, lazy.nbytes, len(lazy)) == (whole.shape, whole.dtype, whole.nbytes, len(whole))
    np.testing.assert_allclose(whole, Changed(embeddings, language, change, True)[:], atol=1e-6)
    for rows in (slice(None), slice(35, 90), slice(110, 500), slice(5, 5), np.array([119, 0, 41, 41])):
        np.testing.assert_allclose(lazy[rows], whole[rows], atol=1e-6)
        assert lazy[rows].dtype == np.float32
    np.testing.assert_allclose(np.asarray(lazy), whole, atol=1e-6)


def test_only_the_rows_that_are_asked_for_are_read_from_files(tmp_path) -> None:
    embeddings, language = text()
    order = np.argsort(language, kind="stable")
    embeddings, language = embeddings[order], language[order]
    change = Whiten().fit({index: embeddings[language == index].astype(float) for index in range(3)})
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

    lazy = Changed(Watched(parts), language, change, True)
    whole = Changed(embeddings, language, change, True)[:]
    np.testing.assert_allclose(lazy[140:310], whole[140:310], atol=1e-6)
    np.testing.assert_allclose(lazy[np.array([399, 2, 200])], whole[[399, 2, 200]], atol=1e-6)
    assert read == [170, 3]
