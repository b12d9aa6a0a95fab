"""Studies as configs: what a sweep names is there, composes, and fits what it configures."""

from __future__ import annotations

import hydra
import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from hybrid_retrieval.config import config_directory, job_config
from hybrid_retrieval.run import check_config

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


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_what_it_is_called(name: str) -> None:
    chosen = ["+experiment=mtop_contrastive", f"+experiment/mtop_contrastive={name}", "trainer.accelerator=cpu"]
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = hydra.compose("config", chosen, return_hydra_config=True)
    with open_dict(composed):
        composed.hydra.runtime.output_dir = "/run_directory"
    HydraConfig.instance().set_config(composed)
    with open_dict(composed):
        del composed.hydra
    job = job_config(composed)
    check_config(job)
    kinds = [getattr(job, group)["_target_"].rpartition(".")[2] for group in ("sampler", "loss")]
    assert (*kinds, job.dataset["pair_by"], job.loss["hard_negatives"]) == OBJECTIVES[name]
    assert list(job.benchmark) == ["massive_intent", "massive_translation", "mtop_parallel", "xsid_intent"]
    assert job.audit.allow
