"""Synchronous HTTP client of the service."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date

import httpx

from sa_ray.client import calls
from sa_ray.client.batches import PARALLEL, BatchResult, by_threads, numbered
from sa_ray.client.calls import LONG_POLL_S, Audio
from sa_ray.client.sync_jobs import JobCalls
from sa_ray.client.wire import ApiError, Clip, clip_in, clips_in, require_one
from sa_ray.contracts import (
    GenerationRequest,
    HealthStatus,
    JobAccepted,
    JobView,
    LoraList,
    ModelList,
    PresetList,
    UploadView,
    UsageReport,
)


class Client(JobCalls):
    """Client of one service at ``base_url``; ``AsyncClient`` is the same for ``await``.

    Calls survive what passes: 429, 503, lost connections, and restarts of the service. They are
    tried again for up to ``retry_s`` seconds, with pauses as ``Retry-After`` says or else growing
    ones; ``generate`` and ``cancel`` only if the service refused them. ``timeout_s`` bounds each
    silence of a generation or download, seconds. ``api_key`` is that of a service with keys;
    default: the environment variable ``STABLE_AUDIO_API_KEY``.

    Raises ``ApiError`` for an error answer and ``httpx.TransportError`` if there is no answer. Both
    can be pickled. Threads may share a client.
    """

    def health(self) -> HealthStatus:
        """Ask how the service fares: a ``Health``, with the details, where it tells them."""
        return self._do(calls.health())

    def models(self) -> ModelList:
        """Ask which models there are, and how each fares."""
        return self._do(calls.models())

    def presets(self, model: str | None = None) -> PresetList:
        """Ask for prompts to begin with, of all models or of one, by the name of its variant."""
        return self._do(calls.presets(model))

    def loras(self, model: str | None = None) -> LoraList:
        """Ask which adapters there are, of all models or of one, by the name of its variant."""
        return self._do(calls.loras(model))

    def usage(
        self, first: date | None = None, last: date | None = None, *, key: str | None = None
    ) -> UsageReport:
        """Ask what was made from ``first`` to ``last``, days of UTC; default: the last 30.

        ``key``: the name of another key, for one with the scope ``admin``; empty: without a key.
        """
        return self._do(calls.usage(first, last, key))

    def generate(self, request: GenerationRequest) -> bytes:
        """Generate one clip and return its encoded bytes; waits until it is done.

        A connection that is lost meanwhile is an error, since a second request could do the same
        work again; a job does not have this weakness. Warns with ``ClipWarning`` of a clip without
        sound. Raises ``ValueError`` for a request of several: ``generate_all`` returns those.
        """
        require_one(request)
        return clip_in(self._do(calls.generation(request)))

    def generate_all(self, request: GenerationRequest) -> list[Clip]:
        """Generate the ``n`` clips of ``request`` as ``generate`` does; each has its warning."""
        return clips_in(self._do(calls.generation(request)))

    def edit(
        self,
        request: GenerationRequest,
        *,
        init_audio: Audio | None = None,
        inpaint_audio: Audio | None = None,
        continue_audio: Audio | None = None,
    ) -> bytes:
        """Upload one file, by path or bytes, and generate from it, as ``generate`` does.

        ``init_audio`` is made anew as a whole, ``inpaint_audio`` in the request's ``regions``, and
        ``continue_audio`` is gone on from. Raises ``ValueError`` unless there is one of them.
        """
        require_one(request)
        name, audio = calls.source(init_audio, inpaint_audio, continue_audio)
        edited = request.model_copy(update={name: self.upload(audio).id})
        return clip_in(self._do(calls.generation(edited)))

    def upload(self, audio: Audio) -> UploadView:
        """Send a file of audio, by path or bytes; requests can name it by the answer's ``id``.

        However often it has to be sent, it is stored once.
        """
        return self._do(calls.upload(audio))

    def submit(
        self,
        request: GenerationRequest,
        *,
        idempotency_key: str | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | Sequence[str] | None = None,
    ) -> JobAccepted:
        """Submit a job. However often it has to be tried, one job comes of it.

        ``idempotency_key``: one of the caller's own (1 to 255 characters), which finds the same job
        again in a later call too. ``webhook_url`` is called once the job has ended, signed by
        ``webhook_secret`` (one, or the new and the old one) or by the operator's; both may be
        fields of a ``JobRequest`` instead.
        """
        return self._do(calls.submission(request, idempotency_key, webhook_url, webhook_secret))

    def submit_batch(
        self, requests: Sequence[GenerationRequest], *, idempotency_key: str | None = None
    ) -> list[JobAccepted | ApiError]:
        """Submit up to 1,000 jobs; return for each, in order, the job or why there is none.

        However often it has to be tried, one job comes of each. Those refused for now (``status``
        429 or 503) make one when the batch is sent again with its ``idempotency_key``.
        """
        return self._do(calls.submissions(requests, idempotency_key))

    @contextmanager
    def batch(
        self,
        requests: Iterable[GenerationRequest],
        *,
        parallel: int = PARALLEL,
        idempotency_key: str | None = None,
    ) -> Iterator[Iterator[BatchResult]]:
        """Have a job made of each of ``requests``; gives the results as they come, not in order.

        ``with client.batch(requests) as results: ...``. No more than ``parallel`` jobs are under
        way at once, and ``requests`` are taken as that goes on, so there may be any number. What
        fails stops none of the others. Jobs that are under way when the block is left are made all
        the same. With an ``idempotency_key``, which may be 240 characters long, the same batch
        finds its jobs again.
        """
        left = threading.Event()

        def heed(_: JobView | None) -> None:
            if left.is_set():
                raise RuntimeError("the batch was left")  # ends the thread, and is not heard

        def make(index: int, request: GenerationRequest) -> BatchResult:
            heed(None)
            key = idempotency_key and f"{idempotency_key}-{index}"
            try:
                accepted = self.submit(request, idempotency_key=key)
                return BatchResult(index, request, self._wait(accepted.id, LONG_POLL_S, heed))
            except (ApiError, httpx.TransportError) as error:
                return BatchResult(index, request, error=error)

        results = by_threads(make, numbered(requests, parallel), parallel)
        try:
            with closing(results):
                yield results
        finally:
            left.set()
