"""Faster parts for torch and transformers modules: attention, dropout, linear layers, row-sparse gradients of token tables.

`install` puts them in the place of a module's own, and `remove` gives these back; nothing else swaps parts. Parameters keep
their names and values either way, so that checkpoints know nothing of it.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from hybrid_retrieval.models.kernels.dropout import Dropout
from hybrid_retrieval.models.kernels.linear import OneDnnLinear, available, preferred
from hybrid_retrieval.models.kernels.row_sparse import RowSparseEmbedding

__all__ = ["LINEARS", "RowSparseEmbedding", "forget_attention", "install", "lazy_tables", "remove"]

LINEARS = {"default": nn.Linear, "onednn": OneDnnLinear}
"""Linear layers as torch multiplies, or by oneDNN: rounding differs, so the choice belongs to the weights."""
OWN: dict[type[nn.Module], type[nn.Module]] = {
    Dropout: nn.Dropout,
    OneDnnLinear: nn.Linear,
    RowSparseEmbedding: nn.Embedding,
}


def install(module: nn.Module, table: nn.Embedding | None = None, linear: str | None = None) -> str:
    """Speed up a module in place; the name of the linear layers that were chosen, out of `LINEARS`.

    Args:
        table: the module's token embeddings, which get a row-sparse gradient.
        linear: an earlier choice; by default what this processor is best served by.
    """
    linear = linear or preferred()
    kind = LINEARS[linear] if available() else nn.Linear
    for part in module.modules():
        if type(part) in LINEARS.values():
            part.__class__ = kind
        elif type(part) is nn.Dropout:
            part.__class__ = Dropout
        elif hasattr(part, "set_attn_implementation"):
            from hybrid_retrieval.models.kernels import attention  # transformers takes a second to import

            attention.install(part)
    if type(table) is nn.Embedding:
        table.__class__ = RowSparseEmbedding
    return linear


def remove(module: nn.Module, *kinds: type[nn.Module]) -> None:
    """Give a module its own parts back, in place: every gradient is dense then, and every operator torch's.

    Args:
        kinds: of what is taken out; by default everything.
    """
    for part in module.modules():
        if type(part) in (kinds or OWN):
            part.__class__ = OWN[type(part)]
        elif not kinds and hasattr(part, "set_attn_implementation"):
            from hybrid_retrieval.models.kernels import attention

            attention.remove(part)


def forget_attention(config: Any) -> None:
    """Drop what a transformers config says of how to compute: it may name a repository, to fetch code from."""
    config._attn_implementation = None
    config._experts_implementation = None


def lazy_tables(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trained tables of which a step updates only the rows that have a gradient, by the parameter's name in `module`."""
    return {
        f"{path}.weight".lstrip("."): cast(nn.Parameter, part.weight)
        for path, part in module.named_modules()
        if isinstance(part, RowSparseEmbedding) and part.lazy and part.weight.requires_grad
    }
