"""The command ``export``: what it writes is sentence-transformers' own, equal to the run, or there is nothing and one line."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from hybrid_retrieval import export
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.encoder import Role
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.shipping import directory
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.models.small_models import SENTENCES, TEXTS, byte_pairs, write_decoder, write_tokenizer, xlmr

SET = ["dataset=synthetic", "dataset.items=300", "dataset.concepts=200"]
EXACT = ["benchmark=held_out", "evaluation.dtype=float32", "evaluation.replicates=0"]
STEPS = [item for item in SMALL if not item.startswith("model.")] + EXACT
LENGTHS = ["model.max_query_length=30", "model.max_passage_length=50"]
TINY = ["model=tiny", "model.vocabulary=800", "model.hidden=32"]
STATIC = ["model=static", "model.vocabulary=800", "model.dimensions=32"]

Export = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """Runs ``export ARGUMENTS`` in this process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        try:
            code = export.main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return run


def xlmr_like(folder: Path) -> list[str]:
    """A plain transformers directory, used with prefixes."""
    tokenizer = train_unigram(TEXTS, 500)
    xlmr(tokenizer.get_vocab_size(), seed=5, initializer_range=0.3).save_pretrained(folder)
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    write_tokenizer(folder, tokenizer, **special)
    return ["model=xlmr", f"model.path={folder}", *LENGTHS]


def labse_like(folder: Path) -> list[str]:
    """As sentence-transformers saves LaBSE: cls, a dense layer with tanh, unit length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    xlmr_like(folder / "plain")
    layers = [modules.Transformer(str(folder / "plain"), max_seq_length=40), modules.Pooling(32, "cls")]
    torch.manual_seed(2)
    SentenceTransformer(modules=[*layers, modules.Dense(32, 32), modules.Normalize()], device="cpu").save(str(folder / "whole"))
    return ["model=published", f"model.path={folder / 'whole'}"]


def decoder_like(folder: Path) -> list[str]:
    """Adapters, attention both ways, an instruction and the last token."""
    write_decoder(folder, "qwen3", byte_pairs())
    return ["model=qwen3", f"model.path={folder}", "model.max_query_length=60", "model.max_passage_length=70"]


LAYOUTS: dict[str, Callable[[Path], list[str]]] = {
    "static": lambda folder: STATIC,
    "scratch": lambda folder: [*TINY, "model.projection=16", "model.max_query_length=20"],
    "xlmr": xlmr_like,
    "labse": labse_like,
    "decoder": decoder_like,
}


def assert_same(run: Path, to: Path, dimensions: int | None = None) -> None:
    """sentence-transformers' embeddings of a directory are those of the run."""
    from sentence_transformers import SentenceTransformer

    theirs, ours = SentenceTransformer(str(to), device="cpu", trust_remote_code=False), load_encoder(run, "best")
    assert theirs.prompts == {"query": ours.settings.query_prefix, "document": ours.settings.passage_prefix}
    assert theirs.similarity_fn_name == "cosine"
    texts = [*SENTENCES, "COPY <mask> a </s> 🎉", " "]
    both: list[tuple[Role, Any, list[str]]] = [
        ("query", theirs.encode_query, texts),
        ("passage", theirs.encode_document, [*texts, *TEXTS, " ".join(TEXTS)]),
    ]
    for role, encode, of_role in both:
        expected, found = ours.encode(of_role, role)[:, :dimensions], encode(of_role)
        if dimensions:
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
            found = found / np.linalg.norm(found, axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(np.unique(expected.round(4), axis=0)) > 5


@pytest.mark.parametrize(
    "layout", [name if name == "static" else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS]
)
def test_a_run_is_exported_loads_and_is_scored_the_same(
    layout: str, in_process: Command, exported: Export, tmp_path: Path
) -> None:
    done = in_process("run", *STEPS, *LAYOUTS[layout](tmp_path / "from"), "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    run, to = tmp_path / "run", tmp_path / "exported"
    done = exported(str(run), "--to", str(to))
    assert done.returncode == 0, done.stderr
    assert "checked: 25 texts as queries and passages, read by sentence-transformers: the largest difference is" in done.stdout
    assert f"exported to {to}, for sentence-transformers 6: " in done.stdout
    assert ("a static model has one length there" in done.stdout) == (layout == "static")
    assert {file.suffix for file in to.rglob("*.*")} <= {".json", ".safetensors", ".jinja", ".md"}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in to.rglob("*.*"))
    assert_same(run, to)
    assert "model-index" in (to / "README.md").read_text()
    if layout == "static":
        other = tmp_path / "other"
        assert exported(str(run), "--to", str(other), "--dimensions", "8", "--checkpoint", "last").returncode == 0
        card = (other / "README.md").read_text()
        assert "figures are of best.ckpt, and its weights are those of last.ckpt; the figures are of 32 dimensions" in card
        assert "model-index" not in card
        assert not (other / "results").exists()
    done = in_process("evaluate", "model=published", f"model.path={to}", *SET, *EXACT, "hydra.run.dir=scored")
    assert done.returncode == 0, done.stderr
    expected, found = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "scored"))
    held_out = {key: value for key, value in expected.items() if key.startswith("held_out/") and "/seen" not in key}
    assert len(held_out) > 10
    assert found == {key: pytest.approx(value, abs=1e-4) for key, value in held_out.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A finished run of a static model, by hand: no more of it is read."""
    from hybrid_retrieval.config import PathsConfig
    from hybrid_retrieval.models.static import StaticModel
    from tests.models.small_models import TrainingSample

    folder = tmp_path_factory.mktemp("trained") / "run"
    (folder / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    encoder = StaticModel(PathsConfig(cache=str(cache)), dimensions=24, vocabulary=500).encoder(TrainingSample())
    content = {
        "state_dict": {f"encoder.{name}": value for name, value in encoder.state_dict().items()},
        "hyper_parameters": {"encoder": encoder.description()},
    }
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"_target_": "hybrid_retrieval.models.static.StaticModel"}}))
    return folder


def test_leading_dimensions_are_kept_and_an_export_is_exported_again(run: Path, exported: Export, tmp_path: Path) -> None:
    done = exported(str(run), "--to", str(tmp_path / "cut"), "--dimensions", "8")
    assert done.returncode == 0, done.stderr
    assert "8 dimensions" in done.stdout
    assert_same(run, tmp_path / "cut", 8)
    (tmp_path / "again").mkdir()
    (tmp_path / "link").symlink_to("again")
    (tmp_path / ".unfinished-killed" / "export").mkdir(parents=True)
    assert exported(str(tmp_path / "cut"), "--to", str(tmp_path / "link")).returncode == 0
    assert_same(run, tmp_path / "again", 8)
    assert {path.name for path in tmp_path.iterdir()} == {"cut", "again", "link"}


def test_what_cannot_be_exported_is_one_line_and_nothing_is_left(
    run: Path, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, to = tmp_path / "full", tmp_path / "out"
    full.mkdir()
    (full / "file").touch()
    bare = Path(shutil.copytree(run, tmp_path / "bare"))
    shutil.rmtree(bare / "checkpoints")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    api = tmp_path / "api"
    api.mkdir()
    (api / "config.yaml").write_text("model: {_target_: hybrid_retrieval.models.api.ApiEncoder}\n")
    for arguments, parts in (
        ([run, "--to", full], [f"--to {full} exists", "empty directory"]),
        ([run, "--to", full / "file"], ["exists and is not an empty directory"]),
        ([run, "--to", full / "file" / "in" / "it"], [f"--to: its parent={full / 'file' / 'in'} cannot be written"]),
        ([run, "--to", here], ["and cannot be replaced"]),
        ([bare, "--to", to], [f"{bare} holds no checkpoints"]),
        ([api, "--to", to], ["endpoint (model=api)", "no weights"]),
        ([full, "--to", to], [f"model.path={full} holds no config.json"]),
        ([tmp_path / "nowhere", "--to", to], ["nowhere is no directory"]),
        ([run, "--to", to, "--dimensions", 25], ["--dimensions 25 is more than the encoder's 24"]),
        ([run, "--to", to, "--dimensions", 0], ["--dimensions 0"]),
    ):
        assert_one_line(exported(*map(str, arguments)), *parts)
    monkeypatch.setattr(directory, "TOLERANCE", 0.0)
    monkeypatch.setattr(directory, "difference", lambda *_: 1e-3)
    assert_one_line(exported(str(run), "--to", str(to)), "does not embed as the encoder", "the largest difference is 1.0e-03")
    assert {path.name for path in tmp_path.iterdir()} == {"full", "bare", "api", "here"}


def test_a_full_disk_is_one_line_and_nothing_is_left(
    run: Path, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SafetensorError(Exception):
        """safetensors' own, which is no OSError."""

    def fill(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(directory, "save_file", fill)
    assert_one_line(exported(str(run), "--to", str(tmp_path / "out")), "a file cannot be written: the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_without_sentence_transformers_the_directory_is_read_back(
    run: Path, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    done = exported(str(run), "--to", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "sentence-transformers is not installed" in done.stdout
