"""What jobs ask for and come to, for the tests of the job system."""

from sa_ray.contracts import (
    AudioInfo,
    JobError,
    JobResult,
    ResolvedRequest,
    StoredObject,
    VariantName,
)

FAULT = JobError(code="worker_died", message="The node was lost.")
RESULT = JobResult(
    audio=AudioInfo(
        engine="procedural",
        sample_rate=44_100,
        channels=2,
        duration=1.0,
        format="wav",
        generation_seconds=0.123456789,
    ),
    object=StoredObject(backend="local", key="a.wav", size=4, sha256="0" * 64),
    upload_seconds=0.1,
)


def resolved(variant: VariantName = "small-sfx", prompt: str = "rain") -> ResolvedRequest:
    return ResolvedRequest(
        model=variant, prompt=prompt, duration=1.0, steps=8, cfg_scale=1.0, seed=7
    )
