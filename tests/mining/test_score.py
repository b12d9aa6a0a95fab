"""``prepare score``: logits of a cross-encoder, kept where the set is read from, and learnt from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybrid_retrieval.mining import score
from hybrid_retrieval.mining.folder import Unfinished, group_ids
from hybrid_retrieval.models.tokenization import train_unigram
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.mining.conftest import SET, Prepare
from tests.mining.test_mine import Read, sums
from tests.models.small_models import TEXTS, write_tokenizer

MINED = ["dataset.path=out"]


def write_classifier(directory: Path, labels: int = 1, seed: int = 0, whole: bool = True) -> Path:
    """A tiny BERT classifier with random weights; or one that is not `whole`, without its last layer."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    tokenizer = train_unigram([*TEXTS, *(f"question {n} answer {n}" for n in range(40))], 400)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), **sizes, max_position_embeddings=64, num_labels=labels, initializer_range=0.5
    )
    (BertForSequenceClassification if whole else BertModel)(config).save_pretrained(directory)
    write_tokenizer(directory, tokenizer, pad_token="<pad>")
    return directory


@pytest.fixture
def mined(prepare: Prepare, tmp_path: Path) -> Path:
    """A set with hard negatives."""
    done = prepare("mine", "retriever=[bm25]", *SET, "margin.relative=null", "out=out")
    assert done.returncode == 0, done.stderr
    write_classifier(tmp_path / "judge")
    return tmp_path / "out"


def test_scores_are_the_models_and_are_read_beside_the_edges(
    prepare: Prepare, mined: Path, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each the mean over languages of the plain model's logits; and the same after an end in the middle."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    monkeypatch.setattr(score, "AT_ONCE", 16)
    written: list[str] = []
    write = Unfinished.write

    def ending(self: Unfinished, name: str, **arrays: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(name)
        write(self, name, **arrays)

    arguments = ["score", "cross_encoder=judge", "dataset.path=out", "languages=[aa,bb]"]
    monkeypatch.setattr(Unfinished, "write", ending)
    assert prepare(*arguments).returncode == 130
    assert not (mined / "aa" / "scores").exists()
    assert_one_line(prepare(*arguments, "batch_size=3"), "dataset.path=out is unfinished", "batch_size=32")
    first, written[:] = list(written), []
    monkeypatch.setattr(Unfinished, "write", lambda self, name, **arrays: (written.append(name), write(self, name, **arrays)))
    done = prepare(*arguments)
    assert done.returncode == 0, done.stderr
    assert written
    assert not set(first) & set(written)
    after = sums(mined)
    assert prepare(*arguments).returncode == 0
    assert sums(mined) == after

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "judge")

    def logit(query: str, passage: str) -> float:
        with torch.no_grad():
            return float(model(**tokenizer(query, passage, return_tensors="pt")).logits)

    pairs = read("out")
    assert pairs.scores is not None
    assert pairs.scores.shape == (len(pairs.edges), pairs.edges.shape[1] - 1)
    checked = 0
    start = int(pairs.patterns("train").starts.min())
    for edge, scores in zip(pairs.split_edges("train")[:6].tolist(), pairs.scores[start : start + 6], strict=True):
        for group, found in zip(edge[1:], scores.tolist(), strict=True):
            rows = [(pairs.queries.rows[edge[0], at], pairs.passages.rows[group, at]) for at in (0, 1)]
            each = [logit(pairs.queries.texts([q])[0], pairs.passages.texts([p])[0]) for q, p in rows if min(q, p) >= 0]
            if group >= 0:
                assert found == pytest.approx(np.mean(each), abs=1e-4)
                checked += 1
    assert checked > 12
    assert np.isnan(pairs.scores[pairs.edges[:, 1:] < 0]).all()
    others = np.setdiff1d(np.arange(len(pairs.edges)), np.arange(start, start + len(pairs.split_edges("train"))))
    assert np.isnan(pairs.scores[others, 0]).all()
    assert len(group_ids(pairs.queries)) == 40


@pytest.mark.slow
def test_a_run_learns_from_the_scores(prepare: Prepare, mined: Path, in_process: Command) -> None:
    run = [*SMALL[5:], "dataset=beir_parallel", *MINED, "sampler.batch_size=8", "benchmark=held_out", "model.dimensions=16"]
    run += ["loss=distill_scores", "loss.targets=data", "loss.hard_negatives=2", "hydra.run.dir=run"]
    assert_one_line(in_process("run", *run), "loss.targets=data: out has no scores")
    assert prepare("score", "cross_encoder=judge", *MINED).returncode == 0
    done = in_process("run", *run)
    assert done.returncode == 0, done.stderr
    (logged,) = (mined.parent / "run").rglob("metrics.csv")
    assert "train/divergence" in logged.read_text().splitlines()[0].split(",")


def test_a_second_model_throws_out_what_it_takes_for_answers(prepare: Prepare, mined: Path, tmp_path: Path) -> None:
    arguments = ["mine", "retriever=[bm25]", *SET, "margin.relative=null", "filter.cross_encoder=judge"]
    done = prepare(*arguments, "out=filtered")
    assert done.returncode == 0, done.stderr
    before, after = (
        json.loads((folder / "mining.json").read_text())["splits"]["train"] for folder in (mined, tmp_path / "filtered")
    )
    thrown = after["thrown_out"]["an answer to the second model"]
    assert thrown > 0
    assert after["negatives"] + thrown >= before["negatives"] > after["negatives"]
    write_classifier(tmp_path / "judge", seed=1)
    assert_one_line(prepare(*arguments, "out=filtered"), "out=filtered holds a set", "another filter=")
    nothing = prepare(*arguments, "out=none", "filter.margin.relative=null", "filter.margin.max_score=-1")
    assert_one_line(nothing, "no negative is left", "an answer to the second model")


def test_the_second_model_may_be_a_published_encoder(prepare: Prepare, mined: Path, tmp_path: Path) -> None:
    arguments = ["mine", "retriever=[bm25]", *SET, "margin.relative=null", "model@filter.model=published"]
    done = prepare(*arguments, "filter.model.path=judge", "out=filtered")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "filtered" / "mining.json").read_text())
    assert report["splits"]["train"]["thrown_out"]["an answer to the second model"] > 0
    assert report["settings"]["filter"]["model"]
    refused = prepare(*arguments, "filter.model.name=a/b/c", "out=other")
    assert_one_line(refused, "'a/b/c' is no name of a model on the hub")


def test_scores_of_other_languages_do_not_count_beside_new_ones(prepare: Prepare, mined: Path) -> None:
    assert prepare("score", "cross_encoder=judge", *MINED, "languages=[aa,bb]").returncode == 0
    write_classifier(mined.parent / "judge", seed=3)
    again = prepare("score", "cross_encoder=judge", *MINED, "languages=[aa]")
    assert_one_line(again, "out/bb/scores/train.tsv is of an earlier command", "have bb in languages")
    assert not (mined / ".scoring").exists()


def test_bad_input_is_one_line(prepare: Prepare, mined: Path, tmp_path: Path) -> None:
    write_classifier(tmp_path / "two", labels=2)
    write_classifier(tmp_path / "headless", whole=False)
    judge = "cross_encoder=judge"
    for arguments, parts in {
        ("score", *MINED): ["config key cross_encoder is missing"],
        ("score", judge): ["dataset.path is missing"],
        ("score", judge, "dataset=synthetic"): ["expected a BeirPairs"],
        ("score", "cross_encoder=two", *MINED): ["cross_encoder=two has 2 labels; expected a cross-encoder with one"],
        ("score", "cross_encoder=headless", *MINED): ["its weights lack 2 of the classifier's", "classifier.bias"],
        ("score", "cross_encoder=given", *MINED): ["cross_encoder=given holds no config.json"],
        ("score", judge, "dataset.path=given"): ["given has no hard negatives in its train split: prepare mine"],
        ("score", judge, *MINED, "languages=[xx]"): ["languages asks for 'xx'"],
        ("score", judge, *MINED, "batch_size=0"): ["batch_size=0 must be above 0"],
        ("mine", *SET, "retriever=[bm25]", "out=o", "filter.cross_encoder=two"): ["filter.cross_encoder=two has 2 labels"],
    }.items():
        assert_one_line(prepare(*arguments), *parts)
    assert not (mined / ".scoring").exists()
    (mined / "aa" / "scores").mkdir()
    scores = mined / "aa" / "scores" / "train.tsv"
    for text, part in {"a\tb\tc\n": "line 1", "query-id\tcorpus-id\tscore\nq1\tc1\tx\n": "line 2: 'x' is no score"}.items():
        scores.write_text(text)
        assert_one_line(prepare("score", judge, *MINED), "out/aa/scores/train.tsv", part)
