"""What dialogues by language models fail in, as figures: see `measure` and docs/dialogue_quality.md."""
