"""The ladder: GPT-2 models of five sizes, trained from scratch on one corpus with one tokenizer."""
