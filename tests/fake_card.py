"""Tensors that have a device and a shape but no values, for machines without a GPU: a program that `test_devices.py` starts.

``FakeTensorMode`` refuses any operation on tensors of two devices. A torch that was built for CPUs alone cannot index or go
back through a graph on "cuda", so that the device is "card", which is registered here and has no kernels.

Not traced, because a shape depends on values: the row-sparse gradient of a token table (as many rows as distinct ids), and
the counting of tied documents. Not traced, because a branch asks for "cuda": the choice of ragged texts (they are traced by
themselves) and of a chunk's tokens. Not traced either: autocast, which has no casts for such a device, and what Lightning does.
"""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.loss import PassageIds, QueryIds
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings, Tokens
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.transformer import ScratchTransformer
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.training.collate import Chunk, PairBatch
from hybrid_retrieval.training.engine import Engine
from hybrid_retrieval.training.optimizers import AdamW, clip_gradients

PAIRS, VOCABULARY = 8, 20
SHAPES = ((PAIRS, 4), (2 * PAIRS, 6))
"""Texts of each chunk, and their tokens."""
Module = TypeVar("Module", bound=nn.Module)


class Backend(_DummyBackendModule):
    """The module of a device, with the one function more that leaving autocast asks for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def tokenizer() -> Tokenizer:
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, **{f"w{number}": number for number in range(3, VOCABULARY)}}
    made = Tokenizer(models.WordLevel(words, "<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return made


def on_card(module: Module) -> Module:
    """A module whose weights lie there, without values."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(weight.detach().to("card"), weight.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, buffer.detach().to("card"))
    return module


def encoder(kind: str = "transformer") -> BiEncoder:
    """In training, with dropout."""
    if kind == "static":
        made = BiEncoder(StaticBackbone(VOCABULARY, 8), tokenizer(), EncoderSettings())
    else:
        shape: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2, "projection": 8}
        made = ScratchTransformer(PathsConfig(), **shape).build(tokenizer())
    kernels.remove(made, kernels.RowSparseEmbedding)
    return made.train()


def batch() -> PairBatch:
    """Pairs with one hard negative each, in two chunks, as a loader hands them over: on the host."""
    chunks = [Tokens(torch.full((texts * length,), 3), torch.arange(texts + 1) * length, length) for texts, length in SHAPES]
    number = torch.arange(PAIRS)
    again = torch.cat([number, number + PAIRS])
    zero = np.zeros(PAIRS, np.int64)
    return PairBatch(
        step=3,
        chunks=tuple(Chunk(place, tokens) for place, tokens in enumerate(chunks)),
        counts=(3 * PAIRS,),
        chunk_counts=(2,),
        places=torch.arange(3 * PAIRS),
        of_queries=QueryIds(number, number[:, None], number, number % 2),
        of_passages=PassageIds(again, again, again, again % 2),
        rank=0,
        pairs=PairIndices(zero, zero, zero, zero),
    )


def engine(cached: bool = False, **settings: Any) -> Engine:
    loss = InfoNCE(hard_negatives=1, **settings)
    loss.bind(8, ("aa", "bb"))
    return Engine(encoder(), loss, seed=1, cached=cached)


def step(cached: bool) -> None:
    """Forward, backward, clipping and an update."""
    made = engine(cached, learn_temperature=True, directions="both")
    with without_values():
        trained = nn.ModuleList([on_card(made.encoder), on_card(made.loss)])
        optimizer, _ = AdamW(lr=0.1).configure(trained, 10)
        for _ in range(2):
            contrast = made.step(batch().to("card"))
            clip_gradients(trained.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        on(contrast.loss, "card")
        on(contrast.accuracy, "card")


def validated() -> None:
    made = engine()
    with without_values():
        on_card(made.encoder)
        on_card(made.loss)
        on(made.evaluate(batch().to("card")).loss, "card")


def scored(kind: str) -> None:
    """Texts to arrays on the host, and back again to be scored."""
    made = encoder(kind)
    with without_values():
        vectors = on_card(made).encode([f"w{number} w4" for number in range(3, 9)], "query")
        assert vectors.shape == (6, made.dimensions)
        scorer = DenseScorer(vectors, vectors, "card")
        on(scorer.against(slice(0, 6))(0, 4), "card")
        on(scorer.against(slice(1, 3))(0, 4), "card")


def ragged(training: bool) -> None:
    """No padding, with attention dropout in training; there and back."""
    made = encoder().train(training)
    with without_values():
        states = on_card(made).backbone.end_to_end(batch().to("card").chunks[0].tokens)
        states.sum().backward()
        on(made.backbone.table.weight.grad, "card")


def left_on_the_host() -> None:
    """A mistake, which must be seen."""
    made = engine()
    with without_values():
        on_card(made.encoder)
        made.step(batch())


CASES: dict[str, Callable[[], None]] = {
    "training step": lambda: step(cached=False),
    "GradCache step": lambda: step(cached=True),
    "validation": validated,
    "scoring": lambda: scored("transformer"),
    "scoring by a static encoder": lambda: scored("static"),
    "ragged texts in training": lambda: ragged(training=True),
    "ragged texts in evaluation": lambda: ragged(training=False),
    "a batch left on the host": left_on_the_host,
}


def on(value: Tensor, device: str) -> None:
    assert value.device.type == device, f"{value.device}, not {device}"


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Fake tensors; what has come back to the host may be looked at, and is zero."""

    def numpy(tensor: Tensor) -> Any:
        on(tensor, "cpu")
        return np.zeros(tensor.shape, np.float32)

    original = torch.Tensor.numpy
    torch.Tensor.numpy = numpy  # type: ignore[method-assign]
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.Tensor.numpy = original  # type: ignore[method-assign]


def main() -> None:
    """Print what went wrong in each case: nothing, or the error."""
    _setup_privateuseone_for_python_backend("card", backend_module=Backend())
    found = {}
    for name, case in CASES.items():
        try:
            case()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
