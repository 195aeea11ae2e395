"""The actors have every method that their clients may call, and pass each call on as it came."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sa_ray.jobs import JobApi, JobCoordinator
from sa_ray.serving.actors.job_actor import JobActor
from sa_ray.serving.actors.uploader import Uploader, UploaderApi


def operations(api: type) -> dict[str, Callable[..., Any]]:
    return dict(inspect.getmembers(api, inspect.iscoroutinefunction))


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter that ``method`` itself has."""
    signature = inspect.signature(method, follow_wrapped=False)
    # Ray adds one for tracing to what actors have, once it has started in this process.
    own = [one for one in signature.parameters.values() if not one.name.startswith("_ray_")]
    return [(one.name, one.kind, one.default) for one in own]


class Recorder:
    """Has every method; each returns its own name and arguments."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def record(*args: Any, **kwargs: Any) -> Any:
            return name, args, kwargs

        return record


@pytest.fixture
def actor() -> JobActor:
    """A job actor whose coordinator is a recorder."""
    made = object.__new__(JobActor)
    made._coordinator = Recorder()  # type: ignore[assignment]
    return made


def test_there_are_operations_to_compare() -> None:
    assert len(operations(JobApi)) > 20
    assert len(operations(UploaderApi)) >= 5


@pytest.mark.parametrize("name", operations(JobApi))
def test_the_job_actor_has_every_operation(name: str) -> None:
    assert inspect.iscoroutinefunction(JobActor.__dict__[name])


@pytest.mark.parametrize("name", operations(JobApi))
async def test_the_job_actor_passes_every_call_on_as_it_came(actor: JobActor, name: str) -> None:
    names = [name for name, _, _ in parameters(operations(JobApi)[name])][1:]
    values = [object() for _ in names]
    by_name = dict(zip(names, values, strict=True))

    by_place = await getattr(actor, name)(*values)
    named = await getattr(actor, name)(**by_name)

    assert by_place == (name, tuple(values), {})
    assert named == (name, (), by_name)


@pytest.mark.parametrize(
    ("implementation", "api", "name"),
    [
        *((JobCoordinator, JobApi, name) for name in operations(JobApi)),
        *((Uploader, UploaderApi, name) for name in operations(UploaderApi)),
    ],
)
def test_every_operation_is_implemented_with_the_same_parameters(
    implementation: type, api: type, name: str
) -> None:
    implemented = implementation.__dict__[name]

    assert inspect.iscoroutinefunction(implemented)
    assert parameters(implemented) == parameters(getattr(api, name))
