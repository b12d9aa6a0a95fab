"""Perturbed queries in training: a function of (seed, step, place), the same on any ranks, and what they learn."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

from hybrid_retrieval.config import AugmentConfig, JobConfig, PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.models.tokenization import Tokenization
from hybrid_retrieval.ragged import Ragged
from hybrid_retrieval.training.augmentation import Augmentation, Lost
from hybrid_retrieval.training.callbacks import PerturbedText
from hybrid_retrieval.training.collate import Collator, PairBatch, TokenisedSet
from hybrid_retrieval.training.datamodule import GlobalBatches
from hybrid_retrieval.training.engine import Engine, sum_gradients
from hybrid_retrieval.training.fit import prepare
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.training.ragged import LONGEST, composed, encoded, gradients, info_nce, largest_difference, small_encoder
from tests.training.ranks import Ranks
from tests.training.runs import DROPOUT, Killed, assert_same_training, curve, ending, train

SIZE = 16
ON = ["dataset.augment.share=0.5", "dataset.augment.names=[swap,drop]"]


def augmentation(tokenizer: Tokenizer, beside: bool = False, seed: int = 5, **settings: Any) -> Augmentation:
    config = AugmentConfig(**{"share": 0.5, "names": ["swap", "drop"], "severity": [0.1, 0.4], **settings})
    return Augmentation(config, Tokenization(tokenizer, "", LONGEST), seed, PathsConfig(), beside)


def batch(
    sets: list[TokenisedSet], made: Augmentation | None, budget: int = 80, step: int = 3, rank: int = 0, ranks: int = 1
) -> PairBatch:
    collate = Collator(sets, 1, chunk_tokens=budget)
    return collate(step, composed(collate, "sampler.XY", SIZE).batch(step), rank, ranks, made)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1 / 3, 0.5, 1.0])
def test_after_any_number_of_batches_the_share_is_met_to_less_than_one(tokenizer: Tokenizer, share: float) -> None:
    made, total = augmentation(tokenizer, share=share), 0
    seen = np.zeros(SIZE, np.int64)
    for step in range(300):
        places = made.places(step, SIZE)
        assert (np.diff(places) > 0).all()
        total += len(places)
        assert abs(total - share * SIZE * (step + 1)) < 1
        seen[places] += 1
    assert seen.min() > 0.5 * share * 300 - 2, "every place has its turn"


def test_texts_are_those_of_seed_step_and_place(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> None:
    first, again = (encoded([batch(ragged, augmentation(tokenizer))]) for _ in range(2))
    assert first == again
    made = augmentation(tokenizer)
    alone = made.text(3, 7, "a question of some length", "en")
    for step in range(20):  # what came before does not matter
        made.text(step, 7, "another question", "en")
    assert made.text(3, 7, "a question of some length", "en") == alone
    differs = [made.text(4, 7, "a question of some length", "en"), made.text(3, 8, "a question of some length", "en")]
    differs.append(augmentation(tokenizer, seed=6).text(3, 7, "a question of some length", "en"))
    assert alone not in differs
    drawn = {made.text(step, 0, "a question of some length", "en") for step in range(50)}
    assert len(drawn) > 40
    assert made.text(0, 0, "???", "en") == "???"


@pytest.mark.parametrize("beside", [False, True], ids=["in place", "beside"])
@pytest.mark.parametrize("budget", [0, 80])
def test_only_the_drawn_queries_change(ragged: list[TokenisedSet], tokenizer: Tokenizer, budget: int, beside: bool) -> None:
    """The others, passages and all ids are those of the clean batch, in the same places."""
    made = augmentation(tokenizer, beside)
    found, clean = batch(ragged, made, budget), batch(ragged, None, budget)
    assert clean.perturbed is None
    assert found.perturbed is not None
    places = found.perturbed.tolist()
    assert places == made.places(3, SIZE).tolist()
    texts, before = encoded([found]), encoded([clean])
    own = texts[len(before) :] if beside else [texts[place] for place in places]
    assert len(texts) == len(before) + len(places) * beside
    assert [at for at, (one, other) in enumerate(zip(texts, before, strict=False)) if one != other] == [] if beside else places
    for place, ids in zip(places, own, strict=True):
        one = ragged[found.pairs.set_index[place]].pairs
        language = Collator(ragged).languages[found.pairs.query_language[place]]
        query = one.edges[found.pairs.edge[place], 0]
        (text,) = one.queries.texts([int(one.queries.rows[query, one.languages.index(language)])])
        assert ids == made.tokens([made.text(3, place, text, language)])[0][0].tolist() != before[place]
    for name in ("of_queries", "of_passages"):
        for field in fields(getattr(clean, name)):
            assert torch.equal(getattr(getattr(found, name), field.name), getattr(getattr(clean, name), field.name))


def test_a_prompt_stays_before_a_perturbed_query(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> None:
    made = augmentation(tokenizer)
    plain = batch(ragged, made)
    assert plain.perturbed is not None
    prompted = [replace(one, pairs=replace(one.pairs, prompts={"queries": "queries 1 "})) for one in ragged]
    before = made.tokens(["queries 1 x"])[0][0].tolist()[:3]
    texts, bare = encoded([batch(prompted, made)]), encoded([plain])
    for place in plain.perturbed.tolist():
        assert texts[place][:3] == before
        assert len(texts[place]) > len(bare[place]) or len(bare[place]) == LONGEST


def test_what_tokenising_them_loses_is_counted(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["short", "word " * 200, "\N{SNOWMAN} \N{OGHAM LETTER BEITH}"]
    made = augmentation(tokenizer)
    ids, lost = made.tokens(texts)
    whole = [tokenizer.encode(text).ids for text in texts]
    bytes_, unknown = set(made.tokenization.byte_ids.tolist()), made.tokenization.unknown_id
    kept = [one for part in whole for one in part[:LONGEST]]
    assert lost.cut == sum(len(part) > LONGEST for part in whole) == 1
    assert lost.tokens == len(ids.values) == len(kept)
    assert lost.unknown == sum(one == unknown for one in kept)
    assert lost.bytes == sum(one in bytes_ for one in kept)
    assert lost.unknown + lost.bytes > 0
    counting = PerturbedText(strict=False)
    for _ in range(2):
        counting.on_train_batch_start(None, None, SimpleNamespace(lost=lost), 0)  # type: ignore[arg-type]
    again = PerturbedText(strict=False)
    again.load_state_dict(counting.state_dict())
    assert again.lost == Lost(*(2 * one for one in lost))
    with caplog.at_level("INFO"):
        again.on_train_end(SimpleNamespace(is_global_zero=True), None)  # type: ignore[arg-type]
    assert "perturbed queries: 2 cut" in caplog.text
    with pytest.raises(InputError, match=r"of step 3, 1 are cut to model\.max_query_length"):
        PerturbedText(strict=True).on_train_batch_start(None, None, SimpleNamespace(lost=lost, step=3), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("beside", [False, True], ids=["in place", "beside"])
@pytest.mark.parametrize("budget", [0, 80])
def test_ranks_share_out_one_perturbed_batch(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, budget: int, beside: bool
) -> None:
    """Laws 1 and 4."""
    made = augmentation(tokenizer, beside)
    whole = batch(ragged, made, budget)
    for ranks in (2, 4):
        parts = [batch(ragged, made, budget, rank=rank, ranks=ranks) for rank in range(ranks)]
        assert encoded(parts) == encoded([whole])
        assert all(part.perturbed is not None and torch.equal(part.perturbed, whole.perturbed) for part in parts)  # type: ignore[arg-type]


def test_loader_processes_and_a_later_start_do_not_change_them(job: Callable[..., JobConfig]) -> None:
    data = prepare(job("sampler=hybrid", *ON, "loss.self_teaching=1.0")).data
    assert data.augmentation is not None
    assert data.augmentation.beside
    batches = GlobalBatches(data.collate, data.train_batches, 6, augmentation=data.augmentation)
    streams = [
        [(one.step, encoded([one])) for one in DataLoader(batches, batch_size=None, num_workers=workers)] for workers in (0, 2)
    ]
    assert streams[0] == streams[1]
    later = DataLoader(batches, batch_size=None, sampler=range(4, 6))
    assert [(one.step, encoded([one])) for one in later] == streams[0][4:]
    assert all(len(texts) > 2 * SIZE for _, texts in streams[0])


def test_validation_is_clean_and_without_it_nothing_changes(job: Callable[..., JobConfig]) -> None:
    plain, perturbed = (prepare(job("sampler=hybrid", *more)).data for more in ([], ON))
    assert plain.augmentation is None
    for one, other in zip(plain.val_dataloader()[0], perturbed.val_dataloader()[0], strict=True):
        assert encoded([one]) == encoded([other])
        assert other.perturbed is None
    off = prepare(job("sampler=hybrid", "dataset.augment.names=[swap]")).data
    for one, other, third in zip(plain.train_dataloader(), off.train_dataloader(), perturbed.train_dataloader(), strict=True):
        assert encoded([one]) == encoded([other])
        assert encoded([one]) != encoded([third])


CASES = {
    "static": ("static", 0, 0.0, False),
    "transformer": ("tiny", 80, 0.1, False),
    "transformer in blocks": ("tiny", 80, 0.1, True),
}


def engine(tokenizer: Tokenizer, name: str, cached: bool = False, **loss: Any) -> Engine:
    kind, _, dropout, blocks = CASES[name]
    made = info_nce(**{"self_teaching": 0.7, **loss})
    return Engine(small_encoder(tokenizer, kind, dropout), made, 5, cached, 100 if blocks else 1 << 25)


def take(rank: int, work: dict[str, tuple[Engine, PairBatch]]) -> dict[str, tuple[float, float, dict[str, torch.Tensor]]]:
    """Loss, what self-teaching adds to it before its weight, and gradients."""
    found = {}
    for name, (one, given) in work.items():
        torch.manual_seed(os.getpid())
        outcome = one.step(given)
        sum_gradients([value for value in one.encoder.parameters() if value.requires_grad])
        learnt = float(outcome.figures["self_teaching"]) if "self_teaching" in outcome.figures else 0.0
        found[name] = float(outcome.loss), learnt, gradients(one)
    return found


def test_each_perturbed_query_learns_from_its_own_clean_self(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> None:
    """The loss of a step from embeddings of single texts, and self-teaching as a loop over the perturbed ones."""
    one, given = engine(tokenizer, "static"), batch(ragged, augmentation(tokenizer, beside=True), 0)
    assert given.perturbed is not None
    outcome = one.step(given)
    texts = [one.encoder(Tokens.of(Ragged.from_lists([ids])))[0].detach() for ids in encoded([given])]
    queries, passages, perturbed = texts[:SIZE], torch.stack(texts[SIZE : 3 * SIZE]), texts[3 * SIZE :]
    there = given.of_passages.group >= 0
    total = 0.0
    for place, noisy in zip(given.perturbed.tolist(), perturbed, strict=True):
        teacher, student = ((passages[there] @ query / 0.2).softmax(0) for query in (queries[place], noisy))
        total += float((teacher * (teacher / student).log()).sum())
    assert float(outcome.figures["self_teaching"]) == pytest.approx(total / SIZE, rel=1e-4)
    clean = engine(tokenizer, "static", self_teaching=0.0).step(batch(ragged, None, 0))
    assert float(outcome.loss) == pytest.approx(float(clean.loss) + 0.7 * total / SIZE, rel=1e-5)


@pytest.mark.parametrize("cached", [pytest.param(False, id="", marks=pytest.mark.slow), pytest.param(True, id="cached")])
def test_two_ranks_and_gradcache_equal_one(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, two_ranks: Ranks, cached: bool
) -> None:
    """Law 4, with self-teaching and with queries perturbed in their places."""
    alone: dict[str, tuple[Engine, PairBatch]] = {}
    shared: list[dict[str, tuple[Engine, PairBatch]]] = [{}, {}]
    for name in CASES:
        for beside in (True, False):
            made, loss = (
                augmentation(tokenizer, beside),
                {"self_teaching": 0.7 * beside, "dimensions": [4, 16] if beside else None},
            )
            alone[f"{name} {beside}"] = engine(tokenizer, name, **loss), batch(ragged, made, CASES[name][1])
            for rank in range(2):
                theirs = engine(tokenizer, name, cached, **loss), batch(ragged, made, CASES[name][1], rank=rank, ranks=2)
                shared[rank][f"{name} {beside}"] = theirs
    expected = take(0, alone)
    for steps in two_ranks(take, [(mine,) for mine in shared]):
        for name, (loss, learnt, gradient) in steps.items():
            assert (loss, learnt) == pytest.approx(expected[name][:2], rel=1e-5)
            assert (learnt > 1e-3) == name.endswith("True")
            assert largest_difference(gradient, expected[name][2]) < 1e-5


def test_training_that_is_killed_and_gone_on_with_is_the_training_never_ended(
    job: Callable[..., JobConfig], tmp_path: Path
) -> None:
    """Laws 1 and 6."""
    settings = [*DROPOUT, *ON, "loss.self_teaching=1.0", "training.grad_cache=true", "trainer.max_steps=20"]
    small = job(*settings, "trainer.val_check_interval=10", "training.checkpoint_every=4")
    train(small, tmp_path / "whole")
    with pytest.raises(Killed):
        train(ending(small, "on_train_batch_end", 10), tmp_path / "killed")
    train(small, tmp_path / "killed")
    assert_same_training(tmp_path / "whole", tmp_path / "killed")


BAD = [
    (["dataset.augment.names=[keybord]"], "dataset.augment.names='keybord' is unknown; did you mean 'keyboard'?"),
    (["dataset.augment.share=1.5"], "dataset.augment.share=1.5 is outside 0..1"),
    (["dataset.augment.share=half"], "dataset.augment.share='half' has the wrong type"),
    (["dataset.augment.severity=[1.5]"], "dataset.augment.severity=1.5"),
    (["dataset.augment.severity=[0.0]"], "dataset.augment.severity=0.0 must be above 0"),
    (["dataset.augment.severity=[]"], "dataset.augment.severity=[] is empty"),
    (["dataset.augment.names=[]"], "dataset.augment.names=[] is empty; expected perturbations, as in [keyboard,drop]"),
    (["dataset.augment.names=none"], "names no perturbation"),
    (["dataset.augment.names=[keyboard]"], "keyboard knows no language of the data (s0, s1, s2, s3); it needs a keyboard"),
    (["+dataset.augment.shares=0.5"], "unknown config key dataset.augment.shares; did you mean 'share'?"),
    (["dataset.augment=0.5"], "dataset.augment=0.5 has the wrong type"),
    (["evaluation.perturb=[swap,keyboard]"], "both have swap: what is trained on is no test"),
    (["evaluation.perturb=all"], "both have swap, drop: what is trained on is no test"),
    (["dataset.augment.share=0", "loss.self_teaching=1"], "loss.self_teaching=1 has no perturbed query to teach"),
    (["loss.self_teaching=-1"], "loss.self_teaching=-1 must be 0 or more"),
    (["loss=msimcse"], "dataset.augment.share=0.5 perturbs queries, and loss.sides=['passage', 'passage'] has none"),
]


@pytest.mark.parametrize(("arguments", "part"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_is_said_in_one_line(in_process: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    assert_one_line(in_process("run", *SMALL, *ON, "hydra.run.dir=run", *arguments), part)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
def test_a_run_and_its_evaluations_say_what_it_was_trained_on(in_process: Command, tmp_path: Path) -> None:
    """And the tested ones are trained on where that is asked for."""
    allowed = ["dataset.augment.allow_tested=true", "evaluation.perturb=swap", "evaluation.severity=[0.2]"]
    done = in_process("run", *SMALL, *ON, *allowed, "loss.self_teaching=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "50% of each batch, beside the clean ones, by swap, drop at 0.1, 0.2, 0.4" in done.stderr
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["dataset"]["augment"]["names"] == ["swap", "drop"]
    assert set(curve(tmp_path / "run", "train/perturbed").values()) == {0.5}
    assert min(curve(tmp_path / "run", "train/self_teaching").values()) > 0
    for perturb, said in (("[drop,casing]", True), ("[casing]", False)):
        arguments = ["checkpoint=run", f"evaluation.perturb={perturb}", "evaluation.replicates=0", "benchmark=held_out"]
        done = in_process("evaluate", *arguments, f"hydra.run.dir=scored {said}")
        assert done.returncode == 0, done.stderr
        assert ("the run was trained on drop: no test of what it never met" in done.stderr) == said
