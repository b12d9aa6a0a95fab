"""Text to vectors: encoders, their backbones, tokenizers and pooling."""
