"""What scope each route needs: one table of all of them.

A route that is not in it is there for ``admin`` alone: to all others it is nothing.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from starlette.routing import compile_path

from sa_ray.contracts.access import Scope

Need = Scope | Literal["any key", "nothing"]

NEEDED: Final[Mapping[tuple[str, str], Need]] = MappingProxyType(
    {
        ("POST", "/v1/audio/generations"): "generate",
        ("POST", "/v1/audio/variations"): "generate",
        ("POST", "/v1/audio/inpaint"): "generate",
        ("POST", "/generate"): "generate",
        ("POST", "/jobs"): "generate",
        ("POST", "/jobs/batch"): "generate",
        ("POST", "/jobs/variations"): "generate",
        ("POST", "/jobs/inpaint"): "generate",
        ("POST", "/v1/uploads"): "generate",
        ("POST", "/v1/audio/speech"): "generate",
        ("POST", "/v1/audio/generate"): "generate",
        ("POST", "/v1/sound-generation"): "generate",
        ("POST", "/v1/music"): "generate",
        ("POST", "/v1/music/stream"): "generate",
        ("POST", "/v2beta/audio/stable-audio-2/{mode}"): "generate",
        ("POST", "/v2beta/audio/stable-audio/{mode}"): "generate",
        ("GET", "/v2beta/audio/results/{result_id}"): "jobs:own",
        ("GET", "/jobs"): "jobs:own",
        ("GET", "/jobs/{job_id}"): "jobs:own",
        ("DELETE", "/jobs/{job_id}"): "jobs:own",
        ("GET", "/jobs/{job_id}/audio"): "jobs:own",
        ("GET", "/jobs/{job_id}/events"): "jobs:own",
        ("GET", "/v1/uploads/{upload_id}"): "jobs:own",
        ("DELETE", "/v1/uploads/{upload_id}"): "jobs:own",
        ("GET", "/v1/usage"): "any key",
        ("GET", "/v1/models"): "any key",
        ("GET", "/v1/presets"): "any key",
        ("GET", "/v1/loras"): "any key",
        # Says in one word how the service fares; the routes tell more to admins. Probes ask it.
        ("GET", "/health"): "nothing",
        # What can be read in the public source of this project.
        ("GET", "/"): "nothing",
        ("GET", "/playground/{name}"): "nothing",
        ("GET", "/docs"): "nothing",
        ("GET", "/docs/oauth2-redirect"): "nothing",
        ("GET", "/redoc"): "nothing",
        ("GET", "/openapi.json"): "nothing",
    }
)

_PLAIN = {rule: need for rule, need in NEEDED.items() if "{" not in rule[1]}
_WITH_IDS: tuple[tuple[str, re.Pattern[str], Need], ...] = tuple(
    (method, compile_path(path)[0], need) for (method, path), need in NEEDED.items() if "{" in path
)


def needed_for(method: str, path: str) -> Need | None:
    """Return what a request needs; None: there is no such route here.

    ``path``: as routes are matched, without the prefix that the application is under.
    """
    method = "GET" if method == "HEAD" else method
    if found := _PLAIN.get((method, path)):
        return found
    return next(
        (need for verb, pattern, need in _WITH_IDS if verb == method and pattern.match(path)), None
    )
