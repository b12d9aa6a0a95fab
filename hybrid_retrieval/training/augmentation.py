"""Perturbed queries in training: which queries of a batch are typed wrongly, and how.

All of it is a function of the run's seed, the step, and a query's place in the global batch (law 1). What can be wrong with a
query, and the laws of that, are `hybrid_retrieval.evaluation.perturbations`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np

from hybrid_retrieval.config import AugmentConfig, EvaluationConfig, PathsConfig
from hybrid_retrieval.data.parallel import Ints, ParallelPairs
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.perturbations.perturbation import perturb
from hybrid_retrieval.evaluation.perturbations.suite import PERTURBATIONS, chosen, perturbations
from hybrid_retrieval.hashing import mix
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.models.tokenization import Tokenization
from hybrid_retrieval.ragged import Ragged
from hybrid_retrieval.values import construct

log = logging.getLogger(__name__)

NAMES = "dataset.augment.names"
STREAM = 0x7265626D6574
"""Sets these draws apart from others by (seed, step)."""


class Lost(NamedTuple):
    """What tokenising perturbed queries loses (law 7): texts that are cut, tokens that are unknown or bytes, of so many."""

    cut: int = 0
    unknown: int = 0
    bytes: int = 0
    tokens: int = 0


class Augmentation:
    """Draws and perturbs queries of global batches."""

    def __init__(
        self, config: AugmentConfig, tokenization: Tokenization, seed: int, paths: PathsConfig, beside: bool = False
    ) -> None:
        """
        Args:
            tokenization: of queries.
            seed: of the run.
            paths: where perturbations read lexica.
            beside: perturbed queries come beside the clean ones, for self-teaching, and not in their place.
        """
        self.config, self.tokenization, self.seed, self.beside = config, tokenization, seed, beside
        self.perturbations = perturbations(chosen(config.names, NAMES), paths)

    def places(self, step: int, count: int) -> Ints:
        """int64 [drawn]: the places of a batch of `count` whose queries are to be perturbed, ascending.

        After n batches these are ``share`` of all places, to less than one.
        """
        before, after = (math.floor(self.config.share * count * steps + 1e-9) for steps in (step, step + 1))
        order = np.argsort(mix(self.seed, STREAM, step, np.arange(count)), kind="stable")
        return np.sort(order[: after - before])

    def text(self, step: int, place: int, text: str, language: str) -> str:
        """The query at a place of a batch under one perturbation at one severity, both drawn.

        It stays where nothing of it can be changed: where one perturbation has nothing to change, another is tried.
        """
        draw = Random(f"augment {self.seed} {step} {place}")  # noqa: S311
        severity = draw.choice(self.config.severity)
        for one in draw.sample(self.perturbations, len(self.perturbations)):
            (made,) = perturb(one, text, language, [severity], self.seed, f"{step} {place}")
            if made.text != text:
                return made.text
        return text

    def tokens(self, texts: Sequence[str]) -> tuple[Ragged, Lost]:
        """Ids of perturbed queries, their set's prompt included."""
        ids, cut = self.tokenization.once(texts)
        unknown, spelt = ids.values == self.tokenization.unknown_id, np.isin(ids.values, self.tokenization.byte_ids)
        return ids, Lost(int(cut.sum()), int(unknown.sum()), int(spelt.sum()), len(ids.values))

    def check(self, sets: Sequence[ParallelPairs]) -> None:
        """Say what is trained on, and the languages that no perturbation knows.

        Raises:
            InputError: a perturbation that was asked for by name knows no language of the queries.
        """
        languages = sorted({pairs.languages[at] for pairs in sets for at in np.unique(pairs.queries.languages).tolist()})
        known = {one.name: [name for name in languages if one.knows(name)] for one in self.perturbations}
        for one in self.perturbations:
            if not known[one.name] and "all" not in self.config.names:
                raise InputError(
                    f"{NAMES}: {one.name} knows no language of the data ({', '.join(languages)}); it needs {one.needs}"
                )
        log.info(
            "trained on perturbed queries: %g%% of each batch, %s, by %s at %s",
            100 * self.config.share,
            "beside the clean ones" if self.beside else "in the place of the clean ones",
            ", ".join(name for name, of in known.items() if of),
            ", ".join(map(str, self.config.severity)),
        )
        for one in self.perturbations:
            if without := sorted({*languages} - {*known[one.name]}):
                log.info("%s does not know %s", one.name, ", ".join(without))


def check_config(config: AugmentConfig, evaluation: EvaluationConfig, loss: Loss) -> None:
    """Refuse what contradicts itself, and a training on what is tested, before anything is read.

    Raises:
        InputError: so it is.
    """
    names = chosen(config.names, NAMES)
    if loss.self_teaching and not config.share:
        raise InputError(
            f"loss.self_teaching={loss.self_teaching} has no perturbed query to teach: set dataset.augment.share and {NAMES}"
        )
    if names and not config.share:
        log.warning("dataset.augment.share=%g: no query is perturbed in training", config.share)
    if not config.share:
        return
    if not names:
        raise InputError(f"{NAMES}={config.names} names no perturbation; expected some, as in [keyboard,drop]")
    if loss.sides[0] != "query":
        raise InputError(
            f"dataset.augment.share={config.share} perturbs queries, and loss.sides={list(loss.sides)} has none first in a pair"
        )
    tested = [name for name in names if name in chosen(evaluation.perturb)]
    if tested and not config.allow_tested:
        raise InputError(
            f"{NAMES} and evaluation.perturb both have {', '.join(tested)}: what is trained on is no test; take it out of one "
            "of them, or set dataset.augment.allow_tested=true"
        )


def trained_and_tested(dataset: Any, evaluation: EvaluationConfig) -> list[str]:
    """The perturbations of an evaluation that a run with this `dataset`, of its config, was trained on."""
    given = dataset.get("augment") if isinstance(dataset, Mapping) else None
    config = construct(AugmentConfig, given or {}, "dataset.augment")
    names = PERTURBATIONS if "all" in config.names else config.names
    return [name for name in chosen(evaluation.perturb) if config.share and name in names]
