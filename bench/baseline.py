"""The old server: one FastAPI process, one lock for all models and for encoding, jobs in memory.

    uv run python -m bench.baseline [--port 8000] [--engine zero|gpu|eager]

Requests, checks and answers are those of the service, and so is the engine. Of the server that the
service replaces it has what costs or saves time: a clip at a time, in a thread, its file written on
the event loop with the lock held, and neither Ray nor a store.
"""

import argparse
import asyncio
import io
import time
import uuid
from typing import Annotated

import soundfile
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from bench.loadtest.engine import PretendedEngine, eager, h100, nothing
from sa_ray.contracts import GenerationRequest, JobAccepted, JobRequest, JobView
from sa_ray.engines import Engine, Generated
from sa_ray.jobs import JobSnapshot
from sa_ray.jobs.lifecycle import JobOptions, new_job
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.serving.job_view import JobViews, status_url
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores

ENGINES = {"zero": nothing, "gpu": h100, "eager": eager}


def create_app(engine: Engine) -> FastAPI:
    """Return the server around ``engine``, which makes the clips of all models."""
    app = FastAPI()
    settings = load_settings({"output_dir": "/nonexistent"})
    job_views = JobViews(ObjectStores(settings.storage))
    jobs: dict[str, JobSnapshot] = {}
    lock = asyncio.Lock()

    @app.post("/generate")
    @app.post("/v1/audio/generations")
    async def generate(request: GenerationRequest) -> Response:
        resolved = resolve(request, settings.models, settings.limits, "procedural")
        async with lock:
            started = time.monotonic()
            [clip] = await run_in_threadpool(
                engine.generate, [resolved], lambda row, fraction: None, lambda row: False
            )
            seconds = time.monotonic() - started
            if not isinstance(clip, Generated):
                raise HTTPException(500)
            file = io.BytesIO()
            soundfile.write(
                file, clip.samples.T, engine.sample_rate, format="WAV", subtype="PCM_16"
            )
        headers = {
            "Content-Disposition": f'attachment; filename="stable-audio-3-{resolved.model}.wav"',
            "X-Model": resolved.model,
            "X-Sample-Rate": str(engine.sample_rate),
            "Server-Timing": f"engine;dur={1000 * seconds:.1f}",
        }
        return Response(file.getvalue(), media_type="audio/wav", headers=headers)

    @app.post("/jobs", status_code=202)
    async def submit(
        request: JobRequest,
        http: Request,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> JobAccepted:
        options = JobOptions(
            priority=request.priority,
            expires_in=request.expires_in,
            idempotency_key=idempotency_key,
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
        return await job_views.one(snapshot, str(http.base_url).rstrip("/"))

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--engine", choices=ENGINES, default="zero")
    options = parser.parse_args()
    engine = PretendedEngine("medium", ENGINES[options.engine])
    uvicorn.run(create_app(engine), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
