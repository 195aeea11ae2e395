"""The folder of an assistant's sounds."""

from pathlib import Path

import pytest

from sa_ray.errors import InvalidRequestError
from sa_ray.mcp import Folder


def test_a_part_of_a_clip_is_not_kept(tmp_path: Path) -> None:
    unreadable = Path("/proc/self/mem")  # opens, but its first byte cannot be read

    with pytest.raises(OSError, match="Input/output"):
        Folder(tmp_path).keep(unreadable, "rain", ".wav")

    assert list(tmp_path.iterdir()) == []


def test_what_is_no_path_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")

    for name in ("a\0b", "~no such user/in.wav", "circle"):
        with pytest.raises(InvalidRequestError, match=r"is no path|There is no file"):
            Folder(tmp_path).find(name)
