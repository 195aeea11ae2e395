"""Files of adapters, read by their headers: what can be merged, and why the rest cannot."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sa_ray.engines.adapters import AdapterHeader, describe, list_adapters
from sa_ray.errors import GenerationError
from tests.support.adapter_files import OUT, QKV, SECONDS, key, tensors, written


def described(data: bytes) -> AdapterHeader:
    return describe("warm", [data]).header


def test_the_header_says_what_an_adapter_changes() -> None:
    shapes = tensors(QKV) | tensors(OUT, 4, 4) | tensors(SECONDS, 8, 6)
    data = written(shapes, {"rank": 2, "alpha": 3, "adapter_type": "lora", "include": None})

    found = described(data)

    assert (found.name, found.size) == ("warm", len(data))
    assert (found.kind, found.rank, found.scale) == ("lora", 2, 1.5)
    assert found.layers == {QKV: (12, 4), OUT: (4, 4)}
    assert found.left_out == (SECONDS,)


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_a_file_may_come_in_pieces_of_any_size(size: int) -> None:
    data = written(tensors(QKV), {"rank": 2})

    found = describe("warm", (data[at : at + size] for at in range(0, len(data), size)))

    assert found.header == described(data)
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("config", [None, {}, {"adapter_type": "lora"}])
def test_without_a_config_the_rank_is_that_of_the_matrices(config: Any) -> None:
    found = described(written(tensors(QKV), config))

    assert (found.kind, found.rank, found.scale) == ("lora", 2, 1.0)


@pytest.mark.parametrize(
    ("named", "parts", "kind"),
    [
        ("dora-rows", {"magnitude": [12]}, "dora-rows"),
        ("dora-cols", {"magnitude": [4]}, "dora-cols"),
        ("bora", {"magnitude_r": [12], "magnitude_c": [4]}, "bora"),
        ("dora", {"magnitude": [12]}, "dora-rows"),
        ("dora", {"magnitude": [12, 1]}, "dora-rows"),
        ("dora", {"magnitude": [1, 4]}, "dora-cols"),
    ],
)
def test_kinds_that_set_lengths_have_them_for_each_layer(
    named: str, parts: dict[str, list[int]], kind: str
) -> None:
    lengths = {key(QKV, part): shape for part, shape in parts.items()}

    found = described(written(tensors(QKV) | lengths, {"adapter_type": named}))

    assert (found.kind, found.layers) == (kind, {QKV: (12, 4)})


WHOLE = written(tensors(QKV))
NO_LENGTHS = "a layer of dora-rows has lora_A, lora_B, magnitude, but .*to_qkv has lora_A, lora_B"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not one of safetensors"),
        (b"PK\x03\x04 a pickle in a zip", "not one of safetensors"),
        ((2**63).to_bytes(8, "little"), "not one of safetensors"),
        ((10**5).to_bytes(8, "little") + b"[" * 10**5, "not one of safetensors"),
        ((2).to_bytes(8, "little") + b"[]", "not one of safetensors"),
        ((19).to_bytes(8, "little") + b'{"__metadata__": 1}', "not one of safetensors"),
        (WHOLE[:-1], "not whole"),
        (WHOLE + b"0", "not whole"),
        (written({}), "it changes no layers$"),
        (written(tensors(SECONDS)), "it changes no layers but those of conditioners.seconds_total"),
        (written({"model.weight": [1]}), r"does not write \(model.weight\)"),
        (written({key(QKV, "lora_A").replace(".0.l", ".1.l"): [2, 4]}), "does not write"),
        (written({f"k{place}": [1] for place in range(9)}), r"\(k0, k1, k2, k3, k4, \.\.\.\)"),
        (written({key(QKV, "lora_A"): [2, 4]}), "but .*to_qkv has lora_A$"),
        (written(tensors(QKV), {"adapter_type": "dora-rows"}), NO_LENGTHS),
        (written(tensors(QKV) | {key(QKV, "magnitude"): [12]}), "a layer of lora has"),
        (written({key(QKV, "M_xs"): [2, 2]}, {"adapter_type": "lora-xs"}), "type is 'lora-xs'"),
        (written(tensors(QKV), {"rank": 3}), r"at rank 3, .* are \[2, 4\] and \[12, 2\]"),
        (written(tensors(QKV) | tensors(OUT, rank=5)), "at rank"),
        (written(tensors(QKV, rank=0)), "at rank 0"),
        (written({key(QKV, "lora_A"): [8], key(QKV, "lora_B"): [12, 8]}), "at rank 8"),
        (written(tensors(QKV), {"rank": 0}), "lora_config.rank in its metadata is wrong"),
        (written(tensors(QKV), {"alpha": "x"}), "lora_config.alpha in its metadata is wrong"),
        (written(tensors(QKV), [1]), "lora_config in its metadata is wrong"),
        (written(tensors(QKV), dtype="I64"), "lora_A is I64, and none of F16, BF16 and F32"),
        (
            written(tensors(QKV) | {key(QKV, "magnitude"): [4]}, {"adapter_type": "dora-rows"}),
            r"magnitude of .*to_qkv is \[4\], and 12 are wanted",
        ),
    ],
)
def test_a_file_that_cannot_be_merged_is_refused_with_its_fault(data: bytes, reason: str) -> None:
    with pytest.raises(GenerationError) as caught:
        described(data)

    assert caught.value.param == "loras"
    message = caught.value.message
    assert message.startswith("The adapter warm cannot be used: ")
    with pytest.raises(ValueError, match=reason):
        raise ValueError(message.removesuffix("."))


def test_a_folder_lists_its_sound_adapters_and_logs_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b.safetensors", "a.safetensors", "with space.safetensors"):
        (tmp_path / name).write_bytes(WHOLE)
    (tmp_path / "broken.safetensors").write_bytes(WHOLE[:-1])
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "old.ckpt").write_bytes(b"")
    (tmp_path / "README.md").write_text("not one")

    assert list(list_adapters(tmp_path)) == ["a", "b"]

    for said in ("old.ckpt is not used", "with space.safetensors is not used", "is not whole"):
        assert said in caplog.text
    assert "README" not in caplog.text


def test_a_folder_that_is_not_there_has_no_adapters(tmp_path: Path) -> None:
    assert list_adapters(tmp_path / "medium") == {}
