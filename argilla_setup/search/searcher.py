"""What a process holds open to search: the side file, connections, threads; and the one that keeps the file in step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from argilla_server.database import database_url_sync
from argilla_server.errors.future import UnprocessableEntityError
from fastapi import HTTPException

from argilla_setup.search import dialect, reconcile
from argilla_setup.search.argilla_indexes import create_indexes
from argilla_setup.search.side_file import damage
from argilla_setup.search.side_index import SideIndex
from argilla_setup.search.vector_cache import VectorCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from argilla_setup.search.dialect import Tables

READERS = 4
COMPARE_EVERY_S = 300.0
"""Nothing should ever be found out of step while the server runs; looking costs half a second at 100,000 records."""
LOOK_EVERY_S = 15.0
"""Whether the side file is still in its place: one stat."""
MEND_AFTER_S = 1.0
MEND_AGAIN_AFTER_S = 20.0
READ_ATTEMPTS = 5
INDEX_VARIABLE = "LINGO_HITL_INDEX"
"""Where processes beside the server, such as a worker for jobs, find the side file."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Searcher:
    """The side file, connections that read it beside Argilla's database, and threads.

    Reading has connections of its own: a request already holds one of Argilla's, and waiting for a second one of the
    same pool would dead-lock under load. Writing has one thread, as SQLite has one writer.
    """

    def __init__(self, index: Path) -> None:
        self.pid = os.getpid()
        self.side = SideIndex(index)
        self.vectors = VectorCache()
        self.reader = dialect.current().reader(index, connections=READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="search")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._tender: threading.Thread | None = None

    async def read(self, work: Callable[[Tables], _T]) -> _T:
        """What `work` returns; it sees one state of the tables, whatever is written meanwhile.

        Where the side file cannot be read it is mended, and the search waits for that; HTTPException (503) where it
        takes longer than a person would.
        """
        for _ in range(READ_ATTEMPTS):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._readers, self._with_tables, work)
            except sa.exc.DatabaseError as error:
                if not isinstance(error.orig, sqlite3.Error):
                    raise _refused(error) from None
                _log.error("search index: a read failed (%s); it will be mended", error.orig)
                self._failed.set()
                await asyncio.sleep(MEND_AFTER_S)
        raise HTTPException(503, "the search index could not be read and is being mended; try again in a moment")

    async def write(self, work: Callable[[], Any]) -> None:
        """Do `work` on the side file. A failure is logged and mended a moment later, not raised.

        Argilla has committed when it calls the search engine: an error here would tell its user that what was saved
        had not been.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except Exception as error:
            _log.error("search index: a write failed (%s: %s); it will be mended", type(error).__name__, error)
            self._failed.set()

    def tend(self) -> None:
        """Make the side file equal to Argilla's tables, and keep it so.

        What can be done in seconds is done when this returns; the rest goes on in a thread, which then looks for
        damage, and mends after a failure.
        """
        create_indexes(database_url_sync())
        left = self._compare()
        self._tender = threading.Thread(target=self._keep_in_step, args=(left,), name="tender")
        self._tender.start()

    def close(self) -> None:
        self._stopping.set()
        self._failed.set()
        if self._tender:
            self._tender.join()
        self._readers.shutdown()
        self._writer.shutdown()
        self.reader.dispose()
        self.side.close()

    def _keep_in_step(self, left: list[tuple[str, str]]) -> None:
        pause: float | None = 0.0
        checked = False
        while not self._stopping.is_set():
            try:
                reconcile.finish(self.reader, self.side, left, self._stopping)
                if not checked and not self._stopping.is_set():
                    checked = True
                    self._replace_if(damage(self.side.path))
                pause = None
            except Exception as error:
                _log.error("search index: out of step (%s: %s); trying again", type(error).__name__, error)
                self._failed.set()
                pause = MEND_AGAIN_AFTER_S
            left = self._next_comparison(pause)

    def _next_comparison(self, pause: float | None) -> list[tuple[str, str]]:
        """Wait until something failed, or for the next regular look, and compare."""
        due = time.monotonic() + COMPARE_EVERY_S
        while not (failed := self._failed.wait(LOOK_EVERY_S)) and time.monotonic() < due and self.side.is_in_place():
            pass
        self._stopping.wait(pause or MEND_AFTER_S)
        if self._stopping.is_set():
            return []
        self._failed.clear()
        try:
            if not self.side.is_in_place():
                self._replace_if("it is no longer in its place")
            elif failed:
                self._replace_if(damage(self.side.path))
            return self._compare()
        except Exception as error:
            _log.error("search index: cannot compare (%s: %s); trying again", type(error).__name__, error)
            self._failed.set()
            self._stopping.wait(MEND_AGAIN_AFTER_S)
            return []

    def _compare(self) -> list[tuple[str, str]]:
        try:
            return reconcile.start(self.reader, self.side)
        except (sa.exc.DatabaseError, sqlite3.DatabaseError):
            fault = damage(self.side.path)
            if fault is None:
                raise
            self._replace_if(fault)
            return reconcile.start(self.reader, self.side)

    def _replace_if(self, fault: str | None) -> None:
        """Where there is a fault, begin the side file anew; what is to be indexed is then found by comparing."""
        if fault is None:
            return
        self.side.reset(fault)
        self.vectors.clear()
        # Connections made before still hold the old file.
        self.reader.dispose()
        self._failed.set()

    def _with_tables(self, work: Callable[[Tables], _T]) -> _T:
        with self.reader.connect(snapshot=True) as tables:
            return work(tables)


def _refused(error: sa.exc.DatabaseError) -> Exception:
    """What PostgreSQL says of a search is no fault of the side file: of the value that is asked for, or its own."""
    if isinstance(error, sa.exc.DataError):
        return UnprocessableEntityError("the search asks for a value that the database cannot compare")
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return HTTPException(503, "the database does not answer; try again in a moment")
    return error


_open: Searcher | None = None


def current() -> Searcher:
    """The one that this process has open; a worker, or its fork, opens its own beside the server's."""
    global _open  # noqa: PLW0603 - Argilla builds engines without arguments: the process has one place to find it
    if _open is None or _open.pid != os.getpid():
        index = os.environ.get(INDEX_VARIABLE)
        if not index:
            raise RuntimeError("the search index is not open; start the server with `lingo-hitl up`")
        _open = Searcher(Path(index))
    return _open


@contextlib.contextmanager
def opened(index: Path) -> Iterator[Searcher]:
    """Hold the side file open for this process and keep it in step with Argilla's tables."""
    global _open  # noqa: PLW0603 - as above
    os.environ[INDEX_VARIABLE] = str(index)
    _open = Searcher(index)
    try:
        _open.tend()
        index.chmod(0o600)
        yield _open
    finally:
        _open.close()
        _open = None
