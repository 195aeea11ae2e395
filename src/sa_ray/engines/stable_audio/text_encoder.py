"""Text embeddings: each prompt is encoded once, to the same values in any group."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn import functional

from sa_ray.engines.stable_audio.graphs import Graphs

CACHED_PROMPTS: Final = 256
"""Most embeddings kept, 0.4 MB each in fp16; the least recently used goes first."""

GROUP: Final = 16
"""Prompts encoded together on a GPU; always this many, as rounding depends on the batch size."""

TOKEN_BUCKETS: Final = (16, 32, 64, 128)
"""Prompt lengths to encode at, tokens; longer prompts use the model's full length."""


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """``tokens``: ``[max_length, 768]``, padding replaced by the learned one. ``mask``: bool."""

    tokens: Any
    mask: Any


class PromptEncoder:
    """Wraps the package's ``T5GemmaConditioner``.

    The package masks padding in the encoder and replaces its outputs by a learned embedding. So
    leaving most padding out changes nothing and saves most of the work.
    """

    def __init__(self, conditioner: Any, graphs: Graphs, device: Any) -> None:
        self._conditioner = conditioner
        self._graphs = graphs
        self._device = device
        self._cache: OrderedDict[str, TextEmbedding] = OrderedDict()
        self._group = GROUP if device.type == "cuda" else 1
        conditioner.model.to(device)
        conditioner.model.eval()
        if device.type == "cpu":
            # Most CPUs emulate bf16 arithmetic, at an eighth of the speed of fp32.
            conditioner.model.float()

    def __call__(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """Embed ``prompts``, in order; equal ones once."""
        found: dict[str, TextEmbedding] = {}
        missing: dict[int, list[tuple[str, Any]]] = {}
        for prompt in dict.fromkeys(prompts):
            if prompt in self._cache:
                self._cache.move_to_end(prompt)
                found[prompt] = self._cache[prompt]
            else:
                ids = self._tokenize(prompt)
                missing.setdefault(self._bucket(len(ids)), []).append((prompt, ids))
        for length, wanted in missing.items():
            for first in range(0, len(wanted), self._group):
                group = wanted[first : first + self._group]
                for (prompt, _), embedding in zip(group, self._encode(group, length), strict=True):
                    found[prompt] = self._cache[prompt] = embedding
        while len(self._cache) > CACHED_PROMPTS:
            self._cache.popitem(last=False)
        return [found[prompt] for prompt in prompts]

    def forget(self) -> None:
        """Drop the embeddings that are kept."""
        self._cache.clear()

    def encode_nothing(self) -> None:
        """Run the encoder once at every length, so that each can have its CUDA graph."""
        lengths = {self._bucket(top) for top in (*TOKEN_BUCKETS, math.inf)}
        for length in sorted(lengths, reverse=True):  # all graphs share the memory of the longest
            self._encode([], length)

    def _tokenize(self, prompt: str) -> Any:
        limit = self._conditioner.max_length
        encoded = self._conditioner.tokenizer(prompt, truncation=True, max_length=limit)
        return encoded["input_ids"]

    def _bucket(self, tokens: float) -> int:
        limit: int = self._conditioner.max_length
        return min(limit, next((top for top in TOKEN_BUCKETS if tokens <= top), limit))

    def _encode(self, group: list[tuple[str, Any]], length: int) -> list[TextEmbedding]:
        size = self._group, length
        ids = torch.zeros(self._group, length, dtype=torch.long)
        mask = torch.zeros(self._group, length, dtype=torch.bool)
        for row, (_, tokens) in enumerate(group):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        attended = mask.clone()
        attended[:, 0] = True  # softmax over nothing, in a spare row or an empty prompt, is NaN
        ids, mask, attended = (part.to(self._device) for part in (ids, mask, attended))
        conditioner = self._conditioner
        self._graphs.note("text", size)
        hidden = self._graphs.run("text", size, self._forward, ids, attended)
        missing = conditioner.max_length - length
        hidden = functional.pad(hidden.to(self._output_dtype()), (0, 0, 0, missing))
        mask = functional.pad(mask, (0, missing))
        embedded = conditioner.apply_padding(conditioner.proj_out(hidden), mask)
        # Copies: a view would keep the whole group in memory for as long as one prompt is cached.
        rows = range(len(group))
        return [TextEmbedding(embedded[row].clone(), mask[row].clone()) for row in rows]

    def _forward(self, ids: Any, attended: Any) -> Any:
        encoded = self._conditioner.model(input_ids=ids, attention_mask=attended)
        return encoded["last_hidden_state"]

    def _output_dtype(self) -> Any:
        dtypes = [parameter.dtype for parameter in self._conditioner.parameters()]
        return dtypes[0] if dtypes else torch.float32
