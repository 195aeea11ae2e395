/** Parts of a sound that are to be remade: dragged over its waveform, or typed. */
/** @import {Region} from "./types.js" */
import { button, copied, element, find } from "./elements.js";
import { place } from "./waveform.js";

const SHORTEST_S = 0.1;
const NEAR_PIXELS = 8;

/** @param {number} seconds */
const rounded = (seconds) => Math.round(seconds * 100) / 100;

/** Have drags over a waveform mark stretches of it.
 * @param {HTMLElement} over As wide as the sound is long. @param {() => number} length Seconds.
 * @param {(at: number, near: number) => [number, (stretch: Region) => void]} begin Returns from where
 *   stretches go, and what is told each. `near`: seconds that count as the same place. */
export function onDrag(over, length, begin) {
  over.onpointerdown = (event) => {
    if (event.button !== 0) return;
    const box = over.getBoundingClientRect();
    /** @param {PointerEvent} at */
    const time = (at) => Math.min(Math.max((at.clientX - box.left) / box.width, 0), 1) * length();
    const [from, mark] = begin(time(event), (NEAR_PIXELS / box.width) * length());
    over.setPointerCapture(event.pointerId);
    over.onpointermove = (at) => {
      const [start, end] = [Math.min(from, time(at)), Math.max(from, time(at))];
      if (end - start >= SHORTEST_S) mark({ start: rounded(start), end: rounded(end) });
    };
    over.onlostpointercapture = () => {
      over.onpointermove = null;
    };
  };
}

export class Parts {
  #over = element("#parts");
  #list = element("#part-list");
  #seconds = 0;
  /** @type {Region[]} */
  regions = [];

  /** @param {() => unknown} added Called when the user has added a part. */
  constructor(added) {
    /** @param {Region} region */
    const add = (region) => {
      this.set(this.#seconds, [...this.regions, region]);
      added();
    };
    const length = () => this.#seconds;
    onDrag(this.#over, length, (at, near) => {
      let part = this.regions.find(
        ({ start, end }) => Math.abs(at - start) < near || Math.abs(at - end) < near,
      );
      const other = part && Math.abs(at - part.start) < near ? part.end : part?.start;
      /** @param {Region} stretch */
      const mark = (stretch) => {
        if (part) Object.assign(part, stretch);
        else add(stretch);
        part ??= stretch;
        this.#show();
      };
      return [other ?? at, mark];
    });
    button("#add-part").onclick = () => {
      const end = Math.min((this.regions.at(-1)?.end ?? 0) + 1, this.#seconds || 1);
      add({ start: rounded(Math.max(0, end - 1)), end: rounded(end) });
      this.#list.lastElementChild?.querySelector("input")?.focus();
    };
  }

  /** @param {number} seconds Of the sound; 0: not known. @param {Region[]} regions */
  set(seconds, regions) {
    this.#seconds = seconds;
    this.regions = regions;
    this.#list.replaceChildren(...regions.map((region, index) => this.#row(region, index)));
    this.#show();
  }

  /** @param {Region} region @param {number} index */
  #row(region, index) {
    const row = copied("part-template");
    for (const end of /** @type {const} */ (["start", "end"])) {
      const field = find(`.${end}`, HTMLInputElement, row);
      field.name = `regions.${index}.${end}`;
      field.id = `part-${index}-${end}`;
      field.oninput = () => {
        region[end] = field.valueAsNumber;
        this.#show();
      };
      const label = find(`.${end}-label`, HTMLLabelElement, row);
      label.htmlFor = field.id;
      label.textContent = `${end === "start" ? "Start" : "End"} of part ${index + 1}`;
    }
    button("button", row).textContent = `Remove part ${index + 1}`;
    button("button", row).onclick = () => {
      this.set(this.#seconds, this.regions.toSpliced(index, 1));
      button("#add-part").focus();
    };
    return row;
  }

  #show() {
    for (const mark of this.#over.querySelectorAll(".part")) mark.remove();
    this.regions.forEach((region, index) => {
      const mark = document.createElement("div");
      mark.className = "part";
      place(mark, region, this.#seconds);
      this.#over.append(mark);
      for (const end of /** @type {const} */ (["start", "end"])) {
        const field = find(`.${end}`, HTMLInputElement, this.#list.children[index]);
        if (field !== document.activeElement) field.value = String(region[end]);
      }
    });
  }
}
