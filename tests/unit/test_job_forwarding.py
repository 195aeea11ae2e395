"""The job actor forwards the whole job API to the coordinator."""

import inspect

from sa_ray.jobs import JobApi, JobCoordinator
from sa_ray.serving.actors.job_actor import JobActor, forwards

OPERATIONS = dict(inspect.getmembers(JobApi, inspect.iscoroutinefunction))


def test_the_actor_has_every_operation_with_the_same_parameters() -> None:
    assert len(OPERATIONS) > 20
    for name, operation in OPERATIONS.items():
        forwarded = getattr(JobActor, name)

        assert inspect.iscoroutinefunction(forwarded), name
        assert inspect.signature(forwarded) == inspect.signature(operation)


def test_the_coordinator_implements_every_operation_with_the_same_parameters() -> None:
    for name, operation in OPERATIONS.items():
        implemented = JobCoordinator.__dict__[name]

        assert list(inspect.signature(implemented).parameters) == list(
            inspect.signature(operation).parameters
        )


async def test_a_forwarded_call_keeps_its_arguments() -> None:
    class Target:
        async def page(self, limit: int, **options: object) -> object:
            return limit, options

    @forwards(JobApi, "target")
    class Shell:
        target = Target()

    answer = await Shell().page(3, status="queued")  # type: ignore[attr-defined]

    assert answer == (3, {"status": "queued"})
