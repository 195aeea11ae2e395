"""The terminal: standard error, so that output can be piped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sa_ray.contracts import JobView

console = Console(stderr=True)


def service_address(text: str) -> str:
    """Return the URL of a service, which may be given without its scheme."""
    return text if "://" in text else f"http://{text}"


@contextmanager
def job_progress() -> Iterator[Callable[[JobView], None]]:
    """Show the progress of a job: call what is yielded with each reading of it."""
    with progress_bar() as progress:
        task = progress.add_task("queued", total=100)
        yield lambda job: progress.update(task, description=job.status, completed=job.progress)


def progress_bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
    )
