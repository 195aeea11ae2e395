"""Debian's Chromium, where it is installed."""

import shutil
from pathlib import Path

FLAGS = (
    *("--headless", "--disable-gpu", "--no-first-run"),
    # For root, and for the small /dev/shm of containers.
    *("--no-sandbox", "--disable-dev-shm-usage"),
    # Of its own accord it asks its makers' servers for this and that.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-quic",
)


def chromium() -> Path | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return Path(found) if found else None
