"""What a request asks of the sampler and of the decoder."""

from typing import Any

from stable_audio_3.inference.sampling import build_schedule

from sa_ray.contracts import ResolvedRequest
from sa_ray.engines.stable_audio.decoder import Clip
from sa_ray.engines.stable_audio.geometry import Geometry
from sa_ray.engines.stable_audio.sampling import Row


def row_of(request: ResolvedRequest, geometry: Geometry, dist_shift: Any, initial: Any) -> Row:
    """Return the row of ``request``. ``initial``: latents of its source, or None."""
    start = 1.0
    if initial is not None and request.init_noise_level is not None:
        start = request.init_noise_level
    schedule = build_schedule(
        request.steps,
        sigma_max=start,
        dist_shift=dist_shift,
        effective_seq_len=geometry.content(request.duration),
    )
    return Row(
        request.seed,
        geometry.latents(request.duration),
        geometry.valid(request.duration),
        schedule.float(),
        initial,
        start,
    )


def clip_of(request: ResolvedRequest, geometry: Geometry, latents: Any) -> Clip:
    """Return what is decoded of ``latents``, the end of its row."""
    return Clip(
        latents,
        decoded=geometry.decoded(request.duration),
        samples=geometry.samples(request.duration),
        whole=request.chunked_decode is False,
        # What is joined to a source is limited here or nowhere, so as not to change the source.
        limit=request.normalize != "none" or bool(request.regions),
    )
