"""Argilla's SearchEngine without a search server: SQL over Argilla's tables, and a side file of texts and vectors."""
