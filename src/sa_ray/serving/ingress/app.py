"""The HTTP application: the routes, behind the guard and the check of whom they answer."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from sa_ray import __version__
from sa_ray.access import Keyring, RequestAllowances, RequestCounts
from sa_ray.serving.ingress.auth import Authentication
from sa_ray.serving.ingress.compat import FORMATS
from sa_ray.serving.ingress.counting import Counted, Routed
from sa_ray.serving.ingress.edge import Edge
from sa_ray.serving.ingress.errors import install_error_handlers
from sa_ray.serving.ingress.guard import Guard
from sa_ray.serving.ingress.openapi_security import show_security
from sa_ray.serving.ingress.origins import Origins
from sa_ray.serving.ingress.rate_limits import RateLimits
from sa_ray.serving.ingress.routes import (
    generation,
    job_audio,
    job_batches,
    job_events,
    job_status,
    job_submits,
    jobs,
    old_forms,
    page,
    system,
    uploads,
    usage,
)
from sa_ray.serving.ingress.tracing import Traced
from sa_ray.settings import EdgeSettings, LimitSettings

DESCRIPTION = """Text to audio with Stable Audio 3: sound effects and music, 44.1 kHz stereo.

`POST /v1/audio/generations` answers with the audio; `POST /jobs` accepts a job and answers at once.
Every error has the shape `{"error": {"code", "message", "param", "request_id"}}`, but on routes of
other APIs that are spoken here (tags `openai` and the like): there it has that API's."""


SHOWN_TO_PAGES = (
    "Content-Disposition", "Idempotent-Replayed", "Location", "RateLimit", "RateLimit-Policy",
    "Retry-After", "Server-Timing", "Traceparent", "WWW-Authenticate", "X-Audio-Duration",
    "X-Engine", "X-Ignored", "X-Model", "X-Request-Id", "X-Sample-Rate", "X-Seed", "X-Warning",
)  # fmt: skip
"""Headers of answers that pages of ``allowed_origins`` may read."""


def build_http_app(
    edge: EdgeSettings,
    limits: LimitSettings,
    keyring: Keyring | None = None,
    allowances: RequestAllowances | None = None,
    *,
    allow_anonymous: bool = False,
) -> FastAPI:
    """Build the FastAPI application, in each ingress replica.

    ``keyring``: none, no keys. ``allowances``: none, requests are counted in this process alone.
    """
    app = FastAPI(title="sa-ray", version=__version__, description=DESCRIPTION)
    parts = (
        job_status,  # first: what most requests are for is looked for no further
        job_submits,
        generation,
        jobs,
        job_batches,
        job_events,
        job_audio,
        uploads,
        old_forms,
        page,
        system,
        usage,
    )
    for routes in parts:
        app.include_router(routes.router)
    formats = [FORMATS[name] for name in edge.compatible_apis]
    for one in formats:
        app.include_router(one.router)
    install_error_handlers(app, [one.errors for one in formats])
    show_security(app)
    app.add_middleware(Routed)
    app.add_middleware(Edge, public_url=edge.public_url)
    app.add_middleware(Guard, max_upload_mb=limits.max_upload_mb)
    app.add_middleware(
        RateLimits, allowances=allowances or RequestAllowances(RequestCounts(), lambda: 1)
    )
    app.add_middleware(
        Authentication, keyring=keyring or Keyring(), allow_anonymous=allow_anonymous
    )
    if edge.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=edge.allowed_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=SHOWN_TO_PAGES,
        )
    app.add_middleware(Origins, edge=edge)
    app.add_middleware(Counted)
    app.add_middleware(Traced)
    return app
