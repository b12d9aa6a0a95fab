"""The evaluate command: published encoders as sentence-transformers has them, baselines, endpoints; and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from hybrid_retrieval import search
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.tokenization import train_unigram
from tests.command_output import assert_one_line, last_line
from tests.conftest import SMALL, Command
from tests.endpoint_server import KEY, EndpointServer, unit
from tests.models.small_models import SENTENCES, TEXTS, small_transformer, write_tokenizer

LANGUAGES = ("de", "en", "ru")
PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small set in BEIR's files: a sentence is asked for by some of its words, in three languages."""
    folder = tmp_path_factory.mktemp("beir")
    for language in LANGUAGES:
        (folder / language / "qrels").mkdir(parents=True)
        passages = [{"_id": f"p{n}", "title": "", "text": text} for n, text in enumerate(SENTENCES)]
        queries = [{"_id": f"q{n}", "text": " ".join(text.split()[2:5])} for n, text in enumerate(SENTENCES)]
        lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\tp{n}\t1" for n in range(len(SENTENCES)))]
        (folder / language / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
        (folder / language / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
        (folder / language / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return f"benchmark.beir_parallel.path={folder}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("weights")
    tokenizer = train_unigram(TEXTS, 500)
    small_transformer(tokenizer.get_vocab_size(), seed=5, initializer_range=0.3).model.save_pretrained(directory)
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    write_tokenizer(directory, tokenizer, **special)
    return directory


Save = Callable[..., Path]


@pytest.fixture
def save(weights: Path, tmp_path: Path) -> Save:
    """A directory that sentence-transformers wrote."""

    def make(pooling: str = "mean", dense: bool = False, normalise: bool = True, **values: Any) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        torch.manual_seed(7)
        layers: list[Any] = [modules.Transformer(str(weights), max_seq_length=40), modules.Pooling(32, pooling)]
        layers += [modules.Dense(32, 24)] if dense else []
        layers += [modules.Normalize()] if normalise else []
        model = SentenceTransformer(modules=layers, device="cpu", **{"prompts": PROMPTS, **values})
        model.save(str(tmp_path / "saved"))
        return tmp_path / "saved"

    return make


LENGTHS = ["model.max_query_length=40", "model.max_passage_length=40"]
KEPT = ["hydra.run.dir=beside", "evaluation.save_runs=true"]
FLAGS = ["benchmark=beir_parallel", "hydra.run.dir=scored", "evaluation.dtype=float32", "evaluation.save_embeddings=true"]


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ({}, []),
        pytest.param({"pooling": "cls", "dense": True}, [], marks=pytest.mark.slow),
        pytest.param(
            {"pooling": "cls", "dense": True}, ["model.pooling=cls", "model.projection=published"], marks=pytest.mark.slow
        ),
        ({"normalise": False, "similarity_fn_name": "dot"}, []),
    ],
)
def test_a_published_directory_embeds_as_sentence_transformers_does(
    in_process: Command, save: Save, benchmark: str, tmp_path: Path, values: dict[str, Any], overrides: list[str]
) -> None:
    from sentence_transformers import SentenceTransformer

    path = save(**values)
    done = in_process("evaluate", "model=published", f"model.path={path}", benchmark, *FLAGS, *overrides)
    assert done.returncode == 0, done.stderr
    assert last_line(done.stdout) == f"run directory: {tmp_path / 'scored'}"
    theirs = SentenceTransformer(str(path), device="cpu")
    corpus = theirs.encode(SENTENCES, prompt_name="document")
    queries = theirs.encode([" ".join(text.split()[2:5]) for text in SENTENCES], prompt_name="query")
    for name, expected in (("corpus", corpus), ("queries", queries)):
        found = np.load(tmp_path / "scored" / "embeddings" / "beir_parallel" / f"{name}.de.npy")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if values.get("similarity_fn_name") == "dot":
        assert np.abs(np.linalg.norm(corpus, axis=1) - 1).max() > 0.1
    scores = queries @ corpus.T
    own = (np.diag(scores) <= scores.T).sum(0)
    metrics = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert metrics["beir_parallel/monolingual/recall@1/de"] == pytest.approx(float((own == 1).mean()))
    config = yaml.safe_load((tmp_path / "scored" / "config.yaml").read_text())
    assert config["model"]["path"] == str(path)
    assert config["choices"] == {"model": "published"}


@pytest.mark.slow
def test_a_plain_transformers_directory_is_scored(in_process: Command, weights: Path, benchmark: str, tmp_path: Path) -> None:
    done = in_process("evaluate", "model=xlmr", f"model.path={weights}", benchmark, *FLAGS[:2], *LENGTHS)
    assert done.returncode == 0, done.stderr
    assert "beir_parallel/multilingual/map" in json.loads((tmp_path / "scored" / "metrics.json").read_text())


def edited(path: Path, name: str, **changes: Any) -> Path:
    file = path / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("values", "overrides", "said"),
    [
        ({"pooling": "cls"}, ["model.pooling=mean"], "model.pooling='mean' (saved: 'cls')"),
        ({}, ["model.passage_prefix='x '"], "model.passage_prefix='x ' (saved: 'passage: ')"),
    ],
)
def test_what_the_command_line_says_wins_over_the_directory_and_is_told(
    in_process: Command,
    save: Save,
    benchmark: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    values: dict[str, Any],
    overrides: list[str],
    said: str,
) -> None:
    path = save(**values)
    caplog.set_level("WARNING")
    arguments = ["model=published", f"model.path={path}", benchmark, *FLAGS, *overrides]
    assert in_process("evaluate", *arguments).returncode == 0
    logged = (tmp_path / "scored" / "evaluate.log").read_text()
    assert f"{path} is not used as it was saved: {said}" in logged


@pytest.mark.parametrize(
    ("values", "overrides", "parts"),
    [
        ({"pooling": "max"}, [], ["pools by max"]),
        ({"pooling": ["mean", "cls"]}, [], ["pools by mean and cls"]),
        ({}, ["model.projection=16"], ["model.projection=16"]),
        ({}, ["model.projection=published"], ["model.projection=published", "no dense layer"]),
    ],
)
def test_a_directory_that_cannot_be_used_so_is_refused(
    in_process: Command, save: Save, benchmark: str, values: dict[str, Any], overrides: list[str], parts: list[str]
) -> None:
    path = save(**values)
    done = in_process("evaluate", "model=e5_small", f"model.path={path}", benchmark, *FLAGS, *LENGTHS, *overrides)
    assert_one_line(done, *parts)


def test_files_of_older_versions_and_unknown_modules(in_process: Command, save: Save, benchmark: str) -> None:
    path = save()
    old = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(old))
    arguments = ["model=e5_small", f"model.path={path}", benchmark, *FLAGS, *LENGTHS]
    edited(path, "1_Pooling/config.json", pooling_mode_cls_token=False, pooling_mode_mean_tokens=True, include_prompt=False)
    assert_one_line(in_process("evaluate", *arguments), "leaves prompts out")
    modules = json.loads((path / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_LayerNorm", "type": "sentence_transformers.models.LayerNorm"})
    (path / "modules.json").write_text(json.dumps(modules))
    assert_one_line(in_process("evaluate", *arguments), "its module LayerNorm is unknown here")
    (path / "modules.json").write_text("[")
    assert_one_line(in_process("evaluate", *arguments), "modules.json cannot be read")


def test_empty_prompts_say_nothing(in_process: Command, save: Save, benchmark: str) -> None:
    path = save(prompts={"query": "", "document": ""})
    done = in_process("evaluate", "model=e5_small", f"model.path={path}", benchmark, *FLAGS, *LENGTHS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["checkpoint=RUN_DIR", "model=NAME", "retriever="]),
        (["model=static"], ["no weights", "checkpoint=RUN_DIR"]),
        (["model=tiny"], ["no weights", "checkpoint=RUN_DIR"]),
        (["model=e5_small", "model.path=nowhere"], ["model.path=nowhere"]),
        (["model=e5_smal"], ["model=e5_smal", "'e5_small'"]),
        (["model=api", "evaluation.devices=2"], ["evaluation.devices=2", "model.concurrency"]),
        (["model=api", "model.batch_size=0"], ["model.batch_size=0"]),
        (["model=api", "model.key_variable=NOT_SET_ANYWHERE"], ["NOT_SET_ANYWHERE"]),
        (["model=concatenated"], ["model.parts"]),
        (["model=concatenated", "model.parts=[{path:nowhere},{path:nowhere}]"], ["model.path=nowhere"]),
        (["model=e5_small", "checkpoint=somewhere"], ["checkpoint=somewhere", "model="]),
        (["retriever=[bm52]"], ["retriever", "'bm25'"]),
        (["retriever=bm25", "retriever.bm25.b=2"], ["retriever.bm25.b=2"]),
        (["retriever=bm25", "retriever.bm25.k2=2"], ["retriever.bm25.k2"]),
        (["retriever=lir", "model=api"], ["retriever=lir", "dataset="]),
        (["retriever=random", "strict=maybe"], ["strict='maybe'", "bool"]),
    ],
)
def test_what_cannot_be_scored_is_one_line(in_process: Command, benchmark: str, arguments: list[str], parts: list[str]) -> None:
    assert_one_line(in_process("evaluate", "benchmark=beir_parallel", benchmark, *arguments), *parts)


@pytest.mark.parametrize("model", [["model=api"], ["model=concatenated", "model.parts=[{path:a},{path:b}]"]])
def test_what_is_only_evaluated_is_not_trained(in_process: Command, model: list[str]) -> None:
    done = in_process("run", *model, "dataset=synthetic", "benchmark=held_out")
    assert_one_line(done, "model=", "not trained", "hybrid_retrieval.evaluate")


def test_what_is_finished_is_passed_over_where_that_is_asked_for(in_process: Command, benchmark: str, tmp_path: Path) -> None:
    arguments = ["evaluate", "retriever=[random]", "benchmark=beir_parallel", benchmark, "hydra.run.dir=scored"]
    done = in_process(*arguments, "resume=auto")
    assert done.returncode == 0, done.stderr
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "scored").iterdir()}
    assert_one_line(in_process(*arguments), "scored holds results already", "resume=auto")
    again = in_process(*arguments, "resume=auto")
    assert again.returncode == 0, again.stderr
    assert "finished before: " in again.stdout
    kept = ("metrics.json", "config.yaml", "per_query.parquet")
    assert {path: path.stat().st_mtime_ns for path in files if path.name in kept}.items() <= files.items()
    for change in ("evaluation.replicates=7", "strict=true"):
        other = in_process(*arguments, "resume=auto", change)
        assert_one_line(other, "resume=auto", f"differs in {change.split('=')[0]}")
    assert_one_line(in_process(*arguments, "resume=always"), "resume='always'", "auto")
    (tmp_path / "scored" / "metrics.json").unlink()
    assert "finished before" not in in_process(*arguments, "resume=auto").stdout
    assert (tmp_path / "scored" / "metrics.json").exists()


def test_other_weights_are_not_passed_over(in_process: Command, weights: Path, benchmark: str, tmp_path: Path) -> None:
    copy = shutil.copytree(weights, tmp_path / "copy")
    arguments = ["evaluate", "model=published", f"model.path={copy}", *LENGTHS, benchmark, *FLAGS, "resume=auto"]
    for said in (False, True):
        done = in_process(*arguments)
        assert done.returncode == 0, done.stderr
        assert ("finished before" in done.stdout) == said
    small_transformer(train_unigram(TEXTS, 500).get_vocab_size(), seed=6).model.save_pretrained(copy)
    assert_one_line(in_process(*arguments), "differs in weights")


def test_encoders_end_to_end_are_scored_and_searched_with(
    in_process: Command, save: Save, weights: Path, benchmark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = [os.path.relpath(path, tmp_path) for path in (save(), weights)]
    parts = f"model.parts=[{{path:{near[0]}}},{{path:{near[1]},max_query_length:40,max_passage_length:40}}]"
    done = in_process("evaluate", "model=concatenated", parts, benchmark, *FLAGS)
    assert done.returncode == 0, done.stderr
    kept = np.load(tmp_path / "scored/embeddings/beir_parallel/queries.en.npy")
    assert kept.shape[1] == 2 * 32
    monkeypatch.chdir(tmp_path / "scored")  # the parts were named by relative paths
    encoder = search.load_encoder(str(tmp_path / "scored"), PathsConfig())
    asked = [" ".join(text.split()[2:5]) for text in SENTENCES]
    np.testing.assert_allclose(kept, encoder.encode(asked, "query"), rtol=0, atol=1e-6)


def test_baselines_alone_and_beside_an_encoder_have_the_same_figures(
    in_process: Command, weights: Path, benchmark: str, tmp_path: Path
) -> None:
    arguments = ["benchmark=beir_parallel", benchmark, "retriever=[bm25,random]"]
    alone = in_process("evaluate", *arguments, "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    beside = in_process(
        "evaluate",
        *arguments,
        "model=xlmr",
        f"model.path={weights}",
        *LENGTHS,
        "hydra.run.dir=beside",
        "evaluation.save_runs=true",
    )
    assert beside.returncode == 0, beside.stderr
    metrics = {name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("alone", "beside")}
    assert metrics["alone"] == {key: value for key, value in metrics["beside"].items() if key.startswith("baselines/")}
    assert len(metrics["beside"]) == len({*metrics["beside"]} - {*metrics["alone"]}) * 3
    for name in ("bm25", "random"):
        folder = tmp_path / "beside" / "baselines" / name
        own = {f"baselines/{name}/{key}": value for key, value in json.loads((folder / "metrics.json").read_text()).items()}
        assert own.items() <= metrics["alone"].items()
        rows, whole = (pq.read_table(path / "per_query.parquet") for path in (folder, tmp_path / "beside"))
        assert rows.schema == whole.schema
        assert rows.num_rows == whole.num_rows
        assert (folder / "runs" / "beir_parallel.trec").exists()
        figures = [row["map"] for row in rows.to_pylist() if (row["setting"], row["query_language"]) == ("monolingual", "de")]
        assert metrics["alone"][f"baselines/{name}/beir_parallel/monolingual/map/de"] == pytest.approx(np.mean(figures))
    # Words of a sentence find it; a random direction does not.
    assert metrics["alone"]["baselines/bm25/beir_parallel/monolingual/map"] > 0.9
    assert metrics["alone"]["baselines/random/beir_parallel/monolingual/map"] < 0.7
    for done, page in ((alone, tmp_path / "alone"), (beside, tmp_path / "beside")):
        for text in (done.stdout, (page / "report.html").read_text()):
            assert "Mo. · bm25" in text
            assert "Mul. · random" in text


def test_a_baseline_is_compared_like_a_run(
    in_process: Command, benchmark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hybrid_retrieval.compare import main

    in_process("evaluate", "benchmark=beir_parallel", benchmark, "retriever=[bm25,random]", "hydra.run.dir=scored")
    folder = tmp_path / "scored" / "baselines"
    out = tmp_path / "difference.json"
    assert main([str(folder / "random"), str(folder / "bm25"), "--replicates=50", f"--out={out}"]) == 0
    assert "beir_parallel: bm25 minus random" in capsys.readouterr().out
    figures = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    (row,) = [one for one in json.loads(out.read_text())["differences"] if one["setting"] == "monolingual"]
    assert row["system_mean"] == pytest.approx(figures["baselines/bm25/beir_parallel/monolingual/map"])


@pytest.mark.slow
def test_a_run_scores_its_baselines_too(in_process: Command, tmp_path: Path) -> None:
    done = in_process("run", *SMALL, "model=static", "hydra.run.dir=run", "retriever=bm25")
    assert done.returncode == 0, done.stderr
    assert "Cr. · bm25" in done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["baselines/bm25/held_out/monolingual/queries"] == metrics["held_out/monolingual/queries"]


@pytest.mark.slow
def test_languages_that_a_run_never_drew_are_left_out_of_a_second_mean(
    in_process: Command, weights: Path, benchmark: str, tmp_path: Path
) -> None:
    """The same when a run is evaluated again; nobody knows what an encoder saw that was published."""
    there = Path(benchmark.partition("=")[2])
    for language, name in (("de", "s0"), ("en", "s1"), ("ru", "xx")):
        shutil.copytree(there / language, tmp_path / "set" / name)
    chosen = ["benchmark=beir_parallel", f"benchmark.beir_parallel.path={tmp_path / 'set'}", "retriever=[bm25]"]
    small = [override for override in SMALL if not override.startswith(("benchmark=", "model."))]
    done = in_process("run", *small, *chosen, "model=static", "model.vocabulary=800", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "† Never in the training text: xx." in done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    seen = {key: value for key, value in metrics.items() if "/seen" in key}
    assert not [key for key in seen if not key.startswith("beir_parallel/")]
    for setting, parts in (("monolingual", ["s0", "s1"]), ("crosslingual", ["s0-s1", "s1-s0"]), ("multilingual", ["s0", "s1"])):
        expected = np.mean([metrics[f"beir_parallel/{setting}/map/{part}"] for part in parts])
        assert seen[f"beir_parallel/{setting}/map/seen"] == pytest.approx(expected)
        assert seen[f"beir_parallel/{setting}/map/seen.low"] <= expected <= seen[f"beir_parallel/{setting}/map/seen.high"]
    again = in_process("evaluate", "checkpoint=run", *chosen, "hydra.run.dir=again")
    assert again.returncode == 0, again.stderr
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert {key: value for key, value in metrics.items() if "/seen" in key} == seen
    done = in_process("run", *small, *chosen, *LENGTHS, "model=xlmr", f"model.path={weights}", "hydra.run.dir=published")
    assert done.returncode == 0, done.stderr
    assert not [key for key in json.loads((tmp_path / "published" / "metrics.json").read_text()) if "/seen" in key]
    assert "†" not in done.stdout


@pytest.mark.slow
def test_an_endpoint_is_scored_like_any_encoder_and_asked_once(
    in_process: Command, benchmark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", KEY)
    server = EndpointServer()
    arguments = ["model=api", f"model.base_url={server.url}", "model.key_variable=SOME_KEY", benchmark, *FLAGS]
    done = in_process("evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "scored" / "embeddings" / "beir_parallel" / "corpus.en.npy")
    np.testing.assert_allclose(found, [unit(text) for text in SENTENCES], rtol=1e-5, atol=1e-6)
    assert len(server.texts) == len({*server.texts})
    asked = len(server.bodies)
    again = in_process("evaluate", *arguments, "hydra.run.dir=again", "evaluation.cache_embeddings=false")
    server.close()
    assert again.returncode == 0, again.stderr
    assert len(server.bodies) == asked
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    assert KEY not in done.stderr + done.stdout
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("scored", "again")]
    assert metrics[0] == metrics[1]


def nowhere_below(folder: Path, secret: str) -> None:
    assert not any(secret.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("url", ["http://host/v1?key={}", "http://me:{}@host/v1", "http://{}@host/v1", "http://host/v1#{}"])
def test_a_key_in_the_address_of_an_endpoint_is_refused_and_written_nowhere(
    in_process: Command, benchmark: str, tmp_path: Path, url: str
) -> None:
    done = in_process("evaluate", "model=api", f"model.base_url={url.format(KEY)}", benchmark, *FLAGS)
    assert_one_line(done, "model.base_url: expected", "model.key_variable")
    assert KEY not in done.stderr + done.stdout
    nowhere_below(tmp_path, KEY)


def test_a_key_with_a_line_break_and_an_endpoint_with_control_characters_are_one_plain_line(
    in_process: Command, benchmark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = EndpointServer()
    arguments = ["model=api", f"model.base_url={server.url}", "model.key_variable=SOME_KEY", benchmark, *FLAGS]
    monkeypatch.setenv("SOME_KEY", f"{KEY}\n{KEY}")
    broken = in_process("evaluate", *arguments)
    assert_one_line(broken, "model.key_variable=SOME_KEY", "line break")
    assert KEY not in broken.stderr + broken.stdout
    assert not server.bodies
    monkeypatch.setenv("SOME_KEY", KEY)
    server.faults = [(400, {}, json.dumps({"error": {"message": "\x1b[2J\x1b]0;title\x07 \u202e no \r\n\udc80"}}))] * 9
    done = in_process("evaluate", *arguments, "hydra.run.dir=other")
    server.close()
    assert_one_line(done, "400", r"\x1b[2J", r"\u202e", r"\udc80")
    assert not [sign for sign in done.stderr + done.stdout if not sign.isprintable() and sign != "\n"]
    nowhere_below(tmp_path, KEY)


def test_a_project_folder_is_no_place_for_an_evaluation(in_process: Command, benchmark: str, tmp_path: Path) -> None:
    """Nothing in it is touched, above all no run that is to be scored."""
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    done = in_process("evaluate", "retriever=[bm25]", benchmark, "benchmark=beir_parallel", "hydra.run.dir=.")
    assert done.returncode == 2
    assert "hydra.run.dir=" in done.stderr
    assert "is not a run directory and holds other files" in done.stderr
    assert (run / "metrics.json").exists()


@pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2))])
def test_the_figures_are_those_of_ir_measures_on_the_written_runs(in_process: Command, tmp_path: Path, seed: int) -> None:
    """Of any BEIR folder: random words, so that many documents score the same, grades, and answers that are not found."""
    rng = np.random.default_rng(seed)
    words = [f"{one}{other}" for one in "bdfgklmnpr" for other in "aeiou"]
    for language in ("de", "en"):
        folder = tmp_path / "set" / language
        (folder / "qrels").mkdir(parents=True)
        for name, count, length in (("corpus", 40, 3), ("queries", 12, 2)):
            rows = [{"_id": f"{name}{n}", "title": "", "text": " ".join(rng.choice(words, length))} for n in range(count)]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        judged = [
            (f"queries{n}", f"corpus{d}", rng.integers(0, 3)) for n in range(12) for d in rng.choice(40, 6, replace=False)
        ]
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
        (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    chosen = ["benchmark=beir_parallel", f"benchmark.beir_parallel.path={tmp_path / 'set'}", "retriever=[bm25]"]
    done = in_process("evaluate", *chosen, "hydra.run.dir=scored", "evaluation.save_runs=true")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "scored" / "baselines" / "bm25"
    metrics = json.loads((folder / "metrics.json").read_text())
    qrels = list(ir_measures.read_trec_qrels(str(folder / "runs" / "beir_parallel.qrels.tsv")))
    found = list(ir_measures.read_trec_run(str(folder / "runs" / "beir_parallel.trec")))
    assert len({(one.query_id, one.score) for one in found}) < 0.7 * len(found), "few ties"
    theirs = {"map": ir_measures.AP, "mrr": ir_measures.RR, "ndcg@10": ir_measures.nDCG @ 10, "recall@10": ir_measures.R @ 10}
    values: dict[tuple[str, str], list[float]] = {}
    for one in ir_measures.iter_calc(list(theirs.values()), qrels, found):
        values.setdefault((str(one.measure), one.query_id.partition(":")[0]), []).append(one.value)
    for name, measure in theirs.items():
        for language in ("de", "en"):
            expected = float(np.mean(values[str(measure), language]))
            assert metrics[f"beir_parallel/multilingual/{name}/{language}"] == pytest.approx(expected, abs=1e-6)
    lines = (line.split() for line in (folder / "runs" / "beir_parallel.trec").read_text().splitlines())
    ranked = {(query, int(rank)): document for query, _, document, rank, *_ in lines}
    kept = [row for row in pq.read_table(folder / "retrieved.parquet").to_pylist() if row["corpus_language"] is None]
    assert len({(row["query_language"], row["query_id"]) for row in kept}) > 5
    for row in kept:
        query, document = (f"{row[f'{side}_language']}:{row[f'{side}_id']}" for side in ("query", "passage"))
        assert row["relevant"] if row["rank"] is None else ranked[query, row["rank"]] == document
    done = in_process("evaluate", *chosen, "hydra.run.dir=without", "evaluation.browse=0")
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "without").rglob("retrieved.parquet"))
    assert_one_line(in_process("evaluate", *chosen, "hydra.run.dir=other", "evaluation.browse=-1"), "evaluation.browse=-1")


def lareqa_set(folder: Path, rng: np.random.Generator) -> None:
    """Files in LAReQA's layout, of random words: sentences and whole paragraphs occur twice; languages differ in size."""
    words = [f"{one}{other}" for one in "bdfgklmnpr" for other in "aeiou"]
    folder.mkdir(parents=True)
    for language, most in (("de", 9), ("en", 12), ("th", 6)):
        paragraphs: list[dict[str, Any]] = []
        for number in range(most):
            if number % 4 == 3:  # the text of another paragraph, asked something else
                context, breaks = (paragraphs[-1][key] for key in ("context", "sentence_breaks"))
            else:
                sentences = [f"{' '.join(rng.choice(words, 3))}." for _ in range(3)]
                sentences.append(sentences[0])
                context, ends = " ".join(sentences), np.cumsum([len(one) + 1 for one in sentences]).tolist()
                breaks = [[end - len(one) - 1, end - 1] for one, end in zip(sentences, ends, strict=True)]
            starts = [breaks[place][0] for place in rng.choice(len(breaks), 2)]
            asked = [
                {
                    "id": f"q{number}.{n}",
                    "question": " ".join(rng.choice(words, 2)),
                    "answers": [{"answer_start": at, "text": ""}],
                }
                for n, at in enumerate(starts)
            ]
            paragraphs.append({"context": context, "sentence_breaks": breaks, "qas": asked})
        (folder / f"{language}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))


@pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2))])
def test_so_are_those_of_any_set_in_lareqas_layout(in_process: Command, weights: Path, tmp_path: Path, seed: int) -> None:
    """In each setting: the written run holds every sentence, so that it is the run of each language, too."""
    lareqa_set(tmp_path / "set", np.random.default_rng(seed))
    chosen = ["benchmark=lareqa", f"benchmark.lareqa.path={tmp_path / 'set'}", "benchmark.lareqa.candidate=sentence_in_context"]
    kept = ["evaluation.save_runs=true", "evaluation.save_embeddings=true", "evaluation.run_depth=1000"]
    systems = ["retriever=[bm25]", "model=xlmr", f"model.path={weights}", "evaluation.dtype=float32", *LENGTHS]
    done = in_process("evaluate", *chosen, *kept, *systems, "evaluation.replicates=0", "hydra.run.dir=scored")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    theirs = {"map": ir_measures.AP, "mrr": ir_measures.RR, "ndcg@10": ir_measures.nDCG @ 10, "recall@10": ir_measures.R @ 10}
    for system, folder in (("", tmp_path / "scored"), ("baselines/bm25/", tmp_path / "scored" / "baselines" / "bm25")):
        qrels = list(ir_measures.read_trec_qrels(str(folder / "runs" / "lareqa.qrels.tsv")))
        found = list(ir_measures.read_trec_run(str(folder / "runs" / "lareqa.trec")))
        assert len({(one.query_id, one.score) for one in found}) < 0.8 * len(found), "few ties"
        corpora = ("de", "en", "th", "") if not system else ("",)  # BM25's words weigh otherwise in the pool
        for answered in corpora:
            parts = [[one for one in rows if one.doc_id.startswith(answered)] for rows in (qrels, found)]
            values: dict[tuple[str, str], list[float]] = {}
            for one in ir_measures.iter_calc(list(theirs.values()), *parts):
                values.setdefault((str(one.measure), one.query_id.partition(":")[0]), []).append(one.value)
            for name, measure in theirs.items():
                for asked in ("de", "en", "th"):
                    setting = "multilingual" if not answered else "monolingual" if asked == answered else "crosslingual"
                    languages = f"{asked}-{answered}" if setting == "crosslingual" else asked
                    expected = float(np.mean(values[str(measure), asked]))
                    assert metrics[f"{system}lareqa/{setting}/{name}/{languages}"] == pytest.approx(expected, abs=1e-6)
                if not answered:
                    every = [value for asked in ("de", "en", "th") for value in values[str(measure), asked]]
                    assert metrics[f"{system}lareqa/multilingual/micro_{name}"] == pytest.approx(np.mean(every), abs=1e-6)
    by_hand = mean_over_questions(tmp_path / "set", tmp_path / "scored" / "embeddings" / "lareqa")
    assert metrics["lareqa/multilingual/micro_map"] == pytest.approx(by_hand, abs=1e-6)


def mean_over_questions(files: Path, embeddings: Path) -> float:
    """XTREME's mAP of LAReQA: over all questions of all languages; a sentence is relevant in each language that has the id."""
    sentences, answers, questions = [], [], []
    for file in sorted(files.iterdir()):
        queries, corpus = (np.load(embeddings / f"{side}.{file.stem}.npy") for side in ("queries", "corpus"))
        numbers, asked = iter(range(len(corpus))), iter(queries)
        for paragraph in json.loads(file.read_text())["data"][0]["paragraphs"]:
            rows = [
                (f"{file.stem}:{number}", corpus[number])
                for _, number in zip(paragraph["sentence_breaks"], numbers, strict=False)
            ]
            sentences += rows
            for one in paragraph["qas"]:
                starts = [start for start, _ in paragraph["sentence_breaks"]]
                answers.append((one["id"], rows[starts.index(one["answers"][0]["answer_start"])][0]))
                questions.append((one["id"], next(asked)))
    precision = []
    for id_, question in questions:
        wanted = {sentence for other, sentence in answers if other == id_}
        ranked = sorted(sentences, key=lambda row: (np.float32(row[1] @ question), row[0]), reverse=True)
        places = [place for place, (name, _) in enumerate(ranked, 1) if name in wanted]
        precision.append(np.mean([number / place for number, place in enumerate(places, 1)]))
    return float(np.mean(precision))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "benchmark.lareqa.path is missing"),
        (["path=nowhere"], "nowhere"),
        (["path=."], "holds no file LANGUAGE.json"),
        (["path=.", "candidate=paragraph"], "benchmark.lareqa.candidate='paragraph'"),
        (["path=set", "languages=[fr]"], "'fr'"),
    ],
)
def test_a_folder_that_is_no_such_set_is_refused(in_process: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    lareqa_set(tmp_path / "set", np.random.default_rng(0))
    options = (f"benchmark.lareqa.{argument}" for argument in arguments)
    assert_one_line(in_process("evaluate", "retriever=random", "benchmark=lareqa", *options), part)


def test_embeddings_at_less_cost_stand_beside_the_full_ones_from_one_encoding(
    in_process: Command, save: Save, benchmark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = BiEncoder.encode
    monkeypatch.setattr(
        BiEncoder, "encode", lambda self, texts, *rest: encoded.append(len(texts)) or encode(self, texts, *rest)
    )
    smaller = ["evaluation.dimensions=[8,16]", "evaluation.quantization=[int8,binary]"]
    model = ["model=e5_small", f"model.path={save()}", benchmark, *LENGTHS]
    done = in_process("evaluate", *model, "benchmark=beir_parallel", "hydra.run.dir=scored", *smaller)
    assert done.returncode == 0, done.stderr
    assert sum(encoded) == 2 * len(SENTENCES)  # which are the same in every language
    metrics = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    key = "beir_parallel/multilingual"
    sizes = {"": 64, "dimensions_8": 16, "dimensions_16": 32, "int8": 32, "binary": 4}
    for name, size in sizes.items():
        prefix = f"baselines/{name}/" if name else ""
        assert metrics[f"{prefix}{key}/bytes_per_passage"] == size
        assert f"{prefix}{key}/map" in metrics
        assert not name or (tmp_path / "scored" / "baselines" / name / "per_query.parquet").exists()
    assert "Mo. · int8" in done.stdout
    assert "Bytes per passage: full 64, binary 4, dimensions_16 32, dimensions_8 16, int8 32." in done.stdout
    encoded.clear()
    refusals = {
        "evaluation.dimensions=[64]": ["evaluation.dimensions=[64]: the encoder has 32"],
        "evaluation.dimensions=64": ["evaluation.dimensions=64 has the wrong type; expected list"],
        "evaluation.dimensions=[0]": ["evaluation.dimensions=0 must be above 0"],
        "evaluation.quantization=[int4]": ["evaluation.quantization='int4' is unknown", "int8"],
    }
    for argument, parts in refusals.items():
        assert_one_line(in_process("evaluate", *model, *FLAGS[:1], "hydra.run.dir=other", argument), *parts)
    chunks = ["evaluation.documents=chunks", "evaluation.quantization=[int8]"]
    refused = in_process("evaluate", *model, *FLAGS[:1], "hydra.run.dir=other", *chunks)
    assert_one_line(refused, "evaluation.quantization=[int8] needs an embedding a document: evaluation.documents=whole")
    alone = in_process("evaluate", benchmark, *FLAGS[:1], "retriever=[bm25]", "hydra.run.dir=other", chunks[1])
    assert_one_line(alone, "evaluation.quantization=[int8] works on an encoder's embeddings: give checkpoint=RUN_DIR")
    assert not encoded


def test_a_published_directory_searches_as_sentence_transformers_does(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sentence_transformers import SentenceTransformer

    path, corpus = save(), tmp_path / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES))
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(tmp_path / "searched"))
    capsys.readouterr()
    assert search.main([str(path), str(corpus), "--json", "--query", "paragraph style", "--top", "100"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    theirs = SentenceTransformer(str(path), device="cpu")
    scores = theirs.encode(SENTENCES, prompt_name="document") @ theirs.encode("paragraph style", prompt_name="query")
    found = {hit["text"]: hit["score"] for hit in json.loads(line)["passages"]}
    assert [found[" ".join(text.split())] for text in SENTENCES] == pytest.approx(scores.tolist(), abs=2e-3)
