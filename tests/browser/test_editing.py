"""Audio of one's own and clips of the page, changed on the page."""

import io

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from playwright.sync_api import Locator, expect

from sa_ray.audio import encode
from sa_ray.contracts import CROSSFADE, SAMPLE_RATE

from .studio import Studio

pytestmark = pytest.mark.browser

Samples = npt.NDArray[np.int16]

SECONDS = 4

FADE = round(CROSSFADE * SAMPLE_RATE)


def read(data: bytes) -> Samples:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert rate == SAMPLE_RATE
    found: Samples = samples
    return found


@pytest.fixture(scope="module")
def noise() -> bytes:
    """Seconds of noise, as a file of 16 bits."""
    samples = np.random.default_rng(1).uniform(-1, 1, (2, SECONDS * SAMPLE_RATE))
    return encode(samples.astype(np.float32), SAMPLE_RATE, "wav", tags={})


def drag(studio: Studio, waveform: Locator, start: float, end: float) -> None:
    """Drag the mouse from one part of a waveform's width to another."""
    expect(studio.preset).to_be_visible()  # which moves what is below it
    waveform.scroll_into_view_if_needed()
    box = waveform.bounding_box()
    assert box is not None
    mouse, middle = studio.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + start * box["width"], middle)
    mouse.down()
    mouse.move(box["x"] + end * box["width"], middle, steps=5)
    mouse.up()


def test_a_part_that_is_dragged_is_remade_and_the_rest_is_kept(
    studio: Studio, noise: bytes
) -> None:
    studio.choose_file("noise.wav", noise)
    studio.edit("Remake parts")
    drag(studio, studio.parts, 0.25, 0.5)

    start = float(studio.number("Start of part 1").input_value())
    end = float(studio.number("End of part 1").input_value())
    assert start == pytest.approx(0.25 * SECONDS, abs=0.1)
    assert end == pytest.approx(0.5 * SECONDS, abs=0.1)

    studio.prompt.fill("a bell amid the noise")
    job = studio.send("a bell amid the noise")
    made, source = read(studio.download(studio.clip(job))), read(noise)

    assert made.shape == source.shape
    new = slice(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
    assert (made[new] != source[new]).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(made[: new.start], source[: new.start])
    np.testing.assert_array_equal(made[new.stop :], source[new.stop :])


def test_parts_can_be_typed_and_removed(studio: Studio, noise: bytes) -> None:
    studio.choose_file("noise.wav", noise)
    studio.edit("Remake parts")
    for number, (start, end) in enumerate(((0.5, 1.0), (2.0, 3.0)), start=1):
        studio.press(studio.form, "Add a part")
        studio.number(f"Start of part {number}").fill(f"{start}")
        studio.number(f"End of part {number}").fill(f"{end}")
    studio.press(studio.form, "Remove part 1")
    expect(studio.number("Start of part 1")).to_have_value("2")
    expect(studio.number("Start of part 2")).to_have_count(0)

    studio.prompt.fill("a door")
    made, source = read(studio.download(studio.clip(studio.send("a door")))), read(noise)

    second = SAMPLE_RATE
    np.testing.assert_array_equal(made[: 2 * second], source[: 2 * second])
    assert (made[2 * second : 3 * second] != source[2 * second : 3 * second]).mean() > 0.9
    np.testing.assert_array_equal(made[3 * second :], source[3 * second :])


def test_a_file_that_is_dropped_on_the_form_is_varied(studio: Studio, noise: bytes) -> None:
    studio.drop_file("noise.wav", noise)
    expect(studio.parts).to_be_visible()
    studio.form.get_by_role("slider", name="Distance", exact=True).fill("0")

    studio.prompt.fill("the noise itself")
    made = read(studio.download(studio.clip(studio.send("the noise itself"))))

    assert np.corrcoef(made.ravel(), read(noise).ravel())[0, 1] > 0.99  # at another level


def test_a_clip_goes_on(studio: Studio) -> None:
    clip = studio.make("waves", seconds=2)
    before = read(studio.download(clip))

    studio.press(clip, "Extend")
    studio.edit("Go on from it")
    studio.number("Intro in seconds").fill("0")
    studio.number("Length in seconds").fill("5")
    studio.prompt.fill("waves, and then a gull")
    after = read(studio.download(studio.clip(studio.send("waves, and then a gull"))))

    assert len(after) == 5 * SAMPLE_RATE
    kept = slice(0, len(before) - FADE)
    np.testing.assert_array_equal(after[kept], before[kept])
    assert np.abs(after[len(before) :]).max() > 0


def test_a_sound_gets_an_intro(studio: Studio, noise: bytes) -> None:
    studio.choose_file("noise.wav", noise)
    studio.edit("Go on from it")
    studio.number("Intro in seconds").fill("1.5")
    studio.number("Length in seconds").fill("7")
    studio.prompt.fill("a storm comes and goes")
    made = read(studio.download(studio.clip(studio.send("a storm comes and goes"))))

    assert len(made) == 7 * SAMPLE_RATE
    kept = slice(FADE, SECONDS * SAMPLE_RATE - FADE)
    found = made[round(1.5 * SAMPLE_RATE) :][kept]
    np.testing.assert_array_equal(found, read(noise)[kept])


def test_a_clip_is_varied_and_the_audio_to_edit_removed(studio: Studio) -> None:
    clip = studio.make("a gong", seconds=2)
    before = read(studio.download(clip))

    studio.press(clip, "Vary")
    studio.prompt.fill("a gong, further away")
    varied = read(studio.download(studio.clip(studio.send("a gong, further away"))))
    assert varied.shape == before.shape
    assert (varied != before).any()

    studio.press(studio.form, "Remove the audio")
    expect(studio.form.get_by_role("group", name="Edit", exact=True)).to_be_hidden()
    assert studio.play(studio.make("anew", seconds=1)).seconds == pytest.approx(1, abs=0.05)
