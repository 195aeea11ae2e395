"""What the rows of a batch are made from besides their prompts: encoded audio, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from sa_ray.contracts import ResolvedRequest
from sa_ray.engines.port import Audio
from sa_ray.engines.stable_audio.encoder import Encoder
from sa_ray.engines.stable_audio.geometry import Geometry
from sa_ray.engines.stable_audio.transfers import to_device


@dataclass(frozen=True, slots=True)
class Edits:
    """The edits of a batch.

    ``initials``: by row, the latents that it starts from, float32 ``[channels, latents]``.
    ``local``: for all rows the model's local conditioning, float32 ``[rows, channels, length]``,
    which is silence in rows without regions; None: in every row. A batch of one
    ``batch_key`` has regions in all rows or in none.
    """

    initials: Mapping[int, Any]
    local: Any


class Editor:
    """``channels``: of latents. ``local_ids``: the parts of the local conditioning, in order."""

    def __init__(
        self, encoder: Encoder, geometry: Geometry, *, channels: int, local_ids: Sequence[str]
    ) -> None:
        self._encoder = encoder
        self._geometry = geometry
        self._channels = channels
        self._local_ids = local_ids

    def __call__(
        self, requests: Sequence[ResolvedRequest], sources: Sequence[Audio | None], length: int
    ) -> Edits:
        """Encode ``sources``; the batch is padded to ``length`` latents.

        Raises ``ValueError`` if a source is not as long as its clip, or not stereo, or if a request
        with regions has none.
        """
        clips = {}
        for row, (request, source) in enumerate(zip(requests, sources, strict=True)):
            if source is not None:
                self._check(source, request)
                clips[row] = source, self._geometry.latents(request.duration)
            elif request.regions:
                raise ValueError("regions are parts of a source, and there is none")
        encoded = dict(zip(clips, self._encoder(list(clips.values())), strict=True))
        with_regions = {row: one for row, one in encoded.items() if requests[row].regions}
        return Edits(
            {row: one for row, one in encoded.items() if row not in with_regions},
            self._local(requests, with_regions, length) if with_regions else None,
        )

    def _check(self, source: Audio, request: ResolvedRequest) -> None:
        wanted = 2, self._geometry.samples(request.duration)
        if source.shape != wanted:
            raise ValueError(f"a source of shape {source.shape} is not {wanted}, as its clip is")

    def _local(
        self, requests: Sequence[ResolvedRequest], encoded: Mapping[int, Any], length: int
    ) -> Any:
        """Return what the model hears of ``encoded``, by row: all but the regions."""
        kept = torch.zeros(len(requests), 1, length)
        for row in encoded:
            kept[row, :, : self._geometry.content(requests[row].duration)] = 1
            for region in requests[row].regions:
                first, last = self._geometry.anew(region.start, region.end)
                kept[row, :, first:last] = 0
        device = next(iter(encoded.values())).device
        kept = to_device(kept, device)
        latents = torch.zeros(len(requests), self._channels, length, device=device)
        for row, one in encoded.items():
            latents[row] = functional.pad(one, (0, length - one.shape[-1]))
        parts = {"inpaint_mask": kept, "inpaint_masked_input": latents * kept}
        return torch.cat([parts[name] for name in self._local_ids], dim=1)
