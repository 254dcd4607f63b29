"""The distilabel Steps of a flow on Ray. Each runs in processes of its own; see `on_ray`.

Nothing is raised here: distilabel would put Nones in a batch's place, or wait for ever. Faults go to the desk.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

# No annotation here may be a string: distilabel reads them.
from distilabel.steps import GeneratorStep, Step, StepInput
from distilabel.typing import GeneratorStepOutput, StepOutput
from pydantic import PrivateAttr

from lingo_hitl.models.flow import Work
from lingo_hitl.models.loop import loop, submit
from lingo_hitl.models.ray_desk import DistantJournal, packed, packed_fault, unpacked
from lingo_hitl.models.ray_pipeline import Job
from lingo_hitl.models.session import Session
from lingo_hitl.models.stop import Stopped
from lingo_hitl.records import Row

COLUMNS = ["place", "branch", "row", "new"]
"""A row's place, which of the steps side by side it comes from, the row as that one got it and the columns
that it adds, both packed; no row ("") where the run was over before."""


def _message(place: int, branch: int = 0, row: str = "", new: str = "") -> dict[str, Any]:
    return {"place": place, "branch": branch, "row": row, "new": new}


def _merged(messages: tuple[dict[str, Any], ...]) -> Row | None:
    """The row with what all steps before added; None where one of them did not get to it."""
    if not all(message["row"] for message in messages):
        return None
    row: Row = unpacked(messages[0]["row"])
    for message in sorted(messages, key=lambda message: message["branch"]):
        row.update(unpacked(message["new"]))
    return row


class _Known:
    """A step whose coming and going the desk knows, so that it is missed where it dies in between."""

    desk: str

    def load(self) -> None:
        super().load()  # type: ignore[misc]
        self._tell("come")

    def unload(self) -> None:
        self._tell("leave")
        super().unload()  # type: ignore[misc]

    def _tell(self, what: str, *content: Any) -> None:
        """Call a method of the desk for this worker, and wait for it."""
        import ray

        me = ray.get_runtime_context().get_actor_name()
        ray.get(getattr(ray.get_actor(self.desk), what).remote(me, *content))


class Rows(_Known, GeneratorStep):
    """The rows from the desk."""

    desk: str

    @property
    def outputs(self) -> list[str]:
        return COLUMNS

    def process(self, offset: int = 0) -> GeneratorStepOutput:
        """Rows in batches of `batch_size`, which the last may not fill; a lost one where the run is over.

        Args:
            offset: not used: what is taken from the desk comes once.
        """
        import ray

        desk = ray.get_actor(self.desk)
        nothing_new = packed({})
        last = False
        while not last:
            taken: Any = ray.get(desk.take.remote(self.batch_size))
            parcels, last = taken
            # distilabel passes an empty last batch to nobody, and then waits for ever.
            yield [_message(place, row=row, new=nothing_new) for place, row in parcels] or [_message(-1)], last


class Worker(_Known, Step):
    """One step of a flow, on the rows of a batch side by side.

    Attributes:
        job: an `on_ray.Job`, packed.
        branch: which of the steps side by side this is.
    """

    desk: str
    job: str
    branch: int

    _desk: Any = PrivateAttr(None)
    _session: Session | None = PrivateAttr(None)
    _work: Work | None = PrivateAttr(None)

    @property
    def inputs(self) -> list[str]:
        return COLUMNS

    @property
    def outputs(self) -> list[str]:
        return COLUMNS

    def load(self) -> None:
        super().load()
        import ray

        self._desk = ray.get_actor(self.desk)
        try:
            job: Job = unpacked(self.job)
            session = self._session = job.plan.on(DistantJournal(self._desk, job.plan.journal, share=job.share))
            self._work = job.step.start(session)
            submit(self._end_with_the_run(session))
        except Exception as fault:
            ray.get(self._desk.end.remote(packed_fault(fault)))

    def process(self, *inputs: StepInput) -> StepOutput:
        """The rows with the columns that the steps before added, and those of this one beside them.

        Args:
            inputs: the batch of each step before.
        """
        import ray

        messages = list(zip(*inputs, strict=True))
        rows = [_merged(some) for some in messages]
        outputs = [_message(some[0]["place"], self.branch) for some in messages]
        whole = [n for n, row in enumerate(rows) if row is not None]
        if self._work is not None and self._session is not None and whole:
            try:
                results = submit(_side_by_side(self._work, [rows[n] or {} for n in whole], self._session)).result()
                faults = [result for result in results if isinstance(result, BaseException)]
                if faults:
                    ray.get(self._desk.end.remote(packed_fault(self._session.stop.fault or faults[0])))
                for n, result in zip(whole, results, strict=True):
                    if not isinstance(result, BaseException):
                        outputs[n] = _message(outputs[n]["place"], self.branch, packed(rows[n]), packed(result))
                self._session.journal.put([])  # what was used of it
                self._tell("count", self._session.tally)
            except Exception as fault:
                ray.get(self._desk.end.remote(packed_fault(fault)))
        yield outputs

    async def _end_with_the_run(self, session: Session) -> None:
        await self._desk.over.remote()
        loop().call_soon(session.stop.because, Stopped("the run is over"))


class Home(_Known, Step):
    """The rows back to the desk."""

    desk: str

    @property
    def inputs(self) -> list[str]:
        return COLUMNS

    @property
    def outputs(self) -> list[str]:
        return ["place"]

    def process(self, *inputs: StepInput) -> StepOutput:
        """Only the places go on, into distilabel's own result, which nobody reads.

        Args:
            inputs: the batch of each step before.
        """
        import ray

        messages = [some for some in zip(*inputs, strict=True) if some[0]["place"] >= 0]
        rows = [(some[0]["place"], _merged(some)) for some in messages]
        parcels = [(place, packed(row)) for place, row in rows if row is not None]
        ray.get(ray.get_actor(self.desk).deliver.remote(parcels, len(rows) - len(parcels)))
        yield [{"place": some[0]["place"]} for some in zip(*inputs, strict=True)]


async def _side_by_side(work: Work, rows: Sequence[Row], session: Session) -> list[Row | BaseException]:
    """New columns for each row; after the first fault nothing more is asked, and what is under way is kept."""

    async def one(row: Row) -> Row | BaseException:
        try:
            return dict(await work(row))
        except BaseException as fault:
            session.stop.because(fault)
            return fault

    results = await asyncio.gather(*(one(row) for row in rows))
    await session.settled()
    return results
