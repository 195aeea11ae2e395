"""Named actors that outlive deploys, and typed clients of them."""

from sa_ray.serving.actors.client import (
    JobsClient,
    UploaderClient,
    counts_client,
    jobs_client,
    uploader_client,
)
from sa_ray.serving.actors.provision import provision

__all__ = [
    "JobsClient",
    "UploaderClient",
    "counts_client",
    "jobs_client",
    "provision",
    "uploader_client",
]
