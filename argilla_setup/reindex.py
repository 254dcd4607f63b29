"""Fill Elasticsearch from Argilla's tables: `python -m argilla_setup.reindex --home DIR`, beside the running server.

After data were moved or restored, or for datasets from before the Korean analyzer. The embedded engine needs none of
it: it compares at each start.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from argilla_setup.home import Home
from argilla_setup.secret_files import SecretError
from argilla_setup.settings import configure

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Make each published dataset's index anew; 3 and a line on stderr where a setting is wrong."""
    parser = argparse.ArgumentParser(prog="argilla_setup.reindex")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    os.umask(0o077)
    try:
        configure(home, redis_url=None, temporary=home.run / "reindex-tmp")
    except SecretError as error:
        print(f"lingo-hitl: {error}", file=sys.stderr)
        return 3
    if os.environ["ARGILLA_SEARCH_ENGINE"] == "embedded":
        print("Nothing to do: the embedded search engine keeps its index in step by itself.")
        return 0
    asyncio.run(_reindex())
    return 0


async def _reindex() -> None:
    from argilla_server.cli.search_engine.reindex import Reindexer
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.enums import DatasetStatus
    from argilla_server.models import Dataset
    from argilla_server.search_engine import get_search_engine
    from sqlalchemy import select

    async with AsyncSessionLocal() as db:
        ready = select(Dataset.id).where(Dataset.status == DatasetStatus.ready).order_by(Dataset.inserted_at)
        for dataset_id in (await db.scalars(ready)).all():
            async for engine in get_search_engine():
                dataset = await Reindexer.reindex_dataset(db, engine, dataset_id)
                count = 0
                async for records in Reindexer.reindex_dataset_records(db, engine, dataset):
                    count += len(records)
                print(f"{dataset.name}: {count} records", flush=True)


if __name__ == "__main__":
    sys.exit(main())
