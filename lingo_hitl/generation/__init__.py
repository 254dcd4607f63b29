"""From corpora to rows that people can judge: dialogues, completions, instructions."""
