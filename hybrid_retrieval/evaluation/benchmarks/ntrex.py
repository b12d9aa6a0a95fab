"""NTREX-128 (newstest2019 in 128 languages) as translation retrieval: a sentence finds its translation in another language.

1,997 sentences of 123 documents, line by line the same in all languages; candidates are all sentences of the other language.
Of the two Spanish references the first is taken.
"""

from __future__ import annotations

from itertools import permutations

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.languages import by_language
from hybrid_retrieval.data.records import read_lines
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    Website,
    expect_count,
)
from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side

PUBLISHER = "https://raw.githubusercontent.com/MicrosoftTranslator/NTREX"
REVISION = "8561f6a622db9edad1217683e5c83daefd8bb2bf"
CODES = by_language(
    "afr amh arb aze-Latn bak bel bem ben bod bos bul cat ces ckb-Arab cym dan deu div dzo ell eng eng-GB eng-IN eng-US est "
    "eus ewe fao fas fij fil fin fra fra-CA fuc gle glg guj hau heb hin hmn hrv hun hye ibo ind isl ita jpn kan kat kaz khm "
    "kin kir kmr kor lao lav lit ltz mal mar mey mkd mlg mlt mon mri msa mya nde nep nld nno nob nso nya orm pan pol por "
    "por-BR prs pus ron rus shi sin slk slv smo sna-Latn snd-Arab som spa spa-MX sqi srp-Cyrl srp-Latn ssw swa swe tah tam "
    "tat tel tgk-Cyrl tha tir ton tsn tuk tur uig ukr urd uzb ven vie wol xho yor yue zho-CN zho-TW zul"
)
DOCUMENTS = "DOCUMENT_IDS.tsv"


class Ntrex(PublishedBenchmark):
    """``ntrex-128/newstest2019-*.txt`` (or ``.txt.gz``) and ``ntrex-128/DOCUMENT_IDS.tsv`` below ``paths.data``, or GitHub."""

    name = "ntrex"
    sentences = 1997

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None, pivot: str | None = "en") -> None:
        """
        Args:
            languages: those that lie below ``paths.data`` by default, or else all.
            pivot: with which every language is paired, in both directions; None: all ordered pairs of languages.
        """
        every = PublishedFiles(paths, self.name, Website(PUBLISHER, REVISION), _files(list(CODES)), "ntrex-128")
        here = [language for language in CODES if every.local_copy(language)]
        key = f"benchmark.{self.name}"
        chosen = choose_languages(languages, list(CODES), f"{key}.languages") if languages is not None else here or list(CODES)
        if pivot is not None:
            choose_languages([pivot], list(CODES), f"{key}.pivot")
        self.pivot, self.languages = pivot, sorted({*chosen, *([] if pivot is None else [pivot])})
        if len(self.languages) < 2:
            raise InputError(
                f"{key}.languages={self.languages} with {key}.pivot={pivot} has no pair; expected another language"
            )
        self.files = PublishedFiles(paths, self.name, every.publisher, _files(self.languages), every.folder)

    def load(self) -> RetrievalCollection:
        rows = {language: [(str(at), text) for at, text in enumerate(self._lines(language), 1)] for language in self.languages}
        documents = self._lines(DOCUMENTS)
        side = Side.of(self.name, self.languages, rows)
        place = {language: side.rows(index) for index, language in enumerate(self.languages)}
        pairs = [pair for pair in permutations(self.languages, 2) if self.pivot in (None, *pair)]
        asked = [(place[one], place[other]) for one, other in pairs]
        return RetrievalCollection.translations(self.name, self.languages, side, asked, documents * len(self.languages))

    def _lines(self, key: str) -> list[str]:
        file = self.files.path(key)
        found = [line.strip() for _, line in read_lines(file)]
        expect_count(file, "lines", len(found), self.sentences)
        return found


def _files(languages: list[str]) -> dict[str, PublishedFile]:
    names = {one: f"newstest2019-{'src' if one == 'en' else 'ref'}.{CODES[one]}.txt" for one in languages}
    texts = {one: PublishedFile(f"NTREX-128/{name}", name, packed=True) for one, name in names.items()}
    return texts | {DOCUMENTS: PublishedFile(DOCUMENTS)}
