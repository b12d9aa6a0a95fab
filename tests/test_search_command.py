"""The search command: corpora in every form, an index that is kept, answers for a person and a pipe; and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_retrieval import search
from hybrid_retrieval.cache import Cache
from hybrid_retrieval.evaluation.scoring.index import Exact, open_approximate, open_vectors
from hybrid_retrieval.evaluation.scoring.passages import StoredPassages

WORDS = ["river", "mountain", "city", "bridge", "castle", "music", "science", "history", "animal", "weather"]
LANGUAGES = ("de", "en", "th")
DIMENSIONS = 24


class Hashed:
    """Each word is a random direction; counts the passages that it encodes, and dies where it is told to."""

    def __init__(self, most: int | None = None) -> None:
        self.encoded, self.most = 0, most

    def fingerprint(self, role: str) -> str:
        return f"hashed {role}"

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        if role == "passage":
            self.encoded += len(texts)
            if self.most is not None and self.encoded > self.most:
                raise KeyboardInterrupt
        found = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                found[row] += np.random.default_rng(list(word.encode())).standard_normal(DIMENSIONS)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class Terminal(io.StringIO):
    """What a person types into."""

    def isatty(self) -> bool:
        return True


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Hashed:
    hashed = Hashed()
    monkeypatch.setattr(search, "load_encoder", lambda model, paths: hashed)
    return hashed


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The command in this process: its exit code and what it prints."""
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(tmp_path / "cache"))

    def run(corpus: Path, *arguments: str, stdin: io.StringIO | None = None, model: str = "run") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", stdin or io.StringIO())
        capsys.readouterr()
        try:
            code = search.main([model, str(corpus), *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def passages(count: int = 300) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    texts = [" ".join([f"number{n}", *rng.choice(WORDS, 5)]) for n in range(count)]
    return [{"_id": f"p{n}", "text": text, "language": LANGUAGES[n % 3]} for n, text in enumerate(texts)]


def write_json(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hits(line: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(line)["passages"]
    return found


def test_answers_are_those_of_brute_force_and_a_second_search_encodes_no_passage(
    encoder: Hashed, ask: Ask, tmp_path: Path
) -> None:
    rows = passages()
    corpus = write_json(tmp_path / "corpus.jsonl", rows)
    questions = ["number7 river", "castle music", "weather"]
    scores = encoder.encode(questions, "query") @ encoder.encode([row["text"] for row in rows], "query").T
    for again in range(2):
        code, out, err = ask(corpus, "--json", "--top", "5", stdin=io.StringIO("\n".join(questions)))
        assert code == 0, err
        assert encoder.encoded == 300, again
        for line, question, score in zip(out.splitlines(), questions, scores, strict=True):
            assert json.loads(line)["query"] == question
            best = np.argsort(-score, kind="stable")[:5]
            np.testing.assert_allclose([hit["score"] for hit in hits(line)], score[best], atol=2e-3)
            assert hits(line)[0] == {"score": hits(line)[0]["score"], "id": f"p{best[0]}"} | {
                key: rows[best[0]][key] for key in ("language", "text")
            }
    few = [row for row in range(300) if rows[row]["language"] in ("de", "th")]
    code, out, err = ask(corpus, "--json", "--query", *questions, "--language", "de,th")
    assert "200 of 300 passages" in err
    for line, score in zip(out.splitlines(), scores, strict=True):
        assert {hit["language"] for hit in hits(line)} <= {"de", "th"}
        np.testing.assert_allclose([hit["score"] for hit in hits(line)], np.sort(score[few])[::-1][:10], atol=2e-3)
    assert encoder.encoded == 300
    write_json(corpus, rows[:200])
    ask(corpus, "--query", "river")
    assert encoder.encoded == 500


def test_a_table_for_a_person_is_as_wide_as_the_terminal(
    encoder: Hashed, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid_retrieval.reporting.table.PLAIN_WIDTH", 60)
    rows = [*passages(), {"_id": "x", "text": "river \x1b[31m[bold] " + "long " * 100, "language": "de"}]
    code, out, err = ask(write_json(tmp_path / "corpus.jsonl", rows), "--query", "river [bold]", "--top", "300")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 60
    assert "\x1b" not in out
    assert "river [bold]" in out
    assert all(text in out for text in ("Score", "Language", "p7", "th", "…"))


def test_a_person_is_asked_until_nothing_is_answered(
    encoder: Hashed, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["river", "castle", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    corpus = write_json(tmp_path / "corpus.jsonl", passages())
    code, out, err = ask(corpus, "--json", stdin=Terminal())
    assert code == 0, err
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["river", "castle"]


def test_languages_may_be_spaced_and_no_terminal_obeys_them(encoder: Hashed, ask: Ask, tmp_path: Path) -> None:
    corpus = write_json(tmp_path / "corpus.jsonl", [*passages(9), {"text": "river", "language": "\x1b[2J"}])
    code, out, err = ask(corpus, "--json", "--query", "river", "--language", "de, en")
    assert code == 0, err
    assert {hit["language"] for hit in hits(out)} == {"de", "en"}
    assert "\\x1b[2J" in err
    assert "\x1b" not in err


def test_every_form_of_a_corpus(encoder: Hashed, ask: Ask, tmp_path: Path) -> None:
    rows = passages(6)

    def found(corpus: Path, *arguments: str) -> list[tuple[str, str, str]]:
        code, out, err = ask(corpus, "--json", "--query", "number3", *arguments)
        assert code == 0, err
        return sorted((hit["id"], hit["language"], hit["text"]) for hit in hits(out))

    whole = sorted((row["_id"], row["language"], row["text"]) for row in rows)
    for row in rows:
        write_json(
            tmp_path / "beir" / row["language"] / "corpus.jsonl", [one for one in rows if one["language"] == row["language"]]
        )
    write_json(tmp_path / "beir" / "fr" / "queries.jsonl", rows[:1])
    assert found(tmp_path / "beir") == whole
    assert found(write_json(tmp_path / "flat" / "corpus.jsonl", rows).parent) == whole
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "flat" / "corpus.jsonl").read_bytes()))
    assert found(packed) == whole
    titled = write_json(tmp_path / "titled.jsonl", [{"id": 5, "title": "number3", "text": "a  b"}, {"text": "c"}])
    assert found(titled) == [("2", "-", "c"), ("5", "-", "number3 a b")]
    lines = tmp_path / "lines.txt"
    lines.write_text("one number3\ntwo\n\n\nthree\n")
    assert found(lines) == [("1", "-", "one number3"), ("2", "-", "two"), ("5", "-", "three")]
    assert found(lines, "--paragraphs") == [("1", "-", "one number3 two"), ("5", "-", "three")]


def test_a_build_that_is_killed_goes_on(tmp_path: Path) -> None:
    corpus = write_json(tmp_path / "corpus.jsonl", passages())
    cache = Cache.at(tmp_path / "cache")
    stored = StoredPassages.open(corpus, cache)
    with pytest.raises(KeyboardInterrupt):
        open_vectors(Hashed(most=250), stored, cache, rows=50)
    rest = Hashed()
    vectors = open_vectors(rest, stored, cache, rows=50)
    assert rest.encoded == 50
    np.testing.assert_allclose(vectors, Hashed().encode(list(stored.texts), "passage"), atol=1e-3)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_index_says_its_recall_and_finds_as_much(encoder: Hashed, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("faiss")
    cache = Cache.at(tmp_path / "cache")
    stored = StoredPassages.open(write_json(tmp_path / "corpus.jsonl", passages(3000)), cache)
    vectors = open_vectors(encoder, stored, cache)
    index = open_approximate(kind, encoder, stored, vectors, cache)
    assert index.facts == {"type": kind, "passages": 3000, "questions": 200, "recall@10": index.facts["recall@10"]}
    drawn = np.sort(np.random.default_rng(0).choice(3000, 200, replace=False))
    queries = encoder.encode([stored.texts[row] for row in drawn.tolist()], "query")
    ours, exact = (one.search(queries, 10).documents for one in (index, Exact(vectors)))
    recall = np.mean([len({*one} & {*other}) / 10 for one, other in zip(ours.tolist(), exact.tolist(), strict=True)])
    assert index.facts["recall@10"] == pytest.approx(recall)
    assert 0.5 < recall <= 1
    assert (open_approximate(kind, encoder, stored, vectors, cache).search(queries, 10).documents == ours).all()
    assert len(list((tmp_path / "cache" / "faiss").glob("*"))) == 1


def test_recall_is_printed_and_an_index_lies_where_it_is_told_to(encoder: Hashed, ask: Ask, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    corpus = write_json(tmp_path / "corpus.jsonl", passages())
    arguments = ["--index-type", "ivf", "--index", str(tmp_path / "here"), "--query", "number7", "--json", "--top", "400"]
    code, out, err = ask(corpus, *arguments)
    assert code == 0, err
    assert "recall@10 1.000 of exact search (200 passages" in err or "recall@10 0." in err
    assert 0 < len(hits(out)) < 300
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"corpora", "embeddings", "faiss"}
    assert not list((tmp_path / "cache").glob("*/*"))
    (damaged,) = (tmp_path / "here").glob("faiss/*/index.faiss")
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert "is damaged (remove it)" in refused(ask(corpus, *arguments))


def refused(done: tuple[int, str, str]) -> str:
    """The one line of a search that is refused, before any answer."""
    code, out, err = done
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(lines), out) == (2, 1, ""), err
    assert "Traceback" not in err
    return lines[0]


def test_bad_input_is_one_line(encoder: Hashed, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_json(tmp_path / "good.jsonl", passages(9))
    query = ("--query", "river")

    def file(name: str, content: str) -> Path:
        (tmp_path / name).write_text(content)
        return tmp_path / name

    (tmp_path / "folder").mkdir()
    cases = {
        "corpus.pdf is of an unknown form; expected .jsonl": (file("corpus.pdf", "x"),),
        "nowhere.jsonl is not there": (tmp_path / "nowhere.jsonl",),
        "folder has no sub-folder": (tmp_path / "folder",),
        "empty.jsonl is empty": (file("empty.jsonl", ""),),
        "blank.txt is empty": (file("blank.txt", "\n \n"),),
        "bad.jsonl, line 2: not JSON": (file("bad.jsonl", '{"text": "a"}\n{"text": \n'),),
        "list.jsonl, line 1: not a JSON object": (file("list.jsonl", "[]\n"),),
        "none.jsonl, line 1: text is missing": (file("none.jsonl", '{"texts": "a"}\n'),),
        "space.jsonl, line 1: the text is empty": (file("space.jsonl", '{"text": " "}\n'),),
        "--language='xx' is unknown; expected one of: de, en, th": (good, "--language", "de,xx"),
        "no passage says its language": (file("plain.txt", "a\n"), "--language", "de"),
        "--top=0; expected 1 or more": (good, "--top", "0"),
        "--query: 2 of 3 questions are empty; expected text": (good, "--query", "", " "),
        "--language='' is unknown": (good, "--language", ""),
        "--index=": (good, "--index", str(good)),
    }
    for expected, arguments in cases.items():
        assert expected in refused(ask(*arguments, *query)), expected
    assert encoder.encoded == 0
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "--index-type=ivf needs faiss: pip install 'hybrid-retrieval[search]'" in refused(
        ask(good, *query, "--index-type", "ivf")
    )
    assert encoder.encoded == 0


def test_a_damaged_index_is_refused_and_one_of_another_version_is_built_anew(
    encoder: Hashed, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_json(tmp_path / "good.jsonl", passages(9))
    assert ask(good, "--query", "river")[0] == 0
    monkeypatch.setattr("hybrid_retrieval.evaluation.scoring.embeddings.VERSION", 0)
    assert ask(good, "--query", "river")[0] == 0
    assert encoder.encoded == 18
    for pattern in ("embeddings/*/vectors.npy", "corpora/*/rows.arrow"):
        for path in (tmp_path / "cache").glob(pattern):
            path.write_bytes(path.read_bytes()[:-300])
        assert "is damaged" in refused(ask(good, "--query", "river"))


def test_what_is_no_model_is_one_line(ask: Ask, tmp_path: Path) -> None:
    good = write_json(tmp_path / "good.jsonl", passages(9))
    run, nothing = tmp_path / "run", tmp_path / "nothing"
    nothing.mkdir()
    run.mkdir()
    (run / "config.yaml").write_text("seed: 1\n")
    for config, said in {
        "seed: 1": "run holds no checkpoint, and is no evaluation of a model",
        "{training: {}, model: {_target_: hybrid_retrieval.models.widened.WidenedModel, path: x}}": "run holds no checkpoint",
        "{choices: {model: bm25}}": "run holds no checkpoint",
        "{choices: {retriever: lir}, checkpoint: elsewhere}": "run holds the figures of a retriever, no encoder",
        "model: {_target_: hybrid_retrieval.models.api.ApiEncoder, base_url: 'http://a', key_variable: HOME}": "is not run",
        "model: {_target_: hybrid_retrieval.models.deepened.DeepenedModel, path: x}": "is not loaded; expected a published",
        "model: {_target_: subprocess.Popen, args: x}": "is not run",
    }.items():
        (run / "config.yaml").write_text(f"{config}\n")
        assert said in refused(ask(good, "--query", "a", model=str(run)))
    assert "nowhere is not there; expected a run directory" in refused(
        ask(good, "--query", "a", model=str(tmp_path / "nowhere"))
    )
    assert "nothing is neither a run directory" in refused(ask(good, "--query", "a", model=str(nothing)))
