"""Studies: what is run can be gone on with, and tables and pictures come from one file of figures alone."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting.run_directory import find_runs
from tests.conftest import SMALL

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PLAN = {
    "sweeps": [
        {
            "name": "small",
            "overrides": [*SMALL, "evaluation.perturb=[drop]", "retriever=[bm25,lir]", "sampler=x_y,hybrid", "seed=1,2"],
            "reference": "hybrid",
            "after": ["lir"],
            "perturbed": {"monolingual": "map"},
            "severity": 0.2,
        }
    ],
    "tables": {
        "means": {"sweep": "small", "benchmark": "held_out"},
        "differences": {"kind": "differences", "sweep": "small", "benchmark": "held_out", "reference": "hybrid"},
    },
    "pictures": {"curve.png": {"kind": "curve", "sweeps": ["small"], "benchmark": "held_out", "label": "alpha", "title": "T"}},
}
README = "# A study\n\n<!-- table means -->\nold\n<!-- end -->\n\nkept\n\n<!-- table differences -->\n<!-- end -->\n"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    spec = importlib.util.spec_from_file_location("study", EXPERIMENTS / "study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path / "experiments")
    folder = tmp_path / "experiments" / "try"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
    (folder / "README.md").write_text(README)
    return module


def row(system: str, seed: int | None, value: float, **more: object) -> dict[str, object]:
    own = {
        "sweep": "small",
        "system": system,
        "seed": seed,
        "benchmark": "held_out",
        "setting": "monolingual",
        "measure": "map",
    }
    return {**own, "value": value, "languages": None, "baseline": None, "x": None, "series": None, **more}


def test_differences_of_every_reference_stand_in_the_order_of_sweeps_and_sizes(study: ModuleType) -> None:
    tested = {"low": -0.01, "high": 0.13, "corrected": 0.0321}
    rows = [row("far", None, 0.3, baseline="x_y", sweep="other", **tested)]
    rows += [row(f"hybrid {x}", None, x / 100, baseline=f"x_y {x}", x=x, **tested) for x in (4, 1, 2)]
    made = study.TABLES["differences"](pd.DataFrame(rows), ["small", "other"], "held_out").splitlines()
    assert made[0] == "| held_out | Mo. mAP |"
    assert [line.split(" | ")[0] for line in made[2:]] == [
        *(f"| hybrid {x}, minus x_y {x}" for x in (1, 2, 4)),
        "| far, minus x_y",
    ]
    assert made[2].endswith("| +0.0100 (-0.0100 to +0.1300), p .032 |")
    without = [{**one, "x": None} for one in rows]
    assert len(study.TABLES["differences"](pd.DataFrame(without), ["small", "other"], "held_out").splitlines()) == len(made)


def test_tables_are_means_over_seeds_and_stand_between_their_marks(study: ModuleType) -> None:
    one = study.Study.read("try")
    values = {"x_y": [0.5, 0.6, 0.58], "hybrid": [0.61, 0.64, 0.6]}
    rows = [row(name, seed, value) for name, of in values.items() for seed, value in enumerate(of)]
    rows += [row("x_y", 0, 0.1, languages="de"), row("bm25", None, 0.4)]
    tested = {"low": -0.01, "high": 0.13, "corrected": 0.0321}
    rows.append(row("hybrid", None, 0.0567, baseline="x_y", **tested))
    pd.DataFrame(rows).to_parquet(one.folder / study.FIGURES)
    one.draw()
    text = (one.folder / "README.md").read_text()
    for name, of in values.items():
        assert f"| {name} | 3 | {statistics.fmean(of):.4f} ± {statistics.stdev(of):.4f} | - | - | - |" in text
    assert "| bm25 | - | 0.4000 |" in text
    assert "| x_y | +0.0567 (-0.0100 to +0.1300), p .032 |" in text
    assert "old" not in text
    assert "\nkept\n" in text
    assert (one.folder / "curve.png").stat().st_size > 1000
    one.draw()
    assert (one.folder / "README.md").read_text() == text


def test_a_fit_is_that_of_least_squares_over_the_runs(study: ModuleType) -> None:
    one = study.Study.read("try")
    rng = np.random.default_rng(0)
    sizes = [10.0**power for power in (3, 4, 5, 6) for _ in range(3)]
    noise = {name: rng.normal(0, 0.01, len(sizes)) for name in ("x_y", "hybrid")}
    slopes = {"x_y": 0.05, "hybrid": 0.08}
    rows = [
        row(f"{name} {size:g}", seed % 3, slopes[name] * np.log10(size) + noise[name][seed], x=size, series=name)
        for name in slopes
        for seed, size in enumerate(sizes)
    ]
    made = study.TABLES["fit"](pd.DataFrame(rows), "small", "held_out", [("hybrid", "x_y")])
    x, y = np.log10(sizes), np.array([found["value"] for found in rows[: len(sizes)]])
    slope, at_0 = np.polyfit(x, y, 1)
    spread = np.sqrt(((y - slope * x - at_0) ** 2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    half = 2.228 * spread  # Student's t of 10 degrees of freedom
    assert f"| x_y | {slope:+.4f} ({slope - half:+.4f} to {slope + half:+.4f}) |" in made
    assert "| hybrid minus x_y | +0.03" in made
    gains = [{**row("hybrid", None, 0.1 * x, x=x), "baseline": f"x_y {x}", "low": 0, "high": x} for x in (1, 10)]
    sys.modules["pictures"].draw(
        pd.DataFrame(gains),
        one.folder / "gain.png",
        kind="gain",
        sweep="small",
        benchmark="held_out",
        against={"x_y": "x_y"},
        label="size",
        title="T",
    )
    assert (one.folder / "gain.png").stat().st_size > 1000


def test_what_noise_costs_is_a_part_of_the_clean_measure(study: ModuleType) -> None:
    lost = {("drop", "x_y"): [0.4, 0.5], ("drop", "hybrid"): [0.6, 0.6], ("swap", "hybrid"): [0.8, 0.9]}
    rows = [
        row(system, seed, value, noise=noise, severity=0.2, clean=0.8) | {"measure": "perturbed/map"}
        for (noise, system), values in lost.items()
        for seed, value in enumerate(values)
    ]
    against = {"noise": "drop", "severity": 0.2, "baseline": "x_y", "low": -0.5, "high": 3.0, "corrected": 0.25}
    rows.append(row("hybrid", None, 1.5, **against) | {"measure": "perturbed/map"})
    made = study.TABLES["noise differences"](pd.DataFrame(rows), "small", "held_out", 0.2, "hybrid").splitlines()
    assert made[2:] == ["| drop | +1.5 (-0.5 to +3.0), p .250 |"]
    made = study.TABLES["noise"](pd.DataFrame(rows), ["small"], "held_out", 0.2).splitlines()
    assert made[0] == "| held_out, severity 0.2 | x_y | hybrid |"
    assert made[2:] == ["| drop | -43.8 ± 8.8 | -25.0 ± 0.0 |", "| swap | - | +6.2 ± 8.8 |"]
    by_language = [one | {"languages": language} for one in rows[:4] for language in ("de", "th")]
    by_language += [{**one, "noise": "swap", "value": 0.2} for one in by_language if one["languages"] == "th"]
    rows += by_language
    assert study.TABLES["noise"](pd.DataFrame(rows), ["small"], "held_out", 0.2).splitlines() == made
    table = study.TABLES["noise by language"](pd.DataFrame(rows), ["small"], "held_out", 0.2, ["drop", "swap"]).splitlines()
    assert table[2:] == ["| th | -59.4 ± 4.4 | -50.0 ± 0.0 |", "| de | -43.8 ± 8.8 | -25.0 ± 0.0 |"]  # the worst first


def test_a_sweep_of_what_is_not_here_is_left_out(study: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    one = study.Study.read("try")
    sweep = study.Sweep(
        "later", ["checkpoint=runs/one,runs/two", "dataset.sources=[{name:a,path:runs/sets/a}]"], command="evaluate"
    )
    (one.folder.parents[1] / "runs" / "two").mkdir(parents=True)
    study.Study(one.folder, [sweep], {}, {}).run()
    assert "sweep later is left out: there is no runs/one, runs/sets/a; try/README.md says how" in capsys.readouterr().out


def test_what_is_not_there_is_named(study: ModuleType) -> None:
    with pytest.raises(InputError, match="other is no study; expected one of: try"):
        study.Study.read("other")
    one = study.Study.read("try")
    (one.folder / "README.md").write_text("# none\n")
    pd.DataFrame([row("x_y", 1, 0.5)]).to_parquet(one.folder / study.FIGURES)
    with pytest.raises(InputError, match="has no place for the table means"):
        one.draw()


def test_figures_of_runs_that_lie_elsewhere_are_kept(study: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    one = study.Study.read("try")
    with pytest.raises(InputError, match="try has no finished run in"):
        one.collect()
    second = study.Sweep("second", ["seed=1,2"])
    both = study.Study(one.folder, [*one.sweeps, second], one.tables, one.pictures)
    found = {"small": [row("x_y", 1, 0.25), row("x_y", 2, 0.5), row("bm25", None, 0.1)], "second": []}
    monkeypatch.setattr(study.Study, "_rows", lambda self, sweep: iter(found[sweep.name]))

    def collected() -> list[tuple[str, str, float]]:
        both.collect()
        figures = pd.read_parquet(one.folder / study.FIGURES)
        return list(zip(figures.sweep, figures.system, figures.value, strict=True))

    assert collected() == [("small", "x_y", 0.25), ("small", "x_y", 0.5), ("small", "bm25", pytest.approx(0.1))]
    found["second"] = [row("hybrid", 1, 0.125, sweep="second")]
    # Another place: one run anew and one more; of the baseline and of differences what the file has.
    found["small"] = [row("x_y", 2, 0.75), row("x_y", 3, 1.0), row("bm25", None, 0.2)]
    there = [("small", "x_y", value) for value in (0.25, 0.75, 1.0)]
    assert collected() == [*there, ("small", "bm25", pytest.approx(0.1)), ("second", "hybrid", 0.125)]
    found["small"] = []
    assert collected()[:3] == there
    found["small"] = [row("x_y", seed, 0.75) for seed in (1, 2, 3)] + [row("bm25", None, 0.2)]
    assert [value for *_, value in collected()] == [0.75] * 3 + [pytest.approx(0.2), 0.125]


@pytest.mark.slow
def test_a_study_that_ran_is_not_run_again(study: ModuleType) -> None:
    one = study.Study.read("try")
    one.run()
    runs = find_runs(one.place(one.sweeps[0]))
    assert [run.path.name for run in runs] == ["hybrid_1", "hybrid_2", "x_y_1", "x_y_2"]
    written = {run.path: (run.path / "metrics.json").stat().st_mtime_ns for run in runs}
    one.run()
    assert {path: (path / "metrics.json").stat().st_mtime_ns for path in written} == written
    paths = ",".join(str(run.path) for run in runs if run.config["seed"] == 1)
    again = study.Sweep("again", [f"checkpoint={paths}", "benchmark=held_out"], command="evaluate", reference="hybrid")
    evaluated = study.Study(one.folder, [again], {}, {})
    for _ in range(2):
        evaluated.run()
    one = study.Study(one.folder, [*one.sweeps, again], one.tables, one.pictures)
    one.collect()
    figures = pd.read_parquet(one.folder / study.FIGURES)
    whole = figures[
        figures.baseline.isna() & figures.noise.isna() & (figures.seed == 1) & figures.system.isin(["hybrid", "x_y"])
    ]
    keys = ["system", "benchmark", "setting", "measure", "languages"]
    first, second = (whole[whole.sweep == name].set_index(keys).value.sort_index() for name in ("small", "again"))
    assert len(second) > 20
    pd.testing.assert_series_equal(second, first[first.index.isin(second.index)])
    tested = figures[(figures.sweep == "again") & figures.baseline.notna()]
    assert set(zip(tested.system, tested.baseline, strict=True)) == {("hybrid", "x_y")}
    figures = figures[figures.sweep == "small"]
    for run in runs:
        for system, of in {run.choices["sampler"]: run, f"{run.choices['sampler']}, lir": run.baselines["lir"]}.items():
            kept = figures[(figures.system == system) & (figures.seed == run.config["seed"])]
            mine = kept[(kept.setting == "crosslingual") & (kept.measure == "map") & kept.languages.isna()]
            assert mine.value.tolist() == pytest.approx([of.figures.value("held_out", "crosslingual", "map")], rel=1e-6)
    noisy = figures[figures.measure == "perturbed/map"]
    assert set(noisy.noise) == {"drop"}
    assert set(noisy.severity) == {0.1, 0.2, 0.4}
    lost = noisy[noisy.baseline.notna()]
    assert set(lost.setting) == {"monolingual"}
    change = noisy[noisy.baseline.isna() & (noisy.setting == "monolingual") & noisy.languages.isna()]
    assert set(noisy.languages.dropna()) == {"s0", "s1", "s2", "s3"}
    change = change.assign(lost=100 * (change.value / change.clean - 1))
    means = change.groupby(["system", "severity"]).lost.mean()
    for _, found in lost.iterrows():
        expected = means[found.system, found.severity] - means[found.baseline, found.severity]
        assert found.value == pytest.approx(expected, abs=1e-4)
    differences = figures[figures.baseline.notna() & (figures.setting == "monolingual") & (figures.measure == "map")]
    means = figures[figures.baseline.isna() & figures.languages.isna()].groupby(["system", "setting", "measure"]).value.mean()
    for _, found in differences.iterrows():
        expected = means[found.system, "monolingual", "map"] - means[found.baseline, "monolingual", "map"]
        assert found.value == pytest.approx(expected, abs=1e-6)
    one.draw()
