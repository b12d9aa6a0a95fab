"""XQuAD-R, MLQA-R (LAReQA, arXiv 2004.05484) and sets like them: questions in many languages against sentences in as many.

Candidates are the sentences of all paragraphs, alone or followed by their paragraph, as LAReQA's response encoder reads
them. In each language one sentence is relevant to a question: the first whose break [start, stop) holds the answer's
start. The files of the two are the publisher's, at a pinned revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.cache import folder_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import Record, read_document
from hybrid_retrieval.data.source import choose_languages, find_folder
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark, Judgements, Topics
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    Website,
    expect_count,
)
from hybrid_retrieval.evaluation.collection import RetrievalCollection

PUBLISHER = "https://raw.githubusercontent.com/google-research-datasets/lareqa"


@dataclass(frozen=True)
class Release:
    """A published set: where it is, and for each language (questions, sentences, SHA-256 of its file)."""

    folder: str
    revision: str
    files: dict[str, tuple[int, int, str]]


RELEASES = {
    "xquad_r": Release(
        "xquad-r",
        "9bc8c7fb6dd8d01d72a05a93c2cb96882b0d299c",
        {
            "ar": (1190, 1222, "c52922d3b8ac1ae03ed5ac38647ad59870dca3dda2beefe18ecdc30729acb69d"),
            "de": (1190, 1276, "16fb0f4bf4916154b585a20c24c66074591c9718a1affe764ff4697572328949"),
            "el": (1190, 1234, "163fd43ee785a30eb534ae2061e9eaa766a7ee4e8ffce5e4b422480c150f64b6"),
            "en": (1190, 1180, "7b0954f39297c27a31fef610f0883337dd2907fa8699151dc922afdd0fa12ffe"),
            "es": (1190, 1215, "f8e836b2d91009c4363e04315f7ede363eedbbb49c67dda60de6c4aa782f58de"),
            "hi": (1190, 1244, "ea45ba8ae4513d1533b222bebdc02a90bc319c055d3aeea68584a053d2e92872"),
            "ru": (1190, 1219, "7f4dff853538b9a5fcc28c070b8bb983a5c5d190ac747b8e005a1ada9cab18f1"),
            "th": (1190, 852, "c3a041864c3a9fb0b4dd91cfdf99cf36b411b3e704c58a303c97bc6dc786cfe4"),
            "tr": (1190, 1167, "f3e8c13002bbce154a4578f535f7533cb70f3da08840e6b62735935baec7bd94"),
            "vi": (1190, 1209, "e35926bf5cc6fc6ecbdfca49467aabeb454f08d152d7818143a906bd31dde995"),
            "zh": (1190, 1196, "80c2cde7b9c2fb134c303cbb52f2ba396ead9eb0014aec43993543d2ba9e93ed"),
        },
    ),
    "mlqa_r": Release(
        "mlqa-r",
        "354d67d1cd066854cdfbf5ad0e6105528976141d",
        {
            "ar": (517, 2545, "2132fbc03208535c0fe01f2e2c5121d06f9c2aa799af93b0a719dbc105bdf137"),
            "de": (512, 2362, "ce9454dc5aa6f2d85c23cd6e49cb367fbb7c4c6e62d7f71e355c6b5dae4d0886"),
            "en": (1148, 6264, "fedd9a5cc0848dda80caf84aa36f482adaae230526a3f6e9e86926a93ef3b1e4"),
            "es": (500, 1787, "70ecba276b8c96a692b120693a595d076ce94ad21d4b28311538a9fcbfe0f9d7"),
            "hi": (507, 2426, "4dd0fb3c06f737a5481d705bc1dcac7876712a5815c9265908fbb3a0696cb654"),
            "vi": (511, 2828, "9d3baff6ba03e6793b25594217265ea59a136b9733833dca8a9582a84a78ff85"),
            "zh": (504, 2322, "57f01d2fff50cf3392805635b01445339f225ad5bf28ba8443b12f8dbd1e69dc"),
        },
    ),
}

CANDIDATES = ("sentence", "sentence_in_context")


class Lareqa(PublishedBenchmark):
    """One of the two sets, from the user's folder or from the publisher."""

    releases = RELEASES
    publisher = PUBLISHER

    def __init__(self, paths: PathsConfig, name: str, languages: list[str] | None = None, candidate: str = "sentence") -> None:
        """
        Args:
            name: xquad_r or mlqa_r.
            languages: all by default.
            candidate: sentence, or sentence_in_context: the sentence followed by its paragraph.
        """
        choice(f"benchmark.{name}.name", name, self.releases)
        choice(f"benchmark.{name}.candidate", candidate, CANDIDATES)
        self.name, self.candidate, self.release = name, candidate, self.releases[name]
        self.languages = choose_languages(languages, list(self.release.files), f"benchmark.{name}.languages")
        folder = self.release.folder
        files = {
            language: PublishedFile(f"{folder}/{language}.json", f"{language}.json", self.release.files[language][2])
            for language in self.languages
        }
        website = Website(self.publisher, self.release.revision)
        self.files = PublishedFiles(paths, name, website, files, folder)

    def provenance(self) -> dict[str, Any]:
        return {**super().provenance(), "candidate": self.candidate}

    def load(self) -> RetrievalCollection:
        published = {language: self.release.files[language][:2] for language in self.languages}
        return read_set(self.name, {language: self.files.path(language) for language in published}, self.candidate, published)


class LareqaFolder(Benchmark):
    """A set of one's own in their layout, a file ``<language>.json`` each."""

    def __init__(
        self,
        paths: PathsConfig,
        path: str | None = None,
        languages: list[str] | None = None,
        candidate: str = "sentence",
        name: str = "lareqa",
    ) -> None:
        """
        Args:
            path: the folder; a relative one is looked for under ``paths.data`` too.
            languages: the files to use; all by default.
            candidate: sentence, or sentence_in_context: the sentence followed by its paragraph.
            name: in metric keys.
        """
        if path is None:
            raise InputError(f"benchmark.{name}.path is missing: name a folder with a file LANGUAGE.json of each language")
        choice(f"benchmark.{name}.candidate", candidate, CANDIDATES)
        self.name, self.candidate, self._wanted = name, candidate, languages
        self._folder = find_folder(path, paths.data, f"benchmark.{name}.path")

    def at_hand(self) -> bool:
        return self._folder.is_dir()

    def provenance(self) -> dict[str, Any]:
        return {"path": str(self._folder), "candidate": self.candidate, "state": folder_state(self._folder)[1]}

    def load(self) -> RetrievalCollection:
        files = {file.stem: file for file in sorted(self._folder.glob("*.json"))}
        if not files:
            raise InputError(f"benchmark.{self.name}.path={self._folder} holds no file LANGUAGE.json")
        chosen = choose_languages(self._wanted, list(files), f"benchmark.{self.name}.languages")
        return read_set(self.name, {language: files[language] for language in chosen}, self.candidate)


def read_set(
    name: str, files: Mapping[str, Path], candidate: str, published: Mapping[str, tuple[int, int]] | None = None
) -> RetrievalCollection:
    """The collection of a file a language; `published`: how many questions and sentences each is known to have."""
    queries: dict[str, Topics] = {}
    corpus: dict[str, Topics] = {}
    answers: dict[str, Judgements] = {}
    paragraphs: list[list[str]] = []
    for language, file in files.items():
        queries[language], corpus[language], answer, asked = read_language(file, candidate == "sentence_in_context")
        paragraphs += asked
        if published:
            expect_count(file, "questions", len(queries[language]), published[language][0])
            expect_count(file, "sentences", len(corpus[language]), published[language][1])
        answers[language] = [(query, sentence, 1) for query, sentence in answer.items()]
    return RetrievalCollection.parallel(name, queries, corpus, answers).clustered(paragraphs)


def read_language(file: Path, in_context: bool = False) -> tuple[Topics, Topics, dict[str, str], list[list[str]]]:
    """Questions (id, text), sentences (id, text) in the file's order, each question's sentence, each paragraph's questions.

    A sentence's id is its number in the file.

    Args:
        in_context: a sentence's text is followed by its paragraph.
    """
    queries: Topics = []
    sentences: Topics = []
    answer: dict[str, str] = {}
    paragraphs: list[list[str]] = []
    for article in read_document(file).records("data"):
        for paragraph in article.records("paragraphs"):
            breaks, first, context = sentence_breaks(paragraph), len(sentences), paragraph.text("context")
            after = f" {context}" if in_context else ""
            sentences += [(str(first + i), context[start:stop] + after) for i, (start, stop) in enumerate(breaks)]
            asked = []
            for question in paragraph.records("qas"):
                id_, starts = question.id("id"), question.records("answers")
                at = starts[0].whole("answer_start") if starts else -1
                place = next((i for i, (start, stop) in enumerate(breaks) if start <= at < stop), None)
                if place is None:
                    raise InputError(f"{question.place}: the answer of question {id_} lies in no sentence")
                queries.append((id_, question.text("question")))
                answer[id_] = str(first + place)
                asked.append(id_)
            paragraphs.append(asked)
    return queries, sentences, answer, paragraphs


def sentence_breaks(paragraph: Record) -> list[tuple[int, int]]:
    """Start and stop of each sentence, within the paragraph's context."""
    length = len(paragraph.text("context"))
    found = []
    for number, pair in enumerate(paragraph.items("sentence_breaks")):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)):
            raise InputError(f"{paragraph.place}, sentence_breaks[{number}]: not two whole numbers")
        start, stop = pair
        if not 0 <= start < min(stop, length):
            raise InputError(f"{paragraph.place}, sentence_breaks[{number}]: no part of a context of {length} characters")
        found.append((start, stop))
    return found
