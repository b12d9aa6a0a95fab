"""Published model directories: their weights, their dense layer, their end token."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.tokenization import first_line, special_tokens


def published_weights(directory: Path) -> nn.Module:
    """The transformer of a model directory, in float32; on torch's meta device its shapes alone, and no weights are needed.

    Raises:
        InputError: the weights are damaged, or some are missing (which transformers would fill with random numbers).
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(directory)
        if torch.get_default_device().type == "meta":
            shapes: nn.Module = AutoModel.from_config(config, **without_pooler(config))
            return shapes
        loaded = AutoModel.from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True, local_files_only=True, **without_pooler(config)
        )
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(f"model.path={directory} cannot be loaded: {first_line(error)}") from error
    model: nn.Module = loaded[0]
    missing = sorted(name for name in loaded[1]["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise InputError(
            f"model.path={directory}: its weights lack {len(missing)} of the architecture's, {missing[0]} among them"
        )
    return model.train()


def published_dense(directory: Path) -> tuple[dict[str, Tensor], str]:
    """Weight and bias of the dense layer in sentence-transformers' layout, and the name of its activation."""
    from safetensors import SafetensorError

    folder = directory / "2_Dense"
    try:
        config = json.loads((folder / "config.json").read_text())
        if (folder / "model.safetensors").exists():
            from safetensors.torch import load_file

            state = load_file(folder / "model.safetensors")
        else:
            state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        weight = state["linear.weight"]
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(
            f"model.projection=published, but {folder} holds no dense layer that can be read ({first_line(error)})"
        ) from error
    activation = str(config.get("activation_function", "")).rsplit(".", 1)[-1].lower()
    return {"weight": weight, "bias": state.get("linear.bias", torch.zeros(len(weight)))}, activation or "identity"


def without_pooler(config: Any) -> dict[str, Any]:
    """BERT-like models carry a pooling head that nothing here uses."""
    return {"add_pooling_layer": False} if config.model_type in {"bert", "roberta", "xlm-roberta"} else {}


def with_end(tokenizer: Tokenizer, directory: Path, token: str | None) -> Tokenizer:
    """A tokenizer that ends every text with a special token: as it is if it does so already.

    The state of that token is a causal model's embedding of the text (arXiv 2401.00368, section 3.1).

    Args:
        token: the token; by default the one that the directory calls its end of sequence.
    """
    tokenizer.no_padding()
    before, after = special_tokens(tokenizer)
    if token is None and after:
        return tokenizer
    name = token or _end_of_sequence(directory)
    number = tokenizer.token_to_id(name) if name else None
    if name is None or number is None:
        raise InputError(f"model.end_token={token}: {name or 'an end token'} is not in {directory}; name a token that is")
    if after[-1:] != [number]:
        first, last = ([tokenizer.id_to_token(id_) for id_ in ids] for ids in (before, [*after, number]))
        known = {id_: tokenizer.id_to_token(id_) for id_ in (*before, *after, number)}
        tokenizer.post_processor = processors.TemplateProcessing(
            [*first, "$A", *last], special_tokens=[(text, id_) for id_, text in known.items()]
        )
    return tokenizer


def _end_of_sequence(directory: Path) -> str | None:
    """The ``eos_token`` of ``tokenizer_config.json``."""
    file = directory / "tokenizer_config.json"
    named = json.loads(file.read_text()).get("eos_token") if file.exists() else None
    return named["content"] if isinstance(named, dict) else named
