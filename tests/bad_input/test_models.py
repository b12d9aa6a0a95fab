"""Model directories and run directories that are damaged in some way, drawn by a seed: refused in a line, or harmless."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from hybrid_retrieval.files import CHECKSUMS, read_plain
from hybrid_retrieval.models.tokenization import train_unigram
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.forks import Forks
from tests.models.small_models import TEXTS, small_transformer, write_tokenizer

SECONDS = 20
FAST, EVERY = (0, 1, 2, 5, 7, 9, 13, 19), range(220)
"""Seeds; the fast ones damage something of each reader."""
SMALLER = [*SMALL, "trainer.max_steps=4", "trainer.val_check_interval=2", "model.dimensions=8"]
MODEL = ["model=e5_small", "model.max_query_length=40", "model.max_passage_length=40", "model.projection=published"]
SCORE = ["benchmark=held_out", "evaluation.replicates=0", "evaluation.cache_embeddings=false", "hydra.run.dir=scored"]
SET = ["dataset=synthetic", "dataset.items=300", "dataset.concepts=200"]
VALUES = [None, -1, 0, 3, "", "text", "a\x00b", [], {}, [[]], {"a": []}, 10**12, 10**400, 1e300, float("nan"), True, "org/repo"]


@pytest.fixture(scope="module")
def run_directory(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained")
    done = forks.run("hybrid_retrieval.run", *SMALLER, "hydra.run.dir=run", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in sentence-transformers' layout, with a dense layer."""
    from safetensors.torch import save_file

    directory = tmp_path_factory.mktemp("models") / "model"
    tokenizer = train_unigram(TEXTS, 500)
    small_transformer(tokenizer.get_vocab_size(), seed=5, initializer_range=0.3).model.save_pretrained(directory)
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    write_tokenizer(directory, tokenizer, **special)
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    chain = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(modules.items())
    ]
    of_dense = {"in_features": 32, "out_features": 24, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    files = {
        "modules.json": chain,
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": of_dense,
        "sentence_bert_config.json": {"max_seq_length": 40, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
    }
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    torch.manual_seed(7)
    save_file({"linear.weight": torch.randn(24, 32), "linear.bias": torch.randn(24)}, directory / "2_Dense/model.safetensors")
    return directory


@dataclass(frozen=True)
class Case:
    """A file that is damaged, how, and who reads it."""

    seed: int

    def draw(self, model: Path, run: Path, place: Path) -> tuple[Path, str, str]:
        """The damaged copy below `place`, the command that reads it, and what was done to it."""
        drawn = random.Random(self.seed)
        reader = drawn.choice(["model", "model", "checkpoint", "resume", "report", "compare"])
        source = model if reader == "model" else run
        copy = Path(shutil.copytree(source, place / "damaged"))
        if reader != "model" and drawn.random() < 0.7:
            for record in copy.rglob(CHECKSUMS):
                record.unlink()
        if reader == "resume":
            (copy / "metrics.json").unlink()
        files = sorted(path for path in copy.rglob("*") if path.is_file() and path.suffix in FORMATS)
        if reader != "model":
            files = [path for path in files if path.name in READ[reader] and path.parent.name != ".hydra"]
        file = drawn.choice(files)
        how = drawn.choice(["cut", "empty", "swap", "twice", "folder", *(["field"] * 8)])
        what = f"{reader}: {file.relative_to(copy)}: {how}"
        content = file.read_bytes()
        if how == "cut":
            file.write_bytes(content[: drawn.randrange(len(content))])
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "swap":
            other = drawn.choice([path for path in files if path != file] or [file])
            file.write_bytes(other.read_bytes())
            other.write_bytes(content)
            what += f" with {other.name}"
        elif how == "twice":
            file.write_bytes(content * 2)
        elif how == "folder":
            file.unlink()
            file.mkdir()
        else:
            what += f" {FORMATS[file.suffix](file, drawn)}"
        return copy, reader, what


def damaged(content: Any, drawn: random.Random) -> tuple[Any, str]:
    """Plain values with one of them mistyped or removed, and which."""
    if isinstance(content, (dict, list)) and content and drawn.random() < 0.85:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = drawn.choice(keys)
        copy: Any = dict(content) if isinstance(content, dict) else list(content)
        if drawn.random() < 0.15:
            del copy[key]
            return copy, f"{key} removed"
        copy[key], what = damaged(content[key], drawn)
        return copy, f"{key}.{what}"
    value = drawn.choice(VALUES)
    return value, f"={value!r:.30}"


def damage_json(file: Path, drawn: random.Random) -> str:
    content, what = damaged(json.loads(file.read_text()), drawn)
    file.write_text(json.dumps(content))
    return what


def damage_lines(file: Path, drawn: random.Random) -> str:
    lines = file.read_text().splitlines()
    at = drawn.randrange(len(lines))
    content, what = damaged(json.loads(lines[at]), drawn)
    lines[at] = json.dumps(content)
    file.write_text("\n".join(lines) + "\n")
    return f"line {at}: {what}"


def damage_yaml(file: Path, drawn: random.Random) -> str:
    content, what = damaged(yaml.safe_load(file.read_text()), drawn)
    file.write_text(yaml.safe_dump(content))
    return what


def damage_parquet(file: Path, drawn: random.Random) -> str:
    table = pq.read_table(file)
    name = drawn.choice(table.column_names)
    at = table.column_names.index(name)
    if drawn.random() < 0.2:
        pq.write_table(table.remove_column(at), file)
        return f"{name} removed"
    value = drawn.choice([None, -1, 10**12, 1.5, "text", [1], {"a": 1}])
    values: list[Any] = [value] * len(table)
    if drawn.random() < 0.5:
        values = table.column(at).to_pylist()
        values[drawn.randrange(len(values))] = value
    try:
        column = pa.array(values)
    except (pa.ArrowException, OverflowError):
        column = pa.array([value] * len(table))
    pq.write_table(table.set_column(at, name, column), file)
    return f"{name}={value!r}"


def damage_checkpoint(file: Path, drawn: random.Random) -> str:
    content, what = damaged(torch.load(file, weights_only=True), drawn)
    torch.save(content, file)
    return what


def damage_weights(file: Path, drawn: random.Random) -> str:
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    name = drawn.choice(sorted(weights))
    changed = drawn.choice([weights[name][:-1].contiguous(), weights[name].flatten(), weights[name].long(), None])
    save_file(
        {**weights, name: changed} if changed is not None else {key: weights[key] for key in weights if key != name}, file
    )
    return f"{name} {None if changed is None else (changed.dtype, changed.shape)}"


FORMATS: dict[str, Callable[[Path, random.Random], str]] = {
    ".json": damage_json,
    ".jsonl": damage_lines,
    ".yaml": damage_yaml,
    ".parquet": damage_parquet,
    ".ckpt": damage_checkpoint,
    ".safetensors": damage_weights,
}
READ = {
    "checkpoint": ("config.yaml", "best.ckpt", CHECKSUMS),
    "resume": ("config.yaml", "last.ckpt", "telemetry.jsonl", "batch_manifest.parquet", "audit.json"),
    "report": (
        "config.yaml",
        "metrics.json",
        "figures.parquet",
        "environment.json",
        "telemetry.jsonl",
        "batch_manifest.parquet",
    ),
    "compare": ("config.yaml", "metrics.json", "figures.parquet", "per_query.parquet"),
}
"""The files that a command reads of a run directory."""


@pytest.fixture
def read(
    in_process: Command, cache: Path, run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path, str], subprocess.CompletedProcess[str]]:
    """Runs the command that reads a directory."""

    def plain(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = importlib.import_module(f"hybrid_retrieval.{name}").main(arguments)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    def run(directory: Path, reader: str) -> subprocess.CompletedProcess[str]:
        if reader == "model":
            return in_process("evaluate", *MODEL, *SET, f"model.path={directory}", *SCORE)
        if reader == "checkpoint":
            return in_process("evaluate", f"checkpoint={directory}", *SCORE)
        if reader == "resume":
            return in_process("run", *SMALLER, "resume=auto", f"hydra.run.dir={directory}")
        if reader == "report":
            return plain("report", str(directory))
        return plain("compare", f"a={directory}", f"b={run_directory}", "--replicates=20")

    return run


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("reader", ["model", "checkpoint", "resume", "report", "compare"])
def test_what_is_not_damaged_is_read(
    read: Callable[..., Any], model_directory: Path, run_directory: Path, tmp_path: Path, reader: str
) -> None:
    copy = Path(shutil.copytree(model_directory if reader == "model" else run_directory, tmp_path / "copy"))
    if reader == "resume":
        (copy / "metrics.json").unlink()
    done = read(copy, reader)
    assert done.returncode == 0, done.stderr
    if reader == "checkpoint":
        assert figures(tmp_path / "scored") == figures(run_directory)


def figures(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in found.items() if key.startswith("held_out/") and not key.endswith((".low", ".high"))}


@pytest.mark.parametrize("seed", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in EVERY])
def test_a_damaged_directory_is_refused_in_a_line_or_does_no_harm(
    read: Callable[..., Any], model_directory: Path, run_directory: Path, tmp_path: Path, seed: int
) -> None:
    copy, reader, what = Case(seed).draw(model_directory, run_directory, tmp_path)

    before, start = listing(tmp_path) | listing(run_directory), time.process_time()
    done = read(copy, reader)
    assert time.process_time() - start < SECONDS  # of work: the machine may be busy with other things
    written = {path for path, state in (listing(tmp_path) | listing(run_directory)).items() if before.get(path) != state}
    assert not {path for path in written if not path.startswith((f"{tmp_path}/scored/", f"{copy}/"))}
    print(f"{what}: {done.returncode}")
    assert done.returncode in (0, 2), done.stderr
    if reader in ("model", "checkpoint"):
        assert not {path for path in written if path.startswith(f"{copy}/")}
    if done.returncode == 2:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(said) == 1, done.stderr
        assert "Traceback" not in done.stderr
    elif reader == "checkpoint" and "config.yaml" not in what:
        assert figures(tmp_path / "scored") == figures(run_directory)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Write a file's content anew, as `change` leaves it."""
    content = torch.load(path, weights_only=True) if path.suffix == ".ckpt" else read_plain(path)
    changed = change(content)
    content = content if changed is None else changed
    if path.suffix == ".ckpt":
        torch.save(content, path)
    else:
        path.write_text(json.dumps(content))
    (path.parent / CHECKSUMS).unlink(missing_ok=True)


def gaps(content: Any) -> None:
    """The last token gets an id that leaves a gap before it."""
    content["model"]["type"], content["model"]["vocab"] = "WordLevel", {"a": 0, "<unk>": 1, "b": 700}
    content["model"]["unk_token"] = "<unk>"
    content["added_tokens"], content["post_processor"] = [], None


OF_MODELS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a list": ("config.json", lambda content: [content], "config.json holds a list"),
    "a size below 0": ("config.json", lambda content: content.update(hidden_size=-32), "cannot be loaded"),
    "a size in words": ("config.json", lambda content: content.update(hidden_size="many"), "cannot be loaded"),
    "layers without end": (
        "config.json",
        lambda content: content.update(num_hidden_layers=10**9),
        "num_hidden_layers=1000000000",
    ),
    "another vocabulary": ("config.json", lambda content: content.update(vocab_size=10**12), "cannot be loaded"),
    "quantised": ("config.json", lambda content: content.update(quantization_config={"quant_method": "gptq"}), "quantised"),
    "no kind": ("config.json", lambda content: content.pop("model_type") and None, "cannot be loaded"),
    "a tokenizer with gaps": ("tokenizer.json", gaps, "ids up to 700"),
    "a module without a path": ("modules.json", lambda content: content[1].pop("path") and None, "'path'"),
    "modules in a mapping": ("modules.json", lambda content: {"a": content}, "sentence-transformers"),
    "a limit in words": ("sentence_bert_config.json", lambda content: content.update(max_seq_length="many"), "sentence-transf"),
    "a dense layer of another shape": ("2_Dense/model.safetensors", lambda content: None, "expected [outputs, 32]"),
    "a dense config that is a list": ("2_Dense/config.json", lambda content: [content], "2_Dense/config.json holds a list"),
}


@pytest.mark.parametrize("name", OF_MODELS)
def test_a_model_directory_that_cannot_be_used_is_refused(
    read: Callable[..., Any], model_directory: Path, tmp_path: Path, name: str
) -> None:
    from safetensors.torch import save_file

    copy = Path(shutil.copytree(model_directory, tmp_path / "copy"))
    file, change, said = OF_MODELS[name]
    if file.endswith(".safetensors"):
        save_file({"linear.weight": torch.ones(24, 16), "linear.bias": torch.ones(24)}, copy / file)
    else:
        edit(copy / file, change)
    assert_one_line(read(copy, "model"), str(copy), said)


def test_a_model_without_tokenizer_files_is_refused(read: Callable[..., Any], model_directory: Path, tmp_path: Path) -> None:
    """transformers would make up a tokenizer that knows no word."""
    copy = Path(shutil.copytree(model_directory, tmp_path / "copy"))
    for file in copy.glob("*tok*"):
        file.unlink()
    assert_one_line(read(copy, "model"), f"model.path={copy} holds no tokenizer", "sentencepiece.bpe.model")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def holds(content: bytes) -> Callable[[Path], Any]:
    return lambda file: file.write_bytes(content)


def appended(content: bytes) -> Callable[[Path], Any]:
    return lambda file: file.write_bytes(file.read_bytes() + content)


def like(name: str) -> Callable[[Path], Any]:
    return lambda file: shutil.copy(file.with_name(name), file)


def put(keys: str, value: Any) -> Callable[[Path], Any]:
    """Set a value in a file at dotted keys."""

    def change(content: Any) -> None:
        *above, last = keys.split(".")
        for key in above:
            content = content[key]
        content[last] = value

    return lambda file: edit(file, change)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
OF_RUNS: dict[str, tuple[str, str, Callable[[Path], Any], str]] = {
    "an empty checkpoint": ("checkpoint", BEST, holds(b""), "checksum"),
    "a flipped bit": ("checkpoint", BEST, flip, "checksum"),
    "the other checkpoint": ("checkpoint", BEST, like("last.ckpt"), "checksum"),
    "a cut record": ("checkpoint", "checkpoints/checksums.json", holds(b"{"), "cannot be read as JSON (was it cut off?"),
    "an empty record": ("checkpoint", "checkpoints/checksums.json", holds(b""), "is empty; expected JSON: its writing was cut"),
    "a record of NULs": ("checkpoint", "checkpoints/checksums.json", holds(bytes(9)), "holds 9 NUL characters; expected JSON"),
    "another model": ("checkpoint", BEST, put("hyper_parameters.encoder.architecture.dimensions", 10**9), "another model"),
    "no encoder": ("checkpoint", BEST, put("hyper_parameters.encoder", None), "holds no encoder"),
    "a tensor": ("checkpoint", BEST, lambda file: edit(file, lambda one: torch.ones(3)), "not a readable"),
    "a cut manifest to score": ("checkpoint", "batch_manifest.parquet", holds(b"PAR1"), "checksum"),
    "another run's manifest": ("checkpoint", "batch_manifest.parquet", like("per_query.parquet"), "checksum"),
    "a config by hand": ("checkpoint", "config.yaml", appended(b"seed: 2"), "checksum"),
    "read in words": ("checkpoint", "config.yaml", put("evaluation.overlap", "x"), "overlap='x'"),
    "a step below 0": ("resume", LAST, put("global_step", -1), "step -1"),
    "a step beyond": ("resume", LAST, put("global_step", 99), "step 99"),
    "an optimizer without state": ("resume", LAST, put("optimizer_states", [{}]), "cannot be gone on with"),
    "a callback's state in words": ("resume", LAST, put("callbacks.Clock", "x"), "cannot be gone on with"),
    "no step": ("resume", LAST, put("global_step", None), "global_step"),
    "a cut audit": ("resume", "audit.json", holds(b"{"), "cannot be read"),
    "an audit of nothing": ("resume", "audit.json", put("benchmarks", None), "is no audit"),
    "another run's audit": ("resume", "audit.json", holds(b"{}"), "checksum"),
    "an empty audit": ("resume", "audit.json", holds(b""), "is empty; expected JSON"),
    "an empty environment": ("resume", "environment.json", holds(b""), "is empty; expected JSON: its writing was cut off"),
    "data of another run": ("resume", "environment.json", holds(b"{}"), "checksum"),
    "telemetry without steps": ("resume", "telemetry.jsonl", holds(b"{}\n"), "is not telemetry"),
    "a cut manifest to go on": ("resume", "batch_manifest.parquet", holds(b"PAR1"), "checksum"),
    "settled in words": ("resume", "config.yaml", put("training.chunk_tokens", "x"), "'x'"),
    "foreign metrics": ("report", "metrics.json", holds(b"{}"), "checksum"),
    "foreign figures": ("report", "figures.parquet", like("per_query.parquet"), "checksum"),
    "foreign values": ("compare", "per_query.parquet", flip, "checksum"),
    "a cut manifest": ("report", "batch_manifest.parquet", holds(b"PAR1"), "checksum"),
    "NULs for an environment": ("report", "environment.json", holds(bytes(4096)), "holds 4,096 NUL characters; expected JSON"),
    "telemetry of a step below 0": ("report", "telemetry.jsonl", holds(b'{"step": -1, "a": 1}\n'), "-1"),
    "a group of the config in words": ("report", "config.yaml", put("sampler", "x"), "sampler='x'"),
    "half a character": ("report", "environment.json", put("python", "\ud800"), "cannot be read"),
    "a folder": ("report", "environment.json", folder, "is a folder; expected a file"),
    "a pipe": ("report", "metrics.json", pipe, "is a pipe; expected a file"),
}


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_run_directory_that_is_not_as_it_was_written_is_refused(
    read: Callable[..., Any], run_directory: Path, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(run_directory, tmp_path / "copy"))
    reader, file, change, said = OF_RUNS[name]
    if reader == "resume":
        (copy / "metrics.json").unlink()
    change(copy / file)
    assert_one_line(read(copy, reader), file.rpartition("/")[2], said)


def test_what_is_unprintable_is_shown_in_a_report(read: Callable[..., Any], run_directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_directory, tmp_path / "copy"))
    edit(copy / "environment.json", lambda content: content.update(python="3\x00\x1b[31m", data=["\x00"]))
    assert read(copy, "report").returncode == 0
    assert not {"\x00", "\x1b"} & set((copy / "report.html").read_text())


PAYLOAD = """from pathlib import Path
Path({marker!r}).touch()
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.models.encoder import Backbone
from transformers import BertConfig as Config, BertModel as Model
class Evil(Backbone): ...
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once the module `payload`, which can be imported, has run."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "payload.py").write_text(PAYLOAD.format(marker=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return tmp_path / "ran"


@pytest.mark.parametrize("target", ["payload.Evil", "torch.hub.load", "hybrid_retrieval.models.static.StaticModel", "os.path"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_run_directorys_data_set_runs_no_code(
    read: Callable[..., Any], run_directory: Path, marker: Path, tmp_path: Path, target: str, deep: bool
) -> None:
    copy = Path(shutil.copytree(run_directory, tmp_path / "copy"))
    node = {"_target_": "hybrid_retrieval.data.sources.mixture.Mixture", "sources": [{"name": "a", "_target_": target}]}
    edit(copy / "config.yaml", lambda one: one.update(dataset=node if deep else {"_target_": target}))
    said = f"{target!r} is not run: what a file names is to be a Source of this package"
    assert_one_line(read(copy, "checkpoint"), f"error: {copy / 'config.yaml'}: dataset.", said)
    assert not marker.exists()


@pytest.mark.parametrize("target", ["payload.Evil", "os.system", "hybrid_retrieval.models.static.StaticModel", "", "..", 3])
def test_a_checkpoint_runs_no_code(
    read: Callable[..., Any], run_directory: Path, marker: Path, tmp_path: Path, target: Any
) -> None:
    copy = Path(shutil.copytree(run_directory, tmp_path / "copy"))
    edit(copy / "checkpoints/best.ckpt", lambda one: one["hyper_parameters"]["encoder"].update(backbone=target))
    assert_one_line(read(copy, "checkpoint"), "best.ckpt", f"backbone={str(target)!r} is not run")
    assert not marker.exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_model_directorys_own_code_is_not_run(
    read: Callable[..., Any], model_directory: Path, marker: Path, tmp_path: Path, known: bool
) -> None:
    """Not even where somebody would answer y; an architecture that transformers knows is used without it."""
    copy = Path(shutil.copytree(model_directory, tmp_path / "copy"))
    shutil.copy(tmp_path / "modules" / "payload.py", copy / "payload.py")
    own = {"auto_map": {"AutoConfig": "payload.Config", "AutoModel": "payload.Model", "AutoTokenizer": ["payload.Model", None]}}
    edit(copy / "config.json", lambda one: one.update(own, **({} if known else {"model_type": "evil"})))
    edit(copy / "tokenizer_config.json", lambda one: one.update(own))
    done = read(copy, "model")
    assert not marker.exists()
    if known:
        assert done.returncode == 0, done.stderr
    else:
        assert_one_line(done, f"model.path={copy} cannot be loaded")


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
def test_a_config_names_no_kernel_of_a_repository(
    read: Callable[..., Any], model_directory: Path, tmp_path: Path, key: str
) -> None:
    copy = Path(shutil.copytree(model_directory, tmp_path / "copy"))
    edit(copy / "config.json", lambda one: one.update({key: "org/repo"}))
    done = read(copy, "model")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("model._target_=os.path", "Model"),
        ("model._target_=builtins.str", "Model"),
        ("model._target_=hybrid_retrieval.models.encoder.Model", "Model"),
        ("model._target_=..x", "imported"),
        ("sampler._target_=hybrid_retrieval.models.static.StaticModel", "Sampler"),
        ("loss._target_=torch.nn.Linear", "Loss"),
        ("dataset._target_=torch.hub.load", "Source"),
        ("callbacks.best._target_=os.system", "Callback"),
        ("callbacks.best=text", "names no _target_"),
        ("benchmark.held_out._target_=subprocess.Popen", "Benchmark"),
    ],
)
def test_what_is_typed_is_a_class_of_the_right_kind(in_process: Command, typed: str, kind: str) -> None:
    assert_one_line(
        in_process("run", *SMALLER, "hydra.run.dir=run", typed), typed.partition("=")[0].removesuffix("=text"), kind
    )
