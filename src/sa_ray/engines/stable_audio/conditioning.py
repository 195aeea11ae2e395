"""Conditioning of a batch: embed the prompts and durations that steer its rows."""

from collections.abc import Sequence
from typing import Any, Final

import torch

from sa_ray.contracts import ResolvedRequest
from sa_ray.engines.stable_audio.denoiser import Conditioning, Denoiser
from sa_ray.engines.stable_audio.graphs import Graphs
from sa_ray.engines.stable_audio.text_encoder import PromptEncoder, TextEmbedding
from sa_ray.scheduling.batch_rule import is_guided

PROMPT_LAYERS: Final = "conditioners.prompt."
"""Prefix of the package's names of layers that the embeddings of prompts depend on."""


class Conditioner:
    """Wraps the package's ``MultiConditioner``: a text encoder, and an embedding of seconds."""

    def __init__(self, conditioner: Any, denoiser: Denoiser, graphs: Graphs) -> None:
        self._prompts = PromptEncoder(conditioner.conditioners["prompt"], graphs, denoiser.device)
        self._seconds = conditioner.conditioners["seconds_total"]
        self._denoiser = denoiser

    def record_prompts(self) -> None:
        """Run the text encoder at every length that it is run at."""
        self._prompts.encode_nothing()

    def forget_prompts(self) -> None:
        """Embed prompts anew from here on, by other weights."""
        self._prompts.forget()

    def __call__(self, requests: Sequence[ResolvedRequest], local: Any = None) -> Conditioning:
        """Embed ``requests``; all are guided (``cfg_scale`` is not 1), or none is.

        ``local``: as in ``Denoiser.condition``.
        """
        device = self._denoiser.device
        guided = is_guided(requests[0])
        negatives = [request.negative_prompt for request in requests] if guided else []
        prompts = [request.prompt for request in requests]
        texts = iter(self._prompts([*prompts, *filter(None, negatives)]))
        seconds, _ = self._seconds([request.duration for request in requests], device)
        context = [torch.cat([next(texts).tokens, second]) for second in seconds]
        silence = torch.zeros_like(context[0])
        context += [
            _negative(next(texts), second) if negative else silence
            for negative, second in zip(negatives, seconds, strict=False)
        ]
        embedding = seconds[:, 0].repeat(2 if guided else 1, 1)
        scale = projected = None
        if guided:
            scale = _per_row([request.cfg_scale for request in requests], device)
            projected = _per_row(
                [1.0 if request.apg_scale is None else request.apg_scale for request in requests],
                device,
            )
        return self._denoiser.condition(torch.stack(context), embedding, local, scale, projected)


def _per_row(values: list[float], device: Any) -> Any:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _negative(text: TextEmbedding, second: Any) -> Any:
    tokens = torch.where(text.mask[:, None], text.tokens, torch.zeros_like(text.tokens))
    return torch.cat([tokens, second])
