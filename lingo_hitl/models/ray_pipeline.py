"""From a flow to a distilabel Pipeline: who does what, with which share of the keys and of the machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lingo_hitl.llm_config import Quota
from lingo_hitl.models.flow import Step
from lingo_hitl.models.ray_desk import packed
from lingo_hitl.models.session import Session, SessionPlan

if TYPE_CHECKING:
    from distilabel.pipeline.ray import RayPipeline


@dataclass(frozen=True)
class Job:
    """What one worker does, packed for its process."""

    step: Step
    plan: SessionPlan
    share: int  # workers that use the same keys


def pipeline_of(
    name: str,
    jobs: Sequence[Sequence[Job]],
    workers: int,
    batch: int,
    chunk: int,
    share: Mapping[str, float],
    scratch: str,
) -> RayPipeline:
    from distilabel.pipeline import Pipeline
    from distilabel.steps.base import StepResources

    from lingo_hitl.models.ray_steps import Home, Rows, Worker

    with Pipeline(name=name, cache_dir=scratch) as pipeline:
        before: list[Any] = [Rows(name="rows", desk=name, batch_size=chunk)]
        for stage, beside in enumerate(jobs):
            now: list[Any] = []
            for branch, job in enumerate(beside):
                resources = StepResources(replicas=_replicas(job.step, workers))
                if _computes(job.step):
                    resources = resources.model_copy(update=share)  # distilabel's own check would refuse half a GPU
                now.append(
                    Worker(
                        name=f"{stage}-{branch}-{type(job.step).__name__.lower()}",
                        desk=name,
                        job=packed(job),
                        branch=branch,
                        input_batch_size=batch,
                        resources=resources,
                    )
                )
            for one in before:
                one.connect(*now)
            before = now
        home = Home(name="home", desk=name, input_batch_size=batch)
        for one in before:
            one.connect(home)
    return pipeline.ray()


def jobs_of(steps: Sequence[Sequence[Step]], session: Session, workers: int) -> list[list[Job]]:
    """Each worker's part, with its share of every key's quota, however many workers use the key."""
    everyone = [step for beside in steps for step in beside]

    def share(step: Step) -> int:
        users = (
            sum(_replicas(other, workers) for other in everyone if spec.model in {s.model for s in other.models})
            for spec in step.models
        )
        return max(users, default=1)

    def job(step: Step) -> Job:
        n = share(step)
        return Job(
            step, replace(session.plan, quotas={key: _part(quota, n) for key, quota in session.quotas.items()}), n
        )

    return [[job(step) for step in beside] for beside in steps]


def _part(quota: Quota, share: int) -> Quota:
    def of(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // share)

    a_minute = quota.requests_per_minute
    return Quota(
        requests_per_minute=None if a_minute is None else a_minute / share,
        tokens_per_minute=of(quota.tokens_per_minute),
        requests_per_day=of(quota.requests_per_day),
    )


def _replicas(step: Step, workers: int) -> int:
    return workers if step.models else 1


def _computes(step: Step) -> bool:
    """Whether it runs a model on the machine of its worker."""
    return any(spec.runs_here for spec in step.models)


def share_of(ray: Any, steps: Sequence[Sequence[Step]], workers: int) -> dict[str, float]:
    """What each of the workers that run a model is promised: GPUs where there are any, else the CPUs' threads."""
    computing = workers * sum(_computes(step) for beside in steps for step in beside)
    if not computing:
        return {}
    resources = ray.cluster_resources()
    if gpus := resources.get("GPU", 0):
        return {"gpus": min(1, gpus / computing)}
    # Ray gives a worker as many threads as it was promised CPUs. One stays free, for others wait at the start.
    most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    cpus = int(min(most - 1, (resources.get("CPU", 0) - 1) / computing))
    return {"cpus": cpus} if cpus > 1 else {}
