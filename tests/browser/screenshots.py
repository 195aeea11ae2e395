"""Takes the README's pictures of the page, with sounds on it and one of them being edited.

uv run python -m tests.browser.screenshots [FOLDER] [--all]
"""

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from sa_ray.local import LocalService
from tests.support.chromium import FLAGS, chromium

from .studio import Studio

PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"

VIEWS: Final[dict[str, dict[str, Any]]] = {
    "page": {"viewport": {"width": 1280, "height": 900}},
    "page-phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
    "page-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "page-wide": {"viewport": {"width": 1920, "height": 1080}},
    "page-widest": {"viewport": {"width": 2560, "height": 1440}},
}

OF_README: Final = ("page", "page-phone")

SOUNDS: Final[tuple[tuple[str, float, dict[str, float]], ...]] = (
    ("rain on a tin roof, then thunder", 8, {"Seed": 12, "Clips": 2}),
    ("a church bell across the valley", 6, {"Seed": 3, "Clips": 1}),
    ("drum loop at 120 BPM", 4, {"Seed": 7, "Clips": 1}),
)

MARKED_S: Final = "2.5"


def take(browser: Browser, url: str, folder: Path, *, every: bool) -> None:
    """Make the sounds, and take pictures of them in the views of the README; with ``every`` in all
    views, at first and of the whole page as well."""
    state: Any = None
    for name in VIEWS if every else OF_README:
        context = browser.new_context(**VIEWS[name], storage_state=state)
        studio = Studio(context.new_page(), url).open()
        if state is None:
            for prompt, seconds, numbers in SOUNDS:
                studio.make(prompt, seconds, **numbers)
            state = context.storage_state()
            studio.reload()
        drawn = [_drawn(studio, prompt) for prompt, _, _ in SOUNDS]
        studio.page.evaluate("() => scrollTo(0, 0)")
        if every:
            studio.page.screenshot(path=folder / f"{name}-first.png")
            studio.page.screenshot(path=folder / f"{name}-whole.png", full_page=True)
        _mark(studio, drawn[-1])
        if name == "page-phone":
            studio.page.evaluate("() => document.querySelector('article').scrollIntoView()")
        _save(studio.page.screenshot(), folder / f"{name}.png")
        context.close()


def _drawn(studio: Studio, prompt: str) -> Locator:
    """Scroll to the first clip of a job; return it once it is drawn."""
    clip = studio.clip(studio.job(prompt))
    clip.scroll_into_view_if_needed()
    for picture in ("Waveform", "Spectrogram"):
        studio.wait_for_picture(clip, picture)
    return clip


def _mark(studio: Studio, clip: Locator) -> None:
    """Have a part of the clip remade, and take the focus away."""
    clip.get_by_role("slider", name="Position", exact=True).fill(MARKED_S)
    studio.press(clip, "Inpaint here")
    expect(studio.number("Start of part 1")).to_be_visible()
    studio.page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")


def _save(picture: bytes, path: Path) -> None:
    """Write a picture of few colours, which is a third as large."""
    with Image.open(io.BytesIO(picture)) as full:
        full.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=PICTURES)
    parser.add_argument("--all", action="store_true", help="take them in all views")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        jobs = f"sqlite:///{name}/jobs.db"
        with LocalService(Path(name), {"jobs_url": jobs, "output_dir": f"{name}/outputs"}) as made:
            made.wait_until_ready()
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            take(browser, f"{made.base_url}/", asked.folder, every=asked.all)
            browser.close()


if __name__ == "__main__":
    main()
