"""What a variant's replica hands over, as it arrives in another process."""

import copy
import io
import pickle
import zipfile

from sa_ray.contracts import MEDIA_TYPES
from sa_ray.serving.ingress.packing import in_parts, zipped
from sa_ray.serving.messages import EncodedAudio
from tests.support.jobs import RESULT
from tests.unit.test_variations import clips_of, request

FILE = bytes(range(256)) * 4_000


def arrived(sent: EncodedAudio) -> EncodedAudio:
    """What Ray makes of ``sent`` in another process."""
    buffers: list[pickle.PickleBuffer] = []
    told = pickle.dumps(sent, protocol=5, buffer_callback=buffers.append)
    received = [memoryview(buffer.raw().tobytes()) for buffer in buffers]
    audio: EncodedAudio = pickle.loads(told, buffers=received)  # noqa: S301 - our own
    return audio


def test_a_file_is_no_part_of_the_pickle() -> None:
    sent = EncodedAudio(FILE, RESULT.audio, 0.5)
    buffers: list[pickle.PickleBuffer] = []

    told = pickle.dumps(sent, protocol=5, buffer_callback=buffers.append)

    assert len(told) < 2_000
    [buffer] = buffers
    assert buffer.raw().obj is FILE
    audio = pickle.loads(told, buffers=[FILE])  # noqa: S301 - our own
    assert audio == sent


def test_a_file_that_has_arrived_can_go_through_serves_own_proxy() -> None:
    audio = arrived(EncodedAudio(FILE, RESULT.audio, 0.5))

    assert pickle.loads(pickle.dumps(audio.data)) == FILE  # noqa: S301 - our own


def test_a_file_is_whole_also_where_nothing_goes_out_of_band() -> None:
    sent = EncodedAudio(FILE, RESULT.audio, 0.5)

    assert pickle.loads(pickle.dumps(sent, protocol=5)) == sent  # noqa: S301 - our own
    assert copy.copy(sent) == sent
    assert arrived(arrived(sent)) == sent


def test_what_a_replica_of_the_deploy_before_sends_is_read() -> None:
    audio = EncodedAudio.__new__(EncodedAudio)

    audio.__setstate__([FILE, RESULT.audio])

    assert audio == EncodedAudio(FILE, RESULT.audio, 0.0)


def test_files_that_have_arrived_are_packed_as_they_are() -> None:
    sent = clips_of([7, 8])
    clips = [arrived(clip) for clip in sent]

    body = b"".join(zipped(request(2), clips).pieces)
    parts = in_parts(request(2), clips)

    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert [archive.read(name) for name in archive.namelist()[:2]] == [
            clip.data for clip in sent
        ]
    assert all(clip.data in b"".join(parts.pieces) for clip in sent)
    assert MEDIA_TYPES["wav"].encode() in b"".join(parts.pieces)
