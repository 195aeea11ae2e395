"""Adapters in a folder and in a bucket: found, described, listed, and held on a node."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3.session
import pytest
from botocore.config import Config

from sa_ray.contracts import Lora, LoraRequest, VariantName
from sa_ray.engines.adapters import kept_as
from sa_ray.errors import GenerationError, InvalidRequestError, ObjectStoreError
from sa_ray.serving.ingress.adapters import ClientAdapters
from sa_ray.serving.variant.adapters import HeldAdapters
from sa_ray.storage import AdapterFiles, StoredAdapter, open_adapters
from tests.support.adapter_files import QKV, SECONDS, tensors, written
from tests.support.object_stores import s3_settings
from tests.support.s3_server import S3Server
from tests.support.secret_settings import settings_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RAIN = written(tensors(QKV), {"rank": 2})
WIND = written(tensors(QKV, rank=3) | tensors(SECONDS, 8, 6, rank=3))

Put = Callable[[str, bytes], None]
"""``put(path, data)``: below ``STABLE_AUDIO_LORA_DIR``."""


class Counting:
    """Adapters that count what is read of them."""

    def __init__(self, files: AdapterFiles) -> None:
        self._files = files
        self.read_names: list[str] = []

    @property
    def folder(self) -> Path | None:
        return self._files.folder

    @property
    def fault(self) -> str | None:
        return self._files.fault

    def all(self, variant: VariantName) -> list[StoredAdapter]:
        return self._files.all(variant)

    def find(self, variant: VariantName, name: str) -> StoredAdapter | None:
        return self._files.find(variant, name)

    def read(self, adapter: StoredAdapter) -> Iterator[bytes]:
        self.read_names.append(adapter.name)
        return self._files.read(adapter)


@pytest.fixture(scope="module")
def s3_client(s3_server: S3Server) -> "S3Client":
    return boto3.session.Session().client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(s3_server: S3Server, s3_client: "S3Client") -> tuple[AdapterFiles, Put]:
    """Adapters of a bucket beside a folder of audio, so that the keys are for them alone."""
    prefix = f"loras/{uuid4().hex}"
    settings = s3_settings(s3_server, lora_dir=f"s3://adapters/{prefix}", storage_bucket=None)

    def put(path: str, data: bytes) -> None:
        s3_client.put_object(Bucket="adapters", Key=f"{prefix}/{path}", Body=data)

    files = open_adapters(settings_of(settings).storage)
    assert files is not None
    return files, put


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[AdapterFiles, Put]:
    if request.param == "bucket":
        found: tuple[AdapterFiles, Put] = request.getfixturevalue("bucket")
        return found
    root = tmp_path / "loras"

    def put(path: str, data: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        aside = tmp_path / uuid4().hex
        aside.write_bytes(data)
        aside.replace(root / path)

    root.mkdir()
    files = open_adapters(settings_of({"lora_dir": str(root)}).storage)
    assert files is not None
    return files, put


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """The files below ``folder``, by name."""
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return {path.name: path.read_bytes() for path in found}


def asked(**strengths: float) -> list[LoraRequest]:
    return [LoraRequest(name=name, strength=value) for name, value in strengths.items()]


def lora(name: str, data: bytes) -> Lora:
    return Lora(name=name, strength=1.0, sha256=hashlib.sha256(data).hexdigest())


async def test_adapters_are_listed_with_what_they_are(place: tuple[AdapterFiles, Put]) -> None:
    files, put = place
    put("small-sfx/wind.safetensors", WIND)
    put("small-sfx/rain.safetensors", RAIN)
    put("small-sfx/broken.safetensors", b"not an adapter")
    put("small-sfx/pickled.ckpt", RAIN)
    put("small-sfx/two words.safetensors", RAIN)
    put("small-sfx/deeper/hail.safetensors", RAIN)
    put("medium/snow.safetensors", RAIN)

    rain, wind = await ClientAdapters(files).listed("small-sfx")

    assert (rain.name, rain.model, rain.size_bytes) == ("rain", "small-sfx", len(RAIN))
    assert (rain.kind, rain.rank, rain.note) == ("lora", 2, None)
    assert rain.sha256 == hashlib.sha256(RAIN).hexdigest()
    assert (wind.name, wind.rank) == ("wind", 3)
    assert wind.note
    assert wind.note.startswith("1 of its layers, those of conditioners.seconds_total, are not")
    assert await ClientAdapters(files).listed("small-music") == []


async def test_a_request_names_a_set_whatever_its_order(place: tuple[AdapterFiles, Put]) -> None:
    files, put = place
    for name in ("rain", "wind", "hail"):
        put(f"small-sfx/{name}.safetensors", RAIN if name == "rain" else WIND)
    adapters = ClientAdapters(files)

    found = await adapters.resolved(asked(wind=-0.5, hail=0.0, rain=2.0), "small-sfx")

    assert found == (
        lora("rain", RAIN).model_copy(update={"strength": 2.0}),
        lora("wind", WIND).model_copy(update={"strength": -0.5}),
    )
    assert await adapters.resolved([], "small-sfx") == ()


async def test_a_name_that_is_not_there_is_refused_with_those_that_are(
    place: tuple[AdapterFiles, Put],
) -> None:
    files, put = place
    put("small-sfx/rain.safetensors", RAIN)
    put("small-sfx/broken.safetensors", b"not an adapter")
    adapters = ClientAdapters(files)

    async def refusal(variant: VariantName, names: list[str]) -> InvalidRequestError:
        with pytest.raises(InvalidRequestError) as raised:
            await adapters.resolved([LoraRequest(name=name) for name in names], variant)
        return raised.value

    absent = await refusal("small-sfx", ["rain", "absent"])
    assert absent.param == "loras.1.name"
    assert "no adapter absent for small-sfx. There are broken, rain; GET /v1/" in absent.message
    assert "There are none; GET" in (await refusal("medium", ["rain"])).message
    twice = await refusal("small-sfx", ["rain", "rain"])
    assert (twice.param, "twice" in twice.message) == ("loras.1.name", True)
    broken = await refusal("small-sfx", ["broken"])
    assert broken.param == "loras.0.name"
    assert "The adapter broken cannot be used: its file is not one of safetens" in broken.message


async def test_a_file_is_read_once_and_again_when_it_was_replaced(
    place: tuple[AdapterFiles, Put],
) -> None:
    found, put = place
    files = Counting(found)
    put("small-sfx/rain.safetensors", RAIN)
    put("small-sfx/broken.safetensors", b"not an adapter")
    adapters = ClientAdapters(files)

    for _ in range(2):
        await adapters.listed("small-sfx")
        both = (adapters.resolved(asked(rain=1.0), "small-sfx") for _ in range(3))
        ((before,), *_) = await asyncio.gather(*both)
    assert sorted(files.read_names) == ["broken", "rain"]

    put("small-sfx/rain.safetensors", WIND)
    (after,) = await adapters.resolved(asked(rain=1.0), "small-sfx")

    assert (before, after) == (lora("rain", RAIN), lora("rain", WIND))
    assert sorted(files.read_names) == ["broken", "rain", "rain"]


async def test_without_the_setting_there_are_no_adapters() -> None:
    adapters = ClientAdapters(open_adapters(settings_of({}).storage))

    with pytest.raises(InvalidRequestError) as refusal:
        await adapters.resolved(asked(rain=1.0), "small-sfx")

    assert refusal.value.param == "loras"
    assert "there are no adapters here: STABLE_AUDIO_LORA_DIR is not set" in refusal.value.message
    assert await adapters.listed("small-sfx") == []


async def test_a_folder_that_is_missing_is_said_at_start_and_to_whoever_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of({"lora_dir": str(tmp_path / "absent")}).storage
    with caplog.at_level(logging.WARNING):
        adapters = ClientAdapters(open_adapters(settings))

    with pytest.raises(InvalidRequestError, match="is not a folder on the node that") as refusal:
        await adapters.resolved(asked(rain=1.0), "small-sfx")

    assert str(tmp_path) not in refusal.value.message
    assert "STABLE_AUDIO_LORA_DIR names is not a folder" in caplog.text
    assert await adapters.listed("small-sfx") == []


async def test_a_bucket_that_is_away_is_an_error_that_passes(tmp_path: Path) -> None:
    settings = {
        "lora_dir": "s3://adapters",
        "storage_endpoint_url": "http://127.0.0.1:9",
        "storage_access_key_id": "a",
        "storage_secret_access_key": "b",
    }
    files = open_adapters(settings_of(settings).storage)

    with pytest.raises(ObjectStoreError, match="STABLE_AUDIO_LORA_DIR") as fault:
        await ClientAdapters(files).resolved(asked(rain=1.0), "small-sfx")
    assert fault.value.transient
    with pytest.raises(ObjectStoreError) as fault:
        async with HeldAdapters("small-sfx", files, tmp_path).held([lora("rain", RAIN)]):
            pass
    assert fault.value.transient


async def test_files_of_a_folder_stay_where_they_are(tmp_path: Path) -> None:
    files = open_adapters(settings_of({"lora_dir": str(tmp_path)}).storage)
    held = HeldAdapters("small-sfx", files, tmp_path / "cache")

    async with held.held([lora("rain", RAIN)]):
        assert held.folder == tmp_path
    assert not (tmp_path / "cache").exists()
    assert HeldAdapters("small-sfx", None, tmp_path / "cache").folder is None


async def test_objects_lie_on_the_node_while_they_are_held(
    bucket: tuple[AdapterFiles, Put], tmp_path: Path
) -> None:
    found, put = bucket
    files = Counting(found)
    put("small-sfx/rain.safetensors", RAIN)
    put("small-sfx/wind.safetensors", WIND)
    rain, wind = lora("rain", RAIN), lora("wind", WIND)
    held = HeldAdapters("small-sfx", files, tmp_path)

    async def use() -> None:
        async with held.held([rain, wind]):
            for one, data in ((rain, RAIN), (wind, WIND)):
                copy = tmp_path / "small-sfx" / kept_as(one.name, one.sha256)
                assert copy.read_bytes() == data

    await asyncio.gather(use(), use())
    await use()

    assert held.folder == tmp_path
    assert files.read_names == ["rain", "wind"]


async def test_an_object_that_was_replaced_or_removed_since_is_refused(
    bucket: tuple[AdapterFiles, Put], tmp_path: Path
) -> None:
    files, put = bucket
    put("small-sfx/rain.safetensors", WIND)
    held = HeldAdapters("small-sfx", files, tmp_path)

    with pytest.raises(GenerationError, match="was replaced after the request: send that again"):
        async with held.held([lora("rain", RAIN)]):
            pass
    with pytest.raises(GenerationError, match="was removed after the request"):
        async with held.held([lora("absent", RAIN)]):
            pass

    assert contents(tmp_path, "*") == {}


async def test_a_copy_outlives_the_object_that_it_was_made_of(
    bucket: tuple[AdapterFiles, Put], tmp_path: Path
) -> None:
    files, put = bucket
    put("small-sfx/rain.safetensors", RAIN)
    held = HeldAdapters("small-sfx", files, tmp_path)
    async with held.held([lora("rain", RAIN)]):
        pass

    put("small-sfx/rain.safetensors", WIND)
    async with held.held([lora("rain", RAIN)]), held.held([lora("rain", WIND)]):
        kept = contents(tmp_path, "*.safetensors").values()

    assert set(kept) == {RAIN, WIND}


async def test_what_was_not_used_for_longest_makes_room_unless_another_replica_holds_it(
    bucket: tuple[AdapterFiles, Put], tmp_path: Path
) -> None:
    files, put = bucket
    names = ("a", "b", "c", "d")
    loras = {name: lora(name, RAIN) for name in names}
    for name in names:
        put(f"small-sfx/{name}.safetensors", RAIN)
    one = HeldAdapters("small-sfx", files, tmp_path, max_bytes=2 * len(RAIN))
    other = HeldAdapters("small-sfx", files, tmp_path, max_bytes=2 * len(RAIN))

    def kept() -> set[str]:
        return {name[0] for name in contents(tmp_path, "*.safetensors")}

    async with other.held([loras["a"]]):
        for name in ("b", "c"):
            async with one.held([loras[name]]):
                pass
        assert kept() == {"a", "c"}
    async with one.held([loras["d"]]):
        assert kept() == {"c", "d"}
