"""Fill Elasticsearch from Argilla's tables: `python -m argilla_setup.reindex --home DIR`, beside the running server.

After data were moved or restored, or for datasets from before the Korean analyzer. The embedded engine needs none of
it: it compares at each start.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argilla_setup.errors import LauncherError
from argilla_setup.home import Home
from argilla_setup.settings import configure

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReindexError(LauncherError):
    """One line for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make each published dataset's index anew; 3 and a line on stderr where it cannot be done."""
    parser = argparse.ArgumentParser(prog="argilla_setup.reindex")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    os.umask(0o077)
    try:
        # Before anything is made there: a wrong path would leave a home with a secret of its own.
        if not home.is_ours():
            raise ReindexError(f"{home.path} is no home of a server; give --home as the server has it.")
        configure(home, redis_url=None, temporary=home.run / "reindex-tmp")
        if os.environ["ARGILLA_SEARCH_ENGINE"] == "embedded":
            print("Nothing to do: the embedded search engine keeps its index in step by itself.")
            return 0
        asyncio.run(_reindex())
    except LauncherError as error:
        print(f"lingo-hitl: {error}", file=sys.stderr)
        return 3
    return 0


async def _reindex() -> None:
    import elastic_transport
    import opensearchpy
    from argilla_server.search_engine import get_search_engine
    from argilla_server.settings import settings
    from sqlalchemy.exc import SQLAlchemyError

    # They print a traceback for each of six attempts; the last one's reason is told below.
    for library in ("elastic_transport", "opensearch"):
        logging.getLogger(library).setLevel(logging.ERROR)
    searching = (elastic_transport.TransportError, elastic_transport.ApiError, opensearchpy.OpenSearchException)
    try:
        async for engine in get_search_engine():
            await engine.info()
            await _fill(engine)
    except searching as error:
        raise ReindexError(
            f"{settings.search_engine} does not do as it is asked ({_first_line(error)}). See that it runs and takes"
            " its password, then run this again."
        ) from None
    except (SQLAlchemyError, OSError) as error:
        raise ReindexError(
            f"Argilla's database cannot be read ({_first_line(error)}). See that it runs, then run this again."
        ) from None


async def _fill(engine: Any) -> None:
    from argilla_server.cli.search_engine.reindex import Reindexer
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.enums import DatasetStatus
    from argilla_server.models import Dataset
    from sqlalchemy import select

    async with AsyncSessionLocal() as db:
        ready = select(Dataset.id).where(Dataset.status == DatasetStatus.ready).order_by(Dataset.inserted_at)
        for dataset_id in (await db.scalars(ready)).all():
            dataset = await Reindexer.reindex_dataset(db, engine, dataset_id)
            count = 0
            async for records in Reindexer.reindex_dataset_records(db, engine, dataset):
                count += len(records)
            print(f"{dataset.name}: {count} records", flush=True)


def _first_line(error: Exception) -> str:
    """The rest may hold what people wrote."""
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    sys.exit(main())
