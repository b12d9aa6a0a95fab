"""Data files cut, mistyped, out of order or no files at all: each is read to a well-defined end, or refused in one line.

Small sets in every layout that is read are damaged by a generator with a seed; what is accepted goes the whole way, into the
files of an evaluation or into a training set. The seed of a case that fails is its number in the test's name.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.benchmarking import LoadedBenchmark, score_benchmarks
from hybrid_retrieval.cache import SCRATCH
from hybrid_retrieval.command import with_exit_code
from hybrid_retrieval.config import EvaluationConfig, PathsConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.data.sources.debian_descriptions import DebianDescriptions
from hybrid_retrieval.data.sources.hub import HubPairs
from hybrid_retrieval.data.sources.massive import Massive as MassivePairs
from hybrid_retrieval.data.sources.mmarco import Mmarco
from hybrid_retrieval.data.sources.parallel_text import ParallelText
from hybrid_retrieval.data.sources.qa_native import QaNative
from hybrid_retrieval.evaluation.benchmarks.beir_parallel import BeirParallel
from hybrid_retrieval.evaluation.benchmarks.belebele import Belebele
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.evaluation.benchmarks.lareqa import Lareqa, Release
from hybrid_retrieval.evaluation.benchmarks.massive import Massive
from hybrid_retrieval.evaluation.benchmarks.miracl import Miracl
from hybrid_retrieval.evaluation.benchmarks.mkqa import Mkqa
from hybrid_retrieval.evaluation.benchmarks.mr_tydi import MrTydi
from hybrid_retrieval.evaluation.benchmarks.mtop import Mtop, MtopParallel
from hybrid_retrieval.evaluation.benchmarks.tydiqa import Tydiqa
from hybrid_retrieval.evaluation.retrievers.random import RandomVectors
from tests.command_output import assert_one_line
from tests.conftest import Command
from tests.small_layouts import small

SECONDS = 20
LANGUAGES = ("de", "en")
NUMBERS = range(6)
Content = dict[str, bytes]
PACKED = {".gz": gzip, ".xz": lzma}

UNCOUNTED = (None, None)
RELEASES = {"xquad_r": Release("xquad-r", "rev", dict.fromkeys(LANGUAGES, (*UNCOUNTED, "")))}


def lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def rows(*columns: Callable[[int], object]) -> bytes:
    return "".join("\t".join(str(column(i)) for column in columns) + "\n" for i in NUMBERS).encode()


def parquet(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def beir(split: str, form: str = "jsonl") -> Content:
    """Files of a set by their place below ``set/``."""
    found: Content = {}
    for one in LANGUAGES:
        for stem in ("queries", "corpus"):
            texts = {"_id": [f"{stem[0]}{i}" for i in NUMBERS], "text": [f"{one} {stem} {i}" for i in NUMBERS]}
            records = [{"_id": id_, "title": "", "text": text} for id_, text in zip(*texts.values(), strict=True)]
            content = parquet(texts) if form == "parquet" else lines(records)
            found[f"set/{one}/{stem}.{form}"] = gzip.compress(content) if form.endswith("gz") else content
        judged = rows(lambda i: f"q{i}", lambda i: f"c{i}", lambda i: i % 3)
        found[f"set/{one}/qrels/{split}.tsv"] = b"query-id\tcorpus-id\tscore\n" + judged
    return found


def squad(mark: str, *, breaks: bool) -> bytes:
    data = []
    for i in NUMBERS:
        question = {"id": f"{mark}{i}", "question": f"{i}?", "answers": [{"answer_start": 2, "text": "x"}]}
        paragraph: dict[str, Any] = {"context": f"It is {i}. So.", "qas": [question]}
        data.append(
            {"title": "T", "paragraphs": [{**paragraph, "sentence_breaks": [[0, 8], [9, 12]]} if breaks else paragraph]}
        )
    return json.dumps({"data": data}, indent=1).encode()


def miracl() -> Content:
    found: Content = {}
    passages = [{"docid": f"{i}#0", "title": "T", "text": f"text {i}"} for i in NUMBERS]
    for one in ("sw", "yo"):
        for shard in range(2):
            part = lines(passages[4 * shard : 4 * shard + 4])
            found[f"miracl/miracl-corpus-v1.0-{one}/docs-{shard}.jsonl.gz"] = gzip.compress(part)
        found[f"miracl/topics.miracl-v1.0-{one}-dev.tsv"] = rows(lambda i: i, lambda i: f"{i}?")
        judged = rows(lambda i: i, lambda i: "Q0", lambda i: f"{i}#0", lambda i: 1 + i % 2)
        found[f"miracl/qrels.miracl-v1.0-{one}-dev.tsv"] = judged
    return found


def mr_tydi() -> Content:
    topics = [{"query_id": str(i), "query": f"{i}?", "positive_passages": [{"docid": f"{i}#0"}]} for i in NUMBERS]
    passages = [{"docid": f"{i}#0", "title": "T", "text": f"text {i}"} for i in NUMBERS]
    files = {"test": gzip.compress(lines(topics)), "corpus": gzip.compress(lines(passages))}
    names = ("swahili", "thai")
    return {f"mr_tydi/mrtydi-v1.1-{name}/{file}.jsonl.gz": content for name in names for file, content in files.items()}


def belebele() -> Content:
    record = {"link": "http://x", "flores_passage": "", "question_number": 0, "question": ""}
    part = lines([{**record, "question_number": i, "question": f"{i}?", "flores_passage": f"p {i // 2}"} for i in NUMBERS])
    return {f"belebele/data/{one}_Latn.jsonl": part for one in ("deu", "eng")}


def mkqa() -> Content:
    def answers(i: int) -> list[Any]:
        return [{"type": "entity", "text": f"a{i}", "aliases": []}, {"type": "unanswerable", "text": None}]

    part = [
        {"example_id": i, "queries": dict.fromkeys(LANGUAGES, f"{i}?"), "answers": dict.fromkeys(LANGUAGES, answers(i))}
        for i in NUMBERS
    ]
    return {"mkqa/mkqa.jsonl.gz": gzip.compress(lines(part))}


def mtop() -> Content:
    part = lines([{"id": i, "text": f"t {i}", "label": 3, "label_text": f"l{i % 2}"} for i in NUMBERS])
    return {f"mtop_intent/{one}/test.jsonl": part for one in LANGUAGES}


def mtop_parallel() -> Content:
    part = [
        {
            "id": f"a{i}",
            "question": dict.fromkeys(LANGUAGES, f"t {i}"),
            "slot_intent": dict.fromkeys(LANGUAGES, f"[IN:L{i % 2} ]"),
        }
        for i in NUMBERS
    ]
    return {"mtop-xsemplr/test.jsonl.gz": gzip.compress(lines(part))}


def massive() -> Content:
    known = rows(lambda i: i, lambda i: ("train", "dev", "test")[i // 2], lambda i: "s", lambda i: f"l{i // 2}", lambda i: "t")
    found = {"massive-1.1/meta.tsv.gz": gzip.compress(b"id\tpartition\tscenario\tintent\tannot_utt_en\n" + known)}
    for one in LANGUAGES:
        texts = rows(lambda i: i, lambda i, one=one: f"{one} {i}")
        found[f"massive-1.1/{one}.tsv.gz"] = gzip.compress(b"id\tutt\n" + texts)
    return found


def mmarco() -> Content:
    found = {"mmarco/triples.train.ids.small.tsv": rows(lambda i: i, lambda i: i, lambda i: (i + 1) % 6)}
    for name in ("german", "english"):
        texts = rows(lambda i: i, lambda i, name=name: f"{name} {i}")
        found[f"mmarco/google/queries/train/{name}_queries.train.tsv"] = texts
        found[f"mmarco/google/collections/{name}_collection.tsv"] = texts
    return found


ROWS = [
    {"id": i, "lang": one, "query": f"{one} {i}?", "pos": [f"{one} {i}"], "neg": [f"{one} no {i}"], "score": [1.5, 0]}
    for one in LANGUAGES
    for i in NUMBERS
]


def rows_with_columns() -> Content:
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    return {
        "rows/de.jsonl": lines(ROWS[:6]),
        "rows/en.jsonl.gz": gzip.compress(lines(ROWS[6:])),
        "rows/both.parquet": parquet(columns),
    }


def table_with_columns() -> Content:
    table = [["id", "lang", "query", "passage", "label"], *[[i, "de", f"{i}?", f"text {i}", i % 2] for i in NUMBERS]]
    return {"table/rows.tsv": "".join("\t".join(map(str, row)) + "\n" for row in table).encode()}


@dataclass(frozen=True)
class Layout:
    """Files below ``paths.data``, and what reads them."""

    content: Callable[[], Content]
    reader: Callable[[PathsConfig], Benchmark | Source]


def parallel_text() -> Content:
    texts = {one: rows(lambda i: f"n{i}", lambda i, one=one: f"{one} {i}") for one in LANGUAGES}  # type: ignore[misc]
    parts = b"id\tpart\n" + rows(lambda i: f"n{i}", lambda i: ("train", "dev", "test")[i % 3])
    packed = gzip.compress(texts["de"]), lzma.compress(texts["en"])
    return {"text/de-DE.tsv.gz": packed[0], "text/eng.tsv.xz": packed[1], "text/fr.tsv": texts["de"], "text/parts.tsv": parts}


def descriptions() -> Content:
    return {f"text/{one}.jsonl": lines([[f"m{i}", f"{one} {i}", [f"p {i}", "q"]] for i in NUMBERS]) for one in LANGUAGES}


def qa_native() -> Content:
    questions = lines([{"id": f"q{i}", "question": f"{i}?", "answers": ["a"], "passage": i // 2} for i in NUMBERS])
    passages = lines([{"id": i, "title": "T", "text": f"text {i}"} for i in NUMBERS])
    sets = [f"qa/{one}/{split}" for one in ("a-ja", "b-zhtw") for split in ("train", "dev")]
    return {f"{one}.{side}.jsonl": part for one in sets for side, part in (("questions", questions), ("passages", passages))}


LAYOUTS = {
    "xquad_r": Layout(
        lambda: {f"xquad-r/{one}.json": squad("q", breaks=True) for one in LANGUAGES},
        lambda paths: small(Lareqa, releases=RELEASES)(paths, "xquad_r"),
    ),
    "tydiqa": Layout(
        lambda: {
            f"tydiqa-goldp/tydiqa.goldp.{one}.dev.json": squad(f"{name}-", breaks=False)
            for one, name in (("en", "english"), ("fi", "finnish"))
        },
        small(Tydiqa, published=dict.fromkeys(("en", "fi"), (*UNCOUNTED, None))),
    ),
    "miracl": Layout(miracl, small(Miracl, published=dict.fromkeys(("sw", "yo"), (None, len(NUMBERS))), shard=4)),
    "mr_tydi": Layout(mr_tydi, small(MrTydi, published=dict.fromkeys(("sw", "th"), UNCOUNTED))),
    "belebele": Layout(belebele, lambda paths: small(Belebele, questions=None)(paths, list(LANGUAGES))),
    "mkqa": Layout(mkqa, lambda paths: small(Mkqa, examples=None)(paths, list(LANGUAGES))),
    "mtop": Layout(mtop, lambda paths: small(Mtop, utterances=dict.fromkeys(LANGUAGES))(paths, "intent")),
    "mtop parallel": Layout(mtop_parallel, lambda paths: small(MtopParallel, rows=None)(paths, languages=list(LANGUAGES))),
    "massive": Layout(massive, lambda paths: small(Massive, utterances=None)(paths, "intent", languages=list(LANGUAGES))),
    "massive training": Layout(massive, lambda paths: MassivePairs(paths, languages=list(LANGUAGES))),
    "beir": Layout(lambda: beir("test"), lambda paths: BeirParallel(paths, "set")),
    "beir parquet": Layout(lambda: beir("test", "parquet"), lambda paths: BeirParallel(paths, "set")),
    "beir training": Layout(lambda: beir("train", "jsonl.gz"), lambda paths: BeirPairs(paths, "set", validation_share=0.2)),
    "hub rows": Layout(rows_with_columns, lambda paths: HubPairs(paths, path="rows", columns={"id": "id"}, files=["*.*"])),
    "hub table": Layout(table_with_columns, lambda paths: HubPairs(paths, path="table/rows.tsv", columns={"id": "id"})),
    "parallel text": Layout(
        parallel_text, lambda paths: ParallelText(paths, "text", split_file="parts.tsv", split_column="part", pivot="en")
    ),
    "descriptions": Layout(descriptions, lambda paths: DebianDescriptions(paths, "text", validation_share=0.3)),
    "qa_native": Layout(qa_native, lambda paths: QaNative(paths, "qa")),
    "mmarco": Layout(mmarco, lambda paths: Mmarco(paths, languages=["de", "en"], revision="rev", path="mmarco")),
}

ODD = [
    *(None, True, False, 7, -1, 0, 2**70, 1.5, float("nan"), float("inf"), [], {}, [[]], ["a"], {"a": 1}, "", " ", "\0"),
    *("\ud800", "a\udfff", "a\tb", "a\nb", "\u2028", "\u0661", "x" * 100_000, "q1", "c1", "1", "%20", "a b", "{}", [None, 3]),
]
ODD_FIELDS = [
    "",
    " ",
    "1",
    "-1",
    "9" * 5000,
    "9" * 12,
    "١",
    "nan",
    "inf",
    "1e400",
    "0x1",
    "1_0",
    "a b",
    "\0",
    "a\u2028b",
    "q1",
    "c0",
]
ODD_BYTES = [b"\xff\xfe", b"\0", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n", b"\xed\xa0\x80", b"\t", b'"', b"{", b"[" * 100_000]
ODD_FOLDERS = [".", ".hidden", "a b", "a:b", "x" * 60, "a\nb", "-m", "ж", "e%20", "[a]", "\udcff"]


class Damage:
    """One damage to the files of a set, drawn by a seed."""

    def __init__(self, name: str, seed: int) -> None:
        self.draw = random.Random(f"{name} {seed}")

    def __call__(self, root: Path) -> str:
        """Damage a file below `root`; what was done, for whoever reads a failure."""
        file = self.draw.choice(sorted(path for path in root.rglob("*") if path.is_file()))
        kinds = [self.bytes_of, self.bytes_of, self.lines_of, self.lines_of, self.fields_of, self.fields_of, self.fields_of]
        chosen = self.draw.choice([*kinds, self.no_file, self.beside, self.folder])
        return f"{file.relative_to(root)}: {chosen(file)}"

    def bytes_of(self, file: Path) -> str:
        """Cut, empty, or with other bytes in it; below the compression or above."""
        packed = file.suffix in PACKED and self.draw.random() < 0.5
        content = file.read_bytes() if not packed else PACKED[file.suffix].decompress(file.read_bytes())
        at = self.draw.randrange(len(content) + 1)
        strange = self.draw.choice(ODD_BYTES)
        how = self.draw.choice(["cut", "empty", "put in", "over"])
        changed = {
            "cut": content[:at],
            "empty": b"",
            "put in": content[:at] + strange + content[at:],
            "over": content[:at] + strange + content[at + len(strange) :],
        }[how]
        file.write_bytes(PACKED[file.suffix].compress(changed) if packed else changed)
        return f"{how} at {at} of {len(content)} ({strange[:5]!r})"

    def lines_of(self, file: Path) -> str:
        """Lines swapped, twice, missing, joined, or in the other file's place."""
        if file.suffix == ".parquet":
            return self.bytes_of(file)
        found = self._text(file).splitlines(keepends=True)
        one, other = self.draw.randrange(len(found)), self.draw.randrange(len(found))
        how = self.draw.choice(["swap", "twice", "drop", "join", "no end", "crlf"])
        if how == "swap":
            found[one], found[other] = found[other], found[one]
        elif how == "twice":
            found.insert(other, found[one])
        elif how == "drop":
            del found[one]
        elif how == "join":
            found[one] = found[one].rstrip("\n")
        elif how == "no end":
            found[-1] = found[-1].rstrip("\n")
        else:
            found = [line.replace("\n", "\r\n") for line in found]
        self._write(file, "".join(found))
        return f"{how} {one} {other}"

    def fields_of(self, file: Path) -> str:
        """A field of another type, or none."""
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            strange = self.draw.choice([1, 1.5, True, None, b"\xff\xfe", [1], {"a": 1}, "\0", "", "x"])
            name = self.draw.choice(table.column_names)
            columns = {one: table[one] if one != name else pa.array([strange] * len(table)) for one in table.column_names}
            if self.draw.random() < 0.2:
                del columns[name]
            pq.write_table(pa.table(columns), file)
            return f"column {name} {strange!r}"
        text = self._text(file)
        if ".tsv" in file.name:
            found = text.splitlines(keepends=True)
            row = self.draw.randrange(len(found))
            fields = found[row].rstrip("\n").split("\t")
            column, strange = self.draw.randrange(len(fields)), self.draw.choice(ODD_FIELDS)
            fields[column] = strange
            found[row] = "\t".join(fields if self.draw.random() < 0.8 else [*fields, "more"]) + "\n"
            self._write(file, "".join(found))
            return f"row {row} column {column} {strange[:20]!r}"
        whole = ".jsonl" not in file.name
        found = [text] if whole else text.splitlines()
        row = self.draw.randrange(len(found))
        record = json.loads(found[row])
        said = self._retype(record)
        deep = "[" * 100_000 + "]" * 100_000
        found[row] = json.dumps(record).replace('"too deep"', deep)
        self._write(file, "".join(f"{line}\n" for line in found))
        return f"row {row} {said}"

    def _retype(self, record: Any) -> str:
        """Replace or remove a value somewhere in a JSON value."""
        at, path = record, []
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = self.draw.choice(keys)
            path.append(key)
            if isinstance(at[key], (dict, list)) and len(at[key]) and self.draw.random() < 0.85:
                at = at[key]
                continue
            strange = self.draw.choice([*ODD, "too deep"])
            if self.draw.random() < 0.2:
                del at[key]
                return f"{path} removed"
            at[key] = strange
            return f"{path} {str(strange)[:20]!r}"

    def no_file(self, file: Path) -> str:
        """Something else in the place of the file."""
        how = self.draw.choice(["folder", "pipe", "device", "link to nothing", "link to itself", "nothing"])
        file.unlink()
        if how == "folder":
            file.mkdir()
        elif how == "pipe":
            os.mkfifo(file)
        elif how == "device":
            file.symlink_to("/dev/zero")
        elif how == "link to nothing":
            file.symlink_to(file.parent / "nowhere")
        elif how == "link to itself":
            file.symlink_to(file)
        return how

    def beside(self, file: Path) -> str:
        """A second file of the same name in another form, or of no known one."""
        name = self.draw.choice([f"{file.name}.gz", file.name.removesuffix(".gz"), f"{file.stem}.parquet", f"{file.name}~"])
        if not (file.parent / name).exists():
            (file.parent / name).write_bytes(file.read_bytes()[: self.draw.randrange(100)])
        return f"beside it {name}"

    def folder(self, file: Path) -> str:
        """Its folder under another name."""
        name = self.draw.choice(ODD_FOLDERS)
        if name != "." and file.parent.parent != file.parents[-1]:
            file.parent.rename(file.parent.with_name(name))
        return f"in {name!r}"

    @staticmethod
    def _text(file: Path) -> str:
        return (PACKED[file.suffix].decompress(file.read_bytes()) if file.suffix in PACKED else file.read_bytes()).decode()

    @staticmethod
    def _write(file: Path, text: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        file.write_bytes(PACKED[file.suffix].compress(content) if file.suffix in PACKED else content)


class Late(BaseException):
    """No reader takes it for an error of its file."""


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late(f"not over after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_to_the_end(reader: Benchmark | Source, paths: PathsConfig, run_dir: Path) -> None:
    """What a command does with the data that it accepts."""
    if isinstance(reader, Benchmark):
        collection = reader.load()
        loaded = {"set": LoadedBenchmark(collection, {**reader.provenance(), "fingerprint": collection.fingerprint})}
        config = EvaluationConfig(bias=[], replicates=0, save_runs=True)
        figures = score_benchmarks(None, {"random": RandomVectors()}, loaded, config, paths, run_dir)
        assert figures
        assert all(0 <= value < float("inf") for value in figures.values())
        return
    (pairs,) = reader.sets()
    assert reader.provenance()[0]["fingerprint"]
    assert reader.text.sample(1000)
    for split in ("train", "validation"):
        if len(pairs.split_edges(split)):
            assert len(split_collection(pairs, split, "set").query)


def snapshot(root: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}


def end_of(name: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, int, str]:
    """Write a set, damage it, read it: what was done, the exit code, and what was printed."""
    layout, data = LAYOUTS[name], tmp_path / "data"
    for place, content in layout.content().items():
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        (data / place).write_bytes(content)
    damage = Damage(name, seed)(data) if seed >= 0 else "none"
    before = snapshot(data)
    paths = PathsConfig(data=str(data), cache=str(tmp_path / "cache"))
    code = 0
    with within(SECONDS):
        try:
            with_exit_code(lambda: read_to_the_end(layout.reader(paths), paths, tmp_path / "run"))
        except SystemExit as end:
            code = int(end.code or 0)
    assert snapshot(data) == before, damage
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "cache", "run"}
    assert not list(tmp_path.rglob(f"{SCRATCH}*")), damage
    return damage, code, capsys.readouterr().err


FAST = [(name, seed) for name in LAYOUTS for seed in range(3)]
SLOW = [pytest.param(name, seed, marks=pytest.mark.slow) for name in LAYOUTS for seed in range(3, 31)]


@pytest.mark.parametrize(("name", "seed"), [*FAST, *SLOW])
def test_damaged_data_is_read_or_refused_in_one_line(
    name: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    damage, code, printed = end_of(name, seed, tmp_path, capsys)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) in ((0, 0), (2, 1)), (damage, code, printed)
    assert all(len(line) < 1000 and line.isprintable() for line in errors), (damage, printed)


@pytest.mark.parametrize("name", LAYOUTS)
def test_undamaged_data_is_accepted(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, code, printed = end_of(name, -1, tmp_path, capsys)
    assert (damage, code) == ("none", 0), printed


DEEP = "[" * 100_000
SQUAD = '{"data": [{"paragraphs": [{"context": "Yes.", "sentence_breaks": [[0, 4]], "qas": [\n%s]}]}]}'
ASKED = '{"id": "q", "question": "?", "answers": [{"answer_start": 0}]}'
HEADER = "query-id\tcorpus-id\tscore\n"
LAREQA = ["benchmark=xquad_r", "benchmark.xquad_r.languages=[en]"]
TYDI = ["benchmark=tydiqa", "benchmark.tydiqa.languages=[en]"]
MIRACL_YO = ["benchmark=miracl", "benchmark.miracl.languages=[yo]"]
BEIR = ["benchmark=beir_parallel", "benchmark.beir_parallel.path=set"]
EN, TYDI_EN = "xquad-r/en.json", "tydiqa-goldp/tydiqa.goldp.en.dev.json"
TOPICS, QRELS = (f"miracl/{kind}.miracl-v1.0-yo-dev.tsv" for kind in ("topics", "qrels"))
CORPUS, TEST = "set/de/corpus.jsonl", "set/de/qrels/test.tsv"
REFUSED = {
    "null for a question": (LAREQA, EN, SQUAD % ASKED.replace('"?"', "null"), "qas[0]: question is null; expected a text"),
    "a number for a question": (LAREQA, EN, SQUAD % ASKED.replace('"?"', "7"), "question is a number (7); expected a text"),
    "a list for an id": (LAREQA, EN, SQUAD % ASKED.replace('"q"', "[]"), "qas[0]: id is a list; expected an id"),
    "a boolean for a place": (LAREQA, EN, SQUAD % ASKED.replace("0}", "true}"), "answer_start is a boolean (True)"),
    "half a surrogate pair": (LAREQA, EN, SQUAD % ASKED.replace("?", r"\ud83d"), "question holds half of a surrogate pair"),
    "endless nesting": (LAREQA, EN, SQUAD % DEEP, "en.json: JSON that is nested too deep"),
    "no UTF-8": (LAREQA, EN, (SQUAD % ASKED).encode() + b"\n\n\xff", "en.json, line 4: not UTF-8"),
    "a folder": (LAREQA, EN, "folder", "en.json is a folder; expected a file"),
    "a pipe": (LAREQA, EN, "pipe", "en.json is a pipe; expected a file"),
    "a device": (LAREQA, EN, "device", "en.json is a device; expected a file"),
    "null for a context": (
        TYDI,
        TYDI_EN,
        SQUAD.replace('"Yes."', "null") % ASKED.replace('"q"', '"english-1"'),
        "data[0], paragraphs[0]: context is null",
    ),
    "a pipe for TyDi": (TYDI, TYDI_EN, "pipe", "dev.json is a pipe; expected a file"),
    "a tab in an id": (BEIR, CORPUS, r'{"_id": "a\tb", "text": "x"}', r"corpus.jsonl, line 1: _id is 'a\tb'; expected an id"),
    "a line break in an id": (BEIR, CORPUS, r'{"_id": "a\nb", "text": "x"}', "corpus.jsonl, line 1: _id is"),
    "a boolean for an id": (BEIR, CORPUS, '{"_id": true, "text": "x"}', "_id is a boolean (True); expected an id"),
    "a list for a text": (BEIR, CORPUS, '{"_id": 1, "text": ["x"]}', "line 1: text is a list; expected a text"),
    "a nested line": (BEIR, CORPUS, DEEP, "corpus.jsonl, line 1: JSON that is nested too deep"),
    "no UTF-8 in a line": (BEIR, CORPUS, b'{"_id": 1, "text": "x"}\n{"_id": "\xff', "corpus.jsonl, line 2: not UTF-8"),
    "a folder for a corpus": (BEIR, CORPUS, "folder", "corpus.jsonl is a folder"),
    "a socket for a corpus": (BEIR, CORPUS, "socket", "corpus.jsonl is a socket"),
    "two forms": (BEIR, "set/de/corpus.jsonl.gz", b"", "corpus.jsonl lies beside corpus.jsonl.gz: keep one of them"),
    "a folder's name": (BEIR, "set/a b/corpus.jsonl", "{}", "has a sub-folder 'a b', which is no name of a language"),
    "a long grade": (BEIR, TEST, HEADER + f"q0\tc0\t{'9' * 5000}\n", "test.tsv, line 2: '999"),
    "an Arabic grade": (BEIR, TEST, HEADER + "q0\tc0\t١\n", "test.tsv, line 2: '١' is not a grade"),
    "no grade above 0": (BEIR, TEST, HEADER + "q0\tc0\t0\n", "every grade in qrels/test.tsv of de is 0 or below"),
    "an Arabic grade of MIRACL": (MIRACL_YO, QRELS, "1 Q0 1#0 ١\n", "qrels.miracl-v1.0-yo-dev.tsv, line 1: '١' is not a grade"),
    "a long grade of MIRACL": (MIRACL_YO, QRELS, f"1 Q0 1#0 {'9' * 5000}\n", "line 1: '999"),
    "a null character in an id": (MIRACL_YO, TOPICS, "a\0\tx\n", r"yo-dev.tsv, line 1: id is 'a\x00'; expected an id"),
}


def put(file: Path, content: str | bytes) -> None:
    """A file's content, or something else in its place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if content == "folder":
        file.mkdir()
    elif content == "pipe":
        os.mkfifo(file)
    elif content == "device":
        file.symlink_to("/dev/zero")
    elif content == "socket":
        with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(file.parent):
            one.bind(file.name)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("case", REFUSED)
def test_a_command_names_file_and_record(case: str, in_process: Command, tmp_path: Path) -> None:
    settings, place, content, said = REFUSED[case]
    data = tmp_path / "data"
    for name, whole in {**beir("test"), TOPICS: b"1\tx\n", QRELS: b"1 Q0 1#0 1\n"}.items():
        if "/en/" not in name:
            put(data / name, whole)
    put(data / place, content)
    with within(SECONDS):
        done = in_process("evaluate", "retriever=[random]", *settings, f"paths.data={data}", "hydra.run.dir=out")
    assert_one_line(done, said, str(data / "set") if settings is BEIR else str(data / place))


def test_rows_are_refused_alike(in_process: Command, tmp_path: Path) -> None:
    job = ("dataset=hub", "dataset.path=set.jsonl", f"paths.data={tmp_path}", "hydra.run.dir=out")
    pairs = [{"question": f"{i}?", "answer": f"text {i}"} for i in range(200)]
    put(tmp_path / "set.jsonl", lines(pairs))
    assert_one_line(in_process("run", *job), "dataset.language is missing", "set.jsonl, line 1 are: question, answer")
    refused = in_process("run", *job, "dataset.language=en", "dataset.columns.query=query")
    assert_one_line(refused, "dataset.columns.query='query' is no column", "are: question, answer")
    put(tmp_path / "set.jsonl", lines([*pairs, {"question": None, "answer": "x"}, {"question": "x", "answer": " "}]))
    refused = in_process("run", *job, "dataset.language=en", "strict=true")
    assert_one_line(refused, "strict=true: texts that are empty, or null, are left out: 2 of set")
    offline = ("dataset=hub", "dataset.repository=some/set", "dataset.language=en", "hydra.run.dir=out")
    assert_one_line(in_process("run", *offline), "some/set cannot be had from the hub", "name a local copy with dataset.path=")
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_training_set_is_refused_alike(in_process: Command, tmp_path: Path) -> None:
    root = tmp_path / "data" / "set"
    job = ("dataset=beir_parallel", "dataset.path=set", f"paths.data={root.parent}", "hydra.run.dir=out")
    for number in range(65):
        put(root / f"l{number}" / "queries.jsonl", lines([{"_id": "q", "text": "x"}]))
    assert_one_line(in_process("run", *job), "set has 65 languages; at most 64 fit: choose with dataset.languages")
    put(root / "l0" / "queries.jsonl", "pipe")
    with within(SECONDS):
        refused = in_process("run", *job, "dataset.languages=[l0,l1]")
    assert_one_line(refused, "set/l0/queries.jsonl is a pipe; expected a file")
    for path in ("x" * 5000, "~nobody-of-this-name/x", "set/../\\x1b[31m"):
        assert_one_line(in_process("run", *job, f"dataset.path='{path}'"), "dataset.path=")
