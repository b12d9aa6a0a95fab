"""XQuAD-R and MLQA-R: the published counts, the rule for the relevant sentence, and every way in which data can fail."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.lareqa import Lareqa, Release, read_language

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")
PUBLISHED = {
    "xquad_r": "ar 1190/1222 de 1190/1276 el 1190/1234 en 1190/1180 es 1190/1215 hi 1190/1244 ru 1190/1219 th 1190/852 "
    "tr 1190/1167 vi 1190/1209 zh 1190/1196",
    "mlqa_r": "ar 517/2545 de 512/2362 en 1148/6264 es 500/1787 hi 507/2426 vi 511/2828 zh 504/2322",
}
POOL = {"xquad_r": 13_014, "mlqa_r": 20_534}
DISTINCT = {"xquad_r": 1190, "mlqa_r": 1148}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_counts_are_the_published_ones(name: str, tmp_path: Path) -> None:
    benchmark = Lareqa(PathsConfig(data=DATA, cache=str(tmp_path)), name)
    if not benchmark.at_hand():
        pytest.skip(f"{name} is not in HYBRID_RETRIEVAL_DATA")
    collection = benchmark.load()
    words = PUBLISHED[name].split()
    for index, (language, counts) in enumerate(zip(words[::2], words[1::2], strict=True)):
        queries, corpus = (side.rows(index) for side in (collection.queries, collection.corpus))
        assert collection.languages[index] == language
        assert f"{queries.stop - queries.start}/{corpus.stop - corpus.start}" == counts
    assert len(collection.corpus) == POOL[name]
    assert len(set(collection.queries.ids)) == DISTINCT[name]
    assert all(text.strip() for text in collection.corpus.texts)
    # One relevant sentence in each language that has the question.
    languages_of: dict[str, int] = {}
    for id_ in collection.queries.ids:
        languages_of[id_] = languages_of.get(id_, 0) + 1
    expected = [languages_of[id_] for id_ in collection.queries.ids]
    np.testing.assert_array_equal(np.bincount(collection.query, minlength=len(collection.queries)), expected)
    pairs = np.stack([collection.query, collection.corpus.language[collection.document]])
    assert len(np.unique(pairs, axis=1).T) == len(collection.query)
    assert benchmark.provenance()["as_published"]


def squad(*paragraphs: tuple[str, list[tuple[int, int]], list[tuple[str, int]]]) -> str:
    """A file in the published layout, of (context, breaks, [(question id, start of the answer)])."""
    return json.dumps(
        {
            "data": [
                {
                    "paragraphs": [
                        {
                            "context": context,
                            "sentence_breaks": breaks,
                            "qas": [
                                {"id": id_, "question": f"{id_}?", "answers": [{"answer_start": at, "text": ""}]}
                                for id_, at in questions
                            ],
                        }
                    ]
                }
                for context, breaks, questions in paragraphs
            ]
        }
    )


def test_the_relevant_sentence_is_the_one_in_which_the_answer_starts(tmp_path: Path) -> None:
    """With adjacent breaks (Chinese has no space between sentences) the end of one sentence is the start of the next."""
    file = tmp_path / "zh.json"
    file.write_text(
        squad(
            ("甲乙。丙丁。", [(0, 3), (3, 6)], [("first", 0), ("inside", 2), ("boundary", 3), ("last", 5)]),
            ("A b. C d.", [(0, 4), (5, 9)], [("gap", 5)]),
            ("abcdef", [(0, 4), (2, 6)], [("overlap", 3)]),
        )
    )
    queries, sentences, answer, _ = read_language(file)
    assert [text for _, text in sentences] == ["甲乙。", "丙丁。", "A b.", "C d.", "abcd", "cdef"]
    text_of = dict(sentences)
    assert {id_: text_of[place] for id_, place in answer.items()} == {
        "first": "甲乙。",
        "inside": "甲乙。",
        "boundary": "丙丁。",
        "last": "丙丁。",
        "gap": "C d.",
        "overlap": "abcd",
    }
    assert queries[2] == ("boundary", "boundary?")
    same, in_context, answer_in_context, _ = read_language(file, in_context=True)
    assert (same, answer_in_context) == (queries, answer)
    assert dict(in_context)[answer["boundary"]] == "丙丁。 甲乙。丙丁。"
    assert [(id_, text.split(" ")[0]) for id_, text in in_context[:2]] == sentences[:2]


SMALL = {"de": squad(("Ja. Nein.", [(0, 3), (4, 9)], [("a", 0), ("b", 4)])), "en": squad(("Yes.", [(0, 4)], [("a", 0)]))}


SUMS = {language: hashlib.sha256(text.encode()).hexdigest() for language, text in SMALL.items()}


RELEASES = {"xquad_r": Release("xquad-r", "rev", {"de": (2, 2, SUMS["de"]), "en": (1, 1, SUMS["en"])})}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def benchmark(tmp_path: Path, publisher: str = "http://127.0.0.1:9", **options: str) -> Lareqa:
    class Small(Lareqa):
        """A published set of two small files."""

        releases = RELEASES

    Small.publisher = publisher
    return Small(PathsConfig(data=str(tmp_path / "data"), cache=str(tmp_path / "cache")), "xquad_r", **options)


def test_a_question_is_judged_only_where_it_exists(tmp_path: Path) -> None:
    write(tmp_path / "data" / "xquad-r", SMALL)
    collection = benchmark(tmp_path).load()
    assert list(collection.clusters) == ["a", "a", "a"]  # one German paragraph asks both
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    judged = {
        (queries[query], documents[document]) for query, document in zip(collection.query, collection.document, strict=True)
    }
    assert judged == {("de:a", "de:0"), ("de:a", "en:0"), ("de:b", "de:1"), ("en:a", "de:0"), ("en:a", "en:0")}


def test_another_count_than_the_published_is_an_error(tmp_path: Path) -> None:
    more = squad(("Yes. No.", [(0, 4), (5, 8)], [("a", 0)]))
    write(tmp_path / "data" / "xquad-r", {**SMALL, "en": more})
    with pytest.raises(InputError, match=r"en\.json has 2 sentences; published were 1"):
        benchmark(tmp_path).load()


def test_other_text_with_the_same_counts_is_said_and_recorded(tmp_path: Path, caplog) -> None:
    write(tmp_path / "data" / "xquad-r", {**SMALL, "en": squad(("Yep.", [(0, 4)], [("a", 0)]))})
    one = benchmark(tmp_path)
    one.load()
    assert "en.json is not the published one" in caplog.text
    assert "de.json" not in caplog.text
    assert not one.provenance()["as_published"]
    assert one.provenance()["sha256"]["de"] == hashlib.sha256(SMALL["de"].encode()).hexdigest()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"data": [{}]}', '{"data": 3}', SMALL["en"][:-20], '{"data": [{"paragraphs": [7]}]}']
)
def test_a_damaged_file_is_an_error_of_one_line(damage: str, tmp_path: Path) -> None:
    write(tmp_path / "data" / "xquad-r", {**SMALL, "en": damage})
    with pytest.raises(InputError, match=r"en\.json.*: (not JSON|not a JSON object|\w+ is (missing|a number))") as caught:
        benchmark(tmp_path).load()
    assert "\n" not in str(caught.value)


def test_an_answer_outside_of_all_sentences_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "data" / "xquad-r", {**SMALL, "en": squad(("Yes.", [(0, 4)], [("a", 4)]))})
    with pytest.raises(InputError, match="the answer of question a lies in no sentence"):
        benchmark(tmp_path).load()


def test_candidates_are_sentences_or_sentences_with_their_context(tmp_path: Path) -> None:
    write(tmp_path / "data" / "xquad-r", SMALL)
    in_context = benchmark(tmp_path, candidate="sentence_in_context")
    assert list(in_context.load().corpus.texts) == ["Ja. Ja. Nein.", "Nein. Ja. Nein.", "Yes. Yes."]
    assert in_context.provenance()["candidate"] == "sentence_in_context"
    with pytest.raises(InputError, match=r"benchmark\.xquad_r\.candidate='context'"):
        benchmark(tmp_path, candidate="context")


def test_an_unknown_set_or_language_is_an_error() -> None:
    with pytest.raises(InputError, match="did you mean 'xquad_r'"):
        Lareqa(PathsConfig(), "xquad-r")
    with pytest.raises(InputError, match="'fr'"):
        Lareqa(PathsConfig(), "xquad_r", ["fr"])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a server on this machine in the publisher's place, and its folder."""
    folder = tmp_path / "published"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_come_from_the_publisher_once(tmp_path: Path, publisher: tuple[str, Path]) -> None:
    address, folder = publisher
    published = write(folder / "rev" / "xquad-r", SMALL)
    one = benchmark(tmp_path, address)
    assert not one.at_hand()
    first = one.load()
    assert one.at_hand()
    for file in published.iterdir():
        file.unlink()
    again = benchmark(tmp_path, address).load()
    assert list(again.corpus.texts) == list(first.corpus.texts) == ["Ja.", "Nein.", "Yes."]


def test_a_download_with_another_checksum_is_refused(tmp_path: Path, publisher: tuple[str, Path]) -> None:
    address, folder = publisher
    write(folder / "rev" / "xquad-r", {**SMALL, "en": SMALL["en"] + " "})
    one = benchmark(tmp_path, address)
    with pytest.raises(InputError, match="hash") as caught:
        one.load()
    assert "\n" not in str(caught.value)
    assert not one.at_hand()


def test_a_file_that_the_publisher_lacks_is_an_error(tmp_path: Path, publisher: tuple[str, Path]) -> None:
    with pytest.raises(InputError, match=r"HTTPError.*paths\.data"):
        benchmark(tmp_path, publisher[0]).load()


def test_a_publisher_out_of_reach_fails_soon_and_names_the_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    start = time.monotonic()
    with pytest.raises(InputError, match=r"ConnectionError.*xquad-r.*paths\.data") as caught:
        benchmark(tmp_path, f"http://127.0.0.1:{port}").load()
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)
