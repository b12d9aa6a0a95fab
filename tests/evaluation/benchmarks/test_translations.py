"""NTREX and Tatoeba: accuracy equals a brute force over the published candidates, and sentence-transformers' evaluator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid_retrieval.data.languages import by_language
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks import ntrex, tatoeba
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.benchmarks.ntrex import Ntrex
from hybrid_retrieval.evaluation.benchmarks.published_files import Website
from hybrid_retrieval.evaluation.benchmarks.tatoeba import Tatoeba
from hybrid_retrieval.evaluation.protocol import Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense

SENTENCES = 40
CODES = {"de": "deu", "en": "eng", "fr": "fra", "zh_tw": "zho-TW"}
PAIRS = {"deu": 30, "cmn": 12, "fra": 25}


class SmallNtrex(Ntrex):
    sentences = SENTENCES


class Meaning:
    """Embeds a text, ``<language> <meaning>``, near its meaning; the languages differ in how near."""

    def encode(self, texts, role="query", label=""):
        rows = []
        for text in texts:
            language, meaning = text.split()[:2]
            drawn = (np.random.default_rng(list(seed.encode())).standard_normal(16) for seed in (meaning, text))
            mixed = np.dot([1, {"en": 0.5, "de": 0.8, "fr": 1.5}.get(language, 3)], list(drawn))
            rows.append(mixed / np.linalg.norm(mixed))
        return np.array(rows, np.float32)


@pytest.fixture
def sentences(write) -> dict[str, list[str]]:
    """The files of NTREX in four languages, with the publisher's line ends, in gzip and plain."""
    texts = {language: [f"{language} {number}" for number in range(SENTENCES)] for language in CODES}
    for language, lines in texts.items():
        name = f"newstest2019-{'src' if language == 'en' else 'ref'}.{CODES[language]}.txt"
        write(f"ntrex-128/{name}{'' if language == 'fr' else '.gz'}", "".join(f"{line}\r\n" for line in lines))
    write("ntrex-128/newstest2019-ref-2.spa.txt.gz", "not read\n")
    write("ntrex-128/DOCUMENT_IDS.tsv", "".join(f"page.{number // 8}\n" for number in range(SENTENCES)))
    return texts


@pytest.fixture(params=["one file", "published files"])
def pairs(write, request) -> dict[str, list[tuple[str, str]]]:
    """Tatoeba in three languages, whose English sentences are others, in both layouts."""
    found = {
        name: [(f"{name} {code}{number}", f"en {code}{number}") for number in range(PAIRS[code])]
        for name, code in {"de": "deu", "fr": "fra", "zh": "cmn"}.items()
    }
    codes = dict(zip(found, ("deu", "fra", "cmn"), strict=True))
    if request.param == "one file":
        rows = [f"{codes[name]}\t{at}\t{a}\t{b}\n" for name, of in found.items() for at, (a, b) in enumerate(of)]
        write("tatoeba-laser/tatoeba-v1.tsv.gz", "".join(rows))
    else:
        for name, of in found.items():
            for side, end in enumerate((codes[name], "eng")):
                lines = "".join(f"{pair[side]}\n" for pair in of)
                write(f"tatoeba-laser/tatoeba.{codes[name]}-eng.{end}", lines)
    return found


def accuracy(queries: list[str], documents: list[str]) -> float:
    """How often a text's nearest document is the one on its line."""
    scores = Meaning().encode(queries) @ Meaning().encode(documents).T
    return float((scores.argmax(1) == np.arange(len(scores))).mean())


def found_by(benchmark: Benchmark) -> dict[str, float]:
    metrics = evaluate(Dense(Meaning()), benchmark.load(), wanted=Wanted(replicates=20)).metrics
    assert {key.split("/")[1] for key in metrics} == {"crosslingual"}
    whole = f"{benchmark.name}/crosslingual/recall@1"
    by_pair = {key.removeprefix(f"{whole}/"): value for key, value in metrics.items() if key.startswith(f"{whole}/")}
    by_pair = {key: value for key, value in by_pair.items() if not key.endswith((".low", ".high"))}
    assert metrics[whole] == pytest.approx(np.mean(list(by_pair.values())))
    assert metrics[f"{benchmark.name}/crosslingual/left_out"] == 0
    return by_pair


@pytest.mark.parametrize("pivot", ["en", "fr", None])
def test_ntrex_equals_a_brute_force(pivot: str | None, sentences, paths) -> None:
    asked = [(a, b) for a in sentences for b in sentences if a != b and pivot in (None, a, b)]
    expected = {f"{a}-{b}": accuracy(sentences[a], sentences[b]) for a, b in asked}
    assert found_by(SmallNtrex(paths, pivot=pivot)) == pytest.approx(expected)
    assert len(set(expected.values())) > 3


def test_tatoeba_equals_a_brute_force_over_the_pairs_of_each_language(pairs, paths) -> None:
    expected = {}
    for language, of in pairs.items():
        there, english = ([pair[side] for pair in of] for side in (0, 1))
        expected |= {f"{language}-en": accuracy(there, english), f"en-{language}": accuracy(english, there)}
    assert found_by(Tatoeba(paths, list(pairs))) == pytest.approx(expected)
    pooled = [english for of in pairs.values() for _, english in of]
    hits = Meaning().encode([text for text, _ in pairs["zh"]]) @ Meaning().encode(pooled).T
    assert (hits.argmax(1) >= 55).mean() < expected["zh-en"]  # the English sentences of other languages are no candidates


def test_accuracy_is_that_of_sentence_transformers(sentences, pairs, paths) -> None:
    from sentence_transformers.sentence_transformer.evaluation import TranslationEvaluator

    class Model:
        """What the evaluator needs of a model."""

        model_card_data = None

        def encode(self, texts, **_):
            return list(torch.from_numpy(Meaning().encode(texts)))

    found = found_by(SmallNtrex(paths)) | found_by(Tatoeba(paths, ["zh"]))
    aligned = [("de", sentences["de"], sentences["en"]), ("fr", sentences["fr"], sentences["en"])]
    for language, there, english in [*aligned, ("zh", *(list(side) for side in zip(*pairs["zh"], strict=True)))]:
        evaluator = TranslationEvaluator(there, english, write_csv=False)
        evaluator.store_metrics_in_model_card_data = lambda *_: None
        theirs = evaluator(Model())
        ours = found[f"{language}-en"], found[f"en-{language}"]
        assert ours == pytest.approx((theirs["src2trg_accuracy"], theirs["trg2src_accuracy"]))


def test_a_trainer_of_sentence_transformers_is_led_by_accuracy(sentences, paths) -> None:
    from hybrid_retrieval.interop.sentence_transformers_evaluator import MultilingualEvaluator

    assert MultilingualEvaluator(SmallNtrex(paths).load()).primary_metric == "ntrex/crosslingual/recall@1"


def test_sentences_of_a_document_are_a_cluster_in_every_language(sentences, paths) -> None:
    collection = SmallNtrex(paths).load()
    assert collection.languages == ("de", "en", "fr", "zh_tw")
    assert list(collection.clusters) == [f"page.{number // 8}" for _ in sentences for number in range(SENTENCES)]
    names = dict(zip(collection.queries.texts, collection.queries.ids, strict=True))
    assert names["de 7"] == names["fr 7"] == "8"  # the line


def test_a_pair_of_tatoeba_is_a_cluster(pairs, paths) -> None:
    collection = Tatoeba(paths, ["fr", "de"]).load()
    cluster = dict(zip(collection.queries.texts, collection.clusters, strict=True))
    assert cluster["de deu3"] == cluster["en deu3"] != cluster["en fra3"]


def test_languages_choose_and_the_pivot_is_always_there(sentences, paths, pairs) -> None:
    assert SmallNtrex(paths).languages == list(CODES)  # of 128, those that are there
    assert SmallNtrex(paths, ["de"]).languages == ["de", "en"]
    assert SmallNtrex(paths, ["fr", "de"], pivot=None).languages == ["de", "fr"]
    assert {view.name for view in Tatoeba(paths, ["de", "en"]).load().views} == {"de-en", "en-de"}
    assert len(Tatoeba(paths).languages) == 112


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda paths: Ntrex(paths, ["xx"]), r"benchmark\.ntrex\.languages asks for 'xx'"),
        (lambda paths: Ntrex(paths, []), r"benchmark\.ntrex\.languages is empty"),
        (
            lambda paths: Ntrex(paths, ["en"]),
            r"benchmark\.ntrex\.languages=\['en'\] with benchmark\.ntrex\.pivot=en has no pair",
        ),
        (lambda paths: Ntrex(paths, ["de"], None), r"pivot=None has no pair"),
        (lambda paths: Ntrex(paths, ["de"], "english"), r"benchmark\.ntrex\.pivot asks for 'english'"),
        (lambda paths: Tatoeba(paths, ["deu"]), r"benchmark\.tatoeba\.languages asks for 'deu'"),
        (lambda paths: Tatoeba(paths, ["en"]), r"benchmark\.tatoeba\.languages=\['en'\] has no pair"),
    ],
)
def test_what_has_no_pair_is_refused(make, said: str, paths) -> None:
    with pytest.raises(InputError, match=said) as refused:
        make(paths)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("module", "benchmark"), [(ntrex, Ntrex), (tatoeba, Tatoeba)])
def test_a_missing_file_is_one_line_that_names_its_place(module, benchmark, paths, monkeypatch) -> None:
    monkeypatch.setattr(module, "Website", lambda _, revision: Website("http://127.0.0.1:9", revision))
    one = benchmark(paths, ["de"])
    assert not one.at_hand()
    with pytest.raises(
        InputError, match=r"reads it at (ntrex-128/newstest2019-|tatoeba-laser/tatoeba\.deu-eng\.deu)"
    ) as refused:
        one.load()
    assert "\n" not in str(refused.value)


def test_damage_is_one_line(sentences, write, paths) -> None:
    write("ntrex-128/newstest2019-ref.fra.txt", "only one\n")
    with pytest.raises(InputError, match=r"ref\.fra\.txt has 1 lines; published were 40"):
        SmallNtrex(paths).load()
    write("tatoeba-laser/tatoeba-v1.tsv", "deu\t0\ta\tb\nfra\t0\tno translation\n")
    with pytest.raises(InputError, match=r"tatoeba-v1\.tsv, line 2: 3 fields; expected 4"):
        Tatoeba(paths, ["de"]).load()
    write("tatoeba-laser/tatoeba-v1.tsv", "deu\t0\ta\tb\n")
    with pytest.raises(InputError, match=r"has no pair of fra"):
        Tatoeba(paths, ["de", "fr"]).load()


def test_every_code_has_a_name_of_its_own() -> None:
    names = by_language("deu por-BR srp-Latn zho-CN zho-TW gsw")
    assert list(names) == ["de", "pt_br", "sr_latn", "zh", "zh_tw", "gsw"]
    assert (len(ntrex.CODES), len(tatoeba.CODES)) == (127, 112)


def test_the_command_prints_accuracy_by_language(sentences, in_process, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Ntrex, "sentences", SENTENCES)
    chosen = ["benchmark=ntrex", "benchmark.ntrex.languages=[de,fr]", "retriever=random", f"paths.data={tmp_path / 'data'}"]
    done = in_process("evaluate", *chosen, "evaluation.replicates=20")
    assert done.returncode == 0, done.stderr
    assert "Mo." not in done.stdout
    assert "Mul." not in done.stdout
    (metrics,) = tmp_path.glob("runs/**/baselines/random/metrics.json")
    assert {f"ntrex/crosslingual/recall@1/{pair}" for pair in ("de-en", "en-de", "fr-en", "en-fr")} <= set(
        json.loads(metrics.read_text())
    )
    table = done.stdout.partition("from and to en")[2]
    assert [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")] == ["de", "fr"]
