"""Run a study, gather its figures into one file, and draw its tables and pictures from that file.

    python experiments/study.py NAME            # all three steps; a study that was stopped goes on
    python experiments/study.py NAME draw       # tables and pictures again, from NAME/figures.parquet alone

``NAME/study.yaml`` says what is run (Hydra sweeps), compared and drawn. Run directories go to ``runs/studies/NAME``; the tables
are written into ``NAME/README.md``, each between its marks ``<!-- table TITLE -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pictures import PANELS, draw
from scipy.stats import linregress
from scipy.stats import t as student_t

from hybrid_retrieval.config import config_directory
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation import degradation
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.evaluation.statistics.significance import holm
from hybrid_retrieval.reporting.run_directory import RunDirectory, find_runs
from hybrid_retrieval.reporting.training_curves import Curves, read_curves

HERE = Path(__file__).parent
STEPS = ("run", "collect", "draw")
FIGURES = "figures.parquet"
BY_LANGUAGE = ("map", "recall@1", "rank_distance")
"""Measures that are kept by language and language pair, too."""
TELEMETRY = {"train/gradient_cosine", "train/loss/monolingual", "train/loss/crosslingual"}
"""Curves of which the mean over the second half of a run is kept."""


@dataclass(frozen=True)
class Sweep:
    """A Hydra sweep, and what its runs are called.

    Attributes:
        overrides: of ``hybrid_retrieval.run -m``, or of another command; every override with a comma outside of brackets is
            swept over.
        command: run, or evaluate.
        system: a format over the config of a run, such as ``{choices[sampler]}``; runs of one name are seeds of one system.
        x: a number that pictures are drawn over: a config key, or a figure of training such as ``train/parameters/layers``.
        series: a format, as `system`, of what one curve of a picture is.
        reference: a format, as `system`, of the system that each run's own is compared with.
        reference_sweep: the sweep that has the reference; by default the same.
        benchmarks: those in which they are compared; all by default.
        perturbed: a measure by setting, of which the change under each perturbation at `severity` is compared, too.
    """

    name: str
    overrides: list[str]
    command: str = "run"
    system: str = "{choices[sampler]}"
    x: str | None = None
    series: str | None = None
    reference: str | None = None
    benchmarks: list[str] | None = None
    reference_sweep: str | None = None
    measures: str = "map,rank_distance"
    perturbed: dict[str, str] = field(default_factory=dict)
    severity: float = 0.1
    skip: list[str] = field(default_factory=list)
    """Baselines that the figures leave out."""
    baselines: str | None = None
    """A run whose baselines stand beside the sweep, instead of those of its own first run."""
    after: list[str] = field(default_factory=list)
    """Retrievers that change the embeddings of a run's own encoder, such as lir; with each a system has another row."""

    @property
    def needs(self) -> list[str]:
        """The folders of runs and sets that its overrides name."""
        return re.findall(r"(?<![\w./~-])runs/[\w./-]+", " ".join(self.overrides))


@dataclass(frozen=True)
class Study:
    """A folder with ``study.yaml``.

    Attributes:
        tables: of ``README.md``, by title: ``kind`` (a key of `TABLES`), ``sweep``, ``benchmark``, and more by kind.
        pictures: by file name.
    """

    folder: Path
    sweeps: list[Sweep]
    tables: dict[str, dict[str, Any]]
    pictures: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, name: str) -> Study:
        """The study of a name."""
        folder = HERE / name
        if not (folder / "study.yaml").is_file():
            known = sorted(path.parent.name for path in HERE.glob("*/study.yaml"))
            raise InputError(f"{name} is no study; expected one of: {', '.join(known)}")
        plan = yaml.safe_load((folder / "study.yaml").read_text())
        sweeps = [Sweep(**one) for one in plan["sweeps"]]
        for sweep in sweeps:
            choice(f"{folder}: command of {sweep.name}", sweep.command, ["run", "evaluate"])
        return cls(folder, sweeps, plan.get("tables", {}), plan.get("pictures", {}))

    def place(self, sweep: Sweep) -> Path:
        """Where the runs of a sweep lie."""
        return HERE.parent / "runs" / "studies" / self.folder.name / sweep.name

    def run(self) -> None:
        """Every sweep; what is finished is passed over, what was stopped goes on; not those of runs that are not here."""
        for number, sweep in enumerate(self.sweeps, 1):
            print(f"sweep {number} of {len(self.sweeps)}: {sweep.name}", flush=True)
            if lacking := [path for path in sweep.needs if not (HERE.parent / path).exists()]:
                print(
                    f"sweep {sweep.name} is left out: there is no {', '.join(lacking)}; {self.folder.name}/README.md says how"
                )
                continue
            command = [sys.executable, "-m", f"hybrid_retrieval.{sweep.command}", "-m", *sweep.overrides, "resume=auto"]
            command += [f"hydra.sweep.dir={self.place(sweep)}"]
            if sweep.command == "run":
                command += [f"hydra.sweep.subdir={_folder(sweep)}", "~hydra.callbacks.compare"]
            if subprocess.run(command, check=False, cwd=HERE.parent).returncode:
                raise InputError(f"sweep {sweep.name} of {self.folder.name} did not end well; the same command goes on with it")

    def collect(self) -> None:
        """``figures.parquet``: a row a figure of a run, or a difference of two systems.

        A sweep can be run in several places: the file keeps its runs that are not finished here. It then keeps what it has of
        baselines and differences, too.
        """
        path = self.folder / FIGURES
        before = pd.read_parquet(path) if path.is_file() else pd.DataFrame(columns=["sweep", "system", "seed"])
        tables = []
        for sweep in self.sweeps:
            made = pd.DataFrame(self._rows(sweep))
            tables.append(_joined(before[before.sweep == sweep.name], made))
        if not (filled := [one for one in tables if len(one)]):
            raise InputError(
                f"{self.folder.name} has no finished run in {self.place(self.sweeps[0]).parent}; run the study first"
            )
        table = pd.concat(filled, ignore_index=True)
        exact = ["severity", "seed", "x"]  # that rows are chosen by; of the rest, seven digits in half the space
        rest = table.select_dtypes("float64").columns.difference(exact)
        table.astype(dict.fromkeys(rest, "float32")).to_parquet(path, index=False, compression="zstd")
        print(f"wrote {path}: {len(table):,} rows")

    def _rows(self, sweep: Sweep) -> Iterator[dict[str, Any]]:
        place = self.place(sweep)
        every = find_runs(place) if place.is_dir() else []
        runs = [run for run in every if run.figures]
        if len(runs) < len(every) or not every:
            print(f"sweep {sweep.name}: {len(runs)} finished runs; the rest is left out", flush=True)
        if not runs:
            return
        systems: dict[str, list[RunDirectory]] = {}
        compared: dict[str, dict[str, list[RunDirectory]]] = {}
        for run in runs:
            name = _named(sweep.system, run)
            # an evaluation of several encoders has no seed
            own = {"sweep": sweep.name, "seed": run.config.get("seed", 1), **_origin(run)}
            own |= {"x": _value(run, sweep.x), "series": _named(sweep.series, run) if sweep.series else None}
            scored = {name: run} | {f"{name}, {after}": run.baselines[after] for after in sweep.after}
            for system, of in scored.items():
                systems.setdefault(system, []).append(of)
                if sweep.reference is not None:
                    compared.setdefault(_named(sweep.reference, run), {})[system] = systems[system]
                yield from ({**own, "system": system, **row} for row in _figures(of))
        beside = RunDirectory.open(HERE.parent / sweep.baselines) if sweep.baselines else runs[0]
        baselines = {name: run for name, run in beside.baselines.items() if name not in [*sweep.skip, *sweep.after]}
        for name, run in baselines.items():
            yield from ({"sweep": sweep.name, "system": name, **_origin(beside), **row} for row in _figures(run))
        elsewhere = self._systems(sweep.reference_sweep) if sweep.reference_sweep else systems
        for reference, against in compared.items():
            if reference not in elsewhere:
                print(
                    f"sweep {sweep.name}: no run of its reference {reference} is finished here; nothing is compared", flush=True
                )
                continue
            against |= {reference: elsewhere[reference]}
            noisy = {name: of for name, of in against.items() if all((run.path / degradation.CHANGES).is_file() for run in of)}
            lost = degradation.read(elsewhere[reference][0].path) if reference in noisy and len(noisy) > 1 else []
            if sweep.perturbed and (left := sorted(against.keys() - noisy.keys())):
                print(f"sweep {sweep.name}: {', '.join(left)}: not compared under perturbations, as not every run has them")
            at = dict.fromkeys(one.condition for one in lost if one.severity == sweep.severity)
            for setting, name in sweep.perturbed.items() if at else ():
                chosen = ["--perturbed", ",".join(at), "--setting", setting, "--measure", name]
                there = {one.benchmark for one in lost if (one.setting, one.measure.name) == (setting, name)}
                for benchmark in sorted(there & set(sweep.benchmarks or there)):
                    yield from self._differences(sweep, reference, noisy, benchmark, chosen)
            against |= {name: [run] for name, run in baselines.items()}
            for benchmark in sweep.benchmarks or runs_benchmarks(elsewhere[reference]):
                known = {one.name for one in elsewhere[reference][0].figures.measures(benchmark)}
                if there := [name for name in sweep.measures.split(",") if name in known]:
                    yield from self._differences(sweep, reference, against, benchmark, ["--measure", ",".join(there)])

    def _systems(self, name: str) -> dict[str, list[RunDirectory]]:
        """The finished runs of a sweep by their system."""
        [sweep] = [one for one in self.sweeps if one.name == name]
        found: dict[str, list[RunDirectory]] = {}
        for run in find_runs(self.place(sweep)) if self.place(sweep).is_dir() else []:
            if run.figures:
                found.setdefault(_named(sweep.system, run), []).append(run)
        return found

    def _differences(
        self, sweep: Sweep, reference: str, systems: dict[str, list[RunDirectory]], benchmark: str, asked: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """A reference against every other system, p after Holm's correction over these and measures, or perturbations."""
        from hybrid_retrieval import compare

        there = {name: runs for name, runs in systems.items() if benchmark in runs_benchmarks(runs)}
        if len(there) < 2:
            return
        paths = {name: ",".join(str(run.path) for run in runs) for name, runs in there.items()}
        named = [f"{name}={path}" for name, path in sorted(paths.items(), key=lambda one: one[0] == reference)]
        with tempfile.TemporaryDirectory() as work:
            out = Path(work) / "differences.json"
            if compare.main([*named, "--benchmark", benchmark, *asked, "--out", str(out)]):
                raise InputError(f"sweep {sweep.name}: its systems could not be compared")
            found = json.loads(out.read_text())
        shown = [one for one in found["differences"] if one["system"] == reference and not one["seen"]]
        for one, corrected in zip(shown, holm([one["p"] for one in shown]).tolist(), strict=True):
            kept = ("benchmark", "setting", "measure", "system", "baseline", "low", "high", "p", "questions")
            about: dict[str, Any] = {}
            if one["perturbed"]:
                noise, severity = one["perturbed"].split("@")
                about = {"noise": noise, "severity": float(severity), "measure": f"{degradation.PERTURBED}/{one['measure']}"}
            yield {
                "sweep": sweep.name,
                "x": _value(systems[reference][0], sweep.x),
                "value": one["difference"],
                "corrected": corrected,
                **{key: one[key] for key in kept},
                **about,
            }

    def draw(self) -> None:
        """The tables into README.md, and the pictures."""
        figures = pd.read_parquet(self.folder / FIGURES)
        readme = self.folder / "README.md"
        text = readme.read_text()
        for title, table in self.tables.items():
            block = re.compile(rf"(<!-- table {re.escape(title)} -->\n).*?(<!-- end -->)", re.DOTALL)
            if not block.search(text):
                raise InputError(f"{readme} has no place for the table {title}: <!-- table {title} -->, then <!-- end -->")
            made = TABLES[table.get("kind", "means")](figures, **{key: value for key, value in table.items() if key != "kind"})
            text = block.sub(lambda found, made=made: f"{found[1]}{made}{found[2]}", text)  # type: ignore[misc]
        readme.write_text(text)
        for name, picture in self.pictures.items():
            draw(figures, self.folder / name, **picture)


def runs_benchmarks(runs: Sequence[RunDirectory]) -> list[str]:
    """The benchmarks that all of the runs have figures for."""
    return sorted(set.intersection(*(set(run.benchmarks) for run in runs)))


def _folder(sweep: Sweep) -> str:
    """The name of a run's folder: the values of all that is swept over."""
    keys = [one.split("=", 1)[0].lstrip("+") for one in sweep.overrides if "," in re.sub(r"\[.*\]|\{.*\}", "", one)]
    groups = {path.name for path in config_directory().iterdir() if path.is_dir()}
    chosen = [f"hydra:runtime.choices.{key}" if key.split("/")[0] in groups else key for key in keys]
    return "_".join(f"${{{one}}}" for one in chosen) or "run"


def _named(template: str, run: RunDirectory) -> str:
    return template.format(**{"choices": run.choices, **{key: value for key, value in run.config.items() if key != "choices"}})


def _value(run: RunDirectory, key: str | None) -> float | None:
    """A number of a run: of its config, or of training, as ``train/parameters/layers``."""
    if key is None or key.startswith("train/"):
        return None if key is None else run.metrics[key]
    value: Any = run.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else float(value)


def _joined(held: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """The figures of a sweep that were made here, and what is held of its runs that are not finished here."""
    lacking = _runs(held) - _runs(made)
    if not lacking or made.empty:
        return held if lacking else made
    print(f"sweep {held.sweep.iloc[0]}: {len(lacking)} runs are not finished here; their figures are kept, and the tests")
    kept = held[[run in lacking for run in zip(held.system, held.seed, strict=True)]]
    tested, tested_here = (table[table.seed.isna()] for table in (held, made))
    return pd.concat([kept, made[made.seed.notna()], tested if len(tested) else tested_here])


def _runs(figures: pd.DataFrame) -> set[tuple[str, float]]:
    """System and seed of the runs that figures are of."""
    return set() if figures.empty else set(figures[figures.seed.notna()][["system", "seed"]].itertuples(index=False, name=None))


def _origin(run: RunDirectory) -> dict[str, Any]:
    environment = run.environment
    return {"machine": json.dumps(environment.get("machine")), "versions": json.dumps(environment.get("versions"))}


def _figures(run: RunDirectory) -> Iterator[dict[str, Any]]:
    for one in run.figures:
        if one.languages is None or one.seen is not None or one.measure.name in BY_LANGUAGE:
            where = {"benchmark": one.benchmark, "setting": one.setting, "measure": one.measure.name}
            yield {**where, "languages": one.languages, "value": one.value, "low": one.low, "high": one.high}
    for key, value in run.metrics.items():
        if key.startswith("train/"):
            yield {"benchmark": "train", "measure": key.removeprefix("train/"), "value": float(value)}
    for lost in degradation.read(run.path):
        if lost.query_language is None or (lost.setting, lost.measure.name) == ("monolingual", "map"):
            about = {
                "benchmark": lost.benchmark,
                "setting": lost.setting,
                "measure": f"{degradation.PERTURBED}/{lost.measure.name}",
                "languages": lost.query_language,
            }
            yield {**about, "noise": lost.perturbation, "severity": lost.severity, "value": lost.perturbed, "clean": lost.clean}
    curves = read_curves(run.path)
    for key in TELEMETRY & curves.keys():
        half = curves[key][len(curves[key]) // 2 :]
        yield {"benchmark": "train", "measure": key.removeprefix("train/"), "value": float(half.mean())}
    if (flops := _flops(run, curves)) is not None:
        yield {"benchmark": "train", "measure": "flops", "value": flops}


def _flops(run: RunDirectory, curves: Curves) -> float | None:
    """Of training: 6 a token and parameter, token embeddings and the products of attention left out (arXiv 2001.08361)."""
    layers, seconds = (run.metrics.get(f"train/{name}") for name in ("parameters/layers", "seconds"))
    if layers is None or seconds is None or "train/tokens_per_second" not in curves:
        return None
    return 6 * layers * seconds * float(curves["train/tokens_per_second"].mean())


def _table(
    figures: pd.DataFrame,
    sweep: str | list[str],
    benchmark: str,
    columns: dict[str, list[str]] | None = None,
    order: list[str] | None = None,
) -> str:
    """Markdown: a row a system, the mean over its seeds and their standard deviation."""
    chosen = {heading: tuple(key) for heading, key in (columns or PANELS).items()}
    sweeps = [sweep] if isinstance(sweep, str) else sweep
    mine = figures[figures.sweep.isin(sweeps) & (figures.benchmark == benchmark) & figures.baseline.isna()]
    lines = [f"| {benchmark} | Seeds | {' | '.join(chosen)} |", f"|---|---:|{'---:|' * len(chosen)}"]
    for name in order or list(dict.fromkeys(mine.system)):
        of = mine[mine.system == name]
        cells = []
        for setting, wanted in ((key[0], key[1:]) for key in chosen.values()):
            name_, *languages = wanted
            there = of[(of.setting == setting) & (of.measure == name_)]
            there = there[there.languages == languages[0]] if languages else there[there.languages.isna()]
            cells.append(_cell(there.value, name_))
        lines.append(f"| {name} | {of.seed.nunique() or '-'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _noise_table(
    figures: pd.DataFrame, sweep: list[str], benchmark: str, severity: float, setting: str = "monolingual", name: str = "map"
) -> str:
    """Markdown: a row a perturbation, a column a system: percent of the clean measure that is lost, over seeds."""
    mine = figures[figures.sweep.isin(sweep) & (figures.benchmark == benchmark) & (figures.severity == severity)]
    mine = mine[(mine.setting == setting) & (mine.measure == f"{degradation.PERTURBED}/{name}") & mine.baseline.isna()]
    mine = mine[mine.languages.isna()]
    lost = (100 * (mine.value / mine.clean - 1)).groupby([mine.noise, mine.system], sort=False).agg(["mean", "std"])
    systems = list(dict.fromkeys(mine.system))
    lines = [f"| {benchmark}, severity {severity:g} | {' | '.join(systems)} |", f"|---|{'---:|' * len(systems)}"]
    for noise in dict.fromkeys(mine.noise):
        there = [lost.loc[noise, one] if (noise, one) in lost.index else None for one in systems]
        shown = ["-" if one is None else f"{one['mean']:+.1f} ± {one['std']:.1f}" for one in there]
        cells = [text.removesuffix(" ± nan") for text in shown]
        lines.append(f"| {noise} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _noise_by_language_table(
    figures: pd.DataFrame, sweep: list[str], benchmark: str, severity: float, noises: list[str], name: str = "map"
) -> str:
    """Markdown: a row a language, a column a system: percent of the clean measure that is lost, over noises and seeds."""
    mine = figures[figures.sweep.isin(sweep) & (figures.benchmark == benchmark) & (figures.severity == severity)]
    mine = mine[(mine.measure == f"{degradation.PERTURBED}/{name}") & mine.baseline.isna() & mine.languages.notna()]
    mine = mine[mine.noise.isin(noises)]
    run = [mine.languages, mine.system, mine.seed]
    lost = (100 * (mine.value / mine.clean - 1)).groupby(run, dropna=False).mean().groupby(level=[0, 1]).agg(["mean", "std"])
    systems = list(dict.fromkeys(mine.system))
    worst = lost["mean"].unstack()[systems].mean(axis=1).sort_values()
    lines = [f"| {benchmark}, severity {severity:g} | {' | '.join(systems)} |", f"|---|{'---:|' * len(systems)}"]
    for language in worst.index:
        there = [lost.loc[language, one] if (language, one) in lost.index else None for one in systems]
        cells = ["-" if one is None else f"{one['mean']:+.1f} ± {one['std']:.1f}" for one in there]
        lines.append(f"| {language} | {' | '.join(text.removesuffix(' ± nan') for text in cells)} |")
    return "\n".join(lines) + "\n"


def _noise_differences_table(
    figures: pd.DataFrame,
    sweep: str,
    benchmark: str,
    severity: float,
    reference: str,
    setting: str = "monolingual",
    name: str = "map",
) -> str:
    """Markdown: a row a perturbation, a column a system: the difference of changes in percent, interval and corrected p."""
    mine = figures[(figures.sweep == sweep) & (figures.benchmark == benchmark) & (figures.severity == severity)]
    mine = mine[(mine.setting == setting) & (mine.measure == f"{degradation.PERTURBED}/{name}") & (mine.system == reference)]
    mine = mine[mine.baseline.notna()]
    others = list(dict.fromkeys(mine.baseline))
    lines = [
        f"| {reference} minus, {benchmark}, severity {severity:g} | {' | '.join(others)} |",
        f"|---|{'---:|' * len(others)}",
    ]
    for noise in dict.fromkeys(mine.noise):
        there = [mine[(mine.noise == noise) & (mine.baseline == one)] for one in others]
        cells = ["-" if found.empty else _difference(found.iloc[0], 1) for found in there]
        lines.append(f"| {noise} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Any, name: str) -> str:
    if not len(values):
        return "-"
    digits = measure(name).digits
    mean = f"{values.mean():,.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {values.std():,.{digits}f}"


def _differences_table(
    figures: pd.DataFrame,
    sweep: str | list[str],
    benchmark: str,
    reference: str | None = None,
    columns: dict[str, list[str]] | None = None,
) -> str:
    """Markdown: the reference minus every other system, with interval and corrected p; by default every reference's."""
    sweeps = [sweep] if isinstance(sweep, str) else sweep
    mine = figures[figures.sweep.isin(sweeps) & (figures.benchmark == benchmark) & figures.baseline.notna()]
    if reference is None:
        mine = mine.iloc[np.lexsort([mine.x.astype(float), [sweeps.index(one) for one in mine.sweep]])]
    else:
        mine = mine[mine.system == reference]
    tested = {*zip(mine.setting, mine.measure, strict=True)}
    chosen = columns or {heading: key for heading, key in PANELS.items() if tuple(key) in tested}
    first = benchmark if reference is None else f"{reference} minus, on {benchmark}"
    lines = [f"| {first} | {' | '.join(chosen)} |", f"|---|{'---:|' * len(chosen)}"]
    for system, name in dict.fromkeys(zip(mine.system, mine.baseline, strict=True)):
        pair, cells = mine[(mine.system == system) & (mine.baseline == name)], []
        for setting, wanted in chosen.values():
            found = pair[(pair.setting == setting) & (pair.measure == wanted)]
            cells.append("-" if found.empty else _difference(found.iloc[0], measure(wanted).digits))
        lines.append(f"| {name if reference else f'{system}, minus {name}'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(row: Any, digits: int) -> str:
    said = "p < .001" if row.corrected < 0.001 else f"p {row.corrected:.3f}".replace("0.", ".", 1)
    return f"{row.value:+,.{digits}f} ({row.low:+,.{digits}f} to {row.high:+,.{digits}f}), {said}"


def _fit_table(
    figures: pd.DataFrame,
    sweep: str,
    benchmark: str,
    gains: Sequence[tuple[str, str]] = (),
    columns: dict[str, list[str]] | None = None,
) -> str:
    """Markdown: what a tenfold x adds to each series, by least squares over the runs, with 95% intervals.

    Args:
        gains: pairs of series; a row more for each, of the first minus the second, paired by x and seed.
    """
    chosen = columns or PANELS
    mine = figures[(figures.sweep == sweep) & (figures.benchmark == benchmark) & figures.baseline.isna() & figures.x.notna()]
    mine = mine[mine.languages.isna()]
    lines = [f"| {benchmark}, for a tenfold size | {' | '.join(chosen)} |", f"|---|{'---:|' * len(chosen)}"]
    cells: dict[str, list[str]] = {}
    for setting, wanted in chosen.values():
        rows = mine[(mine.setting == setting) & (mine.measure == wanted)].pivot_table("value", ["x", "seed"], "series")
        rows = rows.reindex(columns=list(dict.fromkeys(mine.series)))
        for one, other in gains:
            rows[f"{one} minus {other}"] = rows[one] - rows[other]
        for name, of in rows.items():
            cells.setdefault(str(name), []).append(_slope(of.dropna(), measure(wanted).digits))
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row)} |" for name, row in cells.items())]) + "\n"


def _slope(values: pd.Series, digits: int) -> str:
    """Of values over the logarithm of x, the first level of their index; a dash of fewer than three."""
    if len(values) < 3:
        return "-"
    fit = linregress(np.log10(values.index.get_level_values("x").to_numpy(float)), values.to_numpy())
    half = fit.stderr * student_t.ppf(0.975, len(values) - 2)
    return f"{fit.slope:+,.{digits}f} ({fit.slope - half:+,.{digits}f} to {fit.slope + half:+,.{digits}f})"


TABLES: dict[str, Callable[..., str]] = {
    "means": _table,
    "differences": _differences_table,
    "fit": _fit_table,
    "noise": _noise_table,
    "noise by language": _noise_by_language_table,
    "noise differences": _noise_differences_table,
}


def main() -> int:
    """The steps that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("steps", metavar="STEP", nargs="*", help=", ".join(STEPS))
    chosen = parser.parse_args()
    try:
        study = Study.read(chosen.name)
        for step in chosen.steps or STEPS:
            choice("step", step, STEPS)
            getattr(study, step)()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
