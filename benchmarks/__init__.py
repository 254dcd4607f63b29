"""`make bench`: what the main job costs on this machine, as one table."""
