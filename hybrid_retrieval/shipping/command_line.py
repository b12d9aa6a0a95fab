"""The command that repeats a run: the choices and values of its config that are not the defaults."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hybrid_retrieval.config import config_directory

COMMAND = "hybrid-retrieval run"
ALWAYS = ("sampler", "model", "dataset")
"""Groups whose choice is said even where it is the default."""
LISTS = ("benchmark", "retriever", "callbacks")
"""Groups of which several are chosen, each in a node of its name."""
OF_A_PLACE = ("paths", "logger", "name", "resume", "choices", "checkpoint", "debug")
"""Groups and keys of a config that change no result."""
PLAIN = re.compile(r"[\w/.+-]+")
NO_TEXT = re.compile(r"null|true|false|[+-]?(inf|nan|\d[\d_]*(\.\d*)?(e[+-]?\d+)?|\.\d+)", re.IGNORECASE)
"""What Hydra reads as something else than text."""
Config = Mapping[str, Any]


def command_line(saved: Config) -> str:
    """The command that repeats the run with this config, an argument a line, to be given in any shell."""
    told, unsaid = overrides(saved)
    remarks = [f"# no override sets {', '.join(unsaid)} as it was"] if unsaid else []
    return " \\\n  ".join([COMMAND, *map(shlex.quote, told), *remarks])


def overrides(saved: Config) -> tuple[list[str], list[str]]:
    """Hydra's overrides that compose this config, as far as it changes a result; and the groups that none compose."""
    config = yaml.safe_load((config_directory() / "config.yaml").read_text(encoding="utf-8"))
    defaults = {group: name for item in config["defaults"] if isinstance(item, dict) for group, name in item.items()}
    chosen: dict[str, Any] = {**(saved.get("choices") or {}), **{group: list(saved.get(group) or ()) for group in LISTS}}
    told = [
        f"{group}={_written(name)}"
        for group, name in sorted(chosen.items(), key=lambda item: item[0] not in ALWAYS)
        if group in defaults and group not in OF_A_PLACE and (group in ALWAYS or name != defaults[group])
        if _choices(group).issuperset([name] if isinstance(name, str) else name)
    ]
    base, unsaid = composed(told), []
    for group in (*base, *(saved.keys() - base.keys() - {*OF_A_PLACE})):  # in the order in which they build on each other
        if group in saved and (found := [*_differences({group: saved[group]}, base)]):
            try:
                base = composed([*told, *found])
                told += found
            except (HydraException, OmegaConfBaseException):
                unsaid.append(str(group))
    return told, unsaid


def composed(overrides: list[str]) -> dict[str, Any]:
    """The config of a job with these overrides, without what depends on its place."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    running = GlobalHydra.instance().hydra  # of the job that asks, where one does
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            node = hydra.compose("config", [*overrides, "logger=[]"])
    finally:
        GlobalHydra.instance().hydra = running
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key not in OF_A_PLACE}


def _choices(group: str) -> set[str]:
    return {path.stem for path in (config_directory() / group).glob("*.yaml")}


def _differences(saved: Config, base: Config, prefix: str = "") -> Iterator[str]:
    for key, value in saved.items():
        name = f"{prefix}{key}"
        if key == "_target_" and key in base:
            continue
        before = base.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and before:
            yield from _differences(value, before, f"{name}.")
        elif key not in base:
            yield from [f"+{name}={_written(value)}"] if value else []
        elif value != before:
            yield f"{name}={_written(value)}"


def _written(value: Any) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_written(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_written, value))}]"
    if value is None or isinstance(value, (bool, int, float)):
        return "null" if value is None else repr(value).lower()
    text = str(value)
    if PLAIN.fullmatch(text) and not NO_TEXT.fullmatch(text):
        return text
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"
