"""Says in the test report, not only in a warning, that the real engine went untested."""

import pytest
from conftest import INSTALLED

pytestmark = pytest.mark.upstream


@pytest.mark.skipif(
    not INSTALLED,
    reason="stable-audio-3 IS NOT INSTALLED: no test of the real engine ran "
    "(`uv sync --extra stable-audio`)",
)
def test_the_stable_audio_3_package_is_installed() -> None:
    assert INSTALLED
