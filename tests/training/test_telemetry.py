"""``telemetry.jsonl`` against what Lightning logs of every step, the manifest, the batches, and gradients taken whole."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from hybrid_retrieval.errors import Terminated
from hybrid_retrieval.training import callbacks, fit, telemetry
from hybrid_retrieval.training.exact import WholeFiles
from hybrid_retrieval.training.module import BiEncoderModule
from hybrid_retrieval.training.telemetry import STREAMS, Telemetry, keep_until, product, products, sampled_gradient, spacing
from tests.conftest import SMALL, Command
from tests.training.runs import DROPOUT, STATIC, Compose, checkpoint, curve, ending, train

Line = dict[str, Any]

TIMED = ("per_second", "memory_gib")
LENGTH = 6
LINES = ["trainer.max_steps=24", f"trainer.log_every_n_steps={LENGTH}", "trainer.val_check_interval=8"]


def lines(run_dir: Path) -> list[Line]:
    return [json.loads(line) for line in (run_dir / "telemetry.jsonl").read_text().splitlines()]


def of_training(run_dir: Path) -> list[Line]:
    return [line for line in lines(run_dir) if "train/loss" in line]


def untimed(found: list[Line]) -> list[Line]:
    return [{name: value for name, value in line.items() if not name.endswith(TIMED)} for line in found]


def drawn(run_dir: Path) -> np.ndarray:
    """[batches, 2]: monolingual and cross-lingual pairs, counted in the manifest."""
    rows = pq.read_table(run_dir / "batch_manifest.parquet").to_pylist()
    counts = np.zeros((max(row["step"] for row in rows) + 1, 2))
    for row in rows:
        counts[row["step"], int(row["query_language"] != row["passage_language"])] += row["pairs"]
    return counts


@pytest.mark.parametrize(
    "model", [pytest.param(STATIC, id="static"), pytest.param(DROPOUT, id="transformer", marks=pytest.mark.slow)]
)
def test_losses_and_accuracies_by_stream_are_means_of_what_each_step_came_out_with(
    job: Compose, tmp_path: Path, model: list[str]
) -> None:
    settings = [*model, *LINES, "sampler.schedule.kind=linear", "sampler.schedule.end=0.2"]
    train(job(*settings), tmp_path / "lines")
    train(job(*settings, "trainer.log_every_n_steps=1"), tmp_path / "steps")
    counts = drawn(tmp_path / "lines")
    found = of_training(tmp_path / "lines")
    assert [line["step"] for line in found] == [5, 11, 17, 23]
    for measure in ("loss", "accuracy@1"):
        by_step = curve(tmp_path / "steps", f"train/{measure}")
        assert len(by_step) == 24
        for line in found:
            steps = range(line["step"] - LENGTH + 1, line["step"] + 1)
            for stream, name in enumerate(STREAMS):
                expected = [by_step[step] for step in steps if counts[step, stream]]
                assert line[f"train/{measure}/{name}"] == pytest.approx(np.mean(expected), rel=1e-5)
            assert line[f"train/{measure}"] == pytest.approx(np.mean([by_step[step] for step in steps]), rel=1e-5)
    for line in found:
        before = counts[: line["step"] + 1].sum(0)
        assert line["train/monolingual_pair_share"] == pytest.approx(before[0] / before.sum())
        assert line["train/alpha"] == pytest.approx(0.5 + (0.2 - 0.5) * line["step"] / 23)
        assert line["train/memory_gib"] > 0.01


def test_the_loggers_hear_what_the_file_holds(job: Compose, tmp_path: Path) -> None:
    train(job(*STATIC, *LINES), tmp_path)
    for line in of_training(tmp_path):
        for name in line.keys() - {"step", "train/loss", "train/accuracy@1"}:
            assert curve(tmp_path, name)[line["step"]] == pytest.approx(line[name])


def test_tokens_and_padding_are_those_of_the_chunks(job: Compose, tmp_path: Path) -> None:
    config = job(*DROPOUT, *LINES, "trainer.accumulate_grad_batches=2", "training.chunk_tokens=300", "sampler.alpha=0.3")
    train(config, tmp_path)
    collate, composer = (data := fit.prepare(config).data).collate, data.train_batches
    found = of_training(tmp_path)
    assert len(found) == 4
    for line in found:
        tokens = padded = pairs = 0
        for batch in range(2 * (line["step"] - LENGTH + 1), 2 * (line["step"] + 1)):
            built = collate(batch, composer.batch(batch))
            pairs += len(built)
            for chunk in built.chunks:
                lengths = np.diff(chunk.tokens.offsets.numpy())
                tokens, padded = tokens + int(lengths.sum()), padded + len(lengths) * int(lengths.max())
        assert line["train/padding_share"] == pytest.approx(1 - tokens / padded)
        assert 0.001 < line["train/padding_share"] < 0.5
        assert line["train/tokens_per_second"] / line["train/pairs_per_second"] == pytest.approx(tokens / pairs)
        before = drawn(tmp_path)[: 2 * (line["step"] + 1)].sum(0)
        assert line["train/monolingual_pair_share"] == pytest.approx(before[0] / before.sum())


@pytest.mark.parametrize("hook", [(BiEncoderModule, "validation_step"), (WholeFiles, "save_checkpoint")])
def test_the_clock_stands_still_in_validations_and_while_checkpoints_are_written(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: tuple[type, str]
) -> None:
    """A clock that counts its readings: pairs a second go by those in steps, however many fall into the hook."""
    readings = iter(range(10**9))
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: float(next(readings)))
    original = getattr(*hook)
    found = []
    for waits in (0, 1000):

        def hooked(*given: Any, waits: int = waits, **named: Any) -> Any:
            for _ in range(waits):
                next(readings)
            return original(*given, **named)

        monkeypatch.setattr(*hook, hooked)
        train(job(*STATIC, *LINES, "trainer.val_check_interval=2", "training.checkpoint_every=5"), tmp_path / str(waits))
        found.append([line["train/pairs_per_second"] for line in of_training(tmp_path / str(waits))])
    assert found[0] == found[1]


def whole_gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Filled, while training, with the gradient of every step, dense and end to end."""
    found: list[torch.Tensor] = []
    original = Telemetry.on_before_optimizer_step

    def recorded(self: Telemetry, trainer: Any, module: torch.nn.Module, optimizer: Any) -> None:
        parts = [value.grad for value in module.parameters() if value.grad is not None]
        found.append(torch.cat([part.to_dense().flatten().double().clone() for part in parts]))
        original(self, trainer, module, optimizer)

    monkeypatch.setattr(Telemetry, "on_before_optimizer_step", recorded)
    return found


def cosines_by_hand(run_dir: Path, gradients: list[torch.Tensor]) -> list[float | None]:
    """A line: between the first two neighbouring steps in it that are of different streams."""
    streams = drawn(run_dir).argmax(1).tolist()
    found: list[float | None] = []
    for start in range(0, len(gradients), LENGTH):
        turns = [step for step in range(start + 1, start + LENGTH) if streams[step] != streams[step - 1]]
        pair = (gradients[turns[0] - 1], gradients[turns[0]]) if turns else None
        found.append(float(pair[0] @ pair[1] / pair[0].norm() / pair[1].norm()) if pair else None)
    return found


@pytest.mark.parametrize("model", [STATIC, [*DROPOUT, "loss.learn_temperature=true"]], ids=["static", "transformer"])
@pytest.mark.parametrize("mode", ["exact", "bernoulli"])
def test_the_cosine_is_that_of_whole_gradients_of_neighbouring_steps(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: list[str], mode: str
) -> None:
    gradients = whole_gradients(monkeypatch)
    train(job(*model, *LINES, "sampler.alpha=0.25", f"sampler.ratio_mode={mode}"), tmp_path)
    expected = cosines_by_hand(tmp_path, gradients)
    assert len(set(expected)) > 2
    assert [line.get("train/gradient_cosine") for line in of_training(tmp_path)] == [
        one if one is None else pytest.approx(one, abs=1e-5) for one in expected
    ]


def test_a_sample_of_the_coordinates_comes_near(job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "Telemetry", partial(Telemetry, coordinates=20_000))
    gradients = whole_gradients(monkeypatch)
    train(job(*DROPOUT, "model.hidden=64", *LINES), tmp_path)
    assert len(gradients[0]) > 4 * 20_000
    expected = cosines_by_hand(tmp_path, gradients)
    for line, whole in zip(of_training(tmp_path), expected, strict=True):
        assert line["train/gradient_cosine"] == pytest.approx(whole, abs=0.1)
        assert abs(line["train/gradient_cosine"] - whole) > 1e-9


def test_a_sample_has_something_of_every_column_and_of_every_parameter() -> None:
    module = torch.nn.Linear(64, 128)
    module.weight.grad = torch.arange(64.0).expand(128, 64).contiguous()
    module.bias.grad = torch.arange(128.0)
    assert spacing(module.weight.grad, 128) == 65
    found = sampled_gradient(module, 256)
    assert {round(value) for value in (found["weight"][1] / 65**0.5).tolist()} == set(range(64))
    assert torch.equal(found["bias"][1], module.bias.grad)
    # The weights of the sample make its products those of the whole.
    assert float(products(found, found)[0]) == pytest.approx(
        sum(float(value.grad.square().sum()) for value in module.parameters()), rel=0.02
    )


def test_inner_products_of_row_sparse_gradients_are_those_of_dense_ones() -> None:
    random = torch.Generator().manual_seed(1)
    for count in (0, 1, 5, 12):
        rows = [torch.randperm(12, generator=random)[:number].sort().values for number in (count, 6)]
        parts = [(one, torch.randn(len(one), 3, generator=random)) for one in rows]
        dense = [torch.zeros(12, 3).index_copy_(0, *part) for part in parts]
        torch.testing.assert_close(product(*parts), (dense[0] * dense[1]).sum())
    a, b = torch.randn(2, 7, generator=random)
    torch.testing.assert_close(
        products({"x": (None, a), "y": (None, b)}, {"x": (None, b)}), torch.stack([a @ b, a @ a + b @ b, b @ b])
    )


@pytest.mark.parametrize(
    "sampler",
    ["hybrid sampler.alpha=1", "x_y", "hybrid_within_batch"]
    + [pytest.param(one, marks=pytest.mark.slow) for one in ("hybrid sampler.alpha=0", "x_x", "x_x_mono")],
)
def test_where_streams_do_not_take_turns_no_gradient_is_kept(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setattr(telemetry, "sampled_gradient", lambda *_: pytest.fail("a copy of the gradient"))
    train(job(*f"sampler={sampler}".split(), *STATIC, *LINES), tmp_path)
    for line in of_training(tmp_path):
        present = {name for name in STREAMS if f"train/loss/{name}" in line}
        share = line["train/monolingual_pair_share"]
        assert share == {"x_y": 0, "hybrid sampler.alpha=0": 0, "hybrid_within_batch": 0.5}.get(sampler, 1)
        assert present == {name for name, its in zip(STREAMS, (share, 1 - share), strict=True) if its}
        weighted = [line[f"train/loss/{name}"] * its for name, its in zip(STREAMS, (share, 1 - share), strict=True) if its]
        assert sum(weighted) == pytest.approx(line["train/loss"])


def test_validations_and_what_an_adaptive_ratio_decided_are_in_the_file(job: Compose, tmp_path: Path) -> None:
    train(job(*STATIC, *LINES, "sampler.schedule.kind=adaptive", "+sampler.schedule.delay=3", "optimizer.lr=0.1"), tmp_path)
    journal = checkpoint(tmp_path)["HybridDataModule"]["journal"]
    validations = [line for line in lines(tmp_path) if "val/loss" in line]
    assert [line["step"] + 1 for line in validations] == [8, 16, 24] == [decision["observed"] for decision in journal]
    assert [line["decision/alpha"] for line in validations] == [decision["alpha"] for decision in journal]
    assert len({line["decision/alpha"] for line in validations}) > 1
    for name in ("val/loss", "val/crosslingual/map", "val/multilingual/map"):
        assert {line["step"]: pytest.approx(line[name]) for line in validations} == curve(tmp_path, name)
    for line in of_training(tmp_path):
        alpha = [0.5, *(decision["alpha"] for decision in journal if decision["step"] <= line["step"])][-1]
        assert line["train/alpha"] == pytest.approx(alpha)


@pytest.mark.parametrize(
    "model", [pytest.param(STATIC, id="static"), pytest.param(DROPOUT, id="transformer", marks=pytest.mark.slow)]
)
def test_ended_again_and_again_it_says_what_it_says_when_never_ended(job: Compose, tmp_path: Path, model: list[str]) -> None:
    config = job(*model, *LINES, "sampler.alpha=0.3", "sampler.schedule.kind=adaptive")
    train(config, tmp_path / "whole")
    for step in (1, 2, 4, 8, 13, 14, 18, 23):
        with pytest.raises(Terminated):
            train(ending(config, "on_train_batch_end", step, "terminate"), tmp_path / "parts")
    train(config, tmp_path / "parts")
    assert untimed(lines(tmp_path / "parts")) == untimed(lines(tmp_path / "whole"))
    assert sum("train/gradient_cosine" in line for line in lines(tmp_path / "whole")) == 4


def test_lines_that_are_written_again_and_a_torn_one_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    keep_until(path, 3)
    assert not path.exists()
    kept = '{"step": 1}\n{"step": 2}\n'
    path.write_text(kept + '{"step": 3}\n{"step": 4, "tra')
    keep_until(path, 3)
    assert path.read_text() == kept
    assert [one.name for one in tmp_path.iterdir()] == ["telemetry.jsonl"]


def test_the_file_is_json_whatever_a_step_comes_out_with(tmp_path: Path) -> None:
    told = Telemetry(tmp_path, None, None)  # type: ignore[arg-type]
    told._append(SimpleNamespace(is_global_zero=True, global_step=4), {"a": math.nan, "b": math.inf, "c": 0.5})  # type: ignore[arg-type]
    told._append(SimpleNamespace(is_global_zero=False, global_step=4), {"a": 1.0})  # type: ignore[arg-type]
    assert (tmp_path / "telemetry.jsonl").read_text() == '{"step": 3, "a": null, "b": null, "c": 0.5}\n'


@pytest.mark.slow
def test_two_devices_say_once_what_one_says(command: Command, tmp_path: Path) -> None:
    for name, devices in (("one", 1), ("two", 2)):
        done = command(
            "run", *SMALL, *STATIC, "trainer.log_every_n_steps=4", f"trainer.devices={devices}", f"hydra.run.dir={name}"
        )
        assert done.returncode == 0, done.stderr
    one, two = untimed(lines(tmp_path / "one")), untimed(lines(tmp_path / "two"))
    assert [line["step"] for line in one] == [3, 5, 7, 11, 11]
    for left, right in zip(one, two, strict=True):
        assert right == {name: pytest.approx(value, rel=1e-3, abs=1e-4) for name, value in left.items()}
    assert any(abs(a["train/gradient_cosine"]) > 0.01 for a in one if "train/loss" in a)
    assert {path.stem for path in tmp_path.glob("*/telemetry*")} == {"telemetry"}
