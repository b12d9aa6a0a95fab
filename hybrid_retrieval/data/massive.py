"""MASSIVE 1.1 (arXiv 2204.08582): 16,521 utterances in each of 52 languages, parallel by id, with intents and scenarios.

A folder with ``<language>.tsv.gz`` (id, utterance) and ``meta.tsv.gz`` (id, partition, scenario, intent, the English utterance
with its slots); fields are never quoted.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hybrid_retrieval.data.records import check_id, read_lines
from hybrid_retrieval.errors import InputError

FOLDER = "massive-1.1"
NAMES = (
    "af am ar az bn ca cy da de el en es fa fi fr he hi hu hy id is it ja jv ka km kn ko lv ml mn ms my nb nl pl pt ro ru sl "
    "sq sv sw ta te th tl tr ur vi zh zh_tw"
)
FILES = {name: {"zh": "zh-CN", "zh_tw": "zh-TW"}.get(name, name) for name in NAMES.split()}
"""What the file of each language is called."""
PARTITIONS = ("train", "dev", "test")


class Meta(NamedTuple):
    """What is known of an utterance in whichever language."""

    partition: str
    scenario: str
    intent: str


def read_meta(folder: Path) -> dict[str, Meta]:
    """By id, in the order of the file."""
    file = folder / "meta.tsv.gz"
    found: dict[str, Meta] = {}
    for place, (id_, partition, scenario, intent, _) in _rows(file, ["id", "partition", "scenario", "intent", "annot_utt_en"]):
        if partition not in PARTITIONS:
            raise InputError(f"{place}: {partition[:60]!r} is no partition; expected {', '.join(PARTITIONS)}")
        if found.setdefault(check_id(id_, f"{place}: id"), one := Meta(partition, scenario, intent)) is not one:
            raise InputError(f"{place}: id {id_!r} occurs twice")
    return found


def read_utterances(folder: Path, language: str) -> dict[str, str]:
    """The utterance of each id in a language of `FILES`."""
    found: dict[str, str] = {}
    for place, (id_, text) in _rows(folder / f"{FILES[language]}.tsv.gz", ["id", "utt"]):
        if not text.strip():
            raise InputError(f"{place}: the utterance of {id_!r} is empty")
        if found.setdefault(id_, text) is not text:
            raise InputError(f"{place}: id {id_!r} occurs twice")
    return found


def _rows(file: Path, names: list[str]) -> list[tuple[str, list[str]]]:
    """The place and the fields of each line below the header `names`."""
    rows = [(f"{file}, line {number}", line.rstrip("\r\n").split("\t")) for number, line in read_lines(file)]
    if rows[0][1] != names:
        raise InputError(f"{rows[0][0]}: the header is {rows[0][1][:6]}; expected {', '.join(names)}, separated by tabs")
    for place, fields in rows[1:]:
        if len(fields) != len(names):
            raise InputError(f"{place}: {len(fields)} fields; expected {len(names)} ({', '.join(names)})")
    return rows[1:]
