"""The command line: ``sa-ray`` and, by its old name, ``stable-audio-api``."""

from sa_ray.cli.commands import main, stable_audio_api

__all__ = ["main", "stable_audio_api"]
