"""Adapters (LoRA), merged into the weights in place: CUDA graphs recorded before stay valid."""

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from sa_ray.contracts import LORA_NAME_PATTERN, Lora, VariantName
from sa_ray.engines.adapters import (
    LEFT_OUT,
    MAGNITUDES,
    SUFFIX,
    AdapterHeader,
    describe,
    kept_as,
    list_adapters,
    refusal,
    shown,
)
from sa_ray.errors import GenerationError

_log = logging.getLogger(__name__)

KEPT_BYTES: Final = 1 << 30
"""Most bytes of files whose adapters are kept in the host's memory; one has 50 to 200 MB."""

EPSILON: Final = 1e-12
"""What the package adds to lengths that it divides by."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an adapter does to one weight. ``magnitudes``: see ``MAGNITUDES``."""

    down: Any
    up: Any
    magnitudes: tuple[tuple[int, Any], ...]

    def applied(self, weight: Any, factor: float) -> Any:
        """Return ``weight`` ``[outputs, inputs]`` in fp32, changed as the package does."""
        down, up = (_like(weight, part) for part in (self.down, self.up))
        weight = torch.addmm(weight, up, down, alpha=factor)
        for over, magnitude in self.magnitudes:
            lengths = weight.norm(dim=over, keepdim=True) + EPSILON
            weight.mul_(_like(weight, magnitude).unsqueeze(over) / lengths)
        return weight


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in the host's memory; ``changes``: by layer."""

    header: AdapterHeader
    changes: Mapping[str, Change]


class Adapters:
    """Reads the adapters of one model, and merges any set of them into its weights.

    A weight is computed from a copy of what it was without adapters, which is kept for as long as
    it is changed: any set of adapters gives the same weights whatever was merged before, and none
    gives exactly those that were loaded.

    ``model``: the package's wrapper. ``folder``: files of adapters; None: there are none.
    ``on_change``: called with the layers whose weights have changed, by the package's names.
    """

    def __init__(
        self,
        variant: VariantName,
        model: Any,
        folder: Path | None,
        on_change: Callable[[AbstractSet[str]], None],
    ) -> None:
        self._variant = variant
        self._folder = folder
        self._on_change = on_change
        self._layers = {
            name: module
            for part in (model.model, model.conditioner)  # as the package's training names them
            for name, module in part.named_modules()
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d))
        }
        self._read: OrderedDict[str, Adapter] = OrderedDict()
        """By digest, the last used at the end."""
        self._bases: dict[str, Any] = {}
        """What the weights that are changed were when they were loaded."""
        self._stale: set[str] = set()
        """Layers changed since ``on_change`` was last called and did not fail."""
        self._merged: tuple[Lora, ...] | None = ()

    @property
    def merged(self) -> tuple[Lora, ...]:
        """The adapters in the weights."""
        return self._merged or ()

    def say_which_do_not_fit(self) -> None:
        """Log every file that is there and cannot be merged into this model."""
        for file in list_adapters(self._folder).values() if self._folder else ():
            try:
                self._require_fit(file)
            except GenerationError as error:
                _log.warning("%s", error.message)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Take the memory that copies of weights take once adapters of all layers are merged.

        So what is measured meanwhile holds with any adapter. Takes none without a folder.
        """
        changing = (
            module.weight
            for name, module in self._layers.items()
            if self._folder is not None and not name.startswith(LEFT_OUT)
        )
        copies = [torch.empty_like(weight) for weight in changing]
        try:
            yield
        finally:
            copies.clear()

    def read(self, loras: Sequence[Lora]) -> None:
        """Read and check ``loras``, as far as they are not known yet.

        Raises ``GenerationError`` that names the adapter and what is wrong with it, ``OSError`` if
        its file cannot be read.
        """
        for lora in loras:
            if lora.sha256 not in self._read:
                self._read[lora.sha256] = self._checked(lora)
            self._read.move_to_end(lora.sha256)
        while len(self._read) > len(loras) and self._bytes() > KEPT_BYTES:
            self._read.popitem(last=False)

    def use(self, loras: tuple[Lora, ...]) -> None:
        """Have the weights be changed by ``loras``, which were read, one after the other.

        After a failure, as of memory, the next call sets all right.
        """
        if loras == self._merged:
            return
        self._merged = None
        wanted: dict[str, list[tuple[Change, float]]] = {}
        for lora in loras:
            adapter = self._read[lora.sha256]
            for name, change in adapter.changes.items():
                factor = lora.strength * adapter.header.scale
                wanted.setdefault(name, []).append((change, factor))
        self._stale |= self._bases.keys() | wanted.keys()
        for name in self._bases.keys() - wanted.keys():
            self._layers[name].weight.copy_(self._bases[name])
            del self._bases[name]
        for name, changes in wanted.items():
            weight = self._layers[name].weight
            if name not in self._bases:
                self._bases[name] = weight.clone()
            weight.copy_(_changed(self._bases[name], changes))
        self._on_change(self._stale)
        self._stale = set()
        self._merged = loras

    def _bytes(self) -> int:
        return sum(adapter.header.size for adapter in self._read.values())

    def _checked(self, lora: Lora) -> Adapter:
        data = self._data(lora)
        described = describe(lora.name, [data])
        file = described.header
        if described.sha256 != lora.sha256:
            raise refusal(lora.name, "its file was replaced after the request: send that again")
        self._require_fit(file)
        try:
            tensors = load(data)
        except SafetensorError as error:
            raise refusal(lora.name, f"its file is damaged ({error})") from error
        changes = {}
        for name in file.layers:
            parts = {
                part: tensors[f"{name}.parametrizations.weight.0.{part}"]
                for part in ("lora_A", "lora_B", *(part for part, _ in MAGNITUDES[file.kind]))
            }
            if not all(part.isfinite().all() for part in parts.values()):
                raise refusal(lora.name, f"{name} has values that are not numbers")
            magnitudes = ((over, parts[part].flatten()) for part, over in MAGNITUDES[file.kind])
            changes[name] = Change(parts["lora_A"], parts["lora_B"], tuple(magnitudes))
        if file.left_out:
            _log.warning(
                "The adapter %s changes layers of %s, which are left as they are: with such "
                "changes, the models render silence. Train it with `--exclude seconds_total`.",
                *(lora.name, LEFT_OUT.rstrip(".")),
            )
        return Adapter(file, changes)

    def _data(self, lora: Lora) -> bytes:
        if self._folder is not None and re.fullmatch(LORA_NAME_PATTERN, lora.name):
            for file in (kept_as(lora.name, lora.sha256), f"{lora.name}{SUFFIX}"):
                with suppress(FileNotFoundError):
                    return (self._folder / file).read_bytes()
        raise refusal(lora.name, f"the node that serves {self._variant} has none of that name")

    def _require_fit(self, file: AdapterHeader) -> None:
        """Raise ``GenerationError`` unless the model has all layers of ``file``, in their sizes."""
        own = {name: module.weight.flatten(1).shape for name, module in self._layers.items()}
        unknown = [name for name in file.layers if name not in own]
        if unknown:
            raise refusal(
                file.name, f"{self._variant} does not have all of its layers ({shown(unknown)})"
            )
        other = [name for name, sizes in file.layers.items() if own[name] != sizes]
        if other:
            raise refusal(
                file.name,
                f"layers of {self._variant} have other sizes ({shown(other)}): it was trained on "
                "another model",
            )


def _changed(base: Any, changes: Sequence[tuple[Change, float]]) -> Any:
    weight = base.flatten(1).float()
    for change, factor in changes:
        if factor:  # lengths would be set even so, and the package does not
            weight = change.applied(weight, factor)
    return weight.view(base.shape)


def _like(weight: Any, part: Any) -> Any:
    # In this order: half as much goes to the device.
    return part.to(weight.device).to(weight.dtype)
