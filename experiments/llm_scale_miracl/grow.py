"""Decoders of Qwen3's architecture above the token embeddings of a static run, in the published layout.

    python experiments/llm_scale_miracl/grow.py RUN OUT

They take the place of pretrained ones where there is no hub: they embed as RUN does before they are trained, since what their
layers add is 0 (as in ``model=deepened``, which makes encoders of the same width and depth).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.deepened import HEAD, of_equal_norm
from hybrid_retrieval.models.static import StaticBackbone

DEPTHS = {"one_layer": 1, "two_layers": 2, "four_layers": 4}


def write(rows: Tensor, tokenizer: str, layers: int, folder: Path) -> None:
    """A decoder above float32 [tokens, dimensions]: attention in heads of 64, the same weights each time."""
    from transformers import Qwen3Config, Qwen3Model

    heads = -(-(rows.shape[1] + 2) // HEAD)
    config = Qwen3Config(
        vocab_size=len(rows),
        hidden_size=heads * HEAD,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD,
        intermediate_size=heads * HEAD * 3 // 2,
        max_position_embeddings=512,
    )
    torch.manual_seed(1)
    model = Qwen3Model(config)
    with torch.no_grad():
        model.embed_tokens.weight.zero_()[:, : rows.shape[1] + 2] = of_equal_norm(rows)
        for layer in model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                nn.init.zeros_(projection.weight)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))


def main() -> int:
    """All depths."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    try:
        start = load_encoder(Path(sys.argv[1]), "best", accelerator="cpu")
        if not isinstance(start.backbone, StaticBackbone):
            raise InputError(f"{sys.argv[1]} is no static run; expected that of experiments/pretrained_start")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, layers in DEPTHS.items():
        write(start.backbone.table.weight.detach(), start.tokenizer.to_str(), layers, Path(sys.argv[2]) / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
