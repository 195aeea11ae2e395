/** Two clips against each other, at the same place. */
import { button, element } from "./elements.js";
import { player } from "./player.js";
import { drawWave } from "./waveform.js";

/** @typedef {import("./clip.js").Clip} Clip @typedef {"A" | "B"} Side */

const SIDES = /** @type {const} */ (["A", "B"]);

/** @param {Side} side */
const other = (side) => (side === "A" ? "B" : "A");

/** Tells of other clips by "change". */
class Compare extends EventTarget {
  /** @type {Record<Side, Clip | null>} */
  sides = { A: null, B: null };
  /** @type {Side} */
  #side = "A";
  #inTurn = false;

  constructor() {
    super();
    button("#switch").onclick = () => this.switchOver();
    button("#end-compare").onclick = () => this.#choose({ A: null, B: null });
    button("#play-both").onclick = () => {
      this.#inTurn = !this.#sounds;
      if (this.#inTurn) this.#play("A", 0);
      else player.pause();
    };
    player.addEventListener("ended", () => {
      if (this.#inTurn && player.current === this.sides.A?.name) this.#play("B", 0);
    });
    player.addEventListener("change", () => this.#show());
  }

  get #sounds() {
    return player.playing && SIDES.some((side) => this.sides[side]?.name === player.current);
  }

  /** Choose a clip for a side, or take it off. @param {Side} side @param {Clip} clip */
  toggle(side, clip) {
    const isThere = this.sides[side] === clip;
    this.drop(clip);
    if (!isThere) this.#choose({ ...this.sides, [side]: clip });
  }

  /** Take a clip off, if it is on a side. @param {Clip} clip */
  drop(clip) {
    for (const side of SIDES)
      if (this.sides[side] === clip) this.#choose({ ...this.sides, [side]: null });
  }

  /** Go on with the other side, at the same place. */
  switchOver() {
    this.#inTurn = false;
    this.#play(other(this.#side), this.sides[this.#side]?.at ?? 0);
  }

  /** @param {Side} side @param {number} at Seconds. */
  async #play(side, at) {
    const clip = this.sides[side];
    const sound = await clip?.load().catch(() => null); // the clip says why
    if (!clip || !sound) return;
    this.#side = side;
    await player.play(clip.name, sound, at);
    this.#show();
  }

  /** @param {Record<Side, Clip | null>} sides */
  #choose(sides) {
    this.sides = sides;
    this.#show();
    this.dispatchEvent(new Event("change"));
    for (const side of SIDES)
      sides[side]?.load().then(
        (sound) => drawWave(element(`[data-side=${side}]`), sound),
        () => {}, // the clip says why
      );
  }

  #show() {
    element("#compare").hidden = !(this.sides.A && this.sides.B);
    this.#side = SIDES.find((one) => this.sides[one]?.name === player.current) ?? this.#side;
    button("#play-both").textContent = this.#sounds ? "Pause" : "Play both in turn";
    button("#switch").textContent = `Switch to ${other(this.#side)}`;
    for (const side of SIDES) {
      element(`[data-side=${side}]`).classList.toggle("chosen", side === this.#side);
      element(`[data-side=${side}] .name`).textContent = this.sides[side]?.title ?? "";
    }
  }
}

export const compare = new Compare();
