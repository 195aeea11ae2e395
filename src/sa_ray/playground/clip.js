/** One clip of a job that has succeeded: seen, heard, and what can be made of it. */
import { audioOf } from "./api.js";
import { compare } from "./compare.js";
import { edit } from "./edit.js";
import { announce, button, clock, copied, element, find } from "./elements.js";
import { fill, showError } from "./form.js";
import { history } from "./history.js";
import { jobs } from "./jobs.js";
import { onDrag } from "./parts.js";
import { player } from "./player.js";
import { decoded } from "./sound.js";
import { drawSpectrogram } from "./spectrogram.js";
import { drawWave } from "./waveform.js";

/** @typedef {import("./types.js").ClipFile} ClipFile */
/** @typedef {import("./types.js").End} End */
/** @typedef {import("./types.js").Entry} Entry */

/** Seconds around the playhead that "Inpaint here" remakes where nothing is marked. */
const AROUND = 0.5;

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
  #at = 0;
  /** @type {{start: number, end: number} | null} */
  #marked = null;

  /** @param {Entry} entry @param {End} end @param {ClipFile} file */
  constructor(entry, end, file) {
    this.entry = entry;
    this.file = file;
    this.name = `${entry.key}/${file.index}`;
    this.title = `${entry.request.prompt}, clip ${file.index + 1}, seed ${file.seed}`;
    this.fileName = `${entry.request.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}-${file.seed}.${end.format}`;
    this.request = { ...entry.request, model: end.model, seed: file.seed, n: 1 };
    this.node = copied("clip-template");
    this.node.ariaLabel = `Clip ${file.index + 1}`;
    element(".clip-facts", this.node).textContent = `seed ${file.seed}`;
    element(".warning", this.node).hidden = !file.warning;
    element(".warning", this.node).textContent = file.warning;
    this.#wire();
    this.show();
    this.node.addEventListener("seen", () => this.load().catch(() => {}), { once: true });
    whenSeen.observe(this.node);
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  get isLoop() {
    return this.entry.request.loop === true;
  }

  /** Fetch and decode its audio, once. */
  load() {
    this.#loading ??= this.#fetched().catch((error) => {
      this.#loading = null;
      element(".warning", this.node).hidden = false;
      element(".warning", this.node).textContent = error.message;
      throw error;
    });
    return this.#loading;
  }

  async #fetched() {
    const sound = await decoded(await audioOf(this.entry.id ?? "", this.file.index));
    const link = find(".download", HTMLAnchorElement, this.node);
    link.href = sound.url;
    link.download = this.fileName;
    drawWave(find(".wave", HTMLCanvasElement, this.node), sound);
    await drawSpectrogram(find(".spectrum", HTMLCanvasElement, this.node), sound);
    this.node.classList.add("loaded");
    return sound;
  }

  async draw() {
    const sound = this.#loading && (await this.#loading.catch(() => null));
    if (sound) drawWave(find(".wave", HTMLCanvasElement, this.node), sound);
  }

  /** Of the playhead, in seconds. */
  get at() {
    return player.current === this.name ? player.seconds : this.#at;
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#at = Math.min(Math.max(seconds, 0), this.file.audio_duration);
    if (player.current === this.name) player.seek(this.#at);
    this.show();
  }

  /** @param {number} by Seconds. */
  step(by) {
    this.seek(this.at + by);
  }

  async toggle() {
    if (player.current === this.name && player.playing) return player.pause();
    await player.play(this.name, await this.load(), this.at, this.isLoop);
  }

  /** Show where it is and whether it sounds. */
  show() {
    const plays = player.current === this.name && player.playing;
    if (player.current === this.name) this.#at = player.seconds;
    button(".play", this.node).textContent = plays ? "Pause" : "Play";
    const seconds = this.file.audio_duration;
    const slider = find(".position", HTMLInputElement, this.node);
    slider.max = String(seconds);
    slider.value = String(this.#at);
    slider.ariaValueText = `${clock(this.#at)} of ${clock(seconds)}`;
    element(".time", this.node).textContent = `${clock(this.#at)} / ${clock(seconds)}`;
    element(".head", this.node).hidden = this.#at === 0 && !plays;
    element(".head", this.node).style.left = `${(100 * this.#at) / seconds}%`;
  }

  /** @param {Entry} entry As it is now. */
  showMarks(entry) {
    /** @param {string} name @param {boolean} pressed */
    const press = (name, pressed) => {
      button(name, this.node).ariaPressed = String(pressed);
    };
    press(".favourite", entry.favourites.includes(this.file.index));
    press(".side-a", compare.sides.A?.name === this.name);
    press(".side-b", compare.sides.B?.name === this.name);
  }

  release() {
    this.#loading?.then((sound) => sound.release()).catch(() => {});
    if (player.current === this.name) player.pause();
  }

  /** Put its audio into the form. @param {import("./edit.js").Mode} mode
   * @param {import("./types.js").Region[]} [regions] */
  async #edit(mode, regions) {
    const { blob } = await this.load();
    fill({ ...this.request, seed: undefined, loop: false });
    await edit.put(new File([blob], this.fileName, { type: blob.type }), mode, regions);
    element("#prompt").focus();
    announce("The clip is in the form, as the audio to edit");
  }

  async #loop() {
    if (this.isLoop) return this.toggle();
    if (this.request.inpaint_audio || this.request.continue_audio) {
      await this.#edit("init");
      fill({ ...this.request, loop: true });
      return;
    }
    await jobs.submit({ ...this.request, loop: true });
  }

  /** What its buttons do, by their class. @type {Record<string, () => unknown>} */
  #does = {
    play: () => this.toggle(),
    again: () => {
      fill(this.request);
      element("#prompt").focus();
      announce("The request is in the form, with this seed");
    },
    vary: () => this.#edit("init"),
    extend: () => this.#edit("continue"),
    inpaint: () => {
      const [start, end] = [this.at - AROUND, this.at + AROUND];
      const around = { start: Math.max(0, start), end: Math.min(this.file.audio_duration, end) };
      return this.#edit("inpaint", [this.#marked ?? around]);
    },
    loop: () => this.#loop(),
    favourite: () => history.toggleFavourite(this.entry.key, this.file.index),
    "side-a": () => compare.toggle("A", this),
    "side-b": () => compare.toggle("B", this),
  };

  #wire() {
    for (const [name, act] of Object.entries(this.#does))
      button(`.${name}`, this.node).onclick = async () => {
        try {
          await act();
        } catch (error) {
          showError(error);
        }
      };
    find(".download", HTMLAnchorElement, this.node).onclick = async (event) => {
      const link = /** @type {HTMLAnchorElement} */ (event.currentTarget);
      if (link.download) return;
      event.preventDefault();
      await this.load();
      link.click();
    };
    const slider = find(".position", HTMLInputElement, this.node);
    slider.oninput = () => this.seek(slider.valueAsNumber);
    const scope = element(".scope", this.node);
    onDrag(
      scope,
      () => this.file.audio_duration,
      (at, near) => {
        this.#mark(null);
        this.seek(at);
        return (to, from) => {
          if (Math.abs(to - from) > Math.max(near, 0.1))
            this.#mark({ start: Math.min(from, to), end: Math.max(from, to) });
        };
      },
    );
  }

  /** @param {{start: number, end: number} | null} stretch */
  #mark(stretch) {
    this.#marked = stretch;
    const shown = element(".selection", this.node);
    shown.hidden = !stretch;
    if (!stretch) return;
    shown.style.left = `${(100 * stretch.start) / this.file.audio_duration}%`;
    shown.style.width = `${(100 * (stretch.end - stretch.start)) / this.file.audio_duration}%`;
  }
}
