"""What the server process holds open to search: the side file, connections, threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from argilla_server.database import database_url_sync

from argilla_setup import reconcile
from argilla_setup.side_index import SideIndex
from argilla_setup.vector_cache import VectorCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READERS = 4
_T = TypeVar("_T")


class Searcher:
    """What the process holds open: the side file, connections that read it beside Argilla's database, and threads.

    Reading has connections of its own: a request already holds one of Argilla's, and waiting for a second one of the
    same pool would dead-lock under load. Writing has one thread, as SQLite has one writer.
    """

    def __init__(self, index: Path) -> None:
        self.side = SideIndex(index)
        self.vectors = VectorCache()
        self.reader = sa.create_engine(database_url_sync(), pool_size=READERS, max_overflow=0)
        sa.event.listen(self.reader, "connect", _attach(index))
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="search")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._stopping = threading.Event()
        self._catching_up: threading.Thread | None = None

    async def read(self, work: Callable[[sa.Connection], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._with_connection, work)

    async def write(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def catch_up(self) -> None:
        """Make the side file equal to Argilla's tables: what can be done in seconds now, the rest beside serving."""
        left = reconcile.start(self.reader, self.side)
        if left:
            self._catching_up = threading.Thread(
                target=reconcile.finish, args=(self.reader, self.side, left, self._stopping), name="catch-up"
            )
            self._catching_up.start()

    def close(self) -> None:
        self._stopping.set()
        if self._catching_up:
            self._catching_up.join()
        self._readers.shutdown()
        self._writer.shutdown()
        self.reader.dispose()
        self.side.close()

    def _with_connection(self, work: Callable[[sa.Connection], _T]) -> _T:
        with self.reader.connect() as connection:
            return work(connection)


_open: Searcher | None = None


def current() -> Searcher:
    """The one that this process has open."""
    if _open is None:
        raise RuntimeError("the search index is not open; start the server with `lingo-hitl up`")
    return _open


@contextlib.contextmanager
def opened(index: Path) -> Iterator[Searcher]:
    """Hold the side file open for this process and bring it up to date."""
    global _open  # noqa: PLW0603 - Argilla builds engines without arguments: the process has one place to find it
    _open = Searcher(index)
    try:
        reconcile.prepare_database(database_url_sync())
        _open.catch_up()
        index.chmod(0o600)
        yield _open
    finally:
        _open.close()
        _open = None


def _attach(index: Path) -> Callable[[Any, Any], None]:
    def attach(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("ATTACH DATABASE ? AS side", (str(index),))
        cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    return attach
