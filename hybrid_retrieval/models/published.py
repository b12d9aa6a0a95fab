"""Published model directories: their weights, their dense layer, their end token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from tokenizers import Tokenizer, processors
from torch import Tensor, nn

from hybrid_retrieval.config import Range, fault
from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import read_mapping
from hybrid_retrieval.models.kernels import forget_attention
from hybrid_retrieval.models.tokenization import special_tokens

Layers = Annotated[int, Range(0, 10_000, above=True)]
"""More are a mistake in a file, that would be counted up to for hours."""


def published_weights(directory: Path) -> nn.Module:
    """The transformer of a model directory, in float32; on torch's meta device its shapes alone, and no weights are needed.

    Raises:
        InputError: the weights are damaged, or some are missing (which transformers would fill with random numbers).
    """
    from transformers import AutoConfig, AutoModel

    with reading(f"model.path={directory} cannot be loaded", whole=True):
        check_config(read_mapping(directory / "config.json"))
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        if torch.get_default_device().type == "meta":
            return model_of_config(config)
        forget_attention(config)
        given = {"config": config, "trust_remote_code": False, "local_files_only": True, **without_pooler(config)}
        loaded = AutoModel.from_pretrained(directory, dtype=torch.float32, output_loading_info=True, **given)
    model: nn.Module = loaded[0]
    missing = sorted(name for name in loaded[1]["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise InputError(
            f"model.path={directory}: its weights lack {len(missing)} of the architecture's, {missing[0]} among them"
        )
    return model.train()


def check_config(values: Mapping[str, Any]) -> None:
    """Refuse the values of a config that no model here can have, before transformers acts on them."""
    if values.get("quantization_config") is not None:
        raise InputError("config.json says that the weights are quantised (quantization_config); expected plain ones")
    for name, value in values.items():
        if re.fullmatch(r"(num_|n_).*layers?", name) and (said := fault(value, Layers)):
            raise InputError(f"config.json: {name}{said}")


def model_of_config(config: Any) -> nn.Module:
    """A model of a transformers config, with random weights; whatever code the config names, none but transformers' runs."""
    from transformers import AutoModel

    forget_attention(config)
    model: nn.Module = AutoModel.from_config(config, trust_remote_code=False, **without_pooler(config))
    return model


def published_dense(directory: Path, dimensions: int) -> tuple[dict[str, Tensor], str]:
    """Weight and bias of the dense layer in sentence-transformers' layout, and the name of its activation.

    Args:
        dimensions: of its inputs.
    """
    folder = directory / "2_Dense"
    with reading(f"model.projection=published, but {folder} holds no dense layer that can be read", whole=True):
        config = read_mapping(folder / "config.json")
        if (folder / "model.safetensors").exists():
            from safetensors.torch import load_file

            state = load_file(folder / "model.safetensors")
        else:
            state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        weight = state["linear.weight"]
        bias = state.get("linear.bias", torch.zeros(len(weight)))
        if weight.shape != (len(bias), dimensions) or bias.shape != (len(weight),):
            shapes = " and ".join(str(list(one.shape)) for one in (weight, bias))
            raise InputError(f"weight and bias are {shapes}; expected [outputs, {dimensions}] and [outputs]")
    activation = str(config.get("activation_function", "")).rsplit(".", 1)[-1].lower()
    return {"weight": weight, "bias": bias}, activation or "identity"


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
    named = read_mapping(file).get("eos_token") if file.exists() else None
    found = named.get("content") if isinstance(named, dict) else named
    if not (found is None or isinstance(found, str)):
        raise InputError(f"{file}: eos_token={found!r}; expected a token")
    return found
