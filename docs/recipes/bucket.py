"""Have a clip stored in the operator's bucket, and pass on a link that needs no key."""

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

with Client("http://localhost:8000") as client:
    request = GenerationRequest(prompt="a ship's horn", duration=3.0, format="flac")
    job = client.wait(client.submit(request).id)
    print(job.storage_backend, job.storage_key, job.sha256)
    print(job.download_url)  # made at each read; lasts STABLE_AUDIO_PRESIGNED_URL_EXPIRES seconds
