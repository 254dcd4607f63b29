"""Lingo_Chat's own YAML and its own files: what its users have runs unchanged, and what they expect is written."""
