"""Takes the place of Argilla's own conftest files: its search-engine tests get our engine, on a SQLite database.

The tests keep what they make in one uncommitted transaction. Our engine reads through connections of its own, so what
was made is committed before each of its calls, and deleted after each test.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
import sqlalchemy as sa
from argilla_server.cli.database.migrate import migrate_db
from argilla_server.models import Response
from argilla_server.models.base import DatabaseModel
from argilla_server.settings import settings
from sqlalchemy.ext.asyncio import create_async_engine

from argilla_setup.search import reconcile, searcher
from argilla_setup.search.search_engine import EmbeddedSearchEngine
from tests.database import TestSession, set_task


class Documents:
    """What the tests do to Elasticsearch's documents past the engine: they add answers. All else fails the test.

    The answers go to Argilla's table, where ours are read, at the next call of the engine.
    """

    def __init__(self):
        self.indices = Indices()
        self._answers = {}
        self._written = set()

    def get(self, index, id):
        return {"_source": {"responses": list(self._answers.get(id, []))}}

    def update(self, index, id, body):
        self._answers[id] = body["doc"]["responses"]

    async def write_answers(self):
        for record_id, answers in self._answers.items():
            for answer in answers:
                if answer["id"] in self._written:
                    continue
                self._written.add(answer["id"])
                row = {"record_id": record_id, "user_id": UUID(answer["user_id"]), "status": answer["status"]}
                row["values"] = {"rating": {"value": answer["rating"]}}
                # A person has one answer for a record; the tests give some several, of which the last stays.
                same = sa.delete(Response).where(Response.record_id == record_id, Response.user_id == row["user_id"])
                await TestSession().execute(same)
                await TestSession().execute(sa.insert(Response).values(**row))

    def __getattr__(self, name):
        pytest.fail("reads Elasticsearch's documents")


class Indices:
    def refresh(self, index):
        """What is written is found at once."""

    def __getattr__(self, name):
        pytest.fail("reads Elasticsearch's indices")


class Committing:
    """Our engine; what the test has made is committed before each call."""

    def __init__(self, engine, documents):
        self._engine = engine
        self._documents = documents

    def __getattr__(self, name):
        method = getattr(self._engine, name)

        async def call(*arguments, **more):
            await self._documents.write_answers()
            await TestSession().commit()
            return await method(*arguments, **more)

        return call

    async def _bulk_op_request(self, actions):
        """The tests' own way to add vectors to documents; ours is to compare with the tables."""
        await TestSession().commit()
        reconcile.start(searcher.current().reader, searcher.current().side)


@pytest.fixture(scope="session")
def event_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest_asyncio.fixture(scope="session")
async def database():
    set_task(asyncio.current_task())
    migrate_db("head")
    engine = create_async_engine(settings.database_url)
    TestSession.configure(bind=engine)
    with searcher.opened(Path(os.environ["ARGILLA_HOME_PATH"]) / "index.db"):
        yield engine
    await engine.dispose()


@pytest_asyncio.fixture(autouse=True)
async def db(database):
    yield TestSession()
    await TestSession().close()
    await TestSession.remove()
    async with database.begin() as connection:
        for table in reversed(DatabaseModel.metadata.sorted_tables):
            await connection.execute(table.delete())


@pytest.fixture
def opensearch():
    return Documents()


@pytest_asyncio.fixture
async def search_engine(database, opensearch):
    return Committing(await EmbeddedSearchEngine.new_instance(), opensearch)
