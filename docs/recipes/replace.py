"""Replace a part of a recording, three takes: 1.5 to 3 s; the rest stays sample for sample."""

from pathlib import Path

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

with Client("http://localhost:8000") as client:
    street = client.upload(Path("street.wav"))
    request = GenerationRequest(
        prompt="a car horn in a street",
        inpaint_audio=street.id,
        regions=[{"start": 1.5, "end": 3.0}],
        n=3,
    )
    for take in client.generate_all(request):
        Path(f"street-{take.seed}.wav").write_bytes(take.data)
