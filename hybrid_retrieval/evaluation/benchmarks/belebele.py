"""Belebele (arXiv 2308.16884) as retrieval: a question in one language finds its FLORES passage in another.

Questions and passages are parallel across 122 variants of languages: 900 questions on 488 passages in each.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError, nearest
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.benchmarks.published_files import PublishedFiles, expect_counts
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import read_json
from hybrid_retrieval.evaluation.collection import RetrievalCollection

log = logging.getLogger(__name__)

NAME = "belebele"
DATASET, REVISION = "facebook/belebele", "75b399394a9803252cfec289d103de462763db7c"
QUESTIONS: int | None = 900
PASSAGES = 488

FLORES = {
    "Arab": "acm apc arb ars ary arz ckb pbt pes snd urd",
    "Armn": "hye",
    "Beng": "asm ben",
    "Cyrl": "bul kaz khk kir mkd rus srp tgk ukr",
    "Deva": "hin mar npi",
    "Ethi": "amh tir",
    "Geor": "kat",
    "Grek": "ell",
    "Gujr": "guj",
    "Guru": "pan",
    "Hang": "kor",
    "Hans": "zho",
    "Hant": "zho",
    "Hebr": "heb",
    "Jpan": "jpn",
    "Khmr": "khm",
    "Knda": "kan",
    "Laoo": "lao",
    "Latn": "afr als arb azj bam ben cat ceb ces dan deu eng est eus fin fra fuv gaz grn hat hau hin hrv hun ibo ilo ind isl "
    "ita jav kac kea kin lin lit lug luo lvs mlt mri nld nob npi nso nya plt pol por ron sin slk slv sna som sot spa "
    "ssw sun swe swh tgl tsn tso tur urd uzn vie war wol xho yor zsm zul",
    "Mlym": "mal",
    "Mymr": "mya shn",
    "Orya": "ory",
    "Sinh": "sin",
    "Taml": "tam",
    "Telu": "tel",
    "Thai": "tha",
    "Tibt": "bod",
}
"""The variants by script: FLORES-200 names them <language>_<script>."""

VARIANTS = [f"{code}_{script}" for script, codes in FLORES.items() for code in codes.split()]

SHORT = {
    "ar": "arb_Arab",
    "bn": "ben_Beng",
    "de": "deu_Latn",
    "el": "ell_Grek",
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fi": "fin_Latn",
    "fr": "fra_Latn",
    "hi": "hin_Deva",
    "id": "ind_Latn",
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "pt": "por_Latn",
    "ru": "rus_Cyrl",
    "sw": "swh_Latn",
    "te": "tel_Telu",
    "th": "tha_Thai",
    "tr": "tur_Latn",
    "vi": "vie_Latn",
    "zh": "zho_Hans",
}
"""What the other benchmarks call them; a variant without a short name is asked for by its own."""


class Belebele(Benchmark):
    """``belebele/data/<variant>.jsonl`` below ``paths.data``, or from the hub."""

    def __init__(self, paths: PathsConfig, languages: list[str]) -> None:
        """
        Args:
            languages: short names or variants; metric keys have them as they are written here.
        """
        self._languages = sorted(set(languages))
        known = [*SHORT, *VARIANTS]
        for language in self._languages:
            if language not in known:
                raise InputError(f"benchmark.{NAME}.languages asks for {language!r}, which it lacks{nearest(language, known)}")
        variants = [SHORT.get(language, language) for language in self._languages]
        if not variants or len(set(variants)) < len(variants):
            raise InputError(f"benchmark.{NAME}.languages={languages} is empty or names a variant twice")
        places = {language: f"data/{variant}.jsonl" for language, variant in zip(self._languages, variants, strict=True)}
        self._files = PublishedFiles.of_hub(paths, NAME, DATASET, REVISION, places)

    def at_hand(self) -> bool:
        return self._files.at_hand()

    def provenance(self) -> dict[str, Any]:
        return self._files.provenance()

    def load(self) -> RetrievalCollection:
        queries, corpus, answers = {}, {}, {}
        for language in self._languages:
            file = self._files.path(language)
            queries[language], corpus[language], answers[language] = read_variant(file)
            expect_counts(file, {"questions": QUESTIONS}, {"questions": len(queries[language])})
            if len(corpus[language]) != PASSAGES:
                log.info("%s %s: %d distinct passages of %d", NAME, language, len(corpus[language]), PASSAGES)
        return RetrievalCollection.parallel(NAME, queries, corpus, answers)


def read_variant(file: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str, int]]]:
    """Questions (id, text), distinct passages (id, text), and the passage of each question.

    A question's id, ``<link>#<number>``, is the same in all variants; a passage's id is its number in the file.
    """
    queries: list[tuple[str, str]] = []
    passages: dict[str, str] = {}
    answers: list[tuple[str, str, int]] = []
    for number, record in read_json(file):
        try:
            link, question, text, passage = (record[key] for key in ("link", "question_number", "question", "flores_passage"))
        except KeyError as error:
            raise InputError(f"{file}, line {number}: {error.args[0]} is missing") from error
        if not (isinstance(text, str) and isinstance(passage, str)):
            raise InputError(f"{file}, line {number}: question or flores_passage is not a text")
        id_ = f"{link}#{question}"
        queries.append((id_, text))
        answers.append((id_, passages.setdefault(passage, str(len(passages))), 1))
    return queries, [(id_, text) for text, id_ in passages.items()], answers
