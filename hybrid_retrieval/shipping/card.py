"""The model card of a run, every figure of it from the run's own files.

Text from outside (names, paths, languages) comes in at one place, `open_public`, which takes folders and passwords out of it,
and goes out at one place, the template's `_escape`, so that none of it is Markdown.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hybrid_retrieval.errors import escaped, printable, reading
from hybrid_retrieval.evaluation.figures import SEEN, Figure
from hybrid_retrieval.evaluation.measures import POOLED, SETTINGS, Measure
from hybrid_retrieval.files import read_recorded, write_text
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.run_report import SENTENCES
from hybrid_retrieval.reporting.table import number
from hybrid_retrieval.reporting.tables import retrieval_measures, run_table
from hybrid_retrieval.shipping.command_line import command_line
from hybrid_retrieval.shipping.mteb_results import mteb_results
from hybrid_retrieval.shipping.public import (
    HUB_NAME,
    UNKNOWN,
    base_of,
    bcp47,
    benchmarks_of,
    data_of,
    open_public,
    public,
    trained_on,
)

CARD, RESULTS = "README.md", "results"
AUDIT = "audit.json"
NOT_STATED = "not stated"
LIBRARY, PIPELINE = "sentence-transformers", "sentence-similarity"
TAGS = (LIBRARY, PIPELINE, "feature-extraction", "information-retrieval", "hybrid-retrieval")
MARKS = re.compile(r"([\\`*\[\]<>|~#&!$]|(?<!\w)_|_(?!\w))")
"""What Markdown takes for more than text, wherever in a line."""
REVISIONS = ("revision", "version", "state")
"""Keys of a provenance that say which state of a set it is; without one, its fingerprint does."""
USAGE = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer({name})
queries = model.encode_query(["How do I open a file?"])
passages = model.encode_document(["Choose Open in the menu File.", "Wählen Sie im Menü Datei den Eintrag Öffnen."])
print(model.similarity(queries, passages))"""
Languages = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Row:
    """A label, and a cell a column."""

    label: str
    cells: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of the card."""

    corner: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the card says of one benchmark."""

    name: str
    counts: Sequence[str]
    settings: Grid
    languages: Grid
    pairs: Grid
    bias: Grid
    notes: Sequence[str]


def model_card(run: Path, name: str | None = None, licence: str | None = None, differs: str | None = None) -> str:
    """The card of a run directory: the hub's front matter, and what a reader has to know.

    Args:
        name: of the model, on the hub ``owner/name``.
        licence: of the weights, which no file of a run states.
        differs: in what the model is not the one that the run measured; its figures are then no results of the front matter.

    Raises:
        InputError: `run` is not a run directory, or a file of it is not as it was written.
    """
    from huggingface_hub import ModelCard
    from jinja2 import Environment, FileSystemLoader

    opened, shown = open_public(run), None if name is None else public(printable(name))
    with reading(f"{run} cannot be described", whole=True):
        facts = _facts(opened, shown, licence) | {"differs": differs}
        front = _front_matter(opened, shown, licence, scored=differs is None)
        environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, finalize=_escape)
        environment.trim_blocks = environment.lstrip_blocks = True
        environment.filters["block"] = _block
        text = environment.get_template("card.md.j2").render(facts)
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n\n{text}"))


def write_card(
    run: Path, directory: Path, name: str | None = None, licence: str | None = None, differs: str | None = None
) -> list[Path]:
    """``README.md`` and, beside it, ``results/`` in mteb's form, unless the model `differs`; the files."""
    files = {directory / CARD: model_card(run, name, licence, differs)}
    results = mteb_results(run, name) if differs is None else {}
    files |= {directory / RESULTS / file: json.dumps(one, indent=2) for file, one in results.items()}
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    return [write_text(path, text) for path, text in files.items()]


def _facts(run: RunDirectory, name: str | None, licence: str | None) -> dict[str, Any]:
    """What the template shows."""
    composition, audit = BatchComposition.read(run.path), _audit(run)
    place = f"model.name={name}" if name and "/" in name else f"model.path={name or 'DIRECTORY'}"
    return {
        "title": name or run.title,
        "usage": USAGE.format(name=json.dumps(name or "DIRECTORY", ensure_ascii=False)),
        "evaluate": shlex.join(["hybrid-retrieval", "evaluate", "model=published", place]),
        "system": run.title,
        "licence": licence or NOT_STATED,
        "languages": _languages_in_words(run),
        "base": base_of(run) or (run.config.get("model") or {}).get("path"),
        "training": _training(run),
        "drawn": composition and _drawn(composition),
        "data": [_origin(one) | {"licence": str(one.get("license") or NOT_STATED)} for one in data_of(run)],
        "benchmarks": [_origin({"name": key, **one}) for key, one in benchmarks_of(run).items()],
        "provenance": {key: run.environment[key] for key in ("data", "benchmarks") if run.environment.get(key)},
        "audit": audit and _audited(audit),
        "audit_limits": audit,
        "stopping": {key: counts["stopping"] for key, counts in audit["benchmarks"].items()} if audit else {},
        "scored": [_scored(run, benchmark) for benchmark in run.benchmarks],
        "beside": _beside(run),
        "limits": list(_limits(run, audit)),
        "command": command_line(run.config),
        "environment": _environment(run),
    }


def _front_matter(run: RunDirectory, name: str | None, licence: str | None, scored: bool) -> Any:
    """As huggingface_hub makes it, which checks the results too."""
    from huggingface_hub import ModelCardData

    languages = dict.fromkeys(tag.partition("-")[0] for tag in map(bcp47, trained_on(run)) if tag)
    hub = [str(one["hub"]) for one in data_of(run) if one.get("hub")]
    return ModelCardData(
        language=list(languages) or None,
        license=licence or UNKNOWN,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE,
        tags=[*TAGS, *(["multilingual"] if len(languages) > 1 else [])],
        datasets=[one for one in hub if HUB_NAME.fullmatch(one)] or None,
        base_model=base_of(run),
        model_name=name or printable(run.title),
        eval_results=(list(_eval_results(run)) or None) if scored else None,
        training_datasets=[printable(str(one["name"])) for one in data_of(run)] or None,
    )


def _eval_results(run: RunDirectory) -> Iterator[Any]:
    """The mean of each measure in each setting of each benchmark."""
    from huggingface_hub import EvalResult

    for benchmark in run.benchmarks:
        origin, shown = benchmarks_of(run).get(benchmark, {}), printable(benchmark)
        for setting, short in SETTINGS.items():
            for one in retrieval_measures([run], benchmark):
                if figure := run.figures.get(benchmark, setting, one.name):
                    bounds = None if figure.margin is None else {"confidence_interval_95": [figure.low, figure.high]}
                    yield EvalResult(
                        task_type="information-retrieval",
                        task_name="Information Retrieval",
                        dataset_type=shown,
                        dataset_name=f"{shown} ({setting})",
                        dataset_config=setting,
                        dataset_split=str(origin.get("split") or "test"),
                        dataset_revision=str(origin.get("revision") or origin.get("fingerprint") or "") or None,
                        metric_type=one.name.replace("@", "_at_"),
                        metric_name=f"{short} {one.label}",
                        metric_value=figure.value,
                        metric_args=bounds,
                    )


def _languages_in_words(run: RunDirectory) -> list[str]:
    names = {name: bcp47(name) for name in trained_on(run)}
    return [tag or f"{name} (no code of BCP 47)" for name, tag in names.items()]


def _training(run: RunDirectory) -> dict[str, Any]:
    """Names and values of the training."""
    groups: dict[str, Sequence[str]] = {
        "sampler": ("alpha", "ratio_mode", "batch_size"),
        "loss": ("temperature", "mask"),
        "optimizer": ("lr", "weight_decay", "schedule"),
        "model": ("layers", "hidden", "dimensions", "vocabulary", "pooling", "max_query_length", "max_passage_length"),
        "evaluation": ("checkpoint",),
    }
    config = {group: run.config.get(group) or {} for group in groups}
    found: dict[str, str] = {key: run.choices[key] for key in ("dataset", *groups) if key in run.choices}
    found |= {
        f"{group}.{key}": str(values[key])
        for group, keys in groups.items()
        if isinstance(values := config[group], dict)
        for key in keys
        if values.get(key) is not None
    }
    found["seed"] = str(run.config.get("seed"))
    words = {"steps": "steps", "batches/pairs": "pairs drawn", "best_score": f"best {_monitor(run)}"}
    return found | {said: f"{run.metrics[f'train/{key}']:,.6g}" for key, said in words.items() if f"train/{key}" in run.metrics}


def _monitor(run: RunDirectory) -> str:
    return str((run.config.get("training") or {}).get("monitor") or "validation figure")


def _drawn(composition: BatchComposition) -> Grid:
    """Pairs by language."""
    pairs = composition.pairs
    sides = (pairs.sum(axis=1), pairs.sum(axis=0))
    own = {name: int(pairs.loc[name, name]) for name in pairs.index}
    rows = [Row(name, [f"{int(side[name]):,}" for side in sides] + [f"{own[name]:,}"]) for name in map(str, pairs.index)]
    return Grid("Language", ["As query", "As passage", "As both"], rows)


def _origin(record: Mapping[str, Any]) -> dict[str, str]:
    """Name, whereabouts and state of a set."""
    places = [str(record[key]) for key in ("hub", "publisher", "set", "path") if record.get(key)]
    state = next((f"{key} {record[key]}" for key in REVISIONS if isinstance(record.get(key), (str, int))), "")
    packages = record.get("packages")
    if isinstance(packages, dict) and packages:
        places, state = [*places, "a distribution's packages"], state or f"{next(iter(packages))} and the like, in full below"
    return {
        "name": str(record["name"]),
        "place": places[0] if places else "generated" if record.get("generated") else NOT_STATED,
        "state": state or NOT_STATED,
        "fingerprint": str(record.get("fingerprint") or NOT_STATED),
    }


def _audit(run: RunDirectory) -> dict[str, Any] | None:
    path = run.path / AUDIT
    return read_recorded(path) if path.is_file() else None


def _audited(audit: Mapping[str, Any]) -> Grid:
    """Texts of each benchmark that occur in the training text."""
    kinds = ("exact", "normalised", "id", "ngram")
    rows = [
        Row(f"{name}: {side}", [f"{counts[side][key]:,}" for key in ("looked_for", *kinds)])
        for name, counts in audit["benchmarks"].items()
        for side in ("queries", "passages")
        if side in counts
    ]
    return Grid("Benchmark", ["Texts", "Equal", "Equal words", "Equal ids", "n-grams"], rows)


def _scored(run: RunDirectory, benchmark: str) -> Scored:
    """The tables of a benchmark."""
    figures, measures = run.figures, retrieval_measures([run], benchmark)
    find = partial(figures.get, benchmark)
    shown = [one for one in SETTINGS if any(find(one, measure.name) for measure in measures)]
    means = [
        Row(f"{one.label}{suffix}", [_cell(find(setting, one.name, languages), one) for setting in shown])
        for languages, suffix in ((None, ""), (SEEN, " · seen†"))
        for one in measures
        if any(find(setting, one.name, languages) for setting in shown)
    ]
    head = measures[0] if measures else None
    of_language = [("monolingual", head), ("multilingual", head)] if head else []
    of_language += [("multilingual", one) for one in measures if one.settings == POOLED]
    columns = {
        f"{SETTINGS[setting]} {one.label}": (figures.by_languages(benchmark, setting, one.name), one)
        for setting, one in of_language
    }
    languages = sorted({name for found, _ in columns.values() for name in found})
    by_language = [Row(name, [_cell(found.get(name), one) for found, one in columns.values()]) for name in languages]
    pairs = figures.by_languages(benchmark, "crosslingual", head.name) if head else {}
    sides = [sorted({str(getattr(one, f"{side}_language")) for one in pairs.values()}) for side in ("query", "corpus")]
    matrix = [Row(asked, [_cell(pairs.get(f"{asked}-{answered}"), head, False) for answered in sides[1]]) for asked in sides[0]]
    bias = [one for one in figures.measures(benchmark) if one.settings == POOLED]
    return Scored(
        benchmark,
        [
            f"{SENTENCES[setting]} ({SETTINGS[setting]}): {number(count.value, 0)} queries"
            for setting in shown
            if (count := find(setting, "queries"))
        ],
        Grid("Measure", [f"{SETTINGS[one]} ({one})" for one in shown], means),
        Grid("Language", list(columns), by_language),
        Grid(f"{head.label if head else ''}, query \\ corpus", sides[1], matrix),
        Grid("Measure", ["All", "Lowest by language", "Highest by language"], [_bias(run, benchmark, one) for one in bias]),
        run_table(run, benchmark).notes,
    )


def _cell(figure: Figure | None, one: Measure | None, bounds: bool = True) -> str:
    """A figure with its interval."""
    if figure is None or one is None:
        return "-"
    value, low, high = (None if each is None else number(each, one.digits) for each in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})" if bounds and low is not None and high is not None else str(value)


def _bias(run: RunDirectory, benchmark: str, one: Measure) -> Row:
    found = run.figures.by_languages(benchmark, "multilingual", one.name)
    ends = [end(found, key=lambda name: found[name].value) for end in (min, max) if found]
    shown = [f"{name}: {_cell(found[name], one, False)}" for name in ends] or ["-", "-"]
    return Row(one.label, [_cell(run.figures.get(benchmark, "multilingual", one.name), one), *shown])


def _beside(run: RunDirectory) -> list[Grid]:
    """What was scored beside the model, by the headline measure of each benchmark."""
    systems = {run.title: run, **run.baselines}
    found = []
    for benchmark in run.benchmarks if len(systems) > 1 else ():
        head = retrieval_measures([run], benchmark)[:1]
        rows = [
            Row(name, [_cell(one.figures.get(benchmark, setting, measure.name), measure) for setting in SETTINGS])
            for measure in head
            for name, one in systems.items()
        ]
        found += [Grid(f"{benchmark}: {measure.label}", list(SETTINGS.values()), rows) for measure in head]
    return found


def _limits(run: RunDirectory, audit: Mapping[str, Any] | None) -> Iterator[str]:
    """What a user must not expect, and what was not measured."""
    for benchmark in run.benchmarks:
        if never := run.figures.never_seen(benchmark):
            yield f"Languages of {benchmark} that were never trained on: {', '.join(never)}."
    if audit and not (base_of(run) or (run.config.get("model") or {}).get("path")):
        texts = sum(int(part["texts"]) for part in audit.get("training") or ())
        yield f"No pretrained weights: all that the model knows, it knows from {texts:,} training texts."
    lengths = [(run.config.get("model") or {}).get(f"max_{side}_length") for side in ("query", "passage")]
    if None not in lengths:
        yield f"Trained and measured on texts that were cut off at {lengths[0]} tokens (queries) and {lengths[1]} (passages)."
    scored = {one.query_language for one in run.figures} | {one.corpus_language for one in run.figures}
    if unmeasured := [name for name in trained_on(run) if name not in scored]:
        yield f"Trained on and not measured: {', '.join(unmeasured)}."
    if absent := [name for name in run.config.get("benchmark") or {} if name not in run.benchmarks]:
        yield f"Chosen and not measured, for the data was not at hand: {', '.join(absent)}."
    if not run.benchmarks:
        yield "Nothing was measured on a benchmark."
    elif not any(one.margin is not None for one in run.figures):
        yield "The figures have no intervals."
    else:
        yield "Intervals are over queries: how far another seed would be off is not in them."
    if audit is None:
        yield "Whether benchmark texts were trained on was not audited."
    yield "Not measured: other domains than those of the data and benchmarks above, quantised or truncated embeddings, harm."


def _environment(run: RunDirectory) -> dict[str, str]:
    """Versions, machine, time."""
    known = {key: value for key, value in run.environment.items() if key not in ("data", "benchmarks")}
    found: dict[str, str] = {}
    for key, value in known.items():
        parts = value if isinstance(value, dict) else {"": value}
        found |= {f"{key} {name}".strip(): str(one) for name, one in parts.items() if one is not None}
    words = {"train/seconds": "seconds of training", "train/pairs_per_second": "pairs per second"}
    return found | {said: f"{run.metrics[key]:,.6g}" for key, said in words.items() if key in run.metrics}


def _escape(value: Any) -> Any:
    """A value of the template as text that Markdown leaves alone; what is Markup already stays."""
    return value if isinstance(value, Markup) else Markup(MARKS.sub(r"\\\1", printable(str(value))))  # noqa: S704


def _block(text: Any, language: str = "") -> Markup:
    """A block of code whose fence the text does not hold; anything but text is shown as JSON."""
    whole = text if isinstance(text, str) else json.dumps(text, indent=1, ensure_ascii=False)
    lines = escaped(whole, but="\n")
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", lines))])
    return Markup(f"{fence}{language}\n{lines}\n{fence}")  # noqa: S704
