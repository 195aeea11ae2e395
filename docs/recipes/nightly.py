"""Make a batch that is safe to repeat: run it again with its name after anything went wrong."""

import sys
from pathlib import Path

from sa_ray.client import ApiError, Client
from sa_ray.contracts import GenerationRequest

PROMPTS = ("rain on leaves", "wind in a chimney", "a distant thunder")

name = sys.argv[1]  # of the batch, and of its folder: ambiences-2026-11-26
folder = Path(name)
folder.mkdir(exist_ok=True)
requests = [GenerationRequest(prompt=prompt, duration=2.0, format="flac") for prompt in PROMPTS]
failed = 0

with Client("http://localhost:8000") as client:
    # The key and a request's place in the list find its job again, however often this runs.
    outcomes = client.submit_batch(requests, idempotency_key=name)
    for prompt, outcome in zip(PROMPTS, outcomes, strict=True):
        if isinstance(outcome, ApiError):
            print(f"{prompt}: {outcome}", file=sys.stderr)  # with 429 or 503, run this again
            failed += 1
            continue
        job = client.wait(outcome.id)
        print(f"{prompt}: job {job.id} {job.status}, seed {job.seed}")
        if job.status == "succeeded":
            client.download(job, folder / f"{prompt}.flac")

sys.exit(failed > 0)
