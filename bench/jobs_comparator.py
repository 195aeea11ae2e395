"""The comparator of `bench/jobs.py`: the contract of ``/jobs`` on plain FastAPI, in one process.

Same models, same checks, same view; jobs are in memory, without Ray, a store or workers.
"""

import time
import uuid
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request, Response

from sa_ray.catalogue import VARIANTS, aliases
from sa_ray.contracts import JobAccepted, JobRequest, JobView, ModelList, ModelView
from sa_ray.jobs import JobSnapshot
from sa_ray.jobs.lifecycle import JobOptions, new_job
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.serving.job_view import JobViews, status_url
from sa_ray.settings import duration_limit, load_settings
from sa_ray.storage import ObjectStores

app = FastAPI()
settings = load_settings({"output_dir": "/nonexistent"})
job_views = JobViews(ObjectStores(settings.storage))
jobs: dict[str, JobSnapshot] = {}


@app.post("/jobs", status_code=202)
async def submit(
    request: JobRequest,
    http: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobAccepted:
    options = JobOptions(
        priority=request.priority, expires_in=request.expires_in, idempotency_key=idempotency_key
    )
    job = new_job(
        uuid.uuid4().hex,
        resolve(request, settings.models, settings.limits, "procedural"),
        time.time(),
        options,
    )
    jobs[job.id] = JobSnapshot(job, len(jobs) + 1)
    url = status_url(str(http.base_url).rstrip("/"), job.id)
    response.headers["Location"] = url
    return JobAccepted(id=job.id, status=job.status, status_url=url)


@app.get("/jobs/{job_id}")
async def read(job_id: str, http: Request) -> JobView:
    snapshot = jobs.get(job_id)
    if snapshot is None:
        raise HTTPException(404)
    base_url = str(http.base_url).rstrip("/")
    return await job_views.one(snapshot, base_url)


@app.get("/v1/models")
async def models() -> ModelList:
    views = [
        ModelView(
            id=name,
            aliases=list(aliases(name)),
            max_duration_seconds=duration_limit(settings.models, settings.limits, name),
            state="idle",
            message=None,
        )
        for name in VARIANTS
    ]
    return ModelList(default=settings.default_model, models=views)
