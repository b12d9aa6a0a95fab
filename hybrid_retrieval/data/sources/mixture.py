"""Several sets at once: every batch is drawn from one of them, chosen by weight."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import OmegaConf

from hybrid_retrieval.config import PathsConfig, choice_values, config_directory
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError, nearest
from hybrid_retrieval.values import Name, Positive, Temperature, build, check

DEFAULT = "beir_parallel"
OWN = ("dataset", "name", "weight")


@dataclasses.dataclass(eq=False)
class Mixture(Source):
    """The sets that ``dataset.sources`` chooses, each with the keys of its own config."""

    paths: PathsConfig
    sources: list[dict[str, Any]]
    set_choice: str | Temperature = "size"
    languages: list[str] | None = None

    name = "mixture"

    def __post_init__(self) -> None:
        temperature = self.set_choice if isinstance(self.set_choice, (int, float)) else 1.0
        if temperature < 1 or self.set_choice not in ("uniform", "size", temperature) or isinstance(self.set_choice, bool):
            raise InputError(
                f"dataset.set_choice={self.set_choice!r} is unknown; expected uniform, size, or a temperature of 1 or more"
            )
        if not self.sources:
            raise InputError("dataset.sources is empty; expected sets, as in 'dataset.sources=[{name: a, path: folder}]'")
        self._members: dict[str, tuple[Source, float]] = {}
        used: set[str] = set()
        for index, entry in enumerate(self.sources):
            key = f"dataset.sources[{index}]"
            name, source, weight, languages = _member(entry, key, self.paths, self.languages)
            used.update(languages)
            if name in self._members:
                raise InputError(f"{key}.name={name!r} is taken by another set: give it a name of its own")
            self._members[name] = source, weight
        for language in self.languages or ():
            if language not in used:
                raise InputError(f"dataset.languages asks for {language!r}, which no set has{nearest(language, used)}")

    def at_hand(self) -> bool:
        return all(source.at_hand() for source, _ in self._members.values())

    def pairs(self) -> ParallelPairs:
        if len(self._members) > 1:
            names = ", ".join(self._members)
            raise InputError(
                f"dataset=mixture holds several sets ({names}) where one is needed, as for a benchmark: choose one"
            )
        return self._weighted()[0]

    def sets(self) -> list[ParallelPairs]:
        found = self._weighted()
        sizes = [len(pairs.split_edges("train")) for pairs in found]
        if not any(sizes):
            raise InputError("dataset.sources: none of the sets has a pair to train on")
        factors = [self._size_factor(size) for size in sizes]
        return [dataclasses.replace(pairs, weight=pairs.weight * factor) for pairs, factor in zip(found, factors, strict=True)]

    def provenance(self) -> list[dict[str, Any]]:
        return [{**one, "name": name} for name, (source, _) in self._members.items() for one in source.provenance()]

    def _size_factor(self, size: int) -> float:
        """The size to the power 1/temperature; a set without edges is never drawn."""
        if self.set_choice == "uniform":
            return float(size > 0)
        return float(size) if isinstance(self.set_choice, str) else float(size ** (1 / self.set_choice))

    def _weighted(self) -> list[ParallelPairs]:
        """The sets under the names that manifests give them, each with its own weight."""
        members = self._members.items()
        return [dataclasses.replace(source.pairs(), name=name, weight=weight) for name, (source, weight) in members]


def _member(
    entry: dict[str, Any], key: str, paths: PathsConfig, languages: list[str] | None
) -> tuple[str, Source, float, list[str]]:
    """Name, source, weight and languages of the set that an entry of ``dataset.sources`` describes.

    Where the entry names no languages, they are those of `languages` that the set has; all, for it to refuse, where only
    reading tells.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{key}={entry!r} is not a mapping; expected something like {{name: a, path: folder}}")
    configs = {file.stem for file in (config_directory() / "dataset").glob("*.yaml") if file.stem != Mixture.name}
    name, weight = entry.get("name"), entry.get("weight", 1.0)
    check({"name": Name | None, "weight": Positive}, {"name": name, "weight": weight}, key)
    dataset = entry.get("dataset") or (name if name in configs else DEFAULT)
    if dataset not in configs:
        raise InputError(f"{key}.dataset={dataset!r} is unknown{nearest(dataset, configs)}")
    if "dataset" not in entry and name not in configs and "path" not in entry:
        raise InputError(f"{key}.name={name!r} is no known set and the entry has no path{nearest(name, configs)}")
    given = {option: value for option, value in entry.items() if option not in OWN}
    values = OmegaConf.to_container(OmegaConf.merge(choice_values("dataset", dataset), given), resolve=True)
    assert isinstance(values, dict)
    node = {str(option): value for option, value in values.items()}
    taken = entry.get("languages")
    if languages is not None and "languages" not in entry:
        whole = build({**node, "languages": node.get("languages") or languages}, Source, key, paths=paths)
        offered = whole.offered()
        taken = [language for language in languages if offered is None or language in offered]
        if not taken:
            there = f"; it has: {', '.join(sorted(offered))}" if offered else ""
            raise InputError(f"{key}: {(name or whole.name)!r} has none of dataset.languages={languages}{there}")
        node["languages"] = taken
    source = build(node, Source, key, paths=paths)
    return name or source.name, source, float(weight), taken or []
