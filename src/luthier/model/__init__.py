"""Base models and what is added to them: weights, tokenizer, chat template, LoRA adapter, generation."""
