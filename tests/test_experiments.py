"""Studies as configs: what a sweep names is there, composes, and fits what it configures."""

from __future__ import annotations

import hydra
import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from hybrid_retrieval.config import JobConfig, config_directory, job_config
from hybrid_retrieval.models.encoder import Model
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.run import check_config
from hybrid_retrieval.values import build

OBJECTIVES = {
    "x_x_mono": ("XXMono", "InfoNCE", "intent", 0),
    "x_y": ("XY", "InfoNCE", "intent", 0),
    "hybrid": ("Hybrid", "InfoNCE", "intent", 0),
    "simcse": ("XX", "InfoNCE", "translation", 0),
    "msimcse": ("XY", "InfoNCE", "translation", 0),
    "translation_ranking": ("XY", "InfoNCE", "translation", 0),
    "supcon": ("Hybrid", "SupCon", "intent", 0),
    "supcon_hard_negatives": ("Hybrid", "SupCon", "intent", 1),
}
"""Sampler, loss, pairs and hard negatives."""


def test_mtop_contrastive_sweeps_over_all_its_objectives() -> None:
    folder = config_directory() / "experiment"
    study = yaml.safe_load((folder / "mtop_contrastive.yaml").read_text())
    swept = study["hydra"]["sweeper"]["params"]["+experiment/mtop_contrastive"].split(",")
    assert sorted(swept) == sorted(path.stem for path in (folder / "mtop_contrastive").glob("*.yaml")) == sorted(OBJECTIVES)


def composed(*chosen: str) -> JobConfig:
    """The job of a study's overrides."""
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = hydra.compose("config", [*chosen, "trainer.accelerator=cpu"], return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = "/run_directory"
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config.hydra
    return job_config(config)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_what_it_is_called(name: str) -> None:
    job = composed("+experiment=mtop_contrastive", f"+experiment/mtop_contrastive={name}")
    check_config(job)
    kinds = [getattr(job, group)["_target_"].rpartition(".")[2] for group in ("sampler", "loss")]
    assert (*kinds, job.dataset["pair_by"], job.loss["hard_negatives"]) == OBJECTIVES[name]
    assert list(job.benchmark) == ["massive_intent", "massive_zero_shot", "massive_translation", "mtop_parallel", "xsid_intent"]
    assert job.audit.allow


def test_tydiqa_scaling_names_its_sizes() -> None:
    folder = config_directory() / "experiment"
    study = yaml.safe_load((folder / "tydiqa_scaling.yaml").read_text())
    swept = study["hydra"]["sweeper"]["params"]["+experiment/tydiqa_scaling"].split(",")
    assert sorted(swept) == sorted(path.stem for path in (folder / "tydiqa_scaling").glob("*.yaml"))


@pytest.mark.parametrize("size", ["0.6m", "1.8m", "4.7m", "10.6m", "28m"])
def test_a_size_is_what_it_is_called(size: str) -> None:
    job = composed("+experiment=tydiqa_scaling", f"+experiment/tydiqa_scaling={size}")
    check_config(job)
    with torch.device("meta"):
        encoder = build(job.model, Model, "model", paths=job.paths).build(train_unigram(["some text", "and some more"], 300))
    layers = sum(one.numel() for one in encoder.parameters()) - encoder.backbone.table.weight.numel()
    assert layers / 1e6 == pytest.approx(float(size.removesuffix("m")), rel=0.08)


@pytest.mark.parametrize(
    ("name", "more"), [("static", []), ("transformer", ["model.static=run"]), ("transformer_all", ["model.path=run"])]
)
def test_a_student_is_taught_by_the_teacher_that_it_starts_from(name: str, more: list[str]) -> None:
    job = composed(f"+experiment=pretrained_start/{name}", "loss.teacher.model.path=teacher", *more)
    assert job.model.get("teacher", "teacher") == job.loss["teacher"]["model"]["path"] == "teacher"
    assert job.loss["teacher"]["source_language"] == "en"
    lacking = [one["name"] for one in job.dataset["sources"] if "pivot" in one and one["pivot"] != "en"]
    assert not lacking
    assert {"ntrex", "tatoeba", "xquad_r"} == set(job.benchmark)


@pytest.mark.parametrize("model", ["xlmr", "labse"])
def test_the_full_form_of_mldr_adversarial_composes(model: str) -> None:
    job = composed(
        "+experiment=mldr_adversarial", f"model={model}", "dataset=mmarco", "sampler=x_x", "benchmark.mldr.translations=folder"
    )
    check_config(job)
    assert set(job.benchmark) == {"mldr"}
    assert job.evaluation.perturb == "all"
    assert job.evaluation.documents == "chunks"


def test_the_open_domain_is_a_choice_for_the_study_of_samplers() -> None:
    job = composed("+experiment=[hybrid_vs_baselines,open_domain]", "sampler=x_y")
    assert [one.get("name") or one["dataset"] for one in job.dataset["sources"]] == ["squad2", "mlqa", "qa_native"]
    assert set(job.benchmark) == {"xquad_r", "tydiqa"}
    assert job.sampler["batch_size"] == 512


@pytest.mark.parametrize("name", ["mbert", "labse", "xlmr", "xlmr_large", "qwen3_0.6b", "qwen3_4b", "qwen3_8b", "e5_mistral"])
def test_an_encoder_of_llm_scale_miracl_composes(name: str) -> None:
    folder = config_directory() / "experiment"
    study = yaml.safe_load((folder / "llm_scale_miracl.yaml").read_text())
    swept = study["hydra"]["sweeper"]["params"]["+experiment/llm_scale_miracl"].split(",")
    assert sorted(swept) == sorted(path.stem for path in (folder / "llm_scale_miracl").glob("*.yaml"))
    job = composed("+experiment=llm_scale_miracl", f"+experiment/llm_scale_miracl={name}", "sampler=hybrid")
    check_config(job)
    assert [one["dataset"] for one in job.dataset["sources"]] == ["miracl", "mmarco"]
    assert bool(job.model.get("lora")) == (name.startswith("qwen3") or name == "e5_mistral")
    assert job.sampler["batch_size"] == 128
