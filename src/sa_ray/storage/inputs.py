"""Keep audio that clients have sent, for as long as it is wanted.

Beside the audio, at ``uploads/<id>.flac``, is its record, at ``uploads/<id>.json``, and, if it
carries a C2PA manifest, the file as it was sent, at ``uploads/<id>.sent``: what is known of an
upload is in the object store alone.
"""

import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Final

from pydantic import ValidationError

from sa_ray.contracts import MEDIA_TYPES, SAMPLE_RATE, MarkedFile, ReadAudio, Upload
from sa_ray.errors import ObjectStoreError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.keys import prefixed
from sa_ray.storage.port import ObjectStore

FOLDER: Final = "uploads"

MAX_GRACE_S: Final = 3600.0
"""Most seconds for which an expired upload is kept: a request that named it in time is a job, or
done, by then."""

MAX_DUE: Final = 1000
"""Uploads of one round of the sweep, so that it ends in time whatever there is."""

MAX_SKEW_S: Final = 60.0
"""Between the clock of the object store and ours, seconds."""

_OWN_NAME: Final = re.compile(r"([0-9a-f]{64})\.(?:flac|json|sent)")
"""Names of the objects of an upload, by its id."""

_LOCKS: Final = 64


class Inputs:
    """The uploads in ``store``. Methods block; call them from threads.

    Every method may raise ``ObjectStoreError``. ``clock`` returns Unix seconds. What one instance
    does to an upload happens one after the other; those of other processes are told apart by the
    grace between its expiry and its deletion.
    """

    def __init__(
        self,
        settings: StorageSettings,
        store: ObjectStore,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        local = settings.storage_backend == "local"
        self._folder = FOLDER if local else prefixed(settings, FOLDER)
        self._ttl_s = settings.upload_ttl
        self._grace_s = min(settings.upload_ttl, MAX_GRACE_S)
        self._clock = clock
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def find(self, upload_id: str) -> Upload | None:
        """Return the upload, unless there is none or it has expired."""
        upload = self._record(upload_id)
        return upload if upload and self._clock() < upload.expires_at else None

    def keep(
        self,
        upload_id: str,
        read: ReadAudio,
        size_bytes: int,
        audio: bytes,
        sent: bytes | None = None,
        owner: str = "",
    ) -> Upload:
        """Store ``audio``, the stored form of a file of ``size_bytes``, for the time to live.

        ``sent``: the file itself, if it carries a C2PA manifest.
        """
        with self._lock(upload_id):
            known = self.find(upload_id)
            marked = None if sent is None else self._keep_sent(upload_id, read, sent)
            stored = self._store.put(
                self._audio_key(upload_id),
                audio,
                content_type=MEDIA_TYPES["flac"],
                filename=f"{upload_id}.flac",
            )
            upload = Upload(
                **read.model_dump(),
                id=upload_id,
                object=stored,
                marked=marked,
                seconds=read.frames / SAMPLE_RATE,
                size_bytes=size_bytes,
                expires_at=0,
                owners=known.owners if known else (),
            )
            return self._renewed(upload, owner)

    def renew(self, upload_id: str, owner: str = "") -> Upload | None:
        """Have the upload live on as if it were new, as ``owner``'s too; None if it has expired or
        its audio is gone.

        Its audio goes first, if anything is deleted by others: it has to be sent again then.
        """
        with self._lock(upload_id):
            upload = self.find(upload_id)
            if upload is None:
                return None
            kept = [upload.object, *([upload.marked.object] if upload.marked else [])]
            if any(self._store.size(one.key) != one.size for one in kept):
                return None
            return self._renewed(upload, owner)

    def remove(self, upload_id: str, owner: str | None = None) -> None:
        """Delete the upload, whether or not it has expired; no error if it is gone.

        ``owner``: whose it is no more; it stays where it is others' too. None: whoever's.
        """
        with self._lock(upload_id):
            upload = self.find(upload_id) if owner is not None else None
            others = [one for one in upload.owners if one != owner] if upload else []
            if upload and others:
                self._write(upload.model_copy(update={"owners": tuple(others)}))
            else:
                self._delete(upload_id)

    def due(self) -> list[str]:
        """Return the ids of uploads that are to be deleted, ``MAX_DUE`` at most."""
        newest: dict[str, float] = {}
        for item in self._store.objects(self._folder):
            # The folder may hold what is somebody else's.
            if named := _OWN_NAME.fullmatch(item.key.rpartition("/")[2]):
                upload_id = named[1]
                newest[upload_id] = max(item.modified_at, newest.get(upload_id, 0.0))
        # A record is written when its upload is renewed: no need to read those of young ones.
        age = self._ttl_s + self._grace_s - MAX_SKEW_S
        old = ((one, at) for one, at in newest.items() if self._clock() - at >= age)
        return list(islice((one for one, at in old if self._is_due(one, at)), MAX_DUE))

    def sweep(self, due: Collection[str], pinned: Collection[str]) -> None:
        """Delete those of the uploads ``due`` that are still due.

        ``pinned``: keys of audio that unfinished jobs are made from, which stays.
        """
        for upload_id in due:
            with self._lock(upload_id):
                if self._audio_key(upload_id) not in pinned and self._is_due(upload_id, 0.0):
                    self._delete(upload_id)

    def _is_due(self, upload_id: str, modified_at: float) -> bool:
        """``modified_at``: age of what has no record."""
        upload = self._record(upload_id)
        expired_at = upload.expires_at if upload else modified_at + self._ttl_s
        return self._clock() >= expired_at + self._grace_s

    def _record(self, upload_id: str) -> Upload | None:
        key = self._record_key(upload_id)
        if self._store.size(key) is None:
            return None
        try:
            return Upload.model_validate_json(b"".join(self._store.read(key)))
        except ValidationError:  # of another release: sent again, it is replaced
            return None

    def _renewed(self, upload: Upload, owner: str) -> Upload:
        upload = upload.model_copy(
            update={
                "expires_at": self._clock() + self._ttl_s,
                "owners": tuple(sorted({*upload.owners, owner})),
            }
        )
        self._write(upload)
        return upload

    def _write(self, upload: Upload) -> None:
        self._store.put(
            self._record_key(upload.id),
            upload.model_dump_json().encode(),
            content_type="application/json",
            filename=f"{upload.id}.json",
        )

    def _keep_sent(self, upload_id: str, read: ReadAudio, sent: bytes) -> MarkedFile | None:
        if read.format == "aiff":  # C2PA has no place for a manifest in it
            return None
        stored = self._store.put(
            self._sent_key(upload_id),
            sent,
            content_type=MEDIA_TYPES[read.format],
            filename=f"{upload_id}.{read.format}",
        )
        return MarkedFile(object=stored, format=read.format)

    def _delete(self, upload_id: str) -> None:
        # The record first: what is found has its audio. Audio that is left without is due in time.
        keys = (self._record_key(upload_id), self._audio_key(upload_id), self._sent_key(upload_id))
        for key in keys:
            failures: Mapping[str, ObjectStoreError] = self._store.delete([key])
            for failure in failures.values():
                raise failure

    def _audio_key(self, upload_id: str) -> str:
        return f"{self._folder}/{upload_id}.flac"

    def _sent_key(self, upload_id: str) -> str:
        return f"{self._folder}/{upload_id}.sent"

    def _record_key(self, upload_id: str) -> str:
        return f"{self._folder}/{upload_id}.json"

    def _lock(self, upload_id: str) -> threading.Lock:
        return self._locks[hash(upload_id) % _LOCKS]
