"""lingo-hitl: generated Korean and English text, judged by people in Argilla, released as a dataset."""

__version__ = "0.1.0"
