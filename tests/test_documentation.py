"""Every command that README and docs show can be typed, and the site has all its pages."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import hydra
import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from hybrid_retrieval import benchmarking
from hybrid_retrieval.__main__ import COMMANDS
from hybrid_retrieval.command import MULTIRUN
from hybrid_retrieval.config import CLOSED, PathsConfig, config_directory, job_config
from hybrid_retrieval.values import construct

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"\n]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("hybrid-retrieval", "python", "make", "pip", "torchrun", ".", "cp", "printf")
FOLLOWED = {"docs/tutorial.md": "tests/test_tutorial.py"}
"""Pages whose commands a test runs to the letter, and the test."""
CONFIGS = {"run": "config", "evaluate": "evaluate", "plan": "plan", "prepare mine": "mine", "prepare score": "score"}
"""Commands of Hydra, and their configs."""


class Shown(NamedTuple):
    """A command as a page shows it; `needs` is the title of its block."""

    page: str
    words: list[str]
    needs: str

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)[:90]}"


def commands(page: Path) -> list[Shown]:
    """Those of a page's blocks of shell."""
    name = page.relative_to(ROOT).as_posix()
    found = []
    text = page.read_text(encoding="utf-8")
    blocks = FENCE.findall(text)
    assert 2 * len(blocks) == len(re.findall("^ *```", text, re.MULTILINE)), f"{name}: a block is not fenced as the others are"
    for language, title, block in blocks:
        assert language not in ("bash", "shell", "console"), f"{name}: a block of commands is marked sh"
        lines = re.sub(r"<<'END'\n.*?^END$", "", block, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ").splitlines()
        if language != "sh":
            typed = [line for line in lines if line.split() and line.split()[0] in PROGRAMS]
            assert language or not typed, f"{name}: {typed[0]!r} is a command in a block that is not marked sh"
            continue
        found += [Shown(name, words, title) for line in lines if (words := shlex.split(line, comments=True))]
    return found


SHOWN = [one for page in PAGES for one in commands(page)]


def checked(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a command was seen to be right: run, composed, parsed, there, or marked with what it needs."""
    if shown.page in FOLLOWED:
        assert Path(shown.page).name in (ROOT / FOLLOWED[shown.page]).read_text()
        return "run"
    words = shown.words
    while re.match(r"\w+=", words[0]):  # the environment
        words = words[1:]
    if "|" in words:
        words = words[words.index("|") + 1 :]
    program, *rest = words
    if program in ("python", "torchrun") and "-m" in rest and rest[rest.index("-m") + 1].startswith("hybrid_retrieval."):
        module = rest.index("-m") + 1
        program, rest = "hybrid-retrieval", [rest[module].partition(".")[2], *rest[module + 1 :]]
    if program == "hybrid-retrieval":
        name, *arguments = rest
        assert name in COMMANDS, f"{shown}: {name} is no command"
        if name == "prepare" and arguments:
            name, arguments = f"prepare {arguments[0]}", arguments[1:]
        if name in CONFIGS:
            for overrides in jobs(arguments):
                compose(CONFIGS[name], overrides)
            return "composed"
        parse(name, arguments, monkeypatch)
        return "parsed"
    if program == "make":
        assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in rest), str(shown)
        return "there"
    if program == "pip" and (extra := re.search(r"\.\[([\w,-]+)\]", " ".join(rest))):
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extra[1].split(",")) <= set(known), str(shown)
        return "there"
    if program == ".":
        return "there"
    if program == "python":
        assert (ROOT / rest[0]).is_file(), str(shown)
    assert shown.needs, (
        f'{shown}: no test runs or composes it; mark its block with what it needs, as in ```sh title="Needs ..."'
    )
    return "marked"


NO_KEY = re.compile(r"--|[^=]+=(tag|interval)\(|hydra[/.]sweeper")
"""Flags, and what hydra/sweeper=optuna takes, which the tests' environment does not have."""


def jobs(arguments: list[str]) -> list[list[str]]:
    """The overrides of a command, a list for each value that is swept over: every value stands in one of them."""
    items = [item for item in arguments if item not in MULTIRUN and not NO_KEY.match(item)]
    items = [f"++{item}" if item.startswith("trainer.") else item for item in items]
    parsed = OverridesParser.create().parse_overrides(items)
    swept = {
        item: [f"{item.partition('=')[0]}={value}" for value in one.sweep_string_iterator()]
        for item, one in zip(items, parsed, strict=True)
        if one.is_sweep_override()
    }
    assert not swept or MULTIRUN & {*arguments}, f"{' '.join(arguments)}: a sweep without -m"
    several = max([1, *map(len, swept.values())])
    return [[swept[item][turn % len(swept[item])] if item in swept else item for item in items] for turn in range(several)]


def compose(config: str, overrides: list[str]) -> None:
    """Compose a job and check what its groups name, as the command does before it reads or writes anything."""
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = hydra.compose(config, overrides, return_hydra_config=True)
    with open_dict(composed):
        composed.hydra.runtime.output_dir = "/run_directory"
    HydraConfig.instance().set_config(composed)
    with open_dict(composed):
        del composed.hydra
        composed.pop("plan", None)
    if config in ("config", "plan"):
        job_config(composed)
    values: Any = OmegaConf.to_container(composed, resolve=True)
    values |= {key: construct(CLOSED[key], values[key], key) for key in CLOSED.keys() & values.keys()}
    if "evaluation" in values:
        benchmarking.configured(values["benchmark"], values["evaluation"], values["paths"])
        benchmarking.load_retrievers(values.get("retriever") or {}, values["evaluation"])


class Parsed(Exception):
    """The command line was understood."""


def parse(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a command understand its command line, and do nothing."""
    understand = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *given: object) -> None:
        understand(parser, *given)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(sys, "argv", [name, *arguments])
        main = importlib.import_module(f"hybrid_retrieval.{name}").main
        with pytest.raises(Parsed):
            main(*([] if name == "prepare" else [arguments]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_is_run_or_composed_or_says_what_it_needs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = Counter(checked(one, monkeypatch) for one in SHOWN if one.page == page.relative_to(ROOT).as_posix())
    print(f"{page.relative_to(ROOT)}: {dict(kinds)}")


WRONG = {
    "hybrid-retrieval run sampler=hybird": "hybird",
    "hybrid-retrieval run -m loss.temprature=0.1,0.2": "temprature",
    "hybrid-retrieval run seed=1,2": "without -m",
    "hybrid-retrieval evaluate benchmark=xquad": "xquad",
    "hybrid-retrieval evaluate evaluation.perturb=[keybord]": "keybord",
    "hybrid-retrieval compare a b --gates": None,
    "hybrid-retrieval measure": "is no command",
    "make docks": "docks",
    "pip install -e '.[docks]'": "docks",
    "cp -r a b": "mark its block",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_command_that_is_none_fails(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((Exception, SystemExit), match=WRONG[line]):
        checked(Shown("docs/x.md", shlex.split(line), ""), monkeypatch)


def module(name: str) -> ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def navigation(node: object) -> list[str]:
    """The pages that a part of the site's navigation names."""
    if isinstance(node, str):
        return [node]
    parts = node.values() if isinstance(node, dict) else node
    return [page for part in parts for page in navigation(part)]


def test_the_navigation_has_every_page_once() -> None:
    hooks = module("hooks")
    named = navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    made = [*hooks.elsewhere(), *hooks.configuration()]
    assert sorted(named) == sorted(written + [page for page in made if page.endswith(".md")])


def test_the_reference_of_the_configuration_has_every_choice_and_key() -> None:
    pages = module("hooks").configuration()
    sampler = pages["reference/configuration/sampler.md"]
    assert "| `batch_size` | `${model.recipe.batch_size}` | pairs in a global batch, over all devices |" in sampler
    assert "| `schedule.kind` | `constant` | how the ratio goes on from alpha" in sampler
    assert "Class: `hybrid_retrieval.sampling.hybrid.Hybrid`" in sampler
    for path in config_directory().rglob("*.yaml"):
        group, *rest = path.relative_to(config_directory()).with_suffix("").parts
        if rest:
            assert f"## `{'/'.join(rest)}` {{#" in pages[f"reference/configuration/{group}.md"]
    commands_page = pages["reference/configuration/README.md"]
    assert all(f"| `{name}` | {purpose} |" in commands_page for name, purpose in COMMANDS.items())
    assert "| `sampler` | `hybrid` | which pairs meet in a batch |" in commands_page


def test_the_page_of_samplers_shows_what_samplers_draw(cache: Path) -> None:
    samplers = module("samplers")
    found = samplers.compositions(PathsConfig(cache=str(cache)))
    assert f"{samplers.START}\n{samplers.table(found)}\n{samplers.END}" in samplers.PAGE.read_text()
    assert len(found["hybrid"][0].draw(samplers.ALPHA).concat) == 2


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]):
        page = tmp_path / "site" / re.sub(r"README\.md$", "index.md", name)
        text = page.with_suffix(".html").read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(https?:[^\" >]+)", text)
        assert not loaded, name
