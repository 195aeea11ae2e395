"""Tensors between host and device; on CUDA, through pinned memory."""

from typing import Any

import torch


def to_device(tensor: Any, device: Any) -> Any:
    """Return ``tensor``, of the host, on ``device``; on CUDA the host does not wait for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_host(tensors: list[Any]) -> list[Any]:
    """Return ``tensors``, all of one device, on the host and contiguous."""
    if not tensors or tensors[0].device.type != "cuda":
        return [tensor.cpu().contiguous() for tensor in tensors]
    hosts = [torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in tensors]
    for host, tensor in zip(hosts, tensors, strict=True):
        host.copy_(tensor.contiguous(), non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return hosts
