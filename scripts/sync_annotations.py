#!/usr/bin/env python
"""For cron: bring labelers' answers into the ledger, then print one JSON line.

*/10 * * * *  /srv/lingo/.venv/bin/python /srv/lingo/scripts/sync_annotations.py /srv/lingo/project.yaml
"""

import sys

from lingo_hitl.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["sync", "--json"]
    main()
