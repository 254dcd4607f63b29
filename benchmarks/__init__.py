"""`make bench`: what the jobs cost on this machine, as tables."""
