"""The model card: every figure from the run's files, and nothing in it that is Markdown, a folder or a secret of somebody's."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard

from hybrid_retrieval.command import hydra_command
from hybrid_retrieval.errors import InputError, printable
from hybrid_retrieval.files import CHECKSUMS, read_recorded, record_text, recorded
from hybrid_retrieval.reporting.table import number
from hybrid_retrieval.shipping.card import model_card, write_card
from hybrid_retrieval.shipping.command_line import command_line, composed, overrides
from hybrid_retrieval.shipping.mteb_results import mteb_results
from hybrid_retrieval.shipping.public import bcp47, public
from tests.conftest import SMALL

EVIL = "a|b`c`*d* [e](http://f) <img src=x> \x1b[31m\n---\n# g_h_ 'i' \"j\" ${k} {{ l }}"
NUMBER = re.compile(r"(?<![\w.,:/+@-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w:/+-]|[.,]\w)")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with a retriever beside it."""
    import logging

    from hydra.core.global_hydra import GlobalHydra

    from hybrid_retrieval.run import main

    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        settings = [*SMALL, f"paths.cache={folder / 'cache'}", "retriever=bm25", "sampler.alpha=0.25", "optimizer.lr=0.02"]
        patch.setattr(sys, "argv", ["run", *settings, f"hydra.run.dir={folder / 'run'}"])
        patch.setenv("HYDRA_FULL_ERROR", "")
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, getattr(sys, name))
        handlers, level = list(logging.root.handlers), logging.root.level
        hydra_command(main, "config")
        logging.root.handlers[:], logging.root.level = handlers, level
        GlobalHydra.instance().clear()
    return folder / "run"


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the run in which a file is another."""

    def change(file: str, edit: Callable[[Any], Any], recorded: bool = True) -> Path:
        copy = Path(shutil.copytree(run, tmp_path / "copy", dirs_exist_ok=True))
        content = read_recorded(copy / file)
        edit(content)
        text = json.dumps(content) if file.endswith(".json") else yaml.safe_dump(content)
        record_text(copy / file, text) if recorded else (copy / file).write_text(text)
        return copy

    return change


card_of = cache(model_card)
"""Of the run as it is, which many tests read."""


def body(card: str) -> str:
    return str(ModelCard(card).text)


def test_the_front_matter_is_what_the_hub_wants(run: Path) -> None:
    card = ModelCard(card_of(run, "me/mine", "apache-2.0"))  # which reads the results of the model-index, too
    data = card.data.to_dict()
    assert data["library_name"] == "sentence-transformers"
    assert data["pipeline_tag"] == "sentence-similarity"
    assert (data["license"], data["training_datasets"]) == ("apache-2.0", ["synthetic"])
    assert "datasets" not in data  # which the hub takes for its own
    assert "language" not in data  # s0 .. s3 are none of the hub's
    assert "base_model" not in data
    metrics = json.loads((run / "metrics.json").read_text())
    assert card.data.model_name == "me/mine"
    found = {(one.dataset_type, one.dataset_config, one.metric_type): one for one in card.data.eval_results}
    assert len(found) == 3 * 6 + 1
    one = found["held_out", "monolingual", "recall_at_10"]
    assert one.metric_value == metrics["held_out/monolingual/recall@10"]
    bounds = [metrics[f"held_out/monolingual/recall@10.{end}"] for end in ("low", "high")]
    assert one.metric_args == {"confidence_interval_95": bounds}
    assert one.dataset_revision == read_recorded(run / "environment.json")["benchmarks"]["held_out"]["fingerprint"]


def test_languages_and_the_model_below_are_said_in_the_hubs_words(changed: Callable[..., Path], tmp_path: Path) -> None:
    copy = changed("config.yaml", lambda config: config["model"].update(name="FacebookAI/xlm-roberta-base"))
    environment = read_recorded(copy / "environment.json")
    environment["data"][0] |= {"name": "x y", "hub": "unicamp-dl/mmarco", "license": "mit"}
    record_text(copy / "environment.json", json.dumps(environment))
    with recorded(copy / "batch_manifest.parquet") as part:
        columns = {"step": [0, 1], "set": ["a", "a"], "query_language": ["pt_br", "no"], "passage_language": ["zh_tw", "pt_br"]}
        pd.DataFrame({**columns, "pairs": [3, 4]}).to_parquet(part)
    card = ModelCard(model_card(copy))
    assert card.data.language == ["no", "pt", "zh"]
    assert (card.data.base_model, card.data.datasets) == ("FacebookAI/xlm-roberta-base", ["unicamp-dl/mmarco"])
    assert "multilingual" in card.data.tags
    for part in ("Languages (BCP 47): no, pt-BR, zh-TW", "Trained from: FacebookAI/xlm-roberta-base", "x y: licence mit"):
        assert part in card.text
    assert "No pretrained weights" not in card.text
    meta = mteb_results(copy)["model_meta.json"]
    assert (meta["languages"], meta["adapted_from"]) == (["nob-Latn", "por-Latn", "zho-Hant"], "FacebookAI/xlm-roberta-base")


def test_every_number_of_the_card_is_in_the_runs_files(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    beside = json.loads((run / "baselines" / "bm25" / "metrics.json").read_text())
    known = {number(value, digits) for value in [*metrics.values(), *beside.values()] for digits in (0, 1, 4)}
    known |= {f"{value:,.6g}" for value in metrics.values()}
    known |= {number(100 * value, 0) for key, value in metrics.items() if "/ties_" in key}  # in percent
    for name in ("config.yaml", "environment.json", "audit.json"):
        known |= set(NUMBER.findall((run / name).read_text()))
    manifest = pd.read_parquet(run / "batch_manifest.parquet")
    same = manifest[manifest.query_language == manifest.passage_language]
    for table, key in ((manifest, "query_language"), (manifest, "passage_language"), (same, "query_language")):
        known |= {f"{count:,}" for count in table.groupby(key).pairs.sum()}
    known |= {f"{sum(part['texts'] for part in read_recorded(run / 'audit.json')['training']):,}"}
    text = re.sub(r"```.*?```", "", body(card_of(run)), flags=re.DOTALL)
    found = {one for line in text.splitlines() for one in NUMBER.findall(line)}
    known |= {str(len(manifest.query_language.unique())), "95", "47"}  # languages; of the template's own words
    assert len(found) > 100
    assert found <= known, found - known


def test_another_figure_makes_another_card(run: Path, changed: Callable[..., Path]) -> None:
    def better(metrics: dict[str, float]) -> None:
        metrics["held_out/multilingual/map"] = 0.98765

    copy = changed("metrics.json", better)
    assert "0.9877" not in card_of(run)
    card = model_card(copy)
    assert "0.9877" in body(card)
    assert 0.98765 in [one.metric_value for one in ModelCard(card).data.eval_results]
    copy = changed("metrics.json", better, recorded=False)
    with pytest.raises(InputError, match=r"metrics\.json is not the file that was written"):
        model_card(copy)
    copy = changed("metrics.json", lambda metrics: metrics.pop("held_out/multilingual/map"))
    with pytest.raises(InputError, match=r"metrics\.json lacks held_out/multilingual/map"):
        model_card(copy)


def test_what_a_reader_has_to_know_is_there(run: Path) -> None:
    text = body(card_of(run, "me/mine"))
    for part in (
        'SentenceTransformer("me/mine")',
        "- Trained from: random weights",
        "- Licence of the weights: not stated",
        "- synthetic: licence none needed; from generated",
        "| held\\_out: queries |".replace("\\", ""),
        "| mAP |",
        "| bm25 |",
        "| Rank distance |",
        "No pretrained weights",
        "were cut off at 64 tokens (queries) and 128 (passages)",
        "- versions torch: ",
        "- machine cores: ",
        "- seconds of training: ",
        "hybrid-retrieval run",
    ):
        assert part in text, part
    assert "language: de" not in card_of(run)


def test_the_command_repeats_the_run(run: Path) -> None:
    saved = read_recorded(run / "config.yaml")
    told, unsaid = overrides(public(saved))
    assert not unsaid
    assert {"sampler.alpha=0.25", "sampler.batch_size=16", "model=static", "dataset=synthetic", "retriever=[bm25]"} <= {*told}
    assert not [item for item in told if item.startswith(("benchmark.", "optimizer.weight_decay", "dataset.languages"))]
    again = composed(told)
    assert {key: again[key] for key in again if again[key]} == {key: saved[key] for key in again if saved[key]}


VALUES = ("it's", "", "null", "a\\", "1", "True", {"a": "b c"})


@pytest.mark.parametrize(
    "value",
    [EVIL.replace("${k}", "\n"), "1e3", [1, "a b"], *(pytest.param(one, marks=pytest.mark.slow) for one in VALUES)],
)
def test_a_value_of_any_kind_comes_through_the_command(run: Path, value: Any) -> None:
    saved = read_recorded(run / "config.yaml")
    saved["model"]["prefix"] = value  # one that is not in the config, too
    saved["model"]["dimensions"] = value
    told, unsaid = overrides(saved)
    assert not unsaid
    assert composed(told)["model"]["dimensions"] == value


def test_what_no_override_repeats_is_said(run: Path) -> None:
    saved = read_recorded(run / "config.yaml")
    saved["benchmark"]["held_out"]["source"]["items"] = 7  # the data set's, by interpolation
    assert overrides(saved)[1] == ["benchmark"]
    assert command_line(saved).endswith("# no override sets benchmark as it was")


def test_text_from_outside_is_text(run: Path, changed: Callable[..., Path]) -> None:
    def foreign(environment: dict[str, Any]) -> None:
        environment["data"][0] |= {"name": EVIL, "license": EVIL, "path": f"/home/me/{EVIL}"}
        environment["machine"]["processor"] = EVIL
        environment["benchmarks"]["held_out"] |= {"revision": EVIL}

    copy = changed("environment.json", foreign)
    card = model_card(copy, EVIL)
    assert "\x1b" not in card
    parsed = ModelCard(card)
    assert parsed.data.model_name == parsed.data.training_datasets[0] == printable(EVIL)
    assert parsed.data.get("datasets") is None
    assert len(re.findall(r"^---$", card, re.MULTILINE)) == 2
    text = re.sub(r"(`{3,}).*?\n\1", "", parsed.text, flags=re.DOTALL)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == len([line for line in body(card_of(run)).splitlines() if line.startswith("#")])
    assert "<img" not in text.replace("\\<img", "")
    assert "](http://f)" not in text.replace("\\](http://f)", "")
    table_rows = [line for line in text.splitlines() if line.startswith("|")]
    plain = [line for line in body(card_of(run)).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", one)) for one in table_rows] == [len(re.findall(r"\|", one)) for one in plain]


def test_no_folder_and_no_secret_is_in_a_card(changed: Callable[..., Path], tmp_path: Path) -> None:
    def local(environment: dict[str, Any]) -> None:
        environment["data"][0] |= {"path": "/home/somebody/private sets/mine", "url": "https://me:hunter2@host/x?token=hunter3"}

    def of_config(config: dict[str, Any]) -> None:
        config["dataset"]["path"] = "~somebody/x"
        config["model"]["name"] = "C:\\Users\\somebody\\model"
        config["logger"] = {"wandb": {"api_key": "hunter4", "save_dir": "/home/somebody"}}
        config["paths"] = {"data": "/home/somebody/data", "cache": "/home/somebody/cache"}

    changed("environment.json", local)
    copy = tmp_path / "copy"
    config = read_recorded(copy / "config.yaml")
    of_config(config)
    record_text(copy / "config.yaml", yaml.safe_dump(config))
    card = model_card(copy)
    for secret in ("somebody", "hunter", "private", str(tmp_path), "/home", "/tmp", "C:"):
        assert secret not in card, secret
    assert "from mine;" in card


def test_a_bare_directory_has_a_card_and_what_is_no_run_has_none(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(run / "metrics.json", tmp_path / "bare")
    text = body(model_card(tmp_path / "bare"))
    assert "Nothing was measured on a benchmark." in text
    assert "Not stated." in text
    with pytest.raises(InputError, match="is not a run directory"):
        model_card(tmp_path)


def test_a_damaged_run_is_refused_in_a_line(changed: Callable[..., Path]) -> None:
    copy = changed("environment.json", lambda one: one.update(benchmarks=[1], data="x"))
    (copy / CHECKSUMS).unlink()
    with pytest.raises(InputError, match=r"cannot be described") as refused:
        model_card(copy)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"cannot be described"):
        mteb_results(copy)


def test_the_results_are_mtebs(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("mteb")
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

    files = write_card(run, tmp_path / "model", "me/mine")
    assert [path.name for path in files] == [
        "README.md",
        *(f"held_out_{setting}.json" for setting in ("monolingual", "crosslingual", "multilingual")),
        "model_meta.json",
    ]
    metrics = json.loads((run / "metrics.json").read_text())
    for path in files[1:-1]:
        result = TaskResult.from_disk(path, load_historic_data=False)
        setting = path.stem.removeprefix("held_out_")
        assert result.task_name == path.stem
        assert result.get_score() == pytest.approx(metrics[f"held_out/{setting}/map"])
        for one in result.scores["test"]:
            assert one["recall_at_10"] == metrics[f"held_out/{setting}/recall@10/{one['hf_subset']}"]
    meta = ModelMeta.model_validate(json.loads(files[-1].read_text()))
    assert (meta.name, meta.training_datasets) == ("me/mine", {"synthetic"})


def test_a_model_that_is_not_the_measured_one_says_so_and_claims_no_results(run: Path, tmp_path: Path) -> None:
    files = write_card(run, tmp_path / "model", "me/mine", differs="the figures are of 64 dimensions")
    assert [path.name for path in files] == ["README.md"]
    card = ModelCard(files[0].read_text())
    assert card.data.get("eval_results") is None
    assert "model-index" not in card.data.to_dict()
    assert "This model was not measured itself: the figures are of 64 dimensions." in card.text
    assert "not measured itself" not in card_of(run)


def test_who_is_not_on_the_hub_is_named_by_path(run: Path) -> None:
    assert "model=published model.name=me/mine" in card_of(run, "me/mine")
    assert "model=published model.path=mine" in card_of(run, "mine")


def test_languages_are_tags() -> None:
    names = {
        "de": "de",
        "pt_br": "pt-BR",
        "zh_tw": "zh-TW",
        "deu_Latn": "deu-Latn",
        "s0": None,
        "zh_hant_tw": "zh-Hant-TW",
        "": None,
    }
    assert {name: bcp47(name) for name in names} == names
