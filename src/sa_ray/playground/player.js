/** The one player: what sounds, where it is, and who is told. */
import { find } from "./elements.js";

/** @typedef {import("./sound.js").Sound} Sound */

class Player extends EventTarget {
  #audio = find("#player", HTMLAudioElement);

  /** Name of what is loaded; empty: nothing. */
  current = "";

  constructor() {
    super();
    for (const name of ["play", "pause", "seeked"])
      this.#audio.addEventListener(name, () => this.#tell("change"));
    this.#audio.addEventListener("ended", () => this.#tell("ended"));
    this.#audio.addEventListener("play", () => this.#tick());
  }

  get playing() {
    return !this.#audio.paused;
  }

  get seconds() {
    return this.#audio.currentTime;
  }

  /**
   * @param {string} name
   * @param {Sound} sound
   * @param {number} from Seconds.
   * @param {boolean} [loop]
   */
  async play(name, sound, from, loop = false) {
    if (this.current !== name) {
      this.#audio.src = sound.url;
      this.current = name;
    }
    this.#audio.loop = loop;
    const behind = from >= sound.seconds - 0.02;
    if (Math.abs(this.seconds - from) > 0.01 || behind) this.#audio.currentTime = behind ? 0 : from;
    await this.#audio.play().catch((error) => {
      if (error.name !== "AbortError") throw error; // another was chosen meanwhile
    });
  }

  pause() {
    this.#audio.pause();
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#audio.currentTime = seconds;
  }

  /** @param {string} name */
  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  #tick() {
    this.#tell("time");
    if (this.playing) requestAnimationFrame(() => this.#tick());
  }
}

export const player = new Player();
