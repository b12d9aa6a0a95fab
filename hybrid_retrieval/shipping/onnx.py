"""An exported directory as ONNX, in float32 and int8: by torch's exporter, and by onnxruntime, which it is checked against."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError, first_line
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.chunks import plan
from hybrid_retrieval.models.encoder import CHUNK_TOKENS, BiEncoder, Role
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.progress import track
from hybrid_retrieval.shipping.directory import NAMES, difference
from hybrid_retrieval.shipping.texts import TEXTS

TOLERANCE = 1e-4
LARGE = 1 << 30
"""Bytes of weights from which they go into a file of their own: one of ONNX holds two gigabytes at most."""
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("sentence_embedding", "last_hidden_state")


class Graph(nn.Module):
    """A bi-encoder on a batch that is padded on the right: embeddings, and of a transformer the states of all tokens."""

    def __init__(self, encoder: BiEncoder) -> None:
        super().__init__()
        kernels.remove(encoder)
        self.settings, self.dimensions, self.projection = encoder.settings, encoder.dimensions, encoder.projection
        self.static = isinstance(encoder.backbone, StaticBackbone)
        self.model = encoder.backbone.table if self.static else cast(nn.Module, encoder.backbone.model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        if self.static:
            states = self.model(input_ids)
        else:
            states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = self._pooled(states, attention_mask)
        if self.projection is not None:
            pooled = self.projection(pooled)
            pooled = torch.tanh(pooled) if self.settings.activation == "tanh" else pooled
        pooled = pooled[:, : self.dimensions]
        pooled = nn.functional.normalize(pooled, dim=-1) if self.settings.normalize else pooled
        return (pooled,) if self.static else (pooled, states)

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """[texts, dimensions] of [texts, tokens, dimensions]."""
        if self.settings.pooling == "cls":
            return states[:, 0]
        lengths = mask.sum(1, keepdim=True)  # [texts, 1]
        if self.settings.pooling == "last":
            places = (lengths - 1).clamp(min=0)[:, :, None].expand(-1, -1, states.shape[2])
            return states.gather(1, places)[:, 0]
        return (states * mask[:, :, None].to(states.dtype)).sum(1) / lengths.clamp(min=1).to(states.dtype)


@dataclass(frozen=True)
class OnnxEncoder:
    """The encoder of an ONNX file, with the tokenizer and the settings of the one that it was made from."""

    file: Path
    tokenising: BiEncoder

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]."""
        import onnxruntime

        session = onnxruntime.InferenceSession(self.file, providers=["CPUExecutionProvider"])
        ids = self.tokenising.tokenise(texts, role, label)
        result = np.zeros((len(ids), self.tokenising.dimensions), np.float32)
        for chunk in track(plan(ids.lengths, CHUNK_TOKENS), label, show=bool(label)):
            rows = ids.gather(chunk)
            mask = np.arange(max(1, int(rows.lengths.max()))) < rows.lengths[:, None]
            padded = np.zeros(mask.shape, np.int64)
            padded[mask] = rows.values
            given = dict(zip(INPUTS, (padded, mask.astype(np.int64)), strict=True))
            result[chunk] = session.run(OUTPUTS[:1], given)[0]
        return result


def write_onnx(folder: Path, precision: str) -> Iterator[tuple[str, OnnxEncoder]]:
    """Write ``onnx/model.onnx`` of an exported directory, and ``onnx/model_int8.onnx`` where asked; each is checked.

    Yields:
        What was compared, in words, and the encoder of each file.

    Raises:
        InputError: a package is missing, the architecture cannot be exported, or float32 embeds otherwise.
    """
    try:
        import onnxruntime.quantization
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise InputError(f"--onnx needs {error.name}, which is not installed: pip install 'hybrid-retrieval[onnx]'") from error
    encoder = PublishedModel(PathsConfig(), path=str(folder)).load()
    expected = {role: encoder.encode(TEXTS, role) for role in NAMES}
    whole = OnnxEncoder(folder / "onnx" / "model.onnx", encoder)
    whole.file.parent.mkdir()
    large = sum(one.numel() * one.element_size() for one in encoder.parameters()) > LARGE
    _export(encoder, whole.file, large)
    worst = _worst(whole, expected)
    said = f"onnx/{whole.file.name} by onnxruntime {onnxruntime.__version__}: the largest difference is {worst:.1e}"
    if not worst <= TOLERANCE:
        raise InputError(f"the ONNX file does not embed as the encoder: {said}; expected {TOLERANCE:g} at most")
    yield said, whole
    if precision == "int8":
        small = OnnxEncoder(whole.file.with_name("model_int8.onnx"), encoder)
        with quiet(""):  # it logs to the root what it advises
            onnxruntime.quantization.quantize_dynamic(
                whole.file, small.file, per_channel=True, reduce_range=True, use_external_data_format=large
            )  # weights of 7 bits: products of 8 bits overflow where a processor adds two of them in 16
        sizes = " of ".join(f"{_size(one.file) / 2**20:,.1f} MiB" for one in (small, whole))
        yield f"onnx/{small.file.name}, {sizes}: the largest difference is {_worst(small, expected):.1e}", small


def _export(encoder: BiEncoder, file: Path, large: bool) -> None:
    """Torch's exporter, quiet; whatever it cannot do is the architecture's."""
    graph = Graph(encoder).eval()
    ids = torch.ones(3, 7, dtype=torch.long)
    mask = (torch.arange(7) < torch.tensor([[7], [4], [1]])).long()
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir"), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                graph,
                kwargs=dict(zip(INPUTS, (ids, mask), strict=True)),
                dynamic_shapes=dict.fromkeys(INPUTS, sizes),
                input_names=list(INPUTS),
                output_names=list(OUTPUTS[:1] if graph.static else OUTPUTS),
                dynamo=True,
                verbose=False,
            )
            program.save(file, external_data=large)
    except Exception as error:  # the exporter raises whatever it stumbles over
        raise InputError(f"--onnx: {_architecture(encoder)} cannot be exported to ONNX ({first_line(error)})") from error


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Hear errors alone of some loggers."""
    logs = [logging.getLogger(name) for name in names]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _architecture(encoder: BiEncoder) -> str:
    return type(getattr(encoder.backbone, "model", encoder.backbone)).__name__


def _worst(found: OnnxEncoder, expected: dict[Role, npt.NDArray[np.float32]]) -> float:
    return max(difference(ours, found.encode(TEXTS, role), found.tokenising.settings) for role, ours in expected.items())


def _size(file: Path) -> int:
    """Bytes of an ONNX file, with those of its weights beside it."""
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
