"""Names of several runs: the choices and values in which they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_retrieval.reporting.run_directory import RunDirectory

GROUP_ORDER = ("sampler", "model", "dataset", "loss", "optimizer", "trainer")
NOT_TELLING = ("choices", "paths", "name", "logger", "benchmark", "resume", "checkpoint", "weights", "hydra")
"""Config keys and groups that differ between jobs without making them different experiments."""


@dataclass(frozen=True)
class LabelledRun:
    """A run, and the parts of its name: config key (or group) to what is shown of it."""

    run: RunDirectory
    parts: Mapping[str, str]

    @property
    def label(self) -> str:
        """For one row, such as ``hybrid seed=2``."""
        return " ".join(self.parts.values()) or self.run.title

    @property
    def without_seed(self) -> str:
        """The label of all its repetitions, where anything but the seed tells them from other runs."""
        return " ".join(text for key, text in self.parts.items() if key != "seed")

    @property
    def condition(self) -> str:
        """The label without its seed: runs with the same one are repetitions."""
        return self.without_seed or self.run.choices.get("sampler") or "all runs"


def label_runs(runs: Sequence[RunDirectory]) -> list[LabelledRun]:
    """Name runs, in their order, by what differs between them; names are unique.

    A value counts where it differs between runs of equal group choices: values that merely follow from a choice (the
    learning rate of a model's recipe) say nothing more.
    """
    choices = [run.choices for run in runs]
    order = {group: place for place, group in enumerate(GROUP_ORDER)}
    groups = sorted(_differing(choices) - set(NOT_TELLING), key=lambda group: (order.get(group, len(order)), group))
    values = [_flat({key: value for key, value in run.config.items() if key not in NOT_TELLING}) for run in runs]
    alike: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for chosen, value in zip(choices, values, strict=True):
        alike.setdefault(tuple(chosen.get(group, "") for group in groups), []).append(value)
    telling = {key for same in alike.values() for key in _differing(same)} | ({"seed"} & _differing(values))
    keys = sorted(telling, key=lambda key: (key == "seed", key))
    short = Counter(key.rpartition(".")[2] for key in keys)
    labelled = []
    for run, chosen, value in zip(runs, choices, values, strict=True):
        parts = {group: chosen[group] for group in groups if group in chosen}
        for key in keys:
            last = key.rpartition(".")[2]
            if key in value:
                parts[key] = f"{last if short[last] == 1 else key}={value[key]}"
        labelled.append(LabelledRun(run, parts))
    repeated = Counter(one.label for one in labelled)
    return [
        one if repeated[one.label] == 1 else LabelledRun(one.run, {**one.parts, "folder": f"({number}: {_folder(one.run)})"})
        for number, one in enumerate(labelled)
    ]


def conditions(labelled: Sequence[LabelledRun]) -> dict[str, list[LabelledRun]]:
    """Runs that differ only in their seed, together; in the order of their first run."""
    together: dict[str, list[LabelledRun]] = {}
    for one in labelled:
        together.setdefault(one.condition, []).append(one)
    return together


def contrasts(labelled: Sequence[LabelledRun]) -> list[tuple[str, str]]:
    """Pairs of conditions whose difference is worth a picture, as (new, reference): the reference comes first among the runs.

    Hybrid and each other sampler where all else is equal; without such a pair, each condition and the first.
    """
    firsts = {name: runs[0] for name, runs in conditions(labelled).items()}
    hybrids = {name: one for name, one in firsts.items() if one.run.choices.get("sampler") == "hybrid"}
    names = list(firsts)
    pairs = [
        (hybrid, name) if names.index(name) < names.index(hybrid) else (name, hybrid)
        for hybrid, one in hybrids.items()
        for name, other in firsts.items()
        if name not in hybrids and _alike_beside_sampler(one.parts, other.parts)
    ]
    return pairs or [(name, names[0]) for name in names[1:]]


def _alike_beside_sampler(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(one[key] == other[key] for key in (one.keys() & other.keys()) - {"sampler", "seed", "folder"})


def _folder(run: RunDirectory) -> str:
    return run.path.resolve().name


def _differing(mappings: Sequence[Mapping[str, str]]) -> set[str]:
    keys = {key for mapping in mappings for key in mapping}
    return {key for key in keys if len({mapping.get(key) for mapping in mappings}) > 1}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config by dotted key."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": str(value)}
    return flat
