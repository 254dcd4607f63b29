"""Korean analysis for Argilla's Elasticsearch: `python -m argilla_setup.team.search_template`, before the server.

Argilla 2.8 makes an index `rg.<dataset id>` for each dataset and maps texts as {"type": "text"} without an analyzer
(search_engine/commons.py: es_index_name_for_dataset, es_mapping_for_field). Such a field takes the index's analyzer
called `default`, and an index template can bring that along: its settings are merged into those of the request that
makes the index. Datasets that are there already keep theirs.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

from argilla_setup.secret_files import SecretError, read_secrets

NAME = "lingo-hitl-korean"
PATTERN = "rg.*"
TEMPLATE = {
    "index_patterns": [PATTERN],
    "priority": 500,
    "template": {
        "settings": {
            "index": {
                "analysis": {
                    "char_filter": {"one_form": {"type": "icu_normalizer", "name": "nfkc_cf", "mode": "compose"}},
                    "tokenizer": {"korean": {"type": "nori_tokenizer", "decompound_mode": "mixed"}},
                    "analyzer": {
                        "default": {
                            "type": "custom",
                            "char_filter": ["one_form"],
                            "tokenizer": "korean",
                            # Without particles and endings: 별 is found in 별은. Hanja as they are read.
                            "filter": ["nori_part_of_speech", "nori_readingform", "lowercase"],
                        }
                    },
                }
            }
        }
    },
}


def main() -> int:
    """Put the template; 1 and a line on stderr where that fails."""
    try:
        read_secrets(os.environ)
        put(os.environ.get("ARGILLA_ELASTICSEARCH", "http://localhost:9200"))
    except (SecretError, OSError) as error:
        reason = error.read().decode(errors="replace")[:300] if isinstance(error, urllib.error.HTTPError) else error
        print(f"lingo-hitl: the Korean analysis was not set up in Elasticsearch: {reason}", file=sys.stderr)
        return 1
    print("Elasticsearch analyses Korean in datasets that are made from now on.")
    return 0


def put(url: str) -> None:
    """Create or replace the template in the Elasticsearch at `url`, which may carry user and password. OSError."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json"}
    if parts.username:
        signed_in = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(signed_in.encode()).decode()
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"/_index_template/{NAME}").geturl()
    request = urllib.request.Request(address, data=json.dumps(TEMPLATE).encode(), headers=headers, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as reply:
        reply.read()


if __name__ == "__main__":
    sys.exit(main())
