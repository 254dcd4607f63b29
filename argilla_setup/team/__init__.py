"""What the compose file's one-shot services run, and its secrets."""
