#!/usr/bin/env python
"""For cron: make Argilla hold a project's rows. Exit code 0 done, 2 a fault that somebody must mend.

*/30 * * * *  /srv/lingo/.venv/bin/python /srv/lingo/scripts/push_records.py /srv/lingo/project.yaml
"""

import sys

from lingo_hitl.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["push"]
    main()
