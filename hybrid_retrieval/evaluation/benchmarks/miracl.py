"""MIRACL (arXiv 2210.09984): questions in 18 languages against the Wikipedia passages of the same language; its dev part.

A passage is its article's title and its text, as the baselines of the paper read it.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import check_id, read_grade, read_lines
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Judgements, Topics
from hybrid_retrieval.evaluation.benchmarks.published_files import HubDataset, PublishedFile, PublishedFiles
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import StoredCorpus
from hybrid_retrieval.hub import Hub

log = logging.getLogger(__name__)

HUB_TOPICS, TOPICS_REVISION = "miracl/miracl", "5be20db9509754dadad47689368639fcec739c00"
HUB_CORPORA, CORPORA_REVISION = "miracl/miracl-corpus", "d921ec7e349ce0d28daf30b2da9da5ee698bef0d"
SHARD = 500_000
"""Passages in each file of a corpus but the last."""


TOPICS_SHA256 = {
    "ar": "10b534b889ec46e23df478eee09410ef2880d90d419644dfed5d05d39b57ece0",
    "bn": "46fbf50f1f3972b6908543bad6b6dfc60a75eec80d54aae603efd884ba608d2f",
    "de": "6b66ec2cfb4af383e6fe18a08899bfa3a0deeb5e6010758743fa93ab598321c9",
    "en": "25d9e6d17656674fd7aa3b67ee912c71545e664a842b147bfc17e9ff391db3da",
    "es": "5e93b5a1cea22a44912e6ad242147c58719dd8ce4bb6304264a53876b70e65ac",
    "fa": "df0ece36ab8048f765aa0bb2dde948f5c764cc25bdfc09fb1f5317ef24ff8b49",
    "fi": "71766986e9bef80118d60b989bdbd3ed965a845db6986847cbfd791fa00990b3",
    "fr": "dd471f3a0a594d212b30495f8b1d9759451aea399b44e02de6ca9c5550930106",
    "hi": "94bed8e649806246f59edfb6434ea0c59920a44f2f60a56e01d205c6bf58ef60",
    "id": "c5d9d5de2913beeb003ee0ef63e4537c2f632940ed077bfb2e9e8a3b5943096d",
    "ja": "1904b9bf0fc52e1b684daa7539b2bcfdd90122e603ffbcf6b5065a0e210525b0",
    "ko": "a365552cfc997a8915e948a3b5994883f641e7c3f12b6af87bbfaf89729e32a8",
    "ru": "91a7c3b6d21f79a12b5330f0a62811962f9370a0bf539cba8b3fecaa095f0616",
    "sw": "15cde3f614cb75b3106fb4606a16162140ee157da22c4a57aae756571788b722",
    "te": "3ac8a9a20bdf93ffcc36d554a5fff76ec4435131ae995010814df5881fff07d6",
    "th": "6ef23316d1224d9fef9e3f8bc2fdf527dad1a3bba98657617398c226503f5a46",
    "yo": "b24558e43e1965d5cfe7440a5bf3bf66d70529474ff76e64bfa72026129b2d2e",
    "zh": "5b284a9aabf08bb2d1c88ed7ea276025c9d23846457c5350dc8d391b5e0d0a13",
}
JUDGEMENTS_SHA256 = {
    "ar": "3670a7804dedd5a602dad0661f6adb1e65b197829d5571f428e0af7fc46aa313",
    "bn": "0aab3bcb0bbc5d3e5ed1566a9e3965800239438b5b5f68d5b6bb4acb7f0fec0e",
    "de": "5d4a0d7ac42c7839a0513ba6deb6b27fc62803f318be8a7c411e10dbbde7578c",
    "en": "a0af836c300e85088c4d73449492e2378280f967cac032853c9e11f3bc8a8d81",
    "es": "2d9441de1e25d7d2faf54f757db618ad5a2927337862a367f1a60e87ef7e40b2",
    "fa": "3cec8ea8fb1f056110e5282df3aa37e14fb5f44c6f885528b6072c0243c1efc4",
    "fi": "4e534e96878729bd2566233d7499c991463052d91d34738dfe84d79f110255cd",
    "fr": "823e8f6fd297064d67efe37991cd3953414dc040c290f249b0895925f03509ad",
    "hi": "4cec99e7012ffca7fd129eeea01f37984bb21702706a8398208e8fba1c14e963",
    "id": "6270863499b1be946be0883e8815b52ffb21e56181e9dc67596eaeb61494a61c",
    "ja": "1e2a60ba96b889bd076adea950e7e83a2d083f671955a5ab3e9bdc332b492e5f",
    "ko": "88827ccc5b64e531b25f70eef30202d33daa9bfa3ac8cceadf5cdbd5ca5034df",
    "ru": "f877b43c7f53b76aab25e406e5a607ef1c5adba4ffaa11e1b252a4326735a19b",
    "sw": "a1e6438ac732dabd9a24fd5c8dfc0c64168aea81ff477d8b1986fde5ad193a63",
    "te": "576a7ded402697a7bb521b4b8bb1a27806b927556001450405d3a5b85590a0c9",
    "th": "81097e891775f67a9b98d41309f9c452dc4e09572b0cbf4952d4107ed0fe1407",
    "yo": "39a219ef0b593f6056e4ad1d65b9c03345730efa5107f0abd4a4a44ef2f6f0d2",
    "zh": "5546474d3dc8139014e6571e9f4041848bb0a314ca6d2d4bac708174d71c59eb",
}

PUBLISHED = {
    "ar": (2_896, 2_061_414),
    "bn": (411, 297_265),
    "de": (305, 15_866_222),
    "en": (799, 32_893_221),
    "es": (648, 10_373_953),
    "fa": (632, 2_207_172),
    "fi": (1_271, 1_883_509),
    "fr": (343, 14_636_953),
    "hi": (350, 506_264),
    "id": (960, 1_446_315),
    "ja": (860, 6_953_614),
    "ko": (213, 1_486_752),
    "ru": (1_252, 9_543_918),
    "sw": (482, 131_924),
    "te": (828, 518_079),
    "th": (733, 542_166),
    "yo": (119, 49_043),
    "zh": (393, 4_934_368),
}
"""Dev topics, passages."""


class Miracl(StoredCorpus):
    """Files below ``paths.data``, else from the hub (whose topics are gated: HF_TOKEN, or a login).

    ``miracl/{topics,qrels}.miracl-v1.0-<language>-dev.tsv``, ``miracl/miracl-corpus-v1.0-<language>/docs-<n>.jsonl.gz``.
    """

    name = "miracl"
    measures = ("ndcg@10", "recall@100")
    published = PUBLISHED
    shard = SHARD
    hub = Hub()

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        super().__init__(paths, languages)
        topics, corpora = {}, {}
        for language in self.languages:
            for kind, sha256 in (("topics", TOPICS_SHA256), ("qrels", JUDGEMENTS_SHA256)):
                file = f"{kind}.miracl-v1.0-{language}-dev.tsv"
                path = f"miracl-v1.0-{language}/{kind}/{file}"
                topics[f"{language}/{kind}"] = PublishedFile(path, file, sha256.get(language))
            for number in range(math.ceil((self.published[language][1] or 0) / self.shard)):
                key = f"{language}/docs-{number}"
                corpora[key] = PublishedFile(f"miracl-corpus-v1.0-{key}.jsonl.gz")
        places = (HUB_TOPICS, TOPICS_REVISION, topics), (HUB_CORPORA, CORPORA_REVISION, corpora)
        self.topics, self.corpora = (
            PublishedFiles(paths, self.name, HubDataset(dataset, revision, self.hub), files)
            for dataset, revision, files in places
        )

    def read_topics(self, language: str) -> tuple[Topics, Judgements]:
        topics = read_tsv(self.topics.path(f"{language}/topics"))
        judged = read_trec_qrels(self.topics.path(f"{language}/qrels"))
        grades = Counter(grade > 0 for _, _, grade in judged)
        log.info(
            "miracl %s: %d judgements of a relevant passage; %d others are not used", language, grades[True], grades[False]
        )
        return topics, judged


def read_tsv(file: Path) -> Topics:
    """(id, text) of each line ``id <tab> text``."""
    topics: Topics = []
    for number, line in read_lines(file):
        id_, tab, text = line.rstrip("\n").partition("\t")
        if not (id_ and tab and text):
            raise InputError(f"{file}, line {number}: not an id, a tab and a text (truncated?)")
        topics.append((check_id(id_, f"{file}, line {number}: id"), text))
    return topics


def read_trec_qrels(file: Path) -> Judgements:
    """(query id, passage id, grade) of each line ``query Q0 passage grade``."""
    judged: Judgements = []
    for number, line in read_lines(file):
        fields = line.split()
        if len(fields) != 4:
            raise InputError(f"{file}, line {number}: not query, Q0, passage and a grade (truncated?)")
        judged.append((fields[0], fields[2], read_grade(fields[3], f"{file}, line {number}")))
    return judged
