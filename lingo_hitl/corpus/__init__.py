"""Text as it lies in files: reading it, merging sources, leaving out what is there twice."""
