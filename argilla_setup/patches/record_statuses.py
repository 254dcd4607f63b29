"""The statuses of a dataset's records after its overlap was changed: two statements for argilla-server 2.8.0's job.

Argilla's job reads and commits record by record: a minute for some thousand answered records, with a flush to disk and
the write lock for each. It stays in place for another Argilla, for a search engine that keeps statuses of its own, and
where a webhook is to be told of each record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import DatasetDistributionStrategy, RecordStatus, ResponseStatus
from argilla_server.jobs import dataset_jobs
from argilla_server.models import Dataset, Record, Response, Webhook
from argilla_server.settings import settings
from argilla_server.webhooks.v1.enums import RecordEvent

from argilla_setup.patches.read_sources import VERSION, differing
from argilla_setup.search.search_engine import ENGINE_NAME

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

_READ = {
    "argilla_server.jobs.dataset_jobs.update_dataset_records_status_job": "80f27b61344ae60a",
    "argilla_server.contexts.distribution._update_record_status_with_overlap_strategy": "a6d26b63adb08f08",
    "argilla_server.contexts.distribution.update_record_status": "8af3f7ca6fd48b59",
}
"""The functions whose work is done here, and the hash of each one's source."""


def apply(version: str) -> bool:
    """Replace the job in this worker; False where it is left as it is."""
    if version != VERSION or differing(_READ) or settings.search_engine != ENGINE_NAME:
        return False
    one_by_one = dataset_jobs.update_dataset_records_status_job

    async def update_dataset_records_status_job(dataset_id: UUID) -> None:
        async with AsyncSessionLocal() as db:
            dataset = await db.get(Dataset, dataset_id)
            if dataset is None:
                return
            overlap = dataset.distribution_strategy == DatasetDistributionStrategy.overlap
            if overlap and not await _are_told(db):
                await _update(db, dataset_id, dataset.distribution["min_submitted"])
                return
        await one_by_one(dataset_id)

    dataset_jobs.update_dataset_records_status_job = update_dataset_records_status_job
    return True


async def _are_told(db: AsyncSession) -> bool:
    """Whether somebody wants an event for each record."""
    enabled = await db.scalars(sa.select(Webhook).where(Webhook.enabled))
    wanted = {str(RecordEvent.updated), str(RecordEvent.completed)}
    return any(wanted & {str(event) for event in webhook.events} for webhook in enabled)


async def _update(db: AsyncSession, dataset_id: UUID, min_submitted: int) -> None:
    answered = sa.select(Response.record_id).join(Record).where(Record.dataset_id == dataset_id)
    complete = (
        answered.where(Response.status == ResponseStatus.submitted)
        .group_by(Response.record_id)
        .having(sa.func.count() >= min_submitted)
    )
    await db.execute(_set(dataset_id, RecordStatus.completed).where(Record.id.in_(complete)))
    await db.execute(_set(dataset_id, RecordStatus.pending).where(Record.id.in_(answered), Record.id.not_in(complete)))
    await db.commit()


def _set(dataset_id: UUID, status: RecordStatus) -> Any:
    """Give it to the records that have another one; the time of their last change moves, as with Argilla's own."""
    return (
        sa.update(Record)
        .where(Record.dataset_id == dataset_id, Record.status != status)
        .values(status=status)
        .execution_options(synchronize_session=False)
    )
