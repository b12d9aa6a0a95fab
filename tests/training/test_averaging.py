"""Averages of weights equal their definition, are what is validated and saved, and leave training as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from hybrid_retrieval.config import TrainingConfig
from hybrid_retrieval.models.row_sparse import RowSparseEmbedding
from hybrid_retrieval.training.averaging import Averaging
from hybrid_retrieval.training.exact import Boundary
from hybrid_retrieval.training.fit import averaged
from hybrid_retrieval.training.optimizers import AdamW

STEPS = 24


class Small(lightning.LightningModule):
    """A table and a layer; rows of the table are met now and then."""

    def __init__(self, lazy: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer, self.frozen = RowSparseEmbedding(12, 3), nn.Linear(3, 2), nn.Linear(2, 2)
        self.table.lazy = lazy
        self.frozen.requires_grad_(False)
        self.after_steps: list[dict[str, Tensor]] = []
        self.validated: dict[int, dict[str, Tensor]] = {}

    def weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss: Tensor = self.frozen(self.layer(self.table(batch[0]))).square().sum()
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        self.after_steps.append(self.weights())

    def validation_step(self, batch: Tensor, index: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.validated[self.trainer.global_step] = self.weights()

    def configure_optimizers(self) -> Any:
        return AdamW(lr=0.05, warmup=0.0, schedule="constant", weight_decay=0.3).configure(self, STEPS)[0]


class Saves(Callback):
    """Writes a checkpoint after a validation, and at a step, as the engine's own callback does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        trainer.save_checkpoint(self.folder / f"validated_{trainer.global_step}.ckpt")

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if trainer.global_step == 14:
            trainer.save_checkpoint(self.folder / "step_14.ckpt")


def train(
    folder: Path, callback: Callback | None, lazy: bool = True, resume: Path | None = None, saves_first: bool = False
) -> Small:
    module = Small(lazy)
    torch.manual_seed(1)
    start = 14 if resume else 0
    batches = torch.stack([torch.randint(2, 12, (3,)).clamp(max=2 + step // 2) for step in range(STEPS)])[start:]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(batches))
    own = [Boundary(), Saves(folder)]
    trainer = lightning.Trainer(
        max_steps=STEPS,
        max_epochs=1,
        accelerator="cpu",
        callbacks=[*own, callback] if callback and saves_first else [callback, *own] if callback else own,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=6,
        check_val_every_n_epoch=None,
        default_root_dir=folder,
    )
    trainer.fit(module, loader, torch.utils.data.DataLoader(range(1)), ckpt_path=resume, weights_only=True)
    return module


def defined(weights: list[dict[str, Tensor]], decay: float, start: int) -> list[dict[str, Tensor]]:
    """The averages after every step, in float64."""
    found: list[dict[str, Tensor]] = []
    for step, now in enumerate(weights):
        n = step + 1 - start
        share = max(1 / n, 1 - decay) if n > 0 else 1.0
        before = found[-1] if found else now
        found.append({name: (1 - share) * before[name].double() + share * value.double() for name, value in now.items()})
    return found


@pytest.fixture(autouse=True)
def quiet(recwarn: pytest.WarningsRecorder) -> None:
    """Lightning's remarks on so small a run."""


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("saves_first", [False, True])
@pytest.mark.parametrize(("decay", "start"), [(1.0, 0), (0.8, 0), (0.9, 3), (0.9, 8), (0.0, 0)])
def test_what_is_validated_and_saved_is_the_average(
    decay: float, start: int, saves_first: bool, lazy: bool, tmp_path: Path
) -> None:
    module = train(tmp_path, Averaging(decay, start), lazy, saves_first=saves_first)
    expected = defined(module.after_steps, decay, start)
    assert list(module.validated) == [6, 12, 18, 24]
    for step, validated in module.validated.items():
        saved = torch.load(tmp_path / f"validated_{step}.ckpt", weights_only=True)
        for name, value in expected[step - 1].items():
            torch.testing.assert_close(validated[name].double(), value, rtol=1e-5, atol=1e-6)
            assert torch.equal(saved["state_dict"][name], validated[name])
    saved = torch.load(tmp_path / "step_14.ckpt", weights_only=True)
    for name, value in expected[13].items():
        torch.testing.assert_close(saved["state_dict"][name].double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lazy", [False, True])
def test_training_goes_on_as_if_nothing_were_averaged(lazy: bool, tmp_path: Path) -> None:
    plain, averaged = train(tmp_path, None, lazy), train(tmp_path, Averaging(0.8), lazy)
    for ours, theirs in zip(averaged.after_steps, plain.after_steps, strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert not torch.equal(averaged.validated[24]["layer.weight"], averaged.after_steps[-1]["layer.weight"])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("start", [0, 16])
def test_a_resumed_run_is_an_unbroken_one_to_the_bit(lazy: bool, start: int, tmp_path: Path) -> None:
    whole = train(tmp_path, Averaging(0.8, start), lazy)
    broken = train(tmp_path / "broken", Averaging(0.8, start), lazy, resume=tmp_path / "step_14.ckpt")
    assert len(broken.after_steps) == 10
    for ours, theirs in zip(broken.after_steps, whole.after_steps[14:], strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    for step in (18, 24):
        assert all(torch.equal(value, whole.validated[step][name]) for name, value in broken.validated[step].items())


def test_a_step_touches_only_the_rows_that_it_moves(tmp_path: Path) -> None:
    callback = Averaging(0.8)
    train(tmp_path, callback)
    assert not callback._average["table.weight"][:2].any()
    assert callback._average["table.weight"][2:4].all()
    assert callback._updated["table.weight"][:2].tolist() == [0, 0]
    assert "frozen.weight" not in callback._average


def test_the_config_chooses_the_average() -> None:
    assert averaged(TrainingConfig(), 200) == []
    (mean,) = averaged(TrainingConfig(averaging="mean", averaging_start=0.25), 200)
    (ema,) = averaged(TrainingConfig(averaging="ema", averaging_decay=0.95), 200)
    assert isinstance(mean, Averaging)
    assert isinstance(ema, Averaging)
    assert (mean.decay, mean.start) == (1.0, 50)
    assert (ema.decay, ema.start) == (0.95, 0)
