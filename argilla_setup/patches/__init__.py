"""Parts of argilla-server 2.8.0 replaced, each only where its source is the one that was read."""
