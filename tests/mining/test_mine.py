"""``prepare mine``: a set comes back as it was, with negatives that are none of law 3's answers, the same after a kill."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.data.parallel import SPLITS, PairsWriter, ParallelPairs
from hybrid_retrieval.mining import mine
from hybrid_retrieval.mining.folder import Unfinished, group_ids, write_set
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command, command_environment
from tests.mining.conftest import SET, Prepare

BM25 = ["mine", "retriever=[bm25]", *SET, "margin.relative=null"]
Read = Callable[..., ParallelPairs]


def by_id(pairs: ParallelPairs, split: str) -> set[tuple[str, ...]]:
    """The edges of a split by ids: query, passage, negatives."""
    queries, passages = group_ids(pairs.queries), group_ids(pairs.passages)
    return {
        (queries[edge[0]], *(passages[group] if group >= 0 else "" for group in edge[1:]))
        for edge in pairs.split_edges(split).tolist()
    }


def texts(pairs: ParallelPairs, side: str) -> dict[tuple[str, str], str]:
    """By group's id and language."""
    table = getattr(pairs, side)
    ids = group_ids(table)
    return {
        (ids[group], pairs.languages[language]): text
        for group, language, text in zip(table.groups, table.languages, table.texts(), strict=True)
    }


def sums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_set_comes_back_with_negatives_and_otherwise_as_it_was(prepare: Prepare, read: Read, tmp_path: Path) -> None:
    done = prepare(*BM25, "out=out", "languages.others=2")
    assert done.returncode == 0, done.stderr
    before, after = read("given", validation_share=0.2, test_share=0.2), read("out")
    assert before.languages == after.languages
    for side in ("queries", "passages"):
        assert texts(before, side) == texts(after, side)
    for split in SPLITS:
        assert len(before.split_edges(split))
        assert by_id(before, split) == {edge[:2] for edge in by_id(after, split)}
        assert len(before.split_edges(split)) == len(after.split_edges(split))
    assert 2 < after.edges.shape[1] <= 2 + 4 + 2
    report = json.loads((tmp_path / "out" / "mining.json").read_text())["splits"]["train"]
    judged = {edge[0]: {one for one in edge[2:] if one} for edge in by_id(after, "train")}
    assert report["negatives"] == sum(map(len, judged.values()))
    assert report["queries"] == len(judged)
    assert sum(sum(found.values()) for found in report["found_in"].values()) == report["negatives"]
    assert min(report["found_in"]["same"].values()) > 0
    assert report["thrown_out"]["belongs to another split"] > 0
    assert f"{report['negatives']:,} negatives for {report['queries']} queries" in done.stdout

    trained = {edge[1] for edge in by_id(before, "train")}
    for query, negatives in judged.items():
        number = int(query[1:])
        assert negatives <= trained  # nothing of the other splits
        assert f"c{number}" not in negatives
        assert not {1: {"c11"}, 11: {"c1"}, 2: {"c12"}, 12: {"c2"}}.get(number, set()) & negatives
    assert any(f"c{number // 5 * 5 + 1}" in judged[f"q{number}"] for number in range(5, 40) if f"q{number}" in judged)


def test_hard_negatives_that_a_set_has_stay_beside_those_that_are_found(
    prepare: Prepare, given: Path, read: Read, tmp_path: Path
) -> None:
    judged = given / "aa" / "qrels" / "train.tsv"
    assert prepare(*BM25, "out=none").returncode == 0
    # One that is found too, after one that is not.
    query, (found, *_) = min((edge[0], edge[2:]) for edge in by_id(read("none"), "train") if edge[2] and "c30" not in edge)
    with judged.open("a") as file:
        file.write(f"{query}\tc30\t0\n{query}\t{found}\t0\n")
    before = {edge[0]: edge[2:] for edge in by_id(read("given", validation_share=0.2, test_share=0.2), "train")}
    assert before[query] == ("c30", found)
    done = prepare(*BM25, "out=out")
    assert done.returncode == 0, done.stderr
    after = {edge[0]: edge[2:] for edge in by_id(read("out"), "train")}
    assert {"c30", found} < set(after[query])
    report = json.loads((tmp_path / "out" / "mining.json").read_text())["splits"]["train"]
    assert report["kept"] == 2
    assert report["thrown_out"]["a hard negative already"] > 0
    assert report["negatives"] + 2 == sum(len([one for one in every if one]) for every in after.values())


def test_a_command_killed_before_its_first_part_goes_on(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "out" / ".mining").mkdir(parents=True)
    done = prepare(*BM25, "out=out")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_trains_on_what_was_mined_with_that_run(prepare: Prepare, in_process: Command, tmp_path: Path) -> None:
    run = [*SMALL[5:], "sampler=hybrid", "sampler.batch_size=8", "benchmark=held_out", "model.dimensions=16"]
    first = in_process("run", *run, *SET, "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    done = prepare("mine", "checkpoint=first", "retriever=[bm25]", "merge=round_robin", *SET, "out=out", "margin.relative=null")
    assert done.returncode == 0, done.stderr
    mined = [*SET[:1], "dataset.path=out"]
    second = in_process("run", *run, *mined, "loss.hard_negatives=2", "hydra.run.dir=second")
    assert second.returncode == 0, second.stderr
    assert set(json.loads((tmp_path / "out/mining.json").read_text())["settings"]["miners"]) == {"checkpoint", "bm25"}


KILLED = """
import os, signal, sys
from hybrid_retrieval import prepare
from hybrid_retrieval.mining import folder, mine
mine.AT_ONCE = 2000
write = folder.Unfinished.write
def once(self, name, **arrays):
    if self.part("train-0").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, name, **arrays)
folder.Unfinished.write = once
prepare.main()
"""


def test_a_killed_command_goes_on_to_the_same_bytes(
    prepare: Prepare, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mine, "AT_ONCE", 2000)
    assert prepare(*BM25, "out=whole").returncode == 0
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *BM25, "out=parts"], cwd=tmp_path, env=command_environment(cache), timeout=120
    )
    assert killed.returncode == -9
    assert [path.name for path in (tmp_path / "parts").rglob("*.npz")] == ["train-0.npz"]
    assert not (tmp_path / "parts" / "aa").exists()
    other = prepare(*BM25, "out=parts", "ranks.last=50")
    assert_one_line(other, "out=parts is unfinished", 'ranks={"first": 1, "last": 100}')
    written: list[str] = []
    write = Unfinished.write
    monkeypatch.setattr(Unfinished, "write", lambda self, name, **arrays: (written.append(name), write(self, name, **arrays)))
    assert prepare(*BM25, "out=parts").returncode == 0
    assert written
    assert "train-0" not in written
    assert sums(tmp_path / "parts") == sums(tmp_path / "whole")
    written.clear()
    again = prepare(*BM25, "out=parts")
    assert again.returncode == 0
    assert not written
    assert "negatives for" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["out=out"], ["nothing to mine with", "checkpoint=RUN_DIR"]),
        (["retriever=[bm25]"], ["config key out is missing"]),
        (["model=e5_small", "model.path=nowhere", "out=out"], ["model.path=nowhere", "config.json"]),
        (["model=e5_smal", "out=out"], ["model=e5_smal is unknown", "e5_small"]),
        (["checkpoint=nowhere", "out=out"], ["checkpoint=nowhere is not a run directory"]),
        (["retriever=[random]", "out=out"], ["retriever.random", "expected a BM25"]),
        (["retriever=[bm25]", "out=given"], ["out=given holds other files (aa)"]),
        (["retriever=[bm25]", "out=given/aa/queries.jsonl"], ["is a file"]),
        (["retriever=[bm25]", "out=out", "ranks.first=9", "ranks.last=8"], ["ranks.first=9", "the window is empty"]),
        (["retriever=[bm25]", "out=out", "ranks.last=0"], ["ranks.last=0 must be above 0"]),
        (["retriever=[bm25]", "out=out", "languages.same=0"], ["languages.same=0 and languages.others=0"]),
        (["retriever=[bm25]", "out=out", "languages.both=1"], ["languages.both"]),
        (["retriever=[bm25]", "out=out", "margin.relative=-1"], ["margin.relative=-1"]),
        (["retriever=[bm25]", "out=out", "merge=sum"], ["merge='sum'", "reciprocal_rank"]),
        (["retriever=[bm25]", "out=out", "splits=[dev]"], ["splits='dev'", "validation"]),
        (["retriever=[bm25]", "out=out", "dataset.languages=[xx]"], ["dataset.languages asks for 'xx'"]),
        (["retriever=[bm25]", "out=out", "margin.max_score=0"], ["no negative is left", "above max_score"]),
        (["retriever=[bm25]", "out=out", "filter.checkpoint=a", "filter.cross_encoder=b"], ["two second models"]),
        (["retriever=[bm25]", "out=out", "filter.cross_encoder=given"], ["filter.cross_encoder=given holds no config.json"]),
    ],
)
def test_bad_input_is_one_line(prepare: Prepare, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    assert_one_line(prepare("mine", *SET, *arguments), *parts)
    assert not (tmp_path / "out" / "aa").exists()


def test_a_set_with_other_settings_is_not_written_over(prepare: Prepare, tmp_path: Path) -> None:
    assert prepare(*BM25, "out=out").returncode == 0
    before = sums(tmp_path / "out")
    assert_one_line(prepare(*BM25, "out=out", "languages.same=2"), "out=out holds a set", 'languages={"same": 4')
    assert sums(tmp_path / "out") == before


def test_what_beirs_files_alone_would_join_or_cut_stays_as_it_was(read: Read, tmp_path: Path) -> None:
    """Answers in different languages of one query, that are no translations; groups whose first texts share an id; no split."""
    (tmp_path / "built").mkdir()
    writer = PairsWriter(tmp_path / "built", "built", ("aa", "bb"))
    writer.write("queries", "aa", [(0, "q", "asked"), (1, "r", "asked too")])
    writer.write("passages", "aa", [(0, "one", "this"), (2, "two", "other")])
    writer.write("passages", "bb", [(1, "one", "that"), (2, "zwei", "anderes")])
    edges = np.array([(0, 0), (0, 1), (1, 2)])
    writer.finish({"train": edges}, {"provenance": {}})
    built = ParallelPairs.open(tmp_path / "built")
    write_set(built, tmp_path / "out", {"train": np.array([(1, 1, 1)])})
    found = read("out")
    assert group_ids(built.passages) == ["one", "one~2", "two"]
    assert texts(found, "passages") == texts(built, "passages")
    assert by_id(found, "train") == {("q", "one", ""), ("q", "one~2", ""), ("r", "two", "one~2")}
    assert not len(found.split_edges("validation"))
    (tmp_path / "out" / "set.json").unlink()
    assert len(group_ids(read("out").passages)) == 2
