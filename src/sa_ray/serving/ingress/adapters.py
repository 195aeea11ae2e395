"""Adapters (LoRA) as clients name them: found among the files that are there, and listed."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Final, TypeVar

from sa_ray.contracts import Lora, LoraRequest, LoraView, VariantName
from sa_ray.engines.adapters import LEFT_OUT, MAX_BYTES, describe, refusal
from sa_ray.errors import GenerationError, InvalidRequestError
from sa_ray.storage import AdapterFiles, StoredAdapter

logger = logging.getLogger(__name__)

THREADS: Final = 4

KEPT: Final = 4096
"""Files of which is kept what they are."""

SHOWN: Final = 20
"""Most names in a message."""

_NOT_SET: Final = "STABLE_AUDIO_LORA_DIR is not set"

T = TypeVar("T")


class ClientAdapters:
    """What clients may know of ``files``; None: there are none. For one event loop.

    Each file is read once, piece by piece, for its digest; it is read again when it has been
    replaced.
    """

    def __init__(self, files: AdapterFiles | None) -> None:
        self._files = files
        self._threads = ThreadPoolExecutor(THREADS, "adapters")
        self._lock = Lock()
        self._kept: OrderedDict[tuple[VariantName, str], tuple[str, LoraView | GenerationError]] = (
            OrderedDict()
        )
        """What each file is, or why it cannot be used, and the version that was read."""
        self._asking: dict[tuple[VariantName, str], asyncio.Task[Any]] = {}
        if files is not None and (fault := files.fault):
            logger.warning("There are no adapters: %s.", fault)

    async def resolved(
        self, asked: Sequence[LoraRequest], variant: VariantName
    ) -> tuple[Lora, ...]:
        """Return the adapters that ``asked`` names: by name, each once, none of strength 0.

        Raises ``InvalidRequestError`` if there is none of a name or it cannot be used,
        ``ObjectStoreError`` if they cannot be read now.
        """
        found: dict[str, Lora] = {}
        named: set[str] = set()
        for place, one in enumerate(asked):
            field = f"loras.{place}.name"
            if one.name in named:
                raise InvalidRequestError(
                    f"{field}: {one.name} is there twice. Name it once.",
                    param=field,
                )
            named.add(one.name)
            view = await self._view(field, variant, one.name)
            if one.strength:
                found[one.name] = Lora(name=one.name, strength=one.strength, sha256=view.sha256)
        return tuple(found[name] for name in sorted(found))

    async def listed(self, variant: VariantName) -> list[LoraView]:
        """Return the adapters for ``variant`` that can be used; the others are in the log."""
        files = self._files
        if files is None:
            return []

        def every() -> list[LoraView]:
            views = [self._described(files, one) for one in files.all(variant)]
            return [view for view in views if isinstance(view, LoraView)]

        return await self._shared((variant, ""), every)

    async def _view(self, field: str, variant: VariantName, name: str) -> LoraView:
        files = self._files
        if files is None:
            raise _none_here(_NOT_SET)

        def one() -> LoraView | GenerationError | None:
            stored = files.find(variant, name)
            return self._described(files, stored) if stored else None

        view = await self._shared((variant, name), one)
        if isinstance(view, GenerationError):
            raise InvalidRequestError(f"{field}: {view.message}", param=field)
        if view is None:
            fault, every = await self._threaded(lambda: (files.fault, files.all(variant)))
            if fault:
                raise _none_here(fault)
            names = ", ".join(one.name for one in every[:SHOWN])
            there = f"There are {names}{', ...' if len(every) > SHOWN else ''}"
            raise InvalidRequestError(
                f"{field}: there is no adapter {name} for {variant}. "
                f"{there if names else 'There are none'}; GET /v1/loras lists them.",
                param=field,
            )
        return view

    def _described(self, files: AdapterFiles, stored: StoredAdapter) -> LoraView | GenerationError:
        key = stored.variant, stored.name
        with self._lock:
            version, view = self._kept.get(key, (None, None))
            if view is not None and version == stored.version:
                self._kept.move_to_end(key)
                return view
        try:
            view = _view_of(files, stored)
        except GenerationError as error:
            logger.warning("%s (for %s)", error.message, stored.variant)
            view = error
        with self._lock:
            self._kept[key] = stored.version, view
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return view

    async def _shared(self, key: tuple[VariantName, str], work: Callable[[], T]) -> T:
        """Do ``work`` once for all who ask meanwhile; it goes on if they stop waiting."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._threaded(work))
            task.add_done_callback(lambda _: self._asking.pop(key))
        return await asyncio.shield(task)

    async def _threaded(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _none_here(reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"loras: there are no adapters here: {reason}. Leave it out.", param="loras"
    )


def _view_of(files: AdapterFiles, stored: StoredAdapter) -> LoraView:
    if stored.size > MAX_BYTES:
        raise refusal(stored.name, f"its file is larger than {MAX_BYTES >> 20} MiB")
    described = describe(stored.name, files.read(stored))
    file = described.header
    unused = (
        f"{len(file.left_out)} of its layers, those of {LEFT_OUT.rstrip('.')}, are not used: with "
        "such changes, the models render silence."
    )
    return LoraView(
        name=file.name,
        model=stored.variant,
        size_bytes=file.size,
        sha256=described.sha256,
        kind=file.kind,
        rank=file.rank,
        note=unused if file.left_out else None,
    )
