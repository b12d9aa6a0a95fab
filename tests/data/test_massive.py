"""MASSIVE as training pairs: intents are labels, translations pairs, and nothing of the test partition is trained on."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.massive import read_meta, read_utterances
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.sources.massive import Massive
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.mining.answers import Answers

LANGUAGES = ["de", "en"]
DATA = Path(os.environ.get("HYBRID_RETRIEVAL_DATA", "nowhere"))
Meta = dict[str, tuple[str, str, str]]


@pytest.fixture
def meta(tmp_path: Path) -> Meta:
    """Write 90 utterances of 3 scenarios with 2 intents each; two of train have the words of a test utterance."""
    rng = np.random.default_rng(0)
    found: Meta = {}
    for number in range(90):
        scenario, intent = (int(draw) for draw in rng.integers(0, (3, 2)))
        found[str(1000 - number)] = (("train", "dev", "test")[number % 3], f"s{scenario}", f"s{scenario}.{intent}")
    found |= {"0": ("train", "s0", "alone"), "1": ("train", "lonely", "l0"), "2": ("train", "lonely", "l0")}
    lines = {
        "meta": ["id\tpartition\tscenario\tintent\tannot_utt_en", *("\t".join([id_, *one, ""]) for id_, one in found.items())]
    }
    for language in LANGUAGES:
        texts = {id_: f"{language} {id_}" for id_ in found}
        if language == "de":
            texts |= {"1000": "DE, 998!", "997": "en 998"}  # 998 is of test
        lines[language] = ["id\tutt", *(f"{id_}\t{text}" for id_, text in texts.items())]
    folder = tmp_path / "local" / "massive-1.1"
    folder.mkdir(parents=True)
    for name, part in lines.items():
        (folder / f"{name}.tsv.gz").write_bytes(gzip.compress("\n".join([*part, ""]).encode()))
    return found


def ids(pairs: ParallelPairs) -> list[str]:
    """The id of each group."""
    rows = pairs.queries.rows.max(1)
    return [pairs.queries.ids([row])[0] if row >= 0 else "" for row in rows.tolist()]


def test_pairs_by_intent_are_of_one_intent_and_negatives_of_another_of_the_scenario(meta: Meta, paths: PathsConfig) -> None:
    pairs = Massive(paths, languages=LANGUAGES, partners=3, max_negatives=2).pairs()
    id_of = ids(pairs)
    for split, partition in (("train", "train"), ("validation", "dev")):
        edges = pairs.split_edges(split).tolist()
        assert len({tuple(edge[:2]) for edge in edges}) == len(edges)
        every = [id_ for id_, one in meta.items() if one[0] == partition]
        for asked in every:
            _, scenario, intent = meta[asked]
            mine = [[id_of[group] if group >= 0 else None for group in edge] for edge in edges if id_of[edge[0]] == asked]
            same = [id_ for id_ in every if meta[id_][2] == intent and id_ != asked]
            others = [id_ for id_ in every if meta[id_][1] == scenario and meta[id_][2] != intent]
            assert len(mine) == min(3, len(same))
            assert {edge[1] for edge in mine} <= set(same)
            negatives = [one for edge in mine for one in edge[2:] if one is not None]
            assert len(set(negatives)) == len(negatives) == min(2 * len(mine), len(others))
            assert set(negatives) <= set(others)
    assert not len(pairs.split_edges("test"))


def test_all_that_have_the_intent_answer_it(meta: Meta, paths: PathsConfig) -> None:
    pairs = Massive(paths, languages=LANGUAGES, partners=1).pairs()
    id_of = ids(pairs)
    known = {(id_of[query], id_of[passage]) for query, row in enumerate(pairs.answers_by_query) for passage in row.tolist()}
    kept = [id_ for id_, one in meta.items() if one[0] != "test"]
    assert known == {(a, b) for a in kept for b in kept if meta[a][2] == meta[b][2]}
    answers = Answers.of(pairs)
    left, right = (side.ravel() for side in np.meshgrid(np.arange(len(id_of)), np.arange(len(id_of))))
    same = np.array([meta[id_of[a]][2] == meta[id_of[b]][2] for a, b in zip(left.tolist(), right.tolist(), strict=True)])
    np.testing.assert_array_equal(answers.answer(left, right), same)


def test_pairs_by_translation_join_an_utterance_to_itself(meta: Meta, paths: PathsConfig) -> None:
    pairs = Massive(paths, languages=LANGUAGES, pair_by="translation", max_negatives=2).pairs()
    id_of = ids(pairs)
    edges = np.concatenate([pairs.split_edges(split) for split in ("train", "validation")])
    assert sorted(id_of[group] for group in edges[:, 0]) == sorted(id_ for id_, one in meta.items() if one[0] != "test")
    assert (edges[:, 0] == edges[:, 1]).all()
    for query, _, *negatives in edges.tolist():
        for negative in negatives:
            assert negative == -1 or (negative != query and meta[id_of[negative]] == meta[id_of[query]])
    assert [row.tolist() for row in pairs.answers_by_query] == [[group] for group in range(len(id_of))]


def test_partners_hang_on_nothing_but_ids(meta: Meta, paths: PathsConfig) -> None:
    def drawn(languages: list[str], partners: int) -> set[tuple[str, str]]:
        pairs = Massive(paths, languages=languages, partners=partners).pairs()
        id_of = ids(pairs)
        return {(id_of[query], id_of[passage]) for query, passage, *_ in pairs.edges.tolist()}

    assert drawn(["en"], 2) == drawn(["de", "en"], 2) < drawn(["de", "en"], 3)


def test_no_text_of_the_test_partition_is_trained_on(meta: Meta, paths: PathsConfig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pairs = Massive(paths, languages=LANGUAGES).pairs()
    for table in (pairs.queries, pairs.passages):
        found = set(zip(table.ids(range(len(table))), table.languages.tolist(), strict=True))
        kept = {(id_, language) for id_, one in meta.items() if one[0] != "test" for language in range(2)}
        assert found == kept - {("1000", 0), ("997", 0)}
    assert "utterances with the words of a test utterance: de 2, en 0" in caplog.text


def test_bad_choices_and_folders_are_errors(paths: PathsConfig) -> None:
    with pytest.raises(InputError, match=r"dataset\.pair_by='domain' is unknown"):
        Massive(paths, pair_by="domain")
    with pytest.raises(InputError, match=r"dataset\.languages asks for 'xx'"):
        Massive(paths, languages=["xx"])
    with pytest.raises(InputError, match=r"dataset\.partners=0"):
        Massive(paths, partners=0)
    assert not Massive(paths).at_hand()
    with pytest.raises(InputError, match=r"dataset\.path=massive-1\.1 is not a folder; expected MASSIVE 1\.1"):
        Massive(paths).pairs()


@pytest.mark.skipif(not (DATA / "massive-1.1").is_dir(), reason="massive-1.1 is not in HYBRID_RETRIEVAL_DATA")
def test_the_published_counts(tmp_path: Path) -> None:
    paths = PathsConfig(data=str(DATA), cache=str(tmp_path))
    pairs = Massive(paths, languages=["en", "zh_tw"], pair_by="translation").pairs()
    assert (len(pairs.split_edges("train")), len(pairs.split_edges("validation"))) == (
        11504,
        2031,
    )  # 12 have no text left in either
    meta = read_meta(DATA / "massive-1.1")
    assert {meta[id_].partition for id_ in pairs.queries.ids(range(len(pairs.queries)))} == {"train", "dev"}
    tests = {text for id_, text in read_utterances(DATA / "massive-1.1", "en").items() if meta[id_].partition == "test"}
    assert not tests & set(pairs.queries.texts())
