/** Parts of a sound that are to be remade: dragged over its waveform, or typed. */
import { button, copied, element, find } from "./elements.js";

/** @typedef {import("./types.js").Region} Region */

const SHORTEST = 0.1;
const EDGE_PIXELS = 7;

/** @param {number} seconds */
const rounded = (seconds) => Math.round(seconds * 100) / 100;

/**
 * Have drags over `over` make or change a stretch of time.
 *
 * @param {HTMLElement} over Its width is the sound's length.
 * @param {() => number} seconds That length; 0: nothing is there.
 * @param {(at: number, near: number) => (to: number, from: number) => void} begin Returns what to do
 *   with each place that the pointer comes to. `near`: seconds that count as the same place.
 */
export function onDrag(over, seconds, begin) {
  over.addEventListener("pointerdown", (event) => {
    const length = seconds();
    if (!length || event.button !== 0) return;
    const box = over.getBoundingClientRect();
    /** @param {PointerEvent} at */
    const place = (at) =>
      Math.min(Math.max(((at.clientX - box.left) / box.width) * length, 0), length);
    const from = place(event);
    const move = begin(from, (EDGE_PIXELS / box.width) * length);
    /** @param {PointerEvent} at */
    const moved = (at) => move(place(at), from);
    over.setPointerCapture(event.pointerId);
    over.addEventListener("pointermove", moved);
    over.addEventListener(
      "lostpointercapture",
      () => over.removeEventListener("pointermove", moved),
      {
        once: true,
      },
    );
  });
}

export class Parts {
  #group = element("#parts");
  #list = element("#part-list");

  /** @type {Region[]} */
  regions = [];

  /** @param {() => void} changed Called when the user marks a part. */
  constructor(changed) {
    this.changed = changed;
    this.seconds = 0;
    onDrag(
      this.#group,
      () => this.seconds,
      (at, near) => this.#begin(at, near),
    );
    button("#add-part").onclick = () => {
      const start = this.regions.at(-1)?.end ?? 0;
      const end = Math.min(start + 1, this.seconds);
      this.#add({ start: rounded(Math.max(0, end - 1)), end: rounded(end) });
      this.#list.lastElementChild?.querySelector("input")?.focus();
    };
  }

  /** @param {number} seconds Of the sound. @param {Region[]} regions */
  set(seconds, regions) {
    this.seconds = seconds;
    this.regions = regions.map(({ start, end }) => ({ start: rounded(start), end: rounded(end) }));
    this.#show();
  }

  /** @param {Region} region */
  #add(region) {
    this.regions.push(region);
    this.#show();
    this.changed();
  }

  /** @param {number} at @param {number} near @returns {(to: number, from: number) => void} */
  #begin(at, near) {
    const grabbed = this.regions.find((one) => at >= one.start - near && at <= one.end + near);
    const before = grabbed ? { ...grabbed } : { start: at, end: at };
    /** @type {Region | undefined} */
    let part = grabbed;
    const atStart = grabbed && Math.abs(at - grabbed.start) <= near;
    const atEnd = grabbed && Math.abs(at - grabbed.end) <= near;
    return (to, from) => {
      if (!part) {
        if (Math.abs(to - from) < SHORTEST) return;
        part = { start: 0, end: 0 };
        this.#add(part);
      }
      const shift = Math.min(Math.max(to - from, -before.start), this.seconds - before.end);
      if (!grabbed) Object.assign(part, { start: Math.min(from, to), end: Math.max(from, to) });
      else if (atEnd) part.end = Math.max(to, before.start + SHORTEST);
      else if (atStart) part.start = Math.min(to, before.end - SHORTEST);
      else Object.assign(part, { start: before.start + shift, end: before.end + shift });
      Object.assign(part, { start: rounded(part.start), end: rounded(part.end) });
      this.#show();
    };
  }

  #show() {
    for (const mark of this.#group.querySelectorAll(".part")) mark.remove();
    while (this.#list.children.length > this.regions.length) this.#list.lastElementChild?.remove();
    this.regions.forEach((region, index) => {
      const mark = document.createElement("div");
      mark.className = "part";
      this.#place(mark, region);
      this.#group.append(mark);
      const row = this.#list.children[index] ?? this.#row(index);
      for (const end of /** @type {const} */ (["start", "end"])) {
        const field = find(`.${end}`, HTMLInputElement, row);
        if (field !== document.activeElement) field.value = String(region[end]);
        field.oninput = () => {
          region[end] = field.valueAsNumber;
          this.#place(mark, region);
        };
      }
      button(".remove", row).onclick = () => {
        this.regions.splice(index, 1);
        this.#show();
        button("#add-part").focus();
      };
    });
  }

  /** @param {HTMLElement} mark @param {Region} region */
  #place(mark, { start, end }) {
    mark.style.left = `${(100 * (start || 0)) / this.seconds}%`;
    mark.style.width = `${(100 * Math.max(0, (end || 0) - (start || 0))) / this.seconds}%`;
  }

  /** @param {number} index */
  #row(index) {
    const row = copied("part-template");
    const [start, end] = row.querySelectorAll("label");
    if (start) start.textContent = `Start of part ${index + 1}`;
    if (end) end.textContent = `End of part ${index + 1}`;
    for (const [label, name] of /** @type {const} */ ([
      [start, "start"],
      [end, "end"],
    ])) {
      const field = find(`.${name}`, HTMLInputElement, row);
      field.name = `regions.${index}.${name}`;
      field.id = `part-${index}-${name}`;
      if (label) label.htmlFor = field.id;
    }
    button(".remove", row).textContent = `Remove part ${index + 1}`;
    this.#list.append(row);
    return row;
  }
}
