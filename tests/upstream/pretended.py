"""A CUDA device that does not exist: shapes without values, and a check of what capture forbids."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from stable_audio_3.factory import create_diffusion_cond_from_config
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from bench.random_weights import (
    TEXT_ENCODER,
    TINY,
    Sizes,
    model_config,
    real_sizes,
    write_text_encoder,
)
from sa_ray.contracts import VariantName
from sa_ray.engines.stable_audio.capture import Recording
from sa_ray.engines.stable_audio.operations import TorchOperations
from sa_ray.engines.stable_audio.weights import building_on

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten

WHOLE = {
    aten.rms_norm.default,
    aten.linear.default,
    aten.conv1d.default,
    aten.scaled_dot_product_attention.default,
}
"""Composite operations to leave in one piece, as torch runs one kernel for each on CUDA."""


class IllegalInCaptureError(Exception):
    """What would invalidate the capture of a CUDA graph."""


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


class CaptureCheck(TorchDispatchMode):
    """Raises ``IllegalInCaptureError`` where a capture would fail, and counts kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in WHOLE and func.namespace == "aten":
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        try:
            result = func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise IllegalInCaptureError(f"{func} waits for the host") from error
        fault = _fault(func, _tensors((args, kwargs)), _tensors(result))
        if fault is not None:
            raise IllegalInCaptureError(f"{func} {fault}")
        self.kernels += func.namespace == "aten" and not _is_view(func)
        return result


def _fault(func: Any, given: list[torch.Tensor], made: list[torch.Tensor]) -> str | None:
    random = torch.Tag.nondeterministic_seeded in func.tags and "attention" not in str(func)
    devices = {tensor.device.type for tensor in given if tensor.dim()}
    results = {tensor.device.type for tensor in made}
    copies = func in (aten._to_copy.default, aten.copy_.default)
    by_mask = func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default) and any(
        tensor.dtype == torch.bool for tensor in given[1:]
    )
    faults = {
        "draws random numbers": random,
        "waits for the host": torch.Tag.data_dependent_output in func.tags or by_mask,
        "copies across devices": len(devices | results) > 1
        or (copies and len({tensor.device.type for tensor in given + made}) > 1),
        "makes a tensor on the CPU": "cpu" in results and any(tensor.dim() for tensor in made),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _is_view(func: Any) -> bool:
    if str(func) in {
        "aten._unsafe_view.default",
        "aten.detach.default",
        "aten.empty.memory_format",
    }:
        return True
    returned = func._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returned)


class PeakMemory(TorchDispatchMode):
    """Most bytes on the pretended device at once, of tensors made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, tuple[int, StorageWeakRef]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in WHOLE and func.namespace == "aten":
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        given = {StorageWeakRef(one.untyped_storage()).cdata for one in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        self._live = {key: one for key, one in self._live.items() if not one[1].expired()}
        for tensor in _tensors(result):
            reference = StorageWeakRef(tensor.untyped_storage())
            if tensor.device.type == "cuda" and reference.cdata not in given:
                self._live[reference.cdata] = tensor.untyped_storage().nbytes(), reference
        self.peak = max(self.peak, sum(size for size, _ in self._live.values()))
        return result


class CheckingRecorder:
    """Records by running the function once under ``CaptureCheck``."""

    def __init__(self) -> None:
        self.kernels: dict[tuple[tuple[int, ...], ...], int] = {}
        """Kernels of each recording, by the shapes of its inputs."""
        self.recordings = 0
        self.check: CaptureCheck | None = None

    def record(
        self, function: Callable[..., Any], inputs: Sequence[Any], place: Callable[[Any], Any]
    ) -> Recording:
        self.recordings += 1
        with CaptureCheck() as check:
            self.check = check
            result = function(*inputs)
        self.check = None
        self.kernels[tuple(tuple(one.shape) for one in inputs)] = check.kernels
        output = place(result)
        return Recording(lambda: None, output, 0)

    def release(self) -> None:
        pass


class OneKernelEach:
    """``Operations`` of torch that count as the one kernel that each is in Triton."""

    def __init__(self, recorder: CheckingRecorder) -> None:
        self._recorder = recorder
        self._operations = TorchOperations()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._operations, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            check = self._recorder.check
            before = check.kernels if check else 0
            result = operation(*args, **kwargs)
            if check:
                check.kernels = before + 1
            return result

        return counted


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Have ``cuda:0`` hold tensors without values."""
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=False))
        stack.enter_context(_SpeltOut())
        for owner, name, stand_in in (
            (torch.cuda, "current_stream", lambda *_: mock.Mock()),
            (torch.cuda, "Event", lambda **_: mock.Mock()),
            (torch.Tensor, "pin_memory", lambda self, *_: self),
            (torch.Tensor, "numpy", lambda self: np.zeros(self.shape, np.float32)),
            (FakeTensor, "numpy", lambda self: np.zeros(self.shape, np.float32)),
            (FakeTensor, "__getitem__", _index),
            (nn.Module, "to", lambda self, *_, **__: self),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in, create=True))
        yield


def pretended_model(variant: VariantName, *, tiny: bool) -> tuple[Any, dict[str, Any]]:
    """Return the package's wrapper in fp16 on the pretended device, and its config.

    Call it under ``pretended_cuda``. The text encoder is a tiny one at any size.
    """
    sizes = TINY if tiny else _real_but_for_text(variant)
    config: dict[str, Any] = json.loads(json.dumps(model_config(variant, sizes)))
    with tempfile.TemporaryDirectory() as folder, unset_fake_temporarily():
        write_text_encoder(Path(folder) / TEXT_ENCODER, TINY)
        config["model"]["conditioning"]["configs"][0]["config"]["model_path"] = folder
        with building_on(torch.device("meta")):
            model = create_diffusion_cond_from_config(config)
        for module in (model, model.conditioner.conditioners["prompt"].model):
            module.eval()
    _place(model, torch.float16)
    _place(model.conditioner.conditioners["prompt"].model, None)
    return model, config


def _real_but_for_text(variant: VariantName) -> Sizes:
    text = {name: getattr(TINY, name) for name in TINY.__slots__ if name.startswith("text_")}
    return replace(real_sizes(variant), **text)


def _place(module: Any, dtype: Any) -> None:
    """Put the parameters and buffers of ``module`` on the pretended device."""
    for part in module.modules():
        for group in (part._parameters, part._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
                    fake = torch.empty(tensor.shape, dtype=kind, device=CUDA)
                    is_parameter = group is part._parameters
                    group[name] = nn.Parameter(fake, requires_grad=False) if is_parameter else fake
        if hasattr(part, "weight_g"):
            part.__dict__["weight"] = None


class _SpeltOut(TorchFunctionMode):
    """Spells in aten what takes a device guard in Python, which a build without CUDA lacks."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        fake = bool(args) and isinstance(args[0], FakeTensor)
        if fake and func is torch.Tensor.__getitem__:
            return _index(*args)
        if fake and func is torch.Tensor.__setitem__:
            return _index(args[0], args[1]).copy_(args[2])
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            rest = {name: value for name, value in kwargs.items() if name != "device"}
            made = torch.tensor(*args, **rest)
            made.constant = None
            return aten._to_copy.default(made, device=CUDA)
        if func is torch.tensor:
            made = func(*args, **kwargs)
            made.constant = None  # or torch would compute with its value on the real device
            return made
        if fake and func is torch.Tensor.contiguous:
            return _contiguous(args[0])
        if fake and func is torch.Tensor.copy_:
            return aten.copy_.default(args[0], args[1])
        if fake and func is torch.Tensor.__invert__:
            return aten.bitwise_not.default(args[0])
        return func(*args, **kwargs)


def _contiguous(x: Any) -> Any:
    if x.is_contiguous():
        return x
    return aten.clone.default(x, memory_format=torch.contiguous_format)


def _index(x: Any, key: Any) -> Any:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(one is Ellipsis for one in keys):
        at = next(place for place, one in enumerate(keys) if one is Ellipsis)
        used = sum(one is not None and one is not Ellipsis for one in keys)
        keys[at : at + 1] = [slice(None)] * (x.dim() - used)
    dim, by_tensor = 0, {}
    for one in keys:
        if one is None:
            x = aten.unsqueeze.default(x, dim)
            dim += 1
        elif isinstance(one, int):
            x = aten.select.int(x, dim, one)
        elif isinstance(one, slice):
            if (one.start, one.stop, one.step) != (None, None, None):
                x = aten.slice.Tensor(x, dim, one.start, one.stop, one.step or 1)
            dim += 1
        else:
            by_tensor[dim] = one if isinstance(one, torch.Tensor) else torch.tensor(one)
            dim += 1
    if by_tensor:
        x = aten.index.Tensor(x, [by_tensor.get(place) for place in range(max(by_tensor) + 1)])
    return x
