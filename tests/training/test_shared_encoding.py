"""Ranks that share the texts of a validation get the embeddings, and so the measures, of one rank alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch.multiprocessing.spawn import spawn

from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.models import encoder as encoder_module
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.training.shared_encoding import SharedEncoder
from tests.models.small_models import TEXTS, small_transformer

QUESTIONS = [text[: 20 + number] for number, text in enumerate(TEXTS)]


def build(tokenizer: Tokenizer) -> BiEncoder:
    torch.manual_seed(0)
    return BiEncoder(small_transformer(tokenizer.get_vocab_size()), tokenizer, EncoderSettings(max_passage_length=64))


def one_rank(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    encoder_module.ENCODED_AT_ONCE["cpu"] = 200
    dist.init_process_group("gloo", rank=rank, world_size=2)
    encoder = build(Tokenizer.from_file(str(folder / "tokenizer.json")))
    seen: list[int] = []
    encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    np.save(folder / f"{rank}.npy", SharedEncoder(encoder).encode(QUESTIONS, "passage"))
    np.save(folder / f"seen_{rank}.npy", seen)
    dist.destroy_process_group()


def test_two_ranks_give_what_one_gives_and_each_encodes_its_share(tmp_path: Path, monkeypatch) -> None:
    tokenizer = train_unigram(TEXTS, 500)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(one_rank, (port, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(encoder_module, "ENCODED_AT_ONCE", {"cpu": 200})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = SharedEncoder(build(tokenizer)).encode(QUESTIONS, "passage")
    torch.set_num_threads(threads)
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), alone)
    counts = [int(np.load(tmp_path / f"seen_{rank}.npy").sum()) for rank in range(2)]
    assert sum(counts) == len(QUESTIONS)
    assert min(counts) > len(QUESTIONS) / 4


def test_scores_are_computed_where_the_weights_are() -> None:
    encoder = build(train_unigram(TEXTS, 500))
    for device in ("cpu", "meta"):
        assert Dense(SharedEncoder(encoder.to(device))).device == Dense(encoder).device == device
