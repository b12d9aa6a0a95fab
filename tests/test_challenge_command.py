"""``hybrid-retrieval challenge``: a benchmark with wrong copies, read back and scored."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_retrieval.challenge import main, write
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.benchmarks.beir_parallel import BeirParallel
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from tests.conftest import Command

TEXTS = {
    "en": ["Berlin has 3,645 lakes since 1920 (map 7).", "It was sold in Rome.", "Nothing to see.", "The year 1492."],
    "de": ["Berlin hat seit 1920 3.645 Seen.", "Er hat es in Rom verkauft.", "Nichts zu sehen.", "Das Jahr 1492."],
}
NAMES = {"en": ("Berlin", "Rome", "Tokyo"), "de": ("Berlin", "Rom", "Tokio")}


@pytest.fixture
def data(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set in two languages whose passages have other ids in each, one query without an answer, and names."""
    folder = tmp_path / "data"
    for language, texts in TEXTS.items():
        (folder / "set" / language / "qrels").mkdir(parents=True)
        passages = [{"_id": f"{language[0]}{number}", "text": text} for number, text in enumerate(texts)]
        asked = [{"_id": str(number), "text": f"{language} question {number}"} for number in range(4)]
        for stem, rows in (("corpus", [*passages, {"_id": "unasked", "text": "Berlin in 1945"}]), ("queries", asked)):
            (folder / "set" / language / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        lines = "".join(f"{number}\t{language[0]}{number}\t{number + 1}\n" for number in range(3))
        (folder / "set" / language / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
        (folder / "cldr-names").mkdir(exist_ok=True)
        rows = "".join(f"city\tcity/{code}\t{name}\t\n" for code, name in zip("brt", NAMES[language], strict=True))
        (folder / "cldr-names" / f"{language}.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    monkeypatch.setenv("HYBRID_RETRIEVAL_DATA", str(folder))
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(cache))
    return folder


@pytest.fixture
def made(data: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *options: str) -> Path:
        given = ["beir_parallel", "benchmark.beir_parallel.path=set", "--out", str(tmp_path / name), *options]
        assert main(given) == 0
        return tmp_path / name

    return make


def corpus(folder: Path, language: str) -> dict[str, str]:
    lines = gzip.decompress((folder / language / "corpus.jsonl.gz").read_bytes()).decode().splitlines()
    return {row["_id"]: row["text"] for row in map(json.loads, lines)}


def test_each_answer_has_its_wrong_copies_beside_it_alike_in_all_languages(made, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made("out", "--seed", "3")
    english, german = corpus(folder, "en"), corpus(folder, "de")
    assert {*english} == {"e0", "e1", "e2", "e0#number", "e0#date", "e0#entity", "e1#entity", "e1#negation"}
    assert {*german} == {"d0", "d1", "d2", "d0#number", "d0#date", "d0#entity", "d1#entity"}
    for kind, place in (("number", (2, 4)), ("date", (5, 3))):
        values = [text[f"{id_}#{kind}"].split()[at].strip(".,").replace(",", "").replace(".", "")
                  for text, id_, at in zip((english, german), ("e0", "d0"), place, strict=True)]  # fmt: skip
        assert values[0] == values[1]
        assert values[0] not in ("3645", "1920")
    pairs = {("Rome", "Rom"), ("Tokyo", "Tokio")}
    assert (english["e0#entity"].split()[0], german["d0#entity"].split()[0]) in pairs
    assert english["e1#negation"] == "It was not sold in Rome."
    printed = capsys.readouterr().out
    assert "en: passages 3, number 1, date 1, entity 2, negation 1" in printed
    assert "de: passages 3, number 1, date 1, entity 2, negation 0" in printed
    report = json.loads((folder / "challenge.json").read_text())
    assert report["counts"]["en"] == {"passages": 3, "number": 1, "date": 1, "entity": 2, "negation": 1}


def test_it_is_read_back_and_scored_with_the_ordinary_measures(made, tmp_path: Path, cache: Path) -> None:
    folder = made("out")
    collection = BeirParallel(PathsConfig(cache=str(cache)), path=str(folder)).load()
    assert collection.settings == {"monolingual", "crosslingual", "multilingual"}
    assert len(collection.query) == 2 * 2 * 3
    assert sorted({*collection.grade.tolist()}) == [1, 2, 3]
    metrics = evaluate(BM25(), collection).metrics
    assert {f"beir_parallel/{setting}/map" for setting in collection.settings} <= {*metrics}
    assert "beir_parallel/multilingual/rank_distance" in metrics


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(made) -> None:
    one, same, other = made("one"), made("same"), made("other", "--seed", "9")
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert all((one / file).read_bytes() == (same / file).read_bytes() for file in files)
    assert corpus(one, "en") != corpus(other, "en")
    assert {*corpus(made("few", "--kinds", "number"), "en")} == {"e0", "e1", "e2", "e0#number"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["beir_paralel"], "did you mean 'beir_parallel'"),
        (["beir_parallel"], "benchmark.beir_parallel.path is missing"),
        (["beir_parallel", "benchmark.beir_parallel.pth=x"], "benchmark.beir_parallel.pth; did you mean 'path'"),
        (
            ["beir_parallel", "benchmark.beir_parallel.path=set", "--kinds=numbr"],
            "--kinds='numbr' is unknown; did you mean 'number'",
        ),
        (["beir_parallel", "benchmark.beir_parallel.path=set", "--seed=-1"], "--seed=-1 is outside"),
        (["beir_parallel", "benchmark.beir_parallel.path=set", "paths.data=null"], "set"),
        (["[xquad_r,tydiqa]"], "names 2 benchmarks"),
        (["demetr", "benchmark.demetr.path=nowhere"], "reads demetr.jsonl.gz of the folder 'nowhere'"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    arguments, said, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_and_names_that_are_not_are_refused(
    made, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made("out")
    given = ["beir_parallel", "benchmark.beir_parallel.path=set", "--out"]
    assert main([*given, str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*given, str(tmp_path / "file" / "out")]) == 2
    assert "--out=" in capsys.readouterr().err
    for file in (data / "cldr-names").iterdir():
        file.unlink()
    assert main([*given, str(tmp_path / "new")]) == 2
    assert "--kinds=entity reads cldr-names below paths.data" in capsys.readouterr().err


def test_a_challenge_set_is_scored_and_shown_by_phenomenon(
    in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = {"critical_id8_negation": "It was not sold {}", "minor_id31_full_lower": "it was sold {}", "base_id33_empty": "."}
    rows = [
        {"id": number, "lang": ("german", "hindi")[number % 2], "src": f"verkauft {number}", "ref_en": f"It got sold {number}",
         "mt_en": f"It was sold {number}", "pert": {kind: text.format(number) for kind, text in damage.items()}}
        for number in range(6)
    ]  # fmt: skip
    (tmp_path / "demetr").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "demetr" / "demetr.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    done = in_process(
        "evaluate",
        "benchmark=demetr",
        "retriever=[bm25]",
        f"paths.data={tmp_path}",
        "hydra.run.dir=run",
        "evaluation.replicates=50",
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["baselines/bm25/demetr/monolingual/kendall_critical_negation"] == 1
    assert metrics["baselines/bm25/demetr/monolingual/kendall_minor_full_lower"] == -1
    assert metrics["baselines/bm25/demetr/monolingual/kendall"] == 0
    assert metrics["baselines/bm25/demetr/monolingual/kendall_minor_full_lower.high"] > -1
    assert {"baselines/bm25/demetr/crosslingual/kendall/de-en", "baselines/bm25/demetr/crosslingual/kendall.low"} <= {*metrics}
    assert not any("multilingual" in key for key in metrics)
    printed, page = done.stdout, (tmp_path / "run" / "report.html").read_text()
    for shown in (printed, page):
        assert "critical negation" in shown
        assert "minor full lower" in shown
        assert "empty" not in shown.replace(".empty", "")
    assert "Mo. (query and corpus in one language): 12 contrasts" in page
    (head,) = [line for line in printed.splitlines() if "Setting" in line]
    assert head.count("Kendall") == 1


def test_questions_that_share_an_id_by_chance_stay_apart(tmp_path: Path, cache: Path) -> None:
    rows = {language: [("1", f"{language} text")] for language in ("de", "en")}
    alone = {("de", "de"): [("1", "1", 1)], ("en", "en"): [("1", "1", 2)]}
    write(RetrievalCollection.build("apart", rows, rows, alone), {}, tmp_path / "out", {"seed": 0, "kinds": ["number"]})
    found = BeirParallel(PathsConfig(cache=str(cache)), path=str(tmp_path / "out")).load()
    assert found.queries.ids == ["de:1", "en:1"]
    assert found.settings == {"monolingual", "multilingual"}
    assert found.grade.tolist() == [1, 2]
