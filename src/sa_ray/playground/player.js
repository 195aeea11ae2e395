/** The one player: what sounds and where it is. Tells of it by "change", "time" and "ended". */
import { find } from "./elements.js";

const BEHIND_S = 0.02;

class Player extends EventTarget {
  #audio = find("#player", HTMLAudioElement);

  /** Name of what is loaded; empty: nothing. */
  current = "";

  constructor() {
    super();
    for (const name of ["play", "pause", "seeked"])
      this.#audio.addEventListener(name, () => {
        this.dispatchEvent(new Event("change"));
        this.#tick();
      });
    this.#audio.onended = () => this.dispatchEvent(new Event("ended"));
  }

  get playing() {
    return !this.#audio.paused;
  }

  get seconds() {
    return this.#audio.currentTime;
  }

  /** @param {string} name @param {import("./sound.js").Sound} sound @param {number} from Seconds.
   * @param {boolean} [loop] */
  async play(name, sound, from, loop = false) {
    if (this.current !== name) this.#audio.src = sound.url;
    this.current = name;
    this.#audio.loop = loop;
    this.seek(from < sound.seconds - BEHIND_S ? from : 0);
    await this.#audio.play().catch((error) => {
      if (error.name !== "AbortError") throw error; // another was chosen meanwhile
    });
  }

  pause() {
    this.#audio.pause();
  }

  /** @param {number} seconds */
  seek(seconds) {
    if (seconds !== this.seconds) this.#audio.currentTime = seconds;
  }

  #tick() {
    this.dispatchEvent(new Event("time"));
    if (this.playing) requestAnimationFrame(() => this.#tick());
  }
}

export const player = new Player();
