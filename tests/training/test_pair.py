"""Both halves of the pair in anyone's script: no Hydra, no config, stock Trainer and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.models.static import StaticModel
from hybrid_retrieval.sampling.hybrid import Hybrid
from hybrid_retrieval.training.datamodule import HybridDataModule
from hybrid_retrieval.training.module import BiEncoderModule
from hybrid_retrieval.training.optimizers import AdamW
from hybrid_retrieval.training.strategies import Replicas
from tests.training.ranks import Ranks
from tests.training.runs import assert_equal

STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder a language: sixty questions and their passages, in three languages."""
    folder = tmp_path_factory.mktemp("beir")
    for language in ("de", "en", "fr"):
        (folder / language / "qrels").mkdir(parents=True)
        for name, word in (("queries", "ask"), ("corpus", "say")):
            lines = [json.dumps({"_id": f"{n}", "text": f"{word} {n} {n % 7} in {language}"}) for n in range(60)]
            (folder / language / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        for split, numbers in (("train", range(48)), ("validation", range(48, 60))):
            rows = ["query-id\tcorpus-id\tscore", *(f"{n}\t{n}\t1" for n in numbers)]
            (folder / language / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder


def build(folder: Path, **settings: Any) -> tuple[HybridDataModule, BiEncoderModule]:
    """The pair over a BEIR folder."""
    paths = PathsConfig(cache=str(folder / "cache"))
    source = BeirPairs(paths, str(folder), languages=["de", "en", "fr"])
    torch.manual_seed(0)
    encoder = StaticModel(paths, vocabulary=300, dimensions=8).encoder(source.text)
    data = HybridDataModule(
        source, encoder, Hybrid(batch_size=8), paths=paths, validation_batches=2, progress=False, **settings
    )
    return data, BiEncoderModule(encoder, InfoNCE(temperature=0.1), AdamW(lr=0.1))


def trainer(folder: Path, *callbacks: Any, **settings: Any) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    steps = {"max_steps": STEPS, "max_epochs": 1, "val_check_interval": 4, "check_val_every_n_epoch": None}
    return lightning.Trainer(**{**quiet, **steps, "default_root_dir": folder, "callbacks": [*callbacks], **settings})


def kept(folder: Path) -> ModelCheckpoint:
    """A stock callback."""
    return ModelCheckpoint(folder, "{step}", monitor="val/multilingual/map", mode="max", save_top_k=-1)


@pytest.fixture(scope="module")
def fitted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BiEncoderModule, dict[str, float]]:
    """A finished run by stock parts: its checkpoints, the module, and what the trainer says of it."""
    run = tmp_path_factory.mktemp("run")
    data, module = build(folder)
    done = trainer(run, kept(run))
    done.fit(module, data)
    assert done.global_step == STEPS
    return run, module, {name: float(value) for name, value in done.callback_metrics.items()}


Fitted = tuple[Path, BiEncoderModule, dict[str, float]]


def test_it_trains_and_validates(fitted: Fitted, folder: Path) -> None:
    """The logged mAP is that of the validation split by its definition."""
    _, module, figures = fitted
    assert 0 < figures["train/loss"] < 5
    data, _ = build(folder)
    data.setup()
    split = data.validation
    assert split is not None
    queries = module.encoder.eval().encode(split.queries.texts, "query")
    scores = queries @ module.encoder.encode(split.corpus.texts, "passage").T
    precisions = []
    for query, of_query in enumerate(scores):
        right = np.isin(np.argsort(-of_query), split.document[split.query == query])
        precisions.append((np.cumsum(right) / (1 + np.arange(len(right))))[right].mean())
    assert figures["val/multilingual/map"] == pytest.approx(np.mean(precisions), abs=1e-6)


def test_a_stock_checkpoint_gives_back_a_working_encoder(fitted: Fitted) -> None:
    run, module, _ = fitted
    loaded = BiEncoderModule.load_from_checkpoint(run / f"step={STEPS}.ckpt", weights_only=True)
    texts = ["ask 3 3 in de", "say 50 1 in fr"]
    np.testing.assert_array_equal(loaded.encoder.encode(texts, "query"), module.encoder.eval().encode(texts, "query"))
    with pytest.raises(InputError, match="has no loss to train by"):
        _ = loaded.engine
    again = BiEncoderModule.load_from_checkpoint(run / f"step={STEPS}.ckpt", loss=InfoNCE(temperature=0.1), weights_only=True)
    assert_equal(again.encoder.state_dict(), loaded.encoder.state_dict())


def test_predict_embeds_every_passage(fitted: Fitted, folder: Path) -> None:
    _, module, _ = fitted
    data, _ = build(folder)
    found = trainer(folder).predict(module, data)
    assert found is not None
    (passages,) = (one.pairs.passages for one in data.collate.sets)
    rows = torch.cat([batch_rows for _, batch_rows, _ in found]).numpy()
    assert sorted(rows.tolist()) == list(range(len(passages)))
    expected = module.encoder.eval().encode(passages.texts(rows), "passage")
    np.testing.assert_allclose(torch.cat([vectors for _, _, vectors in found]).numpy(), expected, atol=1e-6)


def test_a_stock_checkpoint_goes_on_to_the_weights_of_a_run_that_was_not_ended(fitted: Fitted, folder: Path) -> None:
    """Saved by Lightning in the middle, after a validation."""
    run, module, figures = fitted
    data, again = build(folder)
    with torch.no_grad():
        for value in again.parameters():
            value.fill_(3)
    resumed = trainer(run, kept(run / "again"))
    resumed.fit(again, data, ckpt_path=run / "step=8.ckpt", weights_only=True)
    assert (data.start_step, resumed.global_step) == (8, STEPS)
    assert_equal(again.state_dict(), module.state_dict())
    assert {name: float(value) for name, value in resumed.callback_metrics.items()} == figures


def test_batches_have_no_epoch(folder: Path) -> None:
    data, module = build(folder)
    with pytest.raises(InputError, match="max_steps=-1"):
        trainer(folder, max_steps=-1).fit(module, data)


def test_an_adaptive_ratio_is_in_the_data_modules_state(folder: Path, tmp_path: Path) -> None:
    data, module = build(folder)
    data.sampler = Hybrid(batch_size=8, schedule={"kind": "adaptive", "delay": 2, "margin": 0.0, "change": 0.25})
    trainer(tmp_path).fit(module, data)
    state = data.state_dict()
    assert state["step"] == STEPS
    assert [decision["observed"] for decision in state["journal"]] == [4, 8, 12]
    json.dumps(state)


def on_a_rank(rank: int, folder: Path, run: Path) -> tuple[dict[str, torch.Tensor], dict[str, float], list[int]]:
    """The same script on one of several devices, with this package's strategy."""
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    data, module = build(folder)
    encoded: list[int] = []
    original = module.validation_step

    def counting(batch: Any, index: int, dataloader_idx: int = 0) -> None:
        encoded.append(len(batch.rows) if dataloader_idx else 0)
        original(batch, index, dataloader_idx)

    module.validation_step = counting  # type: ignore[method-assign]
    done = trainer(
        run,
        strategy=Replicas(process_group_backend="gloo"),
        plugins=[TorchElasticEnvironment()],
        devices=2,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    done.fit(module, data)
    return module.state_dict(), {name: float(value) for name, value in done.callback_metrics.items()}, encoded


def test_two_ranks_validate_to_the_figures_of_one_and_share_the_texts(
    fitted: Fitted, folder: Path, tmp_path: Path, two_ranks: Ranks
) -> None:
    _, module, figures = fitted
    outcomes = two_ranks(on_a_rank, [(folder, tmp_path)] * 2)
    for weights, found, _ in outcomes:
        for name, value in module.state_dict().items():
            torch.testing.assert_close(weights[name], value, atol=2e-4, rtol=1e-3)
        assert found == {name: pytest.approx(value, rel=1e-3, abs=1e-4) for name, value in figures.items()}
    assert_equal(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1] == outcomes[1][1]
    counts = [sum(encoded) for _, _, encoded in outcomes]
    assert sum(counts) == 3 * 2 * 3 * 12  # three validations of 12 questions and passages in three languages
    assert min(counts) > 0


def by_stock_ddp(rank: int, folder: Path, run: Path) -> str:
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    data, module = build(folder)
    with pytest.raises(InputError) as refused:
        trainer(run, strategy="ddp", plugins=[TorchElasticEnvironment()], devices=2).fit(module, data)
    return str(refused.value)


def test_a_strategy_that_sums_gradients_in_its_own_way_is_refused(folder: Path, tmp_path: Path, two_ranks: Ranks) -> None:
    for message in two_ranks(by_stock_ddp, [(folder, tmp_path)] * 2):
        assert "strategy=DDPStrategy would break law 4" in message
        assert "Replicas()" in message
