"""Challenge sets in their published layouts: figures against the published definition, and rows that must be refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.aces import Aces
from hybrid_retrieval.evaluation.benchmarks.demetr import KIND, Demetr
from hybrid_retrieval.evaluation.benchmarks.wmt_discrimination import DISTRACTORS, FILE, FOLDERS, WmtDiscrimination
from hybrid_retrieval.evaluation.protocol import Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from tests.evaluation.benchmarks.conftest import Write

REAL = Path(PathsConfig().data or "nowhere") / "demetr"


class Letters:
    """Embeds a text by the letters that it has: passages with the same letters tie."""

    def encode(self, texts, role="query", label=""):
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], np.float32)


def aces_rows(count: int = 300) -> list[dict[str, str]]:
    """Random letters, every fifth good passage an anagram of the damaged one: a tie for `Letters`."""
    rng = np.random.default_rng(0)

    def text(length: int = 12) -> str:
        return "".join(rng.choice(list("abcdefgh"), length))

    rows = []
    for number in range(count):
        good = text() + "a"
        quoted = {1: f'"{text()}" {text()}', 2: f'"{text()}'}.get(number % 7, text())
        source = quoted if number % 3 or not rows else rows[-1]["source"]
        rows.append({
            "source": source,
            "good-translation": good,
            "incorrect-translation": good[::-1] + "x" if number % 5 == 0 else text() + "b",
            "reference": text(),
            "phenomena": ("omission", "hallucination-number-level-1", "punctuation:deletion_all")[int(rng.integers(3))],
            "langpair": ("en-de", "de-en", "zh-en")[int(rng.integers(3))],
        })  # fmt: skip
    return rows


def as_table(rows: list[dict[str, str]], delimiter: str = "\t") -> str:
    file = io.StringIO()
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL  # as the published scorer reads its tables
    writer = csv.DictWriter(
        file,
        list(rows[0]),
        delimiter=delimiter,
        lineterminator="\n",
        quoting=quoting,
        quotechar=None if delimiter == "\t" else '"',
    )
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def published_score(rows: list[dict[str, str]]) -> dict[str, float]:
    """ACES' definition, as its paper states it (section 4): of a file with two columns of scores, by phenomenon."""
    signs = defaultdict(list)
    for row in rows:
        asked, good, bad = Letters().encode([row["source"], row["good-translation"], row["incorrect-translation"]])
        signs[row["phenomena"]].append("concordant" if asked @ good > asked @ bad else "discordant")
    counts = {name: (of.count("concordant"), of.count("discordant")) for name, of in signs.items()}
    return {name: (concordant - discordant) / (concordant + discordant) for name, (concordant, discordant) in counts.items()}


@pytest.mark.parametrize("form", ["challenge.tsv", "challenge.csv", "challenge_set.jsonl", "challenge.tsv.gz", "two files"])
def test_aces_figures_are_those_of_its_published_scorer(form: str, write: Write, paths: PathsConfig) -> None:
    rows = aces_rows()
    if form == "two files":
        write("aces/1.tsv", as_table(rows[:100]))
        write("aces/2.tsv", as_table(rows[100:]))
    else:
        write(f"aces/{form}", rows if "json" in form else as_table(rows, "," if "csv" in form else "\t"))
    benchmark = Aces(paths)
    assert benchmark.at_hand()
    collection = benchmark.load()
    figures = evaluate(Dense(Letters()), collection).figures
    expected = published_score(rows)
    assert {name: figures.value("aces", "crosslingual", f"kendall_{name}") for name in expected} == pytest.approx(expected)
    assert -1 < min(expected.values()) < max(expected.values()) < 1
    assert figures.value("aces", "crosslingual", "queries") == len(rows)
    assert {*figures.by_languages("aces", "crosslingual", "kendall")} == {"de-en", "en-de", "zh-en"}
    assert "monolingual" not in collection.settings
    german = Aces(paths, ["de"]).load()
    assert len(german.contrasts.ids) == sum(row["langpair"] == "de-en" for row in rows)
    assert benchmark.provenance()["sha256"]


CHANGES = {
    "equal": ({"incorrect-translation": "abca", "good-translation": "abca"}, "damaged passage are equal"),
    "empty source": ({"source": " "}, "source is empty"),
    "empty good": ({"good-translation": ""}, "good passage is empty"),
    "empty damaged": ({"incorrect-translation": ""}, "damaged passage is empty"),
    "no phenomenon": ({"phenomena": ""}, "is no phenomenon"),
    "slash": ({"phenomena": "a/b"}, "is no phenomenon"),
    "unknown language": ({"langpair": "en-q1"}, "'q1' is no language"),
    "no pair": ({"langpair": "ende"}, "is no pair of languages"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", ["tsv", "jsonl"])
def test_rows_of_aces_that_are_none_are_named_by_file_and_line(
    change: str, form: str, write: Write, paths: PathsConfig
) -> None:
    values, said = CHANGES[change]
    rows = aces_rows(6)
    rows[3] |= values
    file = write(f"aces/set.{form}", rows if form == "jsonl" else as_table(rows))
    with pytest.raises(InputError, match=re.escape(f"{file}, line {5 if form == 'tsv' else 4}: ")) as error:
        Aces(paths).load()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", ["source", "phenomena", "langpair"])
def test_a_missing_column_of_aces_is_named(column: str, write: Write, paths: PathsConfig) -> None:
    rows = [{name: value for name, value in row.items() if name != column} for row in aces_rows(3)]
    write("aces/set.tsv", as_table(rows))
    with pytest.raises(InputError, match=f"line 2: no column '{column}'; expected source, good-translation"):
        Aces(paths).load()
    write("aces/set.tsv", as_table(aces_rows(3)))
    with pytest.raises(InputError, match="'xx', which the data lacks"):
        Aces(paths, ["xx"]).load()


def small_demetr() -> list[dict]:
    damage = {"base_id35_reference": "R", "critical_id8_negation": "not M", "minor_id1_repeat2": "M M", "base_id33_empty": "."}
    names = ("german", "hindi", "german")
    return [
        {"id": number, "lang": name, "src": f"S{number}", "ref_en": f"R{number}", "mt_en": f"M{number}",
         "pert": {kind: f"{text}{number}" for kind, text in damage.items()}}
        for number, name in enumerate(names, 1)
    ]  # fmt: skip


def test_demetr_asks_by_sources_and_by_references(write: Write, paths: PathsConfig) -> None:
    write("demetr/demetr.jsonl.gz", small_demetr())
    collection = Demetr(paths).load()
    contrasts = collection.contrasts
    texts = [collection.queries.texts, collection.corpus.texts, collection.corpus.texts]
    rows = (contrasts.query.tolist(), contrasts.better.tolist(), contrasts.worse.tolist())
    found = {
        (*(of[row] for of, row in zip(texts, three, strict=True)), kind)
        for *three, kind in zip(*rows, contrasts.phenomenon, strict=True)
    }
    assert found == {
        (f"{side}{number}", f"M{number}", f"{damage}{number}", kind)
        for number in (1, 2, 3)
        for side in "SR"
        for damage, kind in (("not M", "critical_negation"), ("M M", "minor_repeat2"))
    }
    assert len(collection.corpus) == 3 * 3
    assert {pair.name for pair in evaluate(BM25(), collection).pairs} == {"en", "de-en", "hi-en"}
    assert {*Demetr(paths, languages=["hi"]).load().queries.texts} == {"S2"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lang": "klingon"}, "lang is 'klingon'; expected one of: chinese_simple"),
        ({"mt_en": "not M2"}, "critical_id8_negation: the good and the damaged passage are equal"),
        ({"src": ""}, "critical_id8_negation: the source is empty"),
        ({"pert": {"negation": "x"}}, "'negation' is no damage"),
        ({"pert": None}, "pert is null; expected an object"),
        ({"id": 1}, "source 1 has another text than before"),
    ],
)
def test_rows_of_demetr_that_are_none_are_named(change: dict, said: str, write: Write, paths: PathsConfig) -> None:
    rows = small_demetr()
    rows[1] |= change
    if "id" in change:
        rows[1] |= {"lang": "german"}
    file = write("demetr/demetr.jsonl.gz", rows)
    with pytest.raises(InputError, match=re.escape(f"{file}, line 2")) as error:
        Demetr(paths).load()
    assert said in str(error.value)


def test_sets_that_are_not_at_hand_say_where_they_are_read(paths: PathsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for benchmark in (Aces(paths), Demetr(paths), WmtDiscrimination(paths)):
        assert not benchmark.at_hand()
        with pytest.raises(InputError, match=r"below .*paths\.data"):
            benchmark.load()


@pytest.fixture
def discrimination(tmp_path: Path) -> Path:
    """The published folders: the distractors of a row have other letters than its source."""
    folder = tmp_path / "data" / "wmt_discrimination"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        rows = {
            "Source": [f"{'a' * (number + 1)} {name}" for number in range(6)],
            "Target": ["aa" if number < 4 else "b" for number in range(6)],
            **{
                column: [f"{at}c{number}" if number else f"aab{at}" for number in range(6)]
                for at, column in enumerate(DISTRACTORS)
            },
            "lang": ["?"] * 6,
        }
        pq.write_table(pa.table(rows), folder / name / FILE)
    return folder


def test_discrimination_is_of_four_distractors_a_sentence(discrimination: Path, paths: PathsConfig) -> None:
    collection = WmtDiscrimination(paths).load()
    assert len(collection.contrasts.ids) == 4 * 6 * 4
    assert {*collection.contrasts.phenomenon} == {"wmt19", "wmt21"}
    result = evaluate(Dense(Letters()), collection, wanted=Wanted(replicates=20))
    assert {pair.name for pair in result.pairs} == {"de-fr", "fr-de"}
    assert set(result.per_query()["cluster"].to_pylist()) == {f"{year}-{n}" for year in ("wmt19", "wmt21") for n in range(1, 7)}
    assert result.figures.get("wmt_discrimination", "crosslingual", "kendall_wmt19").low is not None
    table = pq.read_table(discrimination / FOLDERS[2] / FILE)
    pq.write_table(table.drop_columns("TargetAdv3"), discrimination / FOLDERS[2] / FILE)
    with pytest.raises(InputError, match=r"wmt21\.de\.fr.*row 1: no column 'TargetAdv3'"):
        WmtDiscrimination(paths).load()
    equal = table.set_column(1, "Target", table.column("TargetAdv2"))
    pq.write_table(equal, discrimination / FOLDERS[2] / FILE)
    with pytest.raises(InputError, match=r"wmt21\.de\.fr.*row 1, TargetAdv2: the good and the damaged passage are equal"):
        WmtDiscrimination(paths).load()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the folder demetr of paths.data")
def test_the_published_demetr_is_whole(tmp_path: Path) -> None:
    collection = Demetr(PathsConfig(cache=str(tmp_path))).load()
    with gzip.open(REAL / "demetr.jsonl.gz", "rt") as file:
        kinds = [kind for line in file for kind in json.loads(line)["pert"] if KIND.fullmatch(kind)[1] != "base"]
    assert len(collection.contrasts.ids) == 2 * len(kinds) == 56_622
    result = evaluate(BM25(), collection)
    assert len({one.measure.name for one in result.figures if one.measure.name.startswith("kendall_")}) == 32
    found = {
        name: result.figures.value("demetr", "monolingual", f"kendall_{name}")
        for name in ("critical_shuffled", "critical_negation")
    }
    assert found["critical_shuffled"] == -1  # a bag of words cannot tell
    assert found["critical_negation"] > 0.8
