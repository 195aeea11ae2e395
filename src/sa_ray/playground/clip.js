/** One clip of a job that has succeeded: seen, heard, and what can be made of it. */
/** @import {ClipFile, End, Entry, Region} from "./types.js" */
import { ApiError, audioOf } from "./api.js";
import { compare } from "./compare.js";
import { ConnectionLost, untilItIsBack } from "./connection.js";
import { edit } from "./edit.js";
import { announce, button, clock, copied, element, engineName, find, input } from "./elements.js";
import { showError } from "./errors.js";
import { fill } from "./form.js";
import { history } from "./history.js";
import { jobs } from "./jobs.js";
import { onDrag } from "./parts.js";
import { player } from "./player.js";
import { decoded } from "./sound.js";
import { drawSpectrogram } from "./spectrogram.js";
import { drawWave, place } from "./waveform.js";

/** Seconds around the playhead that "Inpaint here" remakes where nothing is marked. */
const AROUND_S = 0.5;

/** Clips are fetched when they are about to be seen. */
const whenSeen = new IntersectionObserver(
  (seen) => {
    for (const { isIntersecting, target } of seen)
      if (isIntersecting) target.dispatchEvent(new Event("seen"));
  },
  { rootMargin: "300px" },
);

export class Clip {
  /** @type {Promise<import("./sound.js").Sound> | null} */
  #loading = null;
  /** @type {Region | null} */
  #marked = null;
  #at = 0;

  /** @param {Entry} entry @param {End} end @param {ClipFile} file */
  constructor(entry, end, file) {
    this.entry = entry;
    this.file = file;
    this.seconds = file.audio_duration;
    this.name = `${entry.key}/${file.index}`;
    this.title = `${entry.request.prompt}, clip ${file.index + 1}, seed ${file.seed}`;
    const words = entry.request.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60);
    this.fileName = `${words}-${file.seed}.${end.format}`;
    this.request = {
      duration: this.seconds,
      ...entry.request,
      model: end.model,
      seed: file.seed,
      n: 1,
    };
    this.node = copied("clip-template");
    this.node.ariaLabel = `Clip ${file.index + 1}`;
    element(".seed", this.node).textContent = `seed ${file.seed} · ${engineName(end)}`;
    this.#warn(file.warning);
    this.#wire();
    this.show();
    this.node.addEventListener("seen", () => this.load().catch(() => {}));
    whenSeen.observe(this.node);
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  /** Fetch, decode and draw its audio, once. */
  load() {
    this.#loading ??= this.#fetched().catch((error) => {
      this.#loading = null;
      this.#warn(error.message);
      throw error;
    });
    return this.#loading;
  }

  async #fetched() {
    const blob = await this.#blob();
    const link = find(".download", HTMLAnchorElement, this.node);
    URL.revokeObjectURL(link.href);
    [link.href, link.download] = [URL.createObjectURL(blob), this.fileName];
    const sound = await decoded(blob, link.href).catch(() => {
      throw new ApiError("This browser cannot play the clip. Download it.", 0);
    });
    drawWave(this.node, sound);
    await drawSpectrogram(this.node, sound);
    sound.channels = []; // much, and of no more use
    this.#warn(this.file.warning);
    this.node.classList.add("loaded");
    return sound;
  }

  /** @returns {Promise<Blob>} */
  async #blob() {
    try {
      return await audioOf(this.entry.id ?? "", this.file.index);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      await untilItIsBack();
      return this.#blob();
    }
  }

  async draw() {
    const sound = await this.#loading?.catch(() => null);
    if (sound) drawWave(this.node, sound);
  }

  /** @param {string | null} text */
  #warn(text) {
    element(".warning", this.node).textContent = text;
  }

  /** Of the playhead, in seconds. */
  get at() {
    return player.current === this.name ? player.seconds : this.#at;
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#at = Math.min(Math.max(seconds, 0), this.seconds);
    if (player.current === this.name) player.seek(this.#at);
    this.show();
  }

  async toggle() {
    if (player.current === this.name && player.playing) player.pause();
    else await player.play(this.name, await this.load(), this.at, this.request.loop);
  }

  /** Show where it is and whether it sounds. */
  show() {
    const plays = player.current === this.name && player.playing;
    this.#at = this.at;
    button(".play", this.node).textContent = plays ? "Pause" : "Play";
    const slider = find(".position", HTMLInputElement, this.node);
    slider.max = String(this.seconds);
    slider.value = String(this.#at);
    slider.ariaValueText = `${clock(this.#at)} of ${clock(this.seconds)}`;
    element(".time", this.node).textContent = `${clock(this.#at)} / ${clock(this.seconds)}`;
    place(element(".head", this.node), { start: this.#at, end: this.#at }, this.seconds);
  }

  /** @param {Entry} entry As it is now. */
  showMarks({ favourites }) {
    const pressed = {
      favourite: favourites.includes(this.file.index),
      "side-a": compare.sides.A?.name === this.name,
      "side-b": compare.sides.B?.name === this.name,
    };
    for (const [name, is] of Object.entries(pressed))
      button(`.${name}`, this.node).ariaPressed = String(is);
  }

  release() {
    URL.revokeObjectURL(find(".download", HTMLAnchorElement, this.node).href);
    if (player.current === this.name) player.pause();
    compare.drop(this);
  }

  /** Put its audio into the form. @param {import("./edit.js").Mode} mode @param {Region[]} [regions] */
  async #edit(mode, regions) {
    const { blob } = await this.load();
    fill({ ...this.request, seed: undefined, loop: false });
    await edit.put(new File([blob], this.fileName), mode, regions);
    announce("The clip is in the form, as the audio to edit");
  }

  /** Make a loop of it; play it if it is one. */
  async #loop() {
    const { loop, inpaint_audio, continue_audio } = this.request;
    if (loop) return this.toggle();
    if (!inpaint_audio && !continue_audio) return jobs.submit({ ...this.request, loop: true });
    await this.#edit("init"); // of these the service makes no loops
    input("loop").checked = true;
  }

  #again() {
    edit.keep(this.request);
    fill(this.request);
    announce("The request is in the form, with this seed");
  }

  #inpaint() {
    const around = { start: this.at - AROUND_S, end: this.at + AROUND_S };
    const { start, end } = this.#marked ?? around;
    return this.#edit("inpaint", [{ start: Math.max(0, start), end: Math.min(this.seconds, end) }]);
  }

  /** What its buttons do, by their class. @type {Record<string, () => unknown>} */
  #does = {
    play: () => this.toggle(),
    again: () => this.#again(),
    vary: () => this.#edit("init"),
    extend: () => this.#edit("continue"),
    inpaint: () => this.#inpaint(),
    loop: () => this.#loop(),
    favourite: () => history.toggleFavourite(this.entry.key, this.file.index),
    "side-a": () => compare.toggle("A", this),
    "side-b": () => compare.toggle("B", this),
  };

  #wire() {
    for (const [name, act] of Object.entries(this.#does))
      button(`.${name}`, this.node).onclick = () => Promise.resolve(act()).catch(showError);
    const slider = find(".position", HTMLInputElement, this.node);
    slider.oninput = () => this.seek(slider.valueAsNumber);
    const length = () => this.seconds;
    onDrag(element(".scope", this.node), length, (at) => {
      this.seek(at);
      this.#mark(null);
      return [at, (stretch) => this.#mark(stretch)];
    });
  }

  /** @param {Region | null} stretch */
  #mark(stretch) {
    this.#marked = stretch;
    const shown = element(".selection", this.node);
    shown.hidden = !stretch;
    if (stretch) place(shown, stretch, this.seconds);
  }
}
