"""Tatoeba's test sets (LASER, arXiv 1812.10464) as translation retrieval: a sentence finds its translation.

112 languages, each with up to 1,000 English translations of its own. The candidates of a sentence are the other side of the
pairs of its language, in both directions, as in LASER, XTREME and mteb's accuracy: ``de-en`` looks among the English sentences
of the German pairs only.
"""

from __future__ import annotations

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

PUBLISHER = "https://raw.githubusercontent.com/facebookresearch/LASER"
REVISION = "74bc6ae7ffb7cba670fe0f428d0ede9f666fb821"
CODES = by_language(
    "afr amh ang ara arq arz ast awa aze bel ben ber bos bre bul cat cbk ceb ces cha cmn cor csb cym dan deu dsb dtp ell "
    "epo est eus fao fin fra fry gla gle glg gsw heb hin hrv hsb hun hye ido ile ina ind isl ita jav jpn kab kat kaz khm "
    "kor kur kzj lat lfn lit lvs mal mar max mhr mkd mon nds nld nno nob nov oci orv pam pes pms pol por ron rus slk slv "
    "spa sqi srp swe swg swh tam tat tel tgl tha tuk tur tzl uig ukr urd uzb vie war wuu xho yid yue zsm"
)
ENGLISH = "en"
ALL = "tatoeba-v1.tsv"
Pairs = list[tuple[str, str]]
"""(sentence, its English translation)."""


class Tatoeba(PublishedBenchmark):
    """``tatoeba-laser/tatoeba-v1.tsv`` below ``paths.data`` (code, row, text, English), or the published files of each pair.

    These are ``tatoeba-laser/tatoeba.deu-eng.deu`` and so on, or come from GitHub. Copies may be in gzip.
    """

    name = "tatoeba"

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        """
        Args:
            languages: beside English; all by default.
        """
        key = f"benchmark.{self.name}.languages"
        chosen = choose_languages(languages, [*CODES, ENGLISH], key) if languages is not None else sorted(CODES)
        self.languages = [language for language in chosen if language != ENGLISH]
        if not self.languages:
            raise InputError(f"{key}={chosen} has no pair; expected a language beside {ENGLISH}")

        def files(published: dict[str, PublishedFile]) -> PublishedFiles:
            return PublishedFiles(paths, self.name, Website(PUBLISHER, REVISION), published, "tatoeba-laser")

        names = [f"tatoeba.{CODES[one]}-eng.{end}" for one in self.languages for end in (CODES[one], "eng")]
        whole = files({ALL: PublishedFile(ALL, packed=True)})
        each = files({name: PublishedFile(f"data/tatoeba/v1/{name}", name, packed=True) for name in names})
        self.files = whole if whole.local_copy(ALL) else each

    def load(self) -> RetrievalCollection:
        pairs = self._read()
        rows = {one: [(f"{one}-{at}", text) for at, (text, _) in enumerate(of)] for one, of in pairs.items()}
        rows[ENGLISH] = [(f"{one}-{at}", text) for one, of in pairs.items() for at, (_, text) in enumerate(of)]
        languages = sorted(rows)
        side = Side.of(self.name, languages, rows)
        start, asked = side.rows(languages.index(ENGLISH)).start, []
        for language, of in pairs.items():
            there, english = side.rows(languages.index(language)), slice(start, start + len(of))
            asked += [(there, english), (english, there)]
            start = english.stop
        return RetrievalCollection.translations(self.name, languages, side, asked)

    def _read(self) -> dict[str, Pairs]:
        found: dict[str, Pairs] = {CODES[language]: [] for language in self.languages}
        if ALL in self.files.files:
            file = self.files.path(ALL)
            for number, line in read_lines(file):
                fields = line.rstrip("\r\n").split("\t")
                if len(fields) != 4:
                    place = f"{file}, line {number}"
                    raise InputError(f"{place}: {len(fields)} fields; expected 4 (code, row, text, English)")
                if fields[0] in found:
                    found[fields[0]].append((fields[2], fields[3]))
            if missing := next((code for code, pairs in found.items() if not pairs), None):
                raise InputError(f"{file} has no pair of {missing}, which benchmark.{self.name}.languages asks for")
        else:
            for code, pairs in found.items():
                there, english = (self.files.path(f"tatoeba.{code}-eng.{end}") for end in (code, "eng"))
                sides = [[line.strip() for _, line in read_lines(file)] for file in (there, english)]
                expect_count(english, "lines", len(sides[1]), len(sides[0]))
                pairs += zip(*sides, strict=True)
        return {language: found[CODES[language]] for language in self.languages}
