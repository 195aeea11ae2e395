"""Make a request of an assistant: a job, whose progress it hears of, and its files."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, Field

from sa_ray.client import Client
from sa_ray.contracts import EngineName, GenerationRequest, JobView, VariantName
from sa_ray.errors import SaRayError
from sa_ray.mcp.folder import Folder

OnUpdate = Callable[[JobView], object]

STAND_IN = (
    "Made by the procedural stand-in of the service, not by Stable Audio 3: say so to the user."
)


class Made(BaseModel):
    """A file that was made."""

    path: str = Field(description="Absolute path of the file.")
    seed: int = Field(description="The same seed and request give the same sound.")
    seconds: float
    warning: str | None = Field(description="What is wrong with the sound, if anything.")


class MadeFiles(BaseModel):
    """What came of a request."""

    files: list[Made]
    model: VariantName
    engine: EngineName | None
    job_id: str
    note: str | None


def make(
    client: Client,
    folder: Folder,
    name: str | None,
    fields: Mapping[str, Any],
    on_update: OnUpdate,
) -> MadeFiles:
    """Have the files of a request made and put them into ``folder``.

    Whatever ``on_update`` raises cancels the job. Raises ``SaRayError`` if it fails.
    """
    request = GenerationRequest.model_validate(
        {key: value for key, value in fields.items() if value is not None}
    )
    job_id = client.submit(request).id
    try:
        job = client.wait(job_id, on_update)
    except BaseException:
        with suppress(SaRayError, httpx.HTTPError):
            client.cancel(job_id)
        raise
    if job.status != "succeeded":
        raise SaRayError(f"The job {job.status}: {job.error}")
    return MadeFiles(
        files=_kept(client, folder, name or job.prompt, job),
        model=job.model,
        engine=job.engine,
        job_id=job.id,
        note=STAND_IN if job.engine == "procedural" else None,
    )


def _kept(client: Client, folder: Folder, name: str, job: JobView) -> list[Made]:
    files = []
    with tempfile.TemporaryDirectory(prefix="sa-ray-mcp-") as scratch:
        for made in job.results:
            file = Path(scratch) / "clip"
            client.download(job, file, made.index)
            path = folder.keep(file, name, f".{job.format}")
            files.append(
                Made(
                    path=str(path),
                    seed=made.seed,
                    seconds=made.audio_duration,
                    warning=made.warning,
                )
            )
    return files
