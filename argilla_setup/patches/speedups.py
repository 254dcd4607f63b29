"""Costs of argilla-server 2.8.0 that buy nothing, avoided: together nine tenths of a bulk upsert's CPU time.

Applied to exactly the code that was read: another version, or a function whose source differs, is left as it is, and
the server runs, only slower. `LINGO_HITL_SPEEDUPS=off` leaves all as it is, to tell whether a fault comes from here.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import Any

from argilla_setup.patches.read_sources import VERSION, differing

SWITCH_INTERVAL_S = 0.001
"""How long a thread that computes keeps the others waiting: short, for each step of a request is a switch."""

_READ = {
    "argilla_server.models.database.Question.parsed_settings": "332a1aebdf8bd377",
    "argilla_server.models.database.MetadataProperty.parsed_settings": "110ec5138724b3b3",
    "argilla_server.bulk.records_bulk.UpsertRecordsBulk.upsert_records_bulk": "4f330f19ea696cdf",
    "argilla_server.bulk.records_bulk.CreateRecordsBulk._upsert_records_relationships": "5d7af4ea0baa8e69",
    "argilla_server.models.mixins.CRUDMixin.upsert_many": "8b18207cc21d3c0f",
    "argilla_server.models.database.User.is_member": "db2d5e3ad376a5aa",
    "argilla_server.contexts.distribution.unsafe_update_records_status": "330cd11c93bd3d82",
    "starlette.requests.Request.json": "c2fb34520f1d7f08",
    "starlette.responses.JSONResponse.render": "32bd10dd6d8d80c6",
}
"""The functions that are replaced, or whose work is done elsewhere, and the hash of each one's source."""

_log = logging.getLogger(__name__)


def apply(version: str) -> bool:
    """Replace the slow parts; False where they are left as they are."""
    if version != VERSION or os.environ.get("LINGO_HITL_SPEEDUPS") == "off":
        return False
    changed = differing(_READ)
    if changed:
        _log.warning("left slow, for these are not the functions that were read: %s", ", ".join(changed))
        return False
    from argilla_server.database import async_engine, sync_engine

    from argilla_setup.patches import fast_json

    fast_json.use_for_requests_and_replies()
    fast_json.use_for_columns(async_engine.sync_engine, sync_engine)
    _build_settings_parsers_once()
    _build_no_events_for_nobody()
    _ask_membership_once()
    _upsert_in_bulk()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What is in memory now stays: looking through it for garbage stops all requests for a tenth of a second.
    gc.collect()
    gc.freeze()
    _log.info("Argilla's slow parts are replaced")
    return True


def _build_settings_parsers_once() -> None:
    """Argilla builds a pydantic TypeAdapter, milliseconds each, at every access to a question's parsed settings."""
    from argilla_server.api.schemas.v1.questions import QuestionSettings
    from argilla_server.models import MetadataProperty, Question
    from argilla_server.models.metadata_properties import MetadataPropertySettings
    from pydantic import TypeAdapter

    for model, schema in ((Question, QuestionSettings), (MetadataProperty, MetadataPropertySettings)):
        model.parsed_settings = _parsed_by(TypeAdapter(schema))


def _parsed_by(adapter: Any) -> property:
    return property(lambda self: adapter.validate_python(self.settings))


def _build_no_events_for_nobody() -> None:
    """Argilla builds a webhook event for each changed record and answer, six queries each, webhook or not."""
    import sqlalchemy as sa
    from argilla_server.bulk.records_bulk import UpsertRecordsBulk
    from argilla_server.contexts import datasets, distribution, records
    from argilla_server.models import Webhook

    listening = sa.select(sa.exists().where(Webhook.enabled))

    def if_heard(notify: Any) -> Any:
        async def notify_if_heard(db: Any, event: Any, subject: Any) -> Any:
            return await notify(db, event, subject) if await db.scalar(listening) else []

        return notify_if_heard

    for module in (datasets, distribution, records):
        for name in ("notify_record_event_v1", "notify_response_event_v1"):
            if hasattr(module, name):
                setattr(module, name, if_heard(getattr(module, name)))
    notify_all = UpsertRecordsBulk._notify_upsert_record_events

    async def notify_upserted(self: Any, records: Any) -> None:
        if await self._db.scalar(listening):
            await notify_all(self, records)

    UpsertRecordsBulk._notify_upsert_record_events = notify_upserted


def _ask_membership_once() -> None:
    """Argilla asks the database once for each metadata value on an annotator's page whether they are in the workspace.

    Worse than the twenty questions is what comes with them: the page has put the values that the annotator may see
    into the records by then, and SQLAlchemy writes changed records out before it asks. Each page so became a write
    that waited for every other, to be rolled back.
    """
    from argilla_server.models import User

    ask = User.is_member

    async def is_member(self: Any, workspace_id: Any) -> bool:
        # The object lives as long as one request.
        known = self.__dict__.setdefault("_lingo_memberships", {})
        if workspace_id not in known:
            known[workspace_id] = await ask(self, workspace_id)
        return bool(known[workspace_id])

    User.is_member = is_member


def _upsert_in_bulk() -> None:
    from argilla_server.bulk.records_bulk import UpsertRecordsBulk

    from argilla_setup.patches.bulk_upsert import upsert_records_bulk

    UpsertRecordsBulk.upsert_records_bulk = upsert_records_bulk
