"""Perturbed queries against the corpus that was read once: what asking everything anew gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation import degradation
from hybrid_retrieval.evaluation.bias.suite import BIAS
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.degradation import Degradation
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation
from hybrid_retrieval.evaluation.perturbations.suite import perturbations
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.random import RandomVectors
from hybrid_retrieval.evaluation.retrievers.retriever import Retriever
from hybrid_retrieval.evaluation.robustness import LEAST, degradations, perturbed_texts
from hybrid_retrieval.reporting.per_query import PerQuery
from tests.conftest import Command

WORDS = ["casa", "Haus", "дом", "σπίτι", "water", "水", "บ้าน", "река", "Berg", "año", "2015", "naïve", "Straße", "ещё"]
WANTED = Wanted(("rank_distance",), replicates=200)


class Hashed:
    """Bags of hashed words."""

    asked = 0

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        type(self).asked += len(texts) if role == "passage" else 0
        seeds = [[int(hashlib.md5(word.encode()).hexdigest()[:8], 16) for word in text.split()] for text in texts]
        rows = [np.sum([np.random.default_rng(seed).normal(size=16) for seed in found or [0]], axis=0) for found in seeds]
        return np.array(rows, np.float32).reshape(len(texts), 16)


@pytest.fixture(scope="module")
def collection() -> RetrievalCollection:
    rng = np.random.default_rng(3)

    def side(count: int, words: int) -> dict[str, list[tuple[str, str]]]:
        return {
            language: [(f"{at}", " ".join(rng.choice(WORDS, words))) for at in range(count + 5 * extra)]
            for extra, language in enumerate(["de", "ru", "zh"])
        }

    queries, corpus = side(30, 3), side(60, 6)
    answers = {language: [(str(at), str(2 * at + place), 1) for at in range(30) for place in (0, 1)] for language in corpus}
    made = RetrievalCollection.parallel("made", queries, corpus, answers)
    return made.clustered([[f"{at}", f"{at + 1}"] for at in range(0, 40, 2)])


@pytest.mark.parametrize("retriever", [Dense(Hashed()), BM25()], ids=["dense", "bm25"])
@pytest.mark.parametrize("name", ["keyboard", "casing", "digits", "diacritics"])
def test_it_is_what_a_whole_evaluation_of_other_queries_finds(
    name: str, retriever: Retriever, collection: RetrievalCollection
) -> None:
    one = perturbations([name], PathsConfig())[0]
    clean = evaluate(retriever, collection, wanted=WANTED)
    found, _ = degradations(retriever, clean, [one], [0.2, 0.5], 1, WANTED)
    assert {row.severity for row in found} == {0.2, 0.5}
    for severity, texts, _ in perturbed_texts(collection, one, [0.2, 0.5], 1):
        noisy = [texts.get(row, text) for row, text in enumerate(collection.queries.texts)]
        anew = evaluate(retriever, replace(collection, queries=replace(collection.queries, texts=noisy)), wanted=WANTED)
        mine = [row for row in found if row.severity == severity]
        known = {row.query_language for row in mine} - {None}
        assert known == touched(collection, texts)
        for row in mine:
            if row.query_language is not None:
                for of, value in ((clean, row.clean), (anew, row.perturbed)):
                    assert value == pytest.approx(
                        of.figures.value("made", row.setting, row.measure.name, row.languages), abs=1e-12
                    )
            else:
                parts = [
                    one for one in mine if one.setting == row.setting and one.measure == row.measure and one.query_language
                ]
                assert row.perturbed == pytest.approx(np.mean([part.perturbed for part in parts]), abs=1e-12)
                assert row.low - 1e-9 <= row.difference <= row.high + 1e-9


def touched(collection: RetrievalCollection, texts: dict[int, str]) -> set[str]:
    found = set()
    for index, language in enumerate(collection.languages):
        judged = [row for row in np.unique(collection.query) if collection.queries.language[row] == index]
        if judged and sum(row in texts for row in judged) >= LEAST * len(judged):
            found.add(language)
    return found


def test_the_interval_is_that_of_paired_differences_over_clusters(collection: RetrievalCollection) -> None:
    retriever, one = Dense(Hashed()), perturbations(["drop"], PathsConfig())[0]
    clean = evaluate(retriever, collection)
    found, _ = degradations(retriever, clean, [one], [0.5], 1, Wanted((), replicates=4000))
    [row] = [row for row in found if (row.setting, row.measure.name, row.query_language) == ("monolingual", "map", "de")]
    _, texts, _ = perturbed_texts(collection, one, [0.5], 1)[0]
    noisy = [texts.get(at, text) for at, text in enumerate(collection.queries.texts)]
    anew = evaluate(retriever, replace(collection, queries=replace(collection.queries, texts=noisy)))
    was, now = (next(pair for pair in of.pairs if pair.name == "de" and pair.corpus_language == "de") for of in (clean, anew))
    moved = now.values["map"] - was.values["map"]
    clusters = [collection.clusters[at] for at in was.queries.tolist()]
    sums = {cluster: [moved[at] for at, of in enumerate(clusters) if of == cluster] for cluster in clusters}
    rng = np.random.default_rng(0)
    names = list(sums)
    means = [np.mean(np.concatenate([sums[names[at]] for at in rng.integers(0, len(names), len(names))])) for _ in range(4000)]
    assert row.difference == pytest.approx(moved.mean(), abs=1e-12)
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)


def test_the_corpus_is_read_once(collection: RetrievalCollection) -> None:
    Hashed.asked = 0
    retriever = Dense(Hashed())
    clean = evaluate(retriever, collection)
    degradations(retriever, clean, perturbations(["drop", "swap"], PathsConfig()), [0.1, 0.5], 1, Wanted())
    assert Hashed.asked == len(collection.corpus)


def test_severity_0_loses_nothing_and_a_language_without_case_is_left_out(collection: RetrievalCollection) -> None:
    retriever = Dense(Hashed())
    clean = evaluate(retriever, collection)
    assert degradations(retriever, clean, perturbations(["drop"], PathsConfig()), [0.0], 1, Wanted()) == ([], [])
    han = [
        (text if language != 2 else "水 Berg")
        for text, language in zip(collection.queries.texts, collection.queries.language, strict=True)
    ]
    other = replace(collection, queries=replace(collection.queries, texts=han))
    found, _ = degradations(retriever, evaluate(retriever, other), perturbations(["casing"], PathsConfig()), [0.5], 1, Wanted())
    assert {row.query_language for row in found} == {None, "de", "ru"}


class Costly(Perturbation):
    """The first two words become another, at the cost of both: more than a small budget has."""

    name = "costly"

    def by_words(self, language: str) -> bool:
        return True

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        return [Edit(0, 3, ("x",), 2)] if language == "de" else []


def test_the_languages_of_a_mean_are_the_same_at_every_severity(collection: RetrievalCollection) -> None:
    """And so are the measures, of which bias has some that are never asked again."""
    retriever, wanted = Dense(Hashed()), Wanted((*BIAS,), replicates=0)
    clean = evaluate(retriever, collection, wanted=wanted)
    found, _ = degradations(retriever, clean, [Costly(PathsConfig())], [0.1, 0.9], 1, wanted)
    measures = {one.severity: {of.measure.name for of in found if of.severity == one.severity} for one in found}
    assert measures[0.1] == measures[0.9] >= {"map", "rank_distance"}
    asked = {one.severity: {of.query_language for of in found if of.severity == one.severity} for one in found}
    assert asked[0.1] == asked[0.9] == {None, "de"}
    assert all(one.perturbed == one.clean for one in found if one.severity == 0.1)
    assert any(one.perturbed != one.clean for one in found if one.severity == 0.9)


def test_a_retriever_that_cannot_be_asked_again_is_left_out(collection: RetrievalCollection) -> None:
    retriever = RandomVectors()
    clean: Evaluation = evaluate(retriever, collection)
    assert degradations(retriever, clean, perturbations(["drop"], PathsConfig()), [0.5], 1, Wanted()) == ([], [])


def test_query_by_query_it_has_the_means_of_the_figures(tmp_path: Path, collection: RetrievalCollection) -> None:
    retriever = Dense(Hashed())
    noise = perturbations(["drop", "casing"], PathsConfig())
    clean_run = evaluate(retriever, collection, wanted=WANTED)
    pq.write_table(clean_run.per_query(), tmp_path / "per_query.parquet")
    found, changes = degradations(retriever, clean_run, noise, [0.2, 0.5], 1, WANTED)
    degradation.write_changes(changes, tmp_path)
    degradation.write(found, tmp_path)
    names = degradation.conditions(tmp_path)
    assert names == ["drop@0.2", "drop@0.5", "casing@0.2", "casing@0.5"]
    read = {name: PerQuery.read([tmp_path], "made", name).table for name in names}
    clean = {(row.condition, row.setting, row.measure): row.clean for row in found if row.query_language is None}
    compared = 0
    for row in found:
        if row.query_language is None or row.measure.name not in {"map", "rank_distance"}:
            continue
        table = read[row.condition]
        mine = table[(table.query_language == row.query_language) & (table.corpus_language == (row.corpus_language or ""))]
        percent = 100 * row.difference / clean[row.condition, row.setting, row.measure]
        assert mine[mine.setting == row.setting][row.measure.name].mean() == pytest.approx(percent, abs=1e-9)
        compared += 1
    assert compared == 50
    with pytest.raises(InputError, match=r"expected a run that was evaluated with evaluation\.perturb"):
        degradation.conditions(tmp_path / "nowhere")


def test_a_change_in_percent_varies_as_the_ratio_does(tmp_path: Path) -> None:
    """Where every query loses two fifths of what it had, the clean mean varies over questions, and the ratio hardly does."""
    rng = np.random.default_rng(3)
    count, pairs = 300, [("de", "de"), ("en", "en")]
    clean = {pair: rng.uniform(0, at + 0.5, count) for at, pair in enumerate(pairs)}
    change = {pair: -0.4 * of + rng.normal(0, 0.05, count) for pair, of in clean.items()}
    ids = [f"q{number}" for number in range(count)]

    def table(values: dict[tuple[str, str], np.ndarray]) -> pa.Table:
        parts = []
        for (query, corpus), of in values.items():
            keys = {"benchmark": "made", "setting": "monolingual", "query_language": query, "corpus_language": corpus}
            parts.append(pa.table({**{key: [one] * count for key, one in keys.items()}, "query_id": ids, "map": of}))
        return pa.concat_tables(parts)

    def ratio(of: Any) -> float:
        changes, cleans = (np.mean([values[pair][of].mean() for pair in pairs]) for values in (change, clean))
        return float(100 * changes / cleans)

    pq.write_table(table(clean), tmp_path / "per_query.parquet")
    noisy = table(change)
    degradation.write_changes([noisy.append_column("perturbation", pa.array(["drop@0.1"] * len(noisy)))], tmp_path)
    means = [float(np.mean([values[pair].mean() for pair in pairs])) for values in (clean, change)]
    whole = ("monolingual", measure("map"), None, None, count, 1.0, means[0], sum(means))
    degradation.write([Degradation("made", "drop", 0.1, *whole)], tmp_path)
    found = PerQuery.read([tmp_path], "made", "drop@0.1").table
    by_question = found.groupby("query_id", sort=False).map.mean().loc[ids].to_numpy()
    assert by_question.mean() == pytest.approx(ratio(slice(None)), abs=1e-9)
    drawn = [rng.integers(0, count, count) for _ in range(2000)]
    expected, spread = np.std([ratio(one) for one in drawn]), np.std([by_question[one].mean() for one in drawn])
    assert spread == pytest.approx(expected, rel=0.05)
    naive = 100 * np.mean([change[pair] for pair in pairs], axis=0) / means[0]
    assert np.std([naive[one].mean() for one in drawn]) > 2 * expected


def test_the_file_comes_back(tmp_path: Path, collection: RetrievalCollection) -> None:
    retriever = Dense(Hashed())
    found, _ = degradations(
        retriever, evaluate(retriever, collection), perturbations(["drop"], PathsConfig()), [0.5], 1, WANTED
    )
    degradation.write(found, tmp_path)
    assert degradation.read(tmp_path) == found
    keys = degradation.metrics(found)
    assert keys["perturbed/drop@0.5/made/monolingual/map"] == next(
        row.perturbed for row in found if (row.setting, row.measure.name, row.languages) == ("monolingual", "map", None)
    )
    (tmp_path / degradation.FILE).write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"robustness\.parquet"):
        degradation.read(tmp_path)
    assert degradation.read(tmp_path / "nowhere") == []


def test_through_the_command_line(in_process: Command, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    arguments = ["retriever=[bm25]", "benchmark=held_out", "dataset=synthetic", f"hydra.run.dir={out}"]
    done = in_process("evaluate", *arguments, "evaluation.perturb=[drop]", "evaluation.severity=[0.3]")
    assert done.returncode == 0, done.stderr
    rows: list[Degradation] = degradation.read(out / "baselines" / "bm25")
    assert {row.perturbation for row in rows} == {"drop"}
    assert degradation.conditions(out / "baselines" / "bm25") == ["drop@0.3"]
    for wrong, said in {
        "evaluation.perturb=[drp]": "evaluation.perturb='drp' is unknown; did you mean 'drop'?",
        "evaluation.perturb=[keyboard]": "evaluation.perturb=keyboard knows no language of held_out (s0, ",
        "evaluation.severity=[1.5]": "evaluation.severity",
        "evaluation.severity=[]": "evaluation.severity=[] is empty",
        "evaluation.severity=[0.1,0.1]": "evaluation.severity=[0.1, 0.1] names a part twice",
    }.items():
        done = in_process("evaluate", *arguments[:-1], f"hydra.run.dir={tmp_path / 'wrong'}", wrong)
        assert done.returncode == 2
        assert said in done.stderr
