"""The HTTP application: the routes, behind the guard."""

from fastapi import FastAPI

from sa_ray import __version__
from sa_ray.serving.ingress.edge import Edge
from sa_ray.serving.ingress.errors import install_error_handlers
from sa_ray.serving.ingress.guard import Guard
from sa_ray.serving.ingress.routes import generation, job_audio, job_events, jobs, system

DESCRIPTION = """Text to audio with Stable Audio 3: sound effects and music, 44.1 kHz stereo.

`POST /v1/audio/generations` answers with the audio; `POST /jobs` accepts a job and answers at once.
Every error has the shape `{"error": {"code", "message", "param", "request_id"}}`."""


def build_http_app() -> FastAPI:
    """Build the FastAPI application; called inside each ingress replica."""
    app = FastAPI(title="sa-ray", version=__version__, description=DESCRIPTION)
    for routes in (generation, jobs, job_events, job_audio, system):
        app.include_router(routes.router)
    install_error_handlers(app)
    app.add_middleware(Edge)
    app.add_middleware(Guard)
    return app
