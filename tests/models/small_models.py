"""Text in several scripts, and small models and published directories over a tokenizer trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.checkpoint import BEST, PREFIX
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.transformer import TransformerBackbone, TransformerOptions

SENTENCES = [
    "The spreadsheet keeps its formulas when a sheet is copied.",
    "Die Tabelle behält ihre Formeln, wenn ein Blatt kopiert wird.",
    "La hoja de cálculo conserva sus fórmulas al copiar una hoja.",
    "Таблица сохраняет формулы при копировании листа.",
    "Le texte est mis en forme par un style de paragraphe.",
    "Choose a paragraph style to format the text.",
    "Wählen Sie eine Absatzvorlage, um den Text zu formatieren.",
    "Выберите стиль абзаца, чтобы отформатировать текст.",
]
INSTRUCTION = "Instruct: Given a question, retrieve passages that answer it\nQuery: "
DIMENSIONS = 16
"""Of a small static model."""
TEXTS = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]


def random_tokens(seed: int, lengths: list[int], vocabulary: int = 50) -> Tokens:
    """Ragged random ids above those of special tokens, with repetitions inside of a text."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, vocabulary, (sum(lengths),), generator=generator)
    return Tokens(ids, torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()]))


def sped_up(model: Any, padding: int = 0, **options: Any) -> TransformerBackbone:
    """A backbone as an encoder has it, in training mode."""
    backbone = TransformerBackbone(model, padding, TransformerOptions(**options)).train()
    kernels.install(backbone, backbone.table)
    return backbone


def xlmr(vocabulary: int = 50, seed: int = 0, **changes: Any) -> Any:
    """transformers' own."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=80,
        pad_token_id=1,
        type_vocab_size=1,
        **changes,
    )
    return XLMRobertaModel(config, add_pooling_layer=False)


def small_transformer(vocabulary: int, seed: int = 0, **changes: Any) -> TransformerBackbone:
    return sped_up(xlmr(vocabulary, seed, **changes), 1).eval()


class TrainingSample:
    """Text to train a tokenizer on."""

    key = "fixed"

    def sample(self, characters: int) -> list[str]:
        return TEXTS


def write_tokenizer(directory: Path, tokenizer: Tokenizer, **special: str) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(directory)


def load(directory: Path, **values: Any) -> BiEncoder:
    model = PublishedModel(
        PathsConfig(),
        name="some/model",
        path=str(directory),
        **{"max_query_length": 40, "max_passage_length": 40, **values},
    )

    class NoText:
        key = None

        def sample(self, characters: int) -> list[str]:
            raise AssertionError("a published model brings its tokenizer")

    return model.build(model.tokenizer(NoText())).eval()


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def byte_pairs() -> Tokenizer:
    """As Qwen's: byte-level, with an end token that nothing adds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>", "<|im_end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def write_decoder(directory: Path, kind: str, tokenizer: Tokenizer, **changes: Any) -> Path:
    """A small decoder with random weights, in the published layout."""
    import transformers

    names = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama", "mistral": "Mistral"}
    torch.manual_seed(3)
    heads = {"head_dim": 8} if kind in ("qwen3", "mistral") else {}
    config = getattr(transformers, f"{names[kind]}Config")(
        vocab_size=tokenizer.get_vocab_size() + 3,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        initializer_range=0.2,
        **{**heads, **changes},
    )
    getattr(transformers, f"{names[kind]}Model")(config).save_pretrained(directory)
    write_tokenizer(directory, tokenizer, eos_token="<|endoftext|>")
    return directory


def load_decoder(directory: Path, **values: Any) -> BiEncoder:
    settings = {"pooling": "last", "query_prefix": INSTRUCTION, "max_query_length": 60, "max_passage_length": 60}
    return load(directory, **{**settings, **values})


def saved_and_read(encoder: BiEncoder, directory: Path) -> BiEncoder:
    """The encoder by way of a file, as a checkpoint holds it: plain types and tensors."""
    torch.save({"encoder": encoder.description(), "weights": encoder.state_dict()}, directory / "encoder.pt")
    content = torch.load(directory / "encoder.pt", weights_only=True)
    again = BiEncoder.described(content["encoder"])
    again.load_state_dict(content["weights"])
    return again.eval()


def write_run(encoder: BiEncoder, directory: Path) -> Path:
    """A run directory that training could have left, as far as its encoder goes."""
    (directory / "checkpoints").mkdir(parents=True)
    weights = {PREFIX + name: value for name, value in encoder.state_dict().items()}
    content = {"state_dict": weights, "hyper_parameters": {"encoder": encoder.description()}}
    torch.save(content, directory / "checkpoints" / BEST)
    return directory
