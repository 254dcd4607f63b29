"""The Argilla server on one machine: its environment, its search engine, its start and stop.

`launcher` is what the toolkit imports, and needs the standard library only. Everything else runs inside the server's
own environment (see requirements.txt) and is started by the launcher as `python -m argilla_setup.app`.
"""
