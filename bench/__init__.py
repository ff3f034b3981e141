"""Emergence of language models: measured, and predicted from small ones."""

__version__ = "0.1.0"
