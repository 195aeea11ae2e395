"""Synchronous generation: wait for a variant, and try once more if its replica dies."""

import asyncio
import time
from typing import Any, cast

from ray.serve.handle import DeploymentHandle, DeploymentResponse

from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.errors import (
    InfrastructureError,
    OverloadedError,
    ReplicaBrokenError,
    SaRayError,
)
from sa_ray.jobs import UsageMeter
from sa_ray.serving.ingress.health import REFRESH_PERIOD_S, HealthMonitor
from sa_ray.serving.messages import EncodedAudio
from sa_ray.serving.metrics import AUDIO_SECONDS, key_label
from sa_ray.serving.ray_errors import cannot_serve, translate
from sa_ray.serving.rerouting import rerouted
from sa_ray.telemetry import current_traceparent

SYNC_ATTEMPTS = 2
"""A synchronous request whose replica died is tried once more while its client still waits."""

REPLACEMENT_PERIOD_S = 1.0
"""Between two calls while the only replica is to be replaced. It has not touched the request, so no
attempt counts. Serve takes three health checks to give it up."""

REPLACEMENT_TIMEOUT_S = 60.0
"""Time for a broken replica to be replaced, which it is not while there is no head. Then it counts
as lost."""

PLACE_PERIOD_S = 0.1
"""Between two calls of a request that was turned away while all places are taken."""


class SyncGeneration:
    """Calls variants for clients that wait."""

    def __init__(
        self,
        variants: dict[VariantName, DeploymentHandle[Any]],
        health: HealthMonitor,
        usage: UsageMeter,
    ) -> None:
        self._variants = variants
        self._health = health
        self._usage = usage

    def accepted_seconds(self, owner: str, day: str) -> float:
        """Return those of this replica that are not handed over yet."""
        return sum(row.accepted_seconds for row in self._usage.counted(owner, day))

    async def generate(self, request: ResolvedRequest, owner: str = "") -> list[EncodedAudio]:
        """Have the variant make the clips of ``request`` while the caller waits; cancelling cancels
        the work. It counts for the key ``owner``.

        Raises ``UnavailableError`` if the variant has no replica and gets none, and other errors of
        the call as ``translate`` returns them.
        """
        if self._health.variant(request.model).state == "unavailable":
            raise cannot_serve(request.model)
        asked, now = request.n * request.duration, time.time()
        self._usage.add(owner, request.model, now, accepted_seconds=asked)
        try:
            clips = await self._made(request, owner)
        except BaseException:
            self._usage.add(owner, request.model, now, accepted_seconds=-asked)
            raise
        seconds = sum(clip.info.duration for clip in clips)
        self._usage.add(owner, request.model, requests=1, clips=len(clips), audio_seconds=seconds)
        AUDIO_SECONDS.add(seconds, key=key_label(owner), variant=request.model)
        return clips

    async def _made(self, request: ResolvedRequest, owner: str) -> list[EncodedAudio]:
        # Replicas of a release without keys take no owner.
        of_whom = [owner] if owner else []
        request = request.traced(current_traceparent())
        attempts, began = 0, time.monotonic()
        while True:
            try:
                made = await rerouted(
                    request,
                    self._health.variant(request.model).replicas,
                    lambda request: self._called(request, of_whom),
                    lambda request, until: self._placed(request, of_whom, until),
                )
                return [made] if request.n == 1 else made
            except Exception as error:
                reason: SaRayError = translate(error)
                broken = isinstance(reason, ReplicaBrokenError)
                if broken and time.monotonic() - began < REPLACEMENT_TIMEOUT_S:
                    if self._health.given_up(request.model):
                        raise cannot_serve(request.model) from error
                    await asyncio.sleep(REPLACEMENT_PERIOD_S)
                    continue
                attempts += 1
                if not isinstance(reason, InfrastructureError) or attempts == SYNC_ATTEMPTS:
                    raise reason from error

    async def _placed(self, request: ResolvedRequest, of_whom: list[str], until: float) -> Any:
        """Call the variant for ``request``, which has been turned away and had its place before:
        until ``until``, Unix seconds, that others have taken all places is no reason to refuse."""
        while True:
            try:
                return await self._called(request, of_whom)
            except Exception as error:
                reason = translate(error)
                if not isinstance(reason, OverloadedError) or time.time() > until:
                    raise reason from error
            await asyncio.sleep(PLACE_PERIOD_S)

    async def _called(self, request: ResolvedRequest, of_whom: list[str]) -> Any:
        variant = self._variants[request.model]
        # Replicas of a release that makes one clip have no other method.
        call = variant.generate if request.n == 1 else variant.generate_all
        response = cast(DeploymentResponse[Any], call.remote(request, *of_whom))
        try:
            return await self._answer(request.model, response)
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]
            raise

    async def _answer(self, variant: VariantName, response: DeploymentResponse[Any]) -> Any:
        """Await ``response``. Raises ``UnavailableError`` once no replica can be had to give it.

        Serve keeps a request that waits for a first replica even after it has stopped trying to
        start one.
        """
        answer = asyncio.ensure_future(_value(response))
        try:
            while not (await asyncio.wait({answer}, timeout=REFRESH_PERIOD_S))[0]:
                if self._health.given_up(variant):
                    response.cancel()  # type: ignore[no-untyped-call]
                    raise cannot_serve(variant)
            return await answer
        finally:
            answer.cancel()


async def _value(response: DeploymentResponse[Any]) -> Any:
    return await response
