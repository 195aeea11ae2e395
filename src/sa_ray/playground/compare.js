/** Two clips against each other, at the same place. */
import { button, element, find } from "./elements.js";
import { player } from "./player.js";
import { drawWave } from "./waveform.js";

/** @typedef {import("./clip.js").Clip} Clip */
/** @typedef {"A" | "B"} Side */

class Compare extends EventTarget {
  /** @type {Record<Side, Clip | null>} */
  sides = { A: null, B: null };
  /** @type {Side} */
  #side = "A";
  #inTurn = false;

  constructor() {
    super();
    button("#switch").onclick = () => this.switchOver();
    button("#play-both").onclick = () => {
      if (this.#sounds) {
        player.pause();
        return;
      }
      this.#inTurn = true;
      this.#play("A", 0);
    };
    button("#end-compare").onclick = () => this.#end();
    player.addEventListener("ended", () => {
      if (this.#inTurn && this.#side === "A" && this.#sounds !== undefined) this.#play("B", 0);
      else this.#inTurn = false;
    });
    player.addEventListener("change", () => this.#show());
  }

  get #sounds() {
    const { A, B } = this.sides;
    return player.playing && [A?.name, B?.name].includes(player.current);
  }

  /** Choose a clip for a side, or take it off. @param {Side} side @param {Clip} clip */
  toggle(side, clip) {
    this.sides[side] = this.sides[side]?.name === clip.name ? null : clip;
    const other = side === "A" ? "B" : "A";
    if (this.sides[other]?.name === clip.name) this.sides[other] = null;
    this.#changed();
  }

  /** Go on with the other side, at the same place. */
  switchOver() {
    const from = this.sides[this.#side];
    if (!this.sides.A || !this.sides.B || !from) return;
    this.#inTurn = false;
    this.#play(this.#side === "A" ? "B" : "A", from.at);
  }

  #end() {
    this.sides = { A: null, B: null };
    this.#changed();
  }

  /** @param {Side} side @param {number} at */
  async #play(side, at) {
    this.#side = side;
    const clip = this.sides[side];
    if (clip) await player.play(clip.name, await clip.load(), at);
    this.#show();
  }

  #changed() {
    this.#show();
    this.dispatchEvent(new Event("change"));
    const region = element("#compare");
    for (const side of /** @type {const} */ (["A", "B"])) {
      const row = element(`[data-side=${side}]`, region);
      const clip = this.sides[side];
      element(".name", row).textContent = clip?.title ?? "";
      clip?.load().then((sound) => drawWave(find("canvas", HTMLCanvasElement, row), sound));
    }
  }

  #show() {
    const { A, B } = this.sides;
    element("#compare").hidden = !(A && B);
    if (player.current === A?.name) this.#side = "A";
    if (player.current === B?.name) this.#side = "B";
    button("#play-both").textContent = this.#sounds ? "Pause" : "Play both in turn";
    button("#switch").textContent = `Switch to ${this.#side === "A" ? "B" : "A"}`;
    for (const side of ["A", "B"])
      element(`#compare [data-side=${side}]`).classList.toggle("chosen", side === this.#side);
  }
}

export const compare = new Compare();
