"""Published model directories: their weights, their dense layer, their end token."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.tokenization import first_line


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
    bare, whole = (tokenizer.encode("a", add_special_tokens=special).ids[-1] for special in (False, True))
    if token is None and bare != whole:
        return tokenizer
    name = token or _end_of_sequence(directory)
    number = tokenizer.token_to_id(name) if name else None
    if name is None or number is None:
        raise InputError(f"model.end_token={token}: {name or 'an end token'} is not in {directory}; name a token that is")
    if whole == number:
        return tokenizer
    layout = json.loads(tokenizer.to_str())
    layout["post_processor"] = _ended(layout["post_processor"], name, number)
    return Tokenizer.from_str(json.dumps(layout))


def _ended(processor: dict[str, Any] | None, token: str, number: int) -> dict[str, Any]:
    """A tokenizer's post-processor that also puts `token` at the end.

    A template goes on with it: two templates in a row take what the first one adds for a text of its own.
    """
    end = {"SpecialToken": {"id": token, "type_id": 0}}
    known = {token: {"id": token, "ids": [number], "tokens": [token]}}
    if processor is None:
        text = {"Sequence": {"id": "A", "type_id": 0}}
        pair = [text, {"Sequence": {"id": "B", "type_id": 1}}]
        return {"type": "TemplateProcessing", "single": [text, end], "pair": pair, "special_tokens": known}
    if processor["type"] == "TemplateProcessing":
        single, special = [*processor["single"], end], processor["special_tokens"] | known
        return processor | {"single": single, "special_tokens": special}
    parts = processor["processors"] if processor["type"] == "Sequence" else [processor]
    template = next((place for place, part in enumerate(parts) if part["type"] == "TemplateProcessing"), len(parts))
    ended = _ended(parts[template] if template < len(parts) else None, token, number)
    return {"type": "Sequence", "processors": [*parts[:template], ended, *parts[template + 1 :]]}


def _end_of_sequence(directory: Path) -> str | None:
    """What ``tokenizer_config.json`` calls ``eos_token``."""
    file = directory / "tokenizer_config.json"
    named = json.loads(file.read_text()).get("eos_token") if file.exists() else None
    return named["content"] if isinstance(named, dict) else named
