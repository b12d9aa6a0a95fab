"""Bad values for every key of the config, drawn from the annotations: each is one line that names the key, before any work."""

from __future__ import annotations

import copy
import math
import random
import resource
import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import hydra
import lightning
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from hybrid_retrieval.config import CLOSED, AugmentConfig, JobConfig, config_directory, job_config
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluate import EvaluateConfig
from hybrid_retrieval.models.adapters import Lora
from hybrid_retrieval.models.api import ApiEncoder
from hybrid_retrieval.models.concatenated import ConcatenatedEncoder
from hybrid_retrieval.plan import PlanConfig
from hybrid_retrieval.run import check_config
from hybrid_retrieval.sampling.ratio import ScheduleConfig
from hybrid_retrieval.training.exact import NUMBERS, REFUSED
from hybrid_retrieval.values import Range, Text, annotated, locate
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command

GROUPS = {
    "sampler": ["hybrid", "hybrid_within_batch", "x_x", "x_x_mono", "x_y", "english"],
    "loss": ["infonce", "supcon", "language_adversarial", "distill_scores", "distill_embeddings", "simcse"],
    "model": ["static", "tiny", "labse"],
    "dataset": ["synthetic", "libreoffice_help", "mmarco"],
    "optimizer": ["adamw"],
}
LISTS = {
    "benchmark": ["held_out", "help_r", "xquad_r", "mkqa", "belebele", "miracl"],
    "retriever": ["bm25", "lir", "center", "whiten", "random"],
    "callbacks": ["best", "early_stopping", "learning_rate", "mean"],
    "logger": ["csv"],
}
SETTINGS = ["trainer.accelerator=cpu", "sampler.batch_size=16", "trainer.max_steps=12"]
NESTED = {"sampler.schedule": ScheduleConfig, "model.lora": Lora}
"""Mappings of the config that have a schema and no ``_target_``."""
OF_KIND: dict[Any, list[Any]] = {
    str: ["abc", "1e20x"],
    types.NoneType: [None],
    list: [[1], [], [[None]]],
    dict: [{"a": 1}],
    bool: [True],
    float: [0.5, 1e20, -2.5],
}
"""Values of each kind, for keys that do not take that kind."""


class Key(NamedTuple):
    """A key of the config, the number of the composition that has it, and its annotation."""

    composition: int
    name: str
    hint: Any
    ours: bool


@cache
def composed(number: int) -> DictConfig:
    """A config with the choices of this number, of all groups."""
    chosen = [f"{group}={choices[number % len(choices)]}" for group, choices in GROUPS.items()]
    lists = [f"{group}=[{','.join(choices)}]" for group, choices in LISTS.items()]
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        found = hydra.compose("config", [*chosen, *lists, *SETTINGS], return_hydra_config=True)
    with open_dict(found):
        found.hydra.runtime.output_dir = "/run_directory"
    return found


def keys_of(number: int, node: Any, name: str) -> Iterator[Key]:
    """The keys of a node with ``_target_``, and those of the nodes in it."""
    for key, hint in annotated(locate(node["_target_"], object, name)).items():
        if key in node and key != "paths":
            yield Key(number, f"{name}.{key}", hint, node["_target_"].startswith("hybrid_retrieval."))
            if isinstance(node[key], dict) and "_target_" in node[key]:
                yield from keys_of(number, node[key], f"{name}.{key}")
            for inner, stated in annotated(NESTED[f"{name}.{key}"]).items() if f"{name}.{key}" in NESTED else ():
                yield Key(number, f"{name}.{key}.{inner}", stated, True)


@cache
def keys() -> list[Key]:
    """Every key of the schema: of closed groups, of the Trainer, of what each choice names."""
    found = [Key(0, f"{group}.{key}", hint, True) for group, kind in CLOSED.items() for key, hint in annotated(kind).items()]
    found += [Key(0, f"dataset.augment.{key}", hint, True) for key, hint in annotated(AugmentConfig).items()]
    groups = {*CLOSED, *GROUPS, *LISTS, "trainer"}
    found += [Key(0, name, hint, True) for name, hint in annotated(JobConfig).items() if name not in groups]
    stated = {**typing.get_type_hints(lightning.Trainer.__init__), **NUMBERS}
    found += [Key(0, f"trainer.{key}", hint, key in NUMBERS) for key, hint in stated.items() if key not in {*REFUSED, "return"}]
    for number in range(max(map(len, GROUPS.values()))):
        for group in [*GROUPS, *LISTS] if number == 0 else GROUPS:
            node: Any = OmegaConf.to_container(composed(number)[group], resolve=False)
            for name, one in [(group, node)] if "_target_" in node else [(f"{group}.{name}", node[name]) for name in node]:
                found += keys_of(number, one, name)
    return list({(key.name, str(key.hint)): key for key in found}.values())


def leaves(hint: Any) -> list[tuple[Any, tuple[Any, ...], tuple[Any, ...]]]:
    """The types that a union is of, each with its limits and with what it is a container of."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [leaf for option in typing.get_args(hint) for leaf in leaves(option)]
    limits = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    bare = typing.get_args(hint)[0] if limits else hint
    kind = typing.get_origin(bare) or bare
    return [(list if kind is tuple else kind, limits, typing.get_args(bare))]


def outside(kind: Any, limits: tuple[Any, ...], inner: tuple[Any, ...]) -> list[Any]:
    """Values of a type that are none for its limits."""
    if kind is str:
        named = any(isinstance(limit, Text) and limit.file_name for limit in limits)
        return ["a\0b", "\x1b[2J", "\ud800", *(["", "..", "a/b", "a\nb", " ", "../x", "/etc/x"] if named else [])]
    if kind is list:
        return [[value] for leaf in leaves(inner[0]) for value in outside(*leaf)] if inner else []
    if kind not in (int, float):
        return []
    found: list[Any] = [10**30, -(10**30)] if kind is int else [math.nan, math.inf, -math.inf]
    for limit in limits:
        step = 1 if kind is int else 1e-3
        found += [limit.low if limit.above else limit.low - step, limit.low - 1000]
        found += [limit.high if limit.below else limit.high + step] if math.isfinite(limit.high) else []
    return found


def bad_values(hint: Any) -> list[Any]:
    """Values that a key of this annotation must refuse; none where it is of no config type."""
    options = leaves(hint)
    taken = {kind for kind, _, _ in options}
    if not taken <= {int, float, str, bool, list, dict, types.NoneType}:
        return []
    wrong = [value for kind, values in OF_KIND.items() if kind not in taken for value in values]
    ranges = [limit for kind, limits, _ in options for limit in limits or [Range(-math.inf)] if kind in (int, float)]
    strays = [value for option in options for value in outside(*option)]  # one option's may be another's own
    return wrong + [one for one in strays if type(one) not in (int, float) or all(within.fault(one) for within in ranges)]


@cache
def cases() -> list[tuple[Key, Any]]:
    """Every key with every value that it must refuse, in a random order in which every key comes early."""
    drawn = random.Random(0)
    found = [(key, drawn.sample(values, len(values))) for key in keys() if (values := bad_values(key.hint))]
    drawn.shuffle(found)
    most = max(len(values) for _, values in found)
    return [(key, values[turn]) for turn in range(most) for key, values in found if turn < len(values)]


def refusal(key: Key, value: Any) -> str:
    """What the checks before a run say of a value; nothing where it may be run."""
    config = copy.deepcopy(composed(key.composition))
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config.hydra
        parent, _, last = key.name.rpartition(".")
        if parent and OmegaConf.select(config, parent) is None:
            OmegaConf.update(config, parent, {})
        node = OmegaConf.select(config, parent) if parent else config
        node[last] = value
    try:
        check_config(job_config(config))
    except InputError as error:
        return str(error)
    return ""


def check_refused(some: list[tuple[Key, Any]]) -> None:
    missed = []
    for key, value in some:
        said = refusal(key, value)
        if not (said and key.name.rpartition(".")[2] in said and len(said.splitlines()) == 1 and len(said) < 500):
            missed.append(f"{key.name}={value!r}: {said}")
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in said):
            missed.append(f"{key.name}={value!r}: {said!r} is not for a terminal")
    assert not missed, f"{len(missed)} of {len(some)}:\n" + "\n".join(missed)


def test_every_numeric_key_states_its_range() -> None:
    def bare(hint: Any) -> bool:
        inner = [part for _, _, parts in leaves(hint) for part in parts if part is not Ellipsis]
        alone = any(kind in (int, float) and not limits for kind, limits, _ in leaves(hint))
        return alone or any(bare(part) for part in inner)

    assert len(keys()) > 150
    assert not [key.name for key in keys() if key.ours and bare(key.hint) and key.name != "trainer.val_check_interval"]
    others = [EvaluateConfig, PlanConfig, ApiEncoder, ConcatenatedEncoder]
    assert not [f"{kind.__name__}.{name}" for kind in others for name, hint in annotated(kind).items() if bare(hint)]


def edge_values(hint: Any) -> list[Any]:
    """The least and the largest number that a key of this annotation may have, which may still contradict other keys."""
    found = [(kind, limit) for kind, limits, _ in leaves(hint) for limit in limits if isinstance(limit, Range)]
    least = [limit.low + (1 if kind is int else 1e-9) * limit.above for kind, limit in found]
    most = [limit.high - (1e-9 * limit.below) if math.isfinite(limit.high) else 1e300 for _, limit in found]
    return least + most


FAST, MANY = slice(60), slice(60, 1060)


@pytest.mark.parametrize("some", [FAST, pytest.param(MANY, marks=pytest.mark.slow)])
def test_bad_values_are_one_line_that_names_the_key(some: slice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(cases()) > 2000
    check_refused(cases()[some])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_the_ends_of_ranges_are_taken_or_refused_in_one_line(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = [refusal(key, value) for key in keys()[::every] for value in edge_values(key.hint)]
    assert said.count("") > len(said) / 2
    assert not [line for line in said if len(line.splitlines()) > 1]
    assert not list(tmp_path.iterdir())


BY_HAND = [
    (["sampler.batch_size=abc"], "sampler.batch_size='abc' has the wrong type; expected int"),
    (["sampler.batch_size=null"], "sampler.batch_size=None has the wrong type"),
    (["sampler.batch_size=[1]"], "sampler.batch_size=[1] has the wrong type"),
    (["model=tiny", "model.dropout=1"], "model.dropout=1 must be below 1"),
    (["model=tiny", "model.dropout=-0.1"], "model.dropout=-0.1 is outside 0..1"),
    (["model=tiny", "model.dropout=nan"], "model.dropout=nan is outside 0..1"),
    (["dataset.seed=-1"], "dataset.seed=-1 must be 0 or more"),
    (["trainer.max_steps=1e20"], "trainer.max_steps=1e+20 has the wrong type"),
    (["trainer.max_steps=100000000000000000000"], "trainer.max_steps=100000000000000000000 must be at most 2147483647"),
    (["model.dimensions=1000000000"], "model.dimensions=1000000000, model.vocabulary=800"),
    (["name=''"], "name='' cannot be used in names of files"),
    (["name='a/b'"], "name='a/b' cannot be used in names of files"),
    (["name=.."], "name='..' cannot be used in names of files"),
    (["name='a\tb'"], "name='a\\tb' holds a control character"),
    (["benchmark.held_out.name=../up"], "benchmark.held_out.name='../up' cannot be used in names of files"),
    (["callbacks.early_stopping.patience=abc"], "callbacks.early_stopping.patience='abc' has the wrong type"),
]


@pytest.mark.parametrize(("arguments", "part"), BY_HAND, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_the_command_refuses_a_bad_value(in_process: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    small = [item for item in SMALL if not (arguments[0] == "model=tiny" and item.startswith("model."))]
    assert_one_line(in_process("run", *small, "hydra.run.dir=run", *arguments), part)
    assert {path.name for path in tmp_path.iterdir()} <= {"run"}
    assert {path.name for path in tmp_path.glob("run/*")} <= {".hydra", "run.log", ".lock"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2, 8, 9, 11])
def test_so_does_the_program_soon(command: Command, tmp_path: Path, number: int) -> None:
    """By the work that it does: the clock would say how busy the machine is."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments, part = BY_HAND[number]
    assert_one_line(command("run", *SMALL[:4], *arguments, "hydra.run.dir=run"), part.partition(",")[0])
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime < 20
    assert {path.name for path in tmp_path.iterdir()} <= {"run"}
