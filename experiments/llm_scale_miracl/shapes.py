"""Directories that hold the shape of a published model and no weights, so that a machine without a hub can plan its training.

    python experiments/llm_scale_miracl/shapes.py RUN OUT

The numbers are those of the published ``config.json`` files. A model's own tokenizer is replaced by that of the run RUN.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.checkpoint import load_encoder

BERT = {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
XLMR = {
    **BERT,
    "model_type": "xlm-roberta",
    "vocab_size": 250_002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
QWEN3 = {
    "model_type": "qwen3",
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
}
MISTRAL = {"model_type": "mistral", "num_key_value_heads": 8, "vocab_size": 32_000, "max_position_embeddings": 32_768}


def _sized(base: dict[str, object], hidden: int, layers: int, heads: int, intermediate: int) -> dict[str, object]:
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
    }
    return {**base, **sizes}


SHAPES: dict[str, dict[str, object]] = {
    "mbert": {**BERT, "vocab_size": 119_547},
    "labse": {**BERT, "vocab_size": 501_153},
    "xlmr": dict(XLMR),
    "xlmr_large": _sized(XLMR, 1024, 24, 16, 4096),
    "qwen3_0.6b": _sized(QWEN3, 1024, 28, 16, 3072),
    "qwen3_4b": _sized(QWEN3, 2560, 36, 32, 9728),
    "qwen3_8b": _sized(QWEN3, 4096, 36, 32, 12_288),
    "e5_mistral": _sized(MISTRAL, 4096, 32, 32, 14_336),
}


def write(shape: str, folder: Path, tokenizer: str) -> None:
    """One shape, in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = max(int(str(SHAPES[shape]["vocab_size"])), Tokenizer.from_str(tokenizer).get_vocab_size())
    (folder / "config.json").write_text(json.dumps({**SHAPES[shape], "vocab_size": rows}))
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "model_max_length": 512}))


def main() -> int:
    """All shapes."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    try:
        tokenizer = load_encoder(Path(sys.argv[1]), "best", accelerator="cpu").tokenizer.to_str()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for shape in SHAPES:
        write(shape, Path(sys.argv[2]) / shape, tokenizer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
