"""Make a loop without a seam for a game engine: mono, 48 kHz, at an even loudness."""

from pathlib import Path

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

with Client("http://localhost:8000") as client:
    request = GenerationRequest(
        prompt="a campfire crackles",
        duration=4.0,
        loop=True,
        channels=1,
        sample_rate=48000,
        normalize="loudness",
        loudness=-20.0,
    )
    Path("campfire.wav").write_bytes(client.generate(request))
