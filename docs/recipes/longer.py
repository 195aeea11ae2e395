"""Make a sound longer: one second of new sound before it, six after it, itself unchanged."""

from pathlib import Path

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

BEFORE, AFTER = 1.0, 6.0

with Client("http://localhost:8000") as client:
    rain = client.upload(Path("rain.wav"))
    request = GenerationRequest(
        prompt="rain on a tin roof",
        continue_audio=rain.id,
        intro=BEFORE,
        duration=BEFORE + rain.seconds + AFTER,
    )
    Path("longer.wav").write_bytes(client.generate(request))
