"""Hybrid batches and Mo., Cr. and Mul. in a sentence-transformers training, on the FAQ in five languages beside this file."""

from pathlib import Path

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.interop.sentence_transformers_evaluator import MultilingualEvaluator
from hybrid_retrieval.interop.sentence_transformers_sampler import DrawnBatches
from hybrid_retrieval.models.static import StaticModel
from hybrid_retrieval.sampling.hybrid import Hybrid

STEPS = 200
source = BeirPairs(PathsConfig(), str(Path(__file__).parent / "faq"), validation_share=0.0)
tokenizer = StaticModel(PathsConfig()).tokenizer(source.text)
model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=256)])  # or SentenceTransformer("NAME")
drawn = DrawnBatches(source, Hybrid(batch_size=64, alpha=0.5), steps=STEPS, seed=1)
evaluator = MultilingualEvaluator(split_collection(source.pairs(), "test", "faq"))
arguments = SentenceTransformerTrainingArguments(
    "st_hybrid",
    max_steps=STEPS,
    per_device_train_batch_size=64,
    batch_sampler=drawn.batch_sampler,
    learning_rate=0.05,
    report_to="none",
)
loss = MultipleNegativesRankingLoss(model, scale=10.0, gather_across_devices=True)
SentenceTransformerTrainer(model, arguments, train_dataset=drawn.dataset, loss=loss).train()
figures = evaluator(model)
for name in ("monolingual/map", "crosslingual/map", "multilingual/map", "multilingual/rank_distance"):
    print(f"{name:28}", *(f"{figures[f'faq/{name}{bound}']:9.4f}" for bound in ("", ".low", ".high")))
