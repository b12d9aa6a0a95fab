"""Find hard negatives for a training set: ``python -m hybrid_retrieval.prepare mine checkpoint=RUN out=FOLDER``."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import SPLITS, Ints, ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.files import read_mapping, write_text
from hybrid_retrieval.mining.folder import REPORT, Unfinished, check_same, hard_negatives, write_set
from hybrid_retrieval.mining.miners import Margin
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Number, build, construct

if TYPE_CHECKING:
    from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore
    from hybrid_retrieval.mining.miners import EncoderMiner, Miner
    from hybrid_retrieval.mining.second import Second

log = logging.getLogger(__name__)

VERSION = 2
"""Of the way to negatives; parts of another one are not gone on with."""
AT_ONCE = 1 << 21
"""Candidates that are held together."""


@dataclass(frozen=True)
class Mix:
    """How many negatives a query gets; all its translations are one query."""

    same: Number = 4
    """Found by a text of the query among the passages of its own language."""
    others: Number = 0
    """Found among those of other languages."""

    def __post_init__(self) -> None:
        if not self.same + self.others:
            raise InputError("languages.same=0 and languages.others=0; expected at least one negative a query")


@dataclass(frozen=True)
class Filter:
    """The second model; ``conf/mine.yaml`` explains the keys."""

    checkpoint: str | None = None
    model: dict[str, Any] | None = None
    cross_encoder: str | None = None
    margin: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        given = [key for key in ("checkpoint", "model", "cross_encoder") if getattr(self, key)]
        if len(given) > 1:
            raise InputError(f"filter.{given[0]} and filter.{given[1]} are two second models; expected one")


@dataclass(frozen=True)
class MineConfig:
    """Config of the command."""

    out: str
    dataset: dict[str, Any]
    paths: PathsConfig
    languages: dict[str, Any]
    ranks: dict[str, Any]
    margin: dict[str, Any]
    filter: dict[str, Any]
    splits: list[str]
    retriever: dict[str, Any]
    model: dict[str, Any] | None = None
    checkpoint: str | None = None
    merge: str = "reciprocal_rank"
    strict: bool = False


def main(composed: DictConfig) -> None:
    """Search, check, choose, write; or go on where a killed process was."""
    plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    plain["paths"] = construct(PathsConfig, plain["paths"], "paths")
    config = construct(MineConfig, {"retriever": {}, **plain}, "")
    job = Job.of(config)
    report = job.finished() or job.run()
    print("\n".join(table(report, job.pairs.languages)))
    print(f"set with negatives: {job.out}")


@dataclass(frozen=True)
class Job:
    """All that the command was given, checked, with what it searches."""

    config: MineConfig
    mix: Mix
    pairs: ParallelPairs
    out: Path
    miners: Mapping[str, Any]
    """Each miner's encoder, or retriever."""
    judge: Any
    """The second model: an encoder, a cross-encoder, or None."""
    margins: tuple[Margin, Margin]

    @classmethod
    def of(cls, config: MineConfig) -> Job:
        """Whatever is wrong with the config, the models and the data shows here."""
        from hybrid_retrieval.mining.candidates import MERGES, Ranks

        choice("merge", config.merge, MERGES)
        for split in config.splits:
            choice("splits", split, SPLITS)
        mix = construct(Mix, config.languages, "languages")
        construct(Ranks, config.ranks, "ranks")
        second = construct(Filter, config.filter, "filter")
        margins = construct(Margin, config.margin, "margin"), construct(Margin, second.margin or {}, "filter.margin")
        source: Source = build(config.dataset, Source, "dataset", paths=config.paths)
        miners = loaded_miners(config)
        judge = loaded_judge(second, config)
        if judge is not None and margins[1] == Margin():
            raise InputError(
                "filter.margin says nothing: the second model would throw nothing out; give filter.margin.relative=0"
            )
        pairs = source.pairs()
        for split in config.splits:
            if not len(pairs.split_edges(split)):
                raise InputError(f"splits: {pairs.name} has no {split} split to mine for")
        return cls(config, mix, pairs, Path(config.out).expanduser(), miners, judge, margins)

    @property
    def key(self) -> dict[str, Any]:
        """All that the negatives depend on."""
        config = self.config
        chosen = {name: getattr(config, name) for name in ("languages", "ranks", "margin", "merge", "splits")}
        return {
            "version": VERSION,
            "dataset": self.pairs.meta["fingerprint"],
            **chosen,
            "miners": {name: state_of(miner) for name, miner in self.miners.items()},
            "filter": None if self.judge is None else {"model": state_of(self.judge), "margin": config.filter["margin"]},
        }

    @property
    def unfinished(self) -> Unfinished:
        """Where parts lie until all are there."""
        return Unfinished(self.out / ".mining", self.key, "out")

    def finished(self) -> dict[str, Any] | None:
        """The report of the same mining, done before; None where it is still to do.

        Raises:
            InputError: the folder holds something else.
        """
        out = self.out
        if out.exists() and not out.is_dir():
            raise InputError(f"out={out} is a file; expected a new or an empty folder")
        if (out / REPORT).exists():
            report = read_mapping(out / REPORT)
            check_same(report.get("settings", {}), self.key, f"out={out} holds a set")
            self.unfinished.end()
            return report
        if out.exists() and any(out.iterdir()) and not self.unfinished.folder.exists():
            name = sorted(path.name for path in out.iterdir())[0]
            raise InputError(f"out={out} holds other files ({name}): choose a new or an empty folder")
        return None

    def run(self) -> dict[str, Any]:
        """Mine, write the set, and say what was found."""
        from hybrid_retrieval.cache import Cache
        from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore

        self.unfinished.begin()
        store = EmbeddingStore(Cache.at(self.config.paths.cache))
        miners = [self.miner(name, miner, store) for name, miner in self.miners.items()]
        second = self.second(store)
        chosen = {split: self.split(split, miners, second) for split in self.config.splits}
        report = {"settings": self.key, "splits": {split: part[1] for split, part in chosen.items()}}
        if not any(len(part[0]) for part in chosen.values()):
            thrown = sum((Counter(part[1]["thrown_out"]) for part in chosen.values()), Counter[str]())
            said = ", ".join(f"{count:,} {reason}" for reason, count in thrown.most_common() if count) or "nothing was found"
            raise InputError(f"no negative is left of all candidates ({said}): widen ranks.last, or lower margin.relative")
        if self.pairs.scores is not None:
            log.warning("a teacher's scores of %s are not written: prepare score", self.pairs.name)
        write_set(self.pairs, self.out, {split: part[0][:, :3] for split, part in chosen.items()})
        write_text(self.out / REPORT, json.dumps(report, indent=1, ensure_ascii=False))
        self.unfinished.end()
        return report

    def miner(self, name: str, model: Any, store: EmbeddingStore) -> Miner:
        """A model that has read all texts."""
        from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
        from hybrid_retrieval.mining.miners import LexicalMiner

        if isinstance(model, BM25):
            return LexicalMiner.of(model, self.pairs, name)
        return self.encoded(model, store, name)

    def encoded(self, model: Any, store: EmbeddingStore, label: str) -> EncoderMiner:
        """An encoder's embeddings of all texts."""
        from hybrid_retrieval.evaluation.retrievers.dense import Dense
        from hybrid_retrieval.mining.miners import EncoderMiner

        return EncoderMiner.of(Dense(model, store), self.pairs, label)

    def second(self, store: EmbeddingStore) -> Second | None:
        """The second model, ready to judge."""
        from hybrid_retrieval.mining.cross_encoder import CrossEncoder
        from hybrid_retrieval.mining.second import CrossEncoderJudge, EncoderJudge, Second

        if self.judge is None:
            return None
        if isinstance(self.judge, CrossEncoder):
            return Second(CrossEncoderJudge(self.judge, self.pairs), self.margins[1])
        return Second(EncoderJudge.of(self.encoded(self.judge, store, "second model")), self.margins[1])

    def split(self, split: str, miners: Sequence[Miner], second: Second | None) -> tuple[Ints, dict[str, Any]]:
        """Negatives of a split, int64 [negatives, 4]: query group, passage group, language, 1 if across; and their report."""
        from hybrid_retrieval.mining.answers import Answers
        from hybrid_retrieval.mining.candidates import Hunt, Ranks

        config, languages = self.config, len(self.pairs.languages)
        answers = Answers.of(self.pairs)
        ranks = construct(Ranks, config.ranks, "ranks")
        known = hard_negatives(self.pairs, split)
        hunt = Hunt(self.pairs, answers, answers.elsewhere(self.pairs, split), ranks, self.margins[0], known)
        groups = np.unique(self.pairs.split_edges(split)[:, 0]).astype(np.int64)
        groups = groups[(self.pairs.queries.rows[groups] >= 0).any(1)]
        lists = len(miners) * languages * (languages if self.mix.others else 1)
        size = max(1, AT_ONCE // (lists * ranks.last))
        blocks = [groups[start : start + size] for start in range(0, len(groups), size)]
        found: list[Ints] = []
        thrown: Counter[str] = Counter()
        for number, block in enumerate(track(blocks, f"{self.pairs.name}: mining {split}", len(blocks))):
            part = f"{split}-{number}"
            if not self.unfinished.part(part).exists():
                of_block: Counter[str] = Counter()
                negatives = self.block(block, hunt, miners, second, of_block)
                counts = np.array(list(of_block.values()), np.int64)
                self.unfinished.write(part, negatives=negatives, reasons=np.array(list(of_block), np.str_), counts=counts)
            with np.load(self.unfinished.part(part)) as arrays:
                found.append(arrays["negatives"])
                thrown.update(dict(zip(arrays["reasons"].tolist(), arrays["counts"].tolist(), strict=True)))
        negatives = np.concatenate(found)
        return negatives, summary(self.pairs, negatives, len(groups), self.mix, thrown) | {"kept": len(known)}

    def block(self, groups: Ints, hunt: Any, miners: Sequence[Miner], second: Second | None, thrown: Counter[str]) -> Ints:
        """The negatives of some query groups."""
        from hybrid_retrieval.mining.candidates import Candidates, merged
        from hybrid_retrieval.mining.second import chosen

        pairs = self.pairs
        every = pairs.queries.rows[groups].astype(np.int64)
        taken: list[Ints] = []
        for across, count in enumerate((self.mix.same, self.mix.others)):
            lists = []
            for language in range(len(pairs.languages)) if count else []:
                own = every[:, [language]] if not across else np.delete(every, language, 1)
                rows = np.sort(own[own >= 0])
                lists += [
                    hunt.list_of(miner, number, rows, language, not across, thrown) for number, miner in enumerate(miners)
                ]
            merit = merged(Candidates.join(lists), self.config.merge, len(miners) * len(pairs.languages) ** 2)
            if taken:
                width = len(pairs.passages.rows)
                before = taken[0][:, 0] * width + taken[0][:, 1]
                merit = merit.take(~np.isin(merit.query * width + merit.passage, before))
            best = merit.take(chosen(pairs, merit, count, second, thrown))
            language_of = pairs.passages.languages[best.found]
            taken.append(np.stack([best.query, best.passage, language_of, np.full(len(best), across)], 1))
        return np.concatenate(taken)


def loaded_miners(config: MineConfig) -> dict[str, Any]:
    """The encoders and retrievers that search, by name; an InputError where there are none, or one cannot be had."""
    from hybrid_retrieval.evaluation.retrievers.bm25 import BM25

    found: dict[str, Any] = {}
    if config.checkpoint is not None:
        found["checkpoint"] = trained(config.checkpoint, "checkpoint", config.strict)
    if config.model:
        found["model"] = published(config.model, config)
    for name, node in config.retriever.items():
        found[name] = build(node, BM25, f"retriever.{name}")
    if not found:
        raise InputError("nothing to mine with: give checkpoint=RUN_DIR, model=NAME or retriever=[bm25]")
    return found


def loaded_judge(second: Filter, config: MineConfig) -> Any:
    """The second model; None without one."""
    if second.checkpoint is not None:
        return trained(second.checkpoint, "filter.checkpoint", config.strict)
    if second.model:
        return published(second.model, config)
    if second.cross_encoder is None:
        return None
    from hybrid_retrieval.mining.cross_encoder import CrossEncoder
    from hybrid_retrieval.models.checkpoint import scoring_device

    return CrossEncoder(second.cross_encoder, "filter.cross_encoder", scoring_device())


def trained(run: str, key: str, strict: bool) -> Any:
    """The encoder of a run."""
    from hybrid_retrieval.models.checkpoint import load_encoder
    from hybrid_retrieval.run_record import CONFIG

    folder = Path(run).expanduser()
    if not (folder / CONFIG).exists():
        raise InputError(f"{key}={folder} is not a run directory: it holds no {CONFIG}")
    return load_encoder(folder, "best", strict)


def published(node: Mapping[str, Any], config: MineConfig) -> Any:
    """A published encoder, on the device where it is best used."""
    from torch import nn

    from hybrid_retrieval.evaluate import published_encoder
    from hybrid_retrieval.models.checkpoint import scoring_device

    encoder = published_encoder(node, config.paths, config.strict)
    return encoder.to(scoring_device()) if isinstance(encoder, nn.Module) else encoder


def state_of(model: Any) -> Any:
    """What tells a miner or a second model from another."""
    from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
    from hybrid_retrieval.evaluation.scoring.embeddings import Fingerprinted
    from hybrid_retrieval.mining.cross_encoder import CrossEncoder

    if isinstance(model, BM25):
        return asdict(model)
    if isinstance(model, CrossEncoder):
        return model.state
    return (
        [model.fingerprint(role) for role in ("query", "passage")] if isinstance(model, Fingerprinted) else type(model).__name__
    )


def summary(pairs: ParallelPairs, negatives: Ints, queries: int, mix: Mix, thrown: Mapping[str, int]) -> dict[str, Any]:
    """What was found for a split, in plain values."""
    each = np.bincount(negatives[:, 0], minlength=len(pairs.queries.rows))
    with_all = int((each >= mix.same + mix.others).sum())
    by_language = {
        kind: dict(zip(pairs.languages, np.bincount(found, minlength=len(pairs.languages)).tolist(), strict=True))
        for kind, found in (("same", negatives[negatives[:, 3] == 0, 2]), ("others", negatives[negatives[:, 3] == 1, 2]))
    }
    return {
        "queries": queries,
        "with_all_negatives": with_all,
        "without_a_negative": queries - int((each > 0).sum()),
        "negatives": len(negatives),
        "found_in": by_language,
        "thrown_out": dict(sorted(thrown.items())),
    }


def table(report: Mapping[str, Any], languages: Sequence[str]) -> list[str]:
    """The report, for a terminal."""
    lines = []
    for split, part in report["splits"].items():
        lines += [
            f"{split}: {part['negatives']:,} negatives for {part['queries']:,} queries "
            f"({part['with_all_negatives']:,} with all that were asked for, {part['without_a_negative']:,} without any)",
            f"  {part['kept']:,} hard negatives that the set has stay",
            f"  {'found in':<44}{'own language':>14}{'across':>14}",
        ]
        for language in languages:
            same, others = (part["found_in"][kind][language] for kind in ("same", "others"))
            lines.append(f"  {language:<44}{same:>14,}{others:>14,}")
        lines += [f"  {'candidates thrown out':<44}{'number':>14}"]
        lines += [f"  {reason:<44}{count:>14,}" for reason, count in part["thrown_out"].items()]
    return lines
