"""The page as its users find their way in it: by roles and names."""

import base64
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.support.service import Service

REMEMBER_BLOBS = """
window.madeOfBlobs = new Map();
const make = URL.createObjectURL;
URL.createObjectURL = blob => {
  const url = make.call(URL, blob);
  window.madeOfBlobs.set(url, blob);
  return url;
};
"""
"""The page may not fetch blobs: what it plays is kept for those who want to look into it."""

HEAR = """async () => {
  const audio = document.querySelector("audio");
  const blob = window.madeOfBlobs.get(audio.currentSrc);
  const decoder = new OfflineAudioContext(2, 1, 44100);
  const sound = await decoder.decodeAudioData(await blob.arrayBuffer());
  const left = sound.getChannelData(0);
  const power = left.reduce((sum, sample) => sum + sample * sample, 0) / left.length;
  return {seconds: sound.duration, level: Math.sqrt(power), source: audio.currentSrc};
}"""

DRAWN = """canvas => {
  const {width, height} = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  return new Set(new Uint32Array(copy.getImageData(0, 0, width, height).data.buffer)).size > 2;
}"""
"""Whether a canvas shows more than a line."""

DROPPED = """({name, text}) => {
  const dropped = new DataTransfer();
  const data = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  dropped.items.add(new File([data], name, {type: "audio/wav"}));
  return dropped;
}"""

SOUNDS = """() => {
  const audio = document.querySelector("audio");
  return audio?.currentSrc && (!audio.paused || audio.ended);
}"""

MOVES = """from => {
  const audio = document.querySelector("audio");
  return audio.currentTime !== from || audio.ended && from > 0;
}"""


@dataclass(frozen=True)
class Sound:
    """What an audio element of the page plays, decoded by the browser."""

    seconds: float
    level: float
    """Root mean square of its left channel, of at most 1."""
    source: str


def jobs_of(service: Service, prompt: str) -> list[str]:
    """The ids of the service's newest jobs of this prompt."""
    jobs = service.http.get("/jobs?include=prompts").raise_for_status().json()["jobs"]
    return [job["id"] for job in jobs if job["prompt"] == prompt]


def sent(service: Service, prompt: str) -> str:
    """Wait until the service has the job that a page sends; return its id."""
    service.until(lambda: bool(jobs_of(service, prompt)))
    return jobs_of(service, prompt)[0]


class Studio:
    """One tab with the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.form = page.get_by_role("form", name="Generate", exact=True)
        self.prompt = self.form.get_by_role("textbox", name="Prompt", exact=True)
        self.preset = self.form.get_by_role("combobox", name="Preset", exact=True)
        """Shown once the page has learnt what the service offers."""
        self.parts = self.form.get_by_role("group", name="Parts to remake", exact=True)
        self.engine = page.get_by_role("status", name="Engine", exact=True)
        self.connection = page.get_by_role("status", name="Connection", exact=True)
        self.results = page.get_by_role("region", name="Results", exact=True)
        self.compare = page.get_by_role("region", name="Compare", exact=True)

    def open(self) -> "Studio":
        self.page.goto(self.url)
        expect(self.prompt).to_be_visible()
        return self

    def reload(self) -> None:
        self.page.reload()
        expect(self.prompt).to_be_visible()

    def number(self, name: str) -> Locator:
        return self.form.get_by_role("spinbutton", name=name, exact=True)

    def ask(self, prompt: str, seconds: float = 1, **numbers: float) -> Locator:
        """Fill in the form and send it; return the article of the job.

        ``numbers``: of the fields ``Seed``, ``Steps`` and ``Clips``.
        """
        self.prompt.fill(prompt)
        self.number("Length in seconds").fill(f"{seconds:g}")
        for name, value in numbers.items():
            self.number(name).fill(f"{value:g}")
        return self.send(prompt)

    def send(self, prompt: str) -> Locator:
        self.press(self.form, "Generate")
        return self.job(prompt)

    def make(self, prompt: str, seconds: float = 1, **numbers: float) -> Locator:
        """As ``ask``; return the article's first clip once it is there."""
        return self.clip(self.ask(prompt, seconds, **numbers))

    def job(self, prompt: str) -> Locator:
        """The newest job of this prompt."""
        return self.results.get_by_role("article", name=prompt, exact=True).first

    def clip(self, job: Locator, number: int = 1) -> Locator:
        clip = job.get_by_role("group", name=f"Clip {number}", exact=True)
        expect(clip).to_be_visible()
        return clip

    def press(self, within: Locator, name: str) -> None:
        within.get_by_role("button", name=name, exact=True).click()

    def play(self, clip: Locator) -> Sound:
        """Play a clip until it is under way, and hear it."""
        self.press(clip, "Play")
        return self.hear()

    def hear(self) -> Sound:
        """What is playing now; fails unless it goes on."""
        self.page.wait_for_function(SOUNDS)
        self.page.wait_for_function(MOVES, arg=self.position)
        return Sound(**self.page.evaluate(HEAR))

    @property
    def position(self) -> float:
        """Seconds of what is playing that have passed."""
        position: float = self.page.evaluate("() => document.querySelector('audio').currentTime")
        return position

    def choose_file(self, name: str, data: bytes) -> None:
        """Choose a WAV file as the audio to edit."""
        file: Any = {"name": name, "mimeType": "audio/wav", "buffer": data}
        self.form.get_by_label("Audio to edit", exact=True).set_input_files(file)

    def drop_file(self, name: str, data: bytes) -> None:
        """Drop a WAV file on the form."""
        text = base64.b64encode(data).decode()
        file = self.page.evaluate_handle(DROPPED, {"name": name, "text": text})
        for event in ("dragenter", "dragover", "drop"):
            self.form.dispatch_event(event, {"dataTransfer": file})

    def edit(self, mode: str) -> None:
        """Choose ``Vary all of it``, ``Remake parts`` or ``Go on from it``."""
        group = self.form.get_by_role("group", name="Edit", exact=True)
        group.get_by_role("radio", name=mode, exact=True).check()

    def wait_for_picture(self, clip: Locator, name: str) -> None:
        """Wait until the ``Waveform`` or the ``Spectrogram`` of a clip is drawn."""
        picture = clip.get_by_role("img", name=name, exact=True)
        expect(picture).to_be_visible()
        self.page.wait_for_function(DRAWN, arg=picture.element_handle())

    def download(self, clip: Locator) -> bytes:
        with self.page.expect_download() as started:
            clip.get_by_role("link", name="Download", exact=True).click()
        return started.value.path().read_bytes()

    def go_to(self, target: Locator, most: int = 80) -> None:
        """Press Tab until ``target`` has the focus."""
        for _ in range(most):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{most} times Tab do not lead to {target}")

    def dialog(self, name: str) -> Locator:
        return self.page.get_by_role("dialog", name=name, exact=True)
