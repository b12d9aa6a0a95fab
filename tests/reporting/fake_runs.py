"""Small fake run directories, with figures that are drawn from a seed; and what a picture of one holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from hybrid_retrieval.evaluation.figures import Figure, Figures
from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.reporting import charts

LANGUAGES = ("de", "en", "pt_br", "zh")
MEASURES = ("map", "mrr", "recall@1", "recall@10", "recall@100", "ndcg@10")
GAIN = {"x_x_mono": (0.02, -0.06, -0.1), "x_y": (-0.04, 0.01, 0.01), "hybrid": (0.0, 0.0, 0.0)}


def fake_figures(
    rng: np.random.Generator, noise: np.random.Generator, languages: Sequence[str], benchmark: str, sampler: str
) -> list[Figure]:
    """Figures whose macro means are the means of their parts."""
    ease = dict(zip(languages, rng.uniform(0.55, 0.95, len(languages)), strict=True))
    gain = GAIN.get(sampler, (0.0, 0.0, 0.0))
    pairs: dict[str, dict[tuple[str, str | None], float]] = {
        "monolingual": {(name, name): 0.85 * ease[name] + gain[0] for name in languages},
        "crosslingual": {
            (one, other): 0.75 * (ease[one] * ease[other]) ** 0.5 + gain[1]
            for one in languages
            for other in languages
            if one != other
        },
        "multilingual": {(name, None): 0.6 * ease[name] + gain[2] for name in languages},
    }
    found = []
    for setting, parts in pairs.items():
        for name in (*MEASURES, "rank_distance") if setting == "multilingual" else MEASURES:
            if name == "rank_distance":
                values = {pair: 200 - 1000 * gain[2] + noise.normal(0, 20) for pair in parts}
            else:
                values = {pair: float(np.clip(value + noise.normal(0, 0.01), 0, 1)) for pair, value in parts.items()}
            found.append(Figure(benchmark, setting, measure(name), None, None, float(np.mean(list(values.values())))))
            found += [Figure(benchmark, setting, measure(name), *pair, float(value)) for pair, value in values.items()]
        found.append(Figure(benchmark, setting, measure("queries"), None, None, 1000.0 * len(parts)))
        found.append(Figure(benchmark, setting, measure("left_out"), None, None, 7.0))
    return found


def write_figures(folder: Path, figures: Iterable[Figure], **training: float) -> Path:
    """``figures.parquet`` and ``metrics.json``, as an evaluation writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = Figures(tuple(figures))
    whole.write(folder)
    (folder / "metrics.json").write_text(json.dumps(whole.metrics() | {f"train/{name}": one for name, one in training.items()}))
    return folder


def fake_config(sampler: str, seed: int, model: str = "static", **sampler_values: Any) -> dict[str, Any]:
    return {
        "seed": seed,
        "choices": {"sampler": sampler, "model": model, "dataset": "libreoffice_help", "hydra/launcher": "basic"},
        "dataset": {"_target_": "hybrid_retrieval.data.sources.libreoffice_help.LibreOfficeHelp", "languages": list(LANGUAGES)},
        "sampler": {"_target_": f"hybrid_retrieval.sampling.{sampler}.Class", "batch_size": 100, **sampler_values},
        "model": {"_target_": f"hybrid_retrieval.models.{model}.Class", "recipe": {"batch_size": 100}},
        "optimizer": {"lr": 0.02 if model == "static" else 3e-5},
        "trainer": {"max_steps": 200},
        "benchmark": {"help_r": {"_target_": "x.y.Z"}},
        "paths": {"runs": f"{sampler}-{seed}"},
    }


def write_manifest(rng: np.random.Generator, folder: Path, languages: Sequence[str], sampler: str, steps: int) -> None:
    rows: list[tuple[int, str, str, str, int]] = []
    for step in range(steps):
        if sampler == "x_x_mono" or (sampler == "hybrid" and step % 2 == 0):
            name = str(rng.choice(list(languages)))
            rows.append((step, "help", name, name, 100))
        else:
            pairs = [(one, other) for one in languages for other in languages if one != other]
            counts = rng.multinomial(100, [1 / len(pairs)] * len(pairs))
            rows += [(step, "help", *pair, int(count)) for pair, count in zip(pairs, counts, strict=True) if count]
    names = ("step", "set", "query_language", "passage_language", "pairs")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "batch_manifest.parquet")


def write_telemetry(rng: np.random.Generator, folder: Path, sampler: str, steps: int) -> None:
    """A line every 5 steps, and one for a validation every 20."""
    streams = {"x_x_mono": ["monolingual"], "x_y": ["crosslingual"]}.get(sampler, ["monolingual", "crosslingual"])
    lines: list[dict[str, Any]] = []
    for step in range(4, steps, 5):
        line: dict[str, Any] = {"step": step, "train/loss": 4 * np.exp(-step / 60), "train/alpha": 0.5 + step / 1000}
        for stream in streams:
            line |= {f"train/loss/{stream}": 4 * np.exp(-step / 50), f"train/accuracy@1/{stream}": 1 - np.exp(-step / 50)}
        if len(streams) > 1:
            line["train/gradient_cosine"] = float(rng.normal(0, 0.1))
        line |= {"train/tokens_per_second": 1000.0 * step, "train/padding_share": 0.125, "train/memory_gib": step / 10}
        lines.append(line)
        if step % 20 == 19:
            measured = {
                f"val/{name}/map": best * (1 - np.exp(-step / 80)) for name, best in zip(SETTINGS, (0.8, 0.7, 0.6), strict=True)
            }
            lines.append({"step": step, "val/loss": 3 * np.exp(-step / 70), "decision/alpha": 0.5 + step / 1000, **measured})
    (folder / "telemetry.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(
    folder: Path,
    sampler: str = "hybrid",
    seed: int = 1,
    languages: Sequence[str] = LANGUAGES,
    benchmarks: Sequence[str] = ("help_r",),
    steps: int = 60,
    **config: Any,
) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, len(sampler)])
    figures: list[Figure] = []
    for index, name in enumerate(benchmarks):
        same = np.random.default_rng([seed, index])
        noise = np.random.default_rng([seed, index, len(sampler)])
        figures += fake_figures(same, noise, languages, name, sampler)
    write_figures(folder, figures, pairs_per_second=float(rng.uniform(8000, 12000)), seconds=31.5)
    OmegaConf.save(OmegaConf.create(fake_config(sampler, seed, **config)), folder / "config.yaml")
    environment = {
        "versions": {"torch": "2.0 <test>"},
        "machine": {"processor": "a test's", "cores": 2},
        "world_size": 1,
        "start_step": 0,
        "data": [{"name": "help", "version": "7.4", "packages": ["a", "b"]}],
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    write_manifest(rng, folder, languages, sampler, steps)
    write_telemetry(rng, folder, sampler, steps)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("seed: 1\n")
    return folder


def rows_of(chart: Any) -> list[dict[str, Any]]:
    """What a picture holds, every row of it."""
    return [row for rows in charts.specification(chart)["datasets"].values() for row in rows]
