/** Audio that the next request edits: chosen, dropped, or a clip that was made here. */
import { upload } from "./api.js";
import { button, element, find, input } from "./elements.js";
import { Parts } from "./parts.js";
import { decoded } from "./sound.js";
import { drawWave } from "./waveform.js";

/** @typedef {import("./types.js").Region} Region */
/** @typedef {import("./types.js").Request} Request */
/** @typedef {"init" | "inpaint" | "continue"} Mode */

/** Seconds that "Go on from it" adds, unless told otherwise. */
export const MORE = 5;

class Edit extends EventTarget {
  /** @type {import("./sound.js").Sound | null} */
  #sound = null;
  #parts = new Parts(() => this.#choose("inpaint"));

  constructor() {
    super();
    const field = input("audio");
    field.onchange = () => this.#load();
    const form = element("#generate");
    for (const name of ["dragover", "dragleave", "drop"])
      form.addEventListener(name, (event) => {
        event.preventDefault();
        form.classList.toggle("dropping", name === "dragover");
      });
    form.addEventListener("drop", (event) => {
      const file = event.dataTransfer?.files[0];
      if (file) this.put(file, "init");
    });
    for (const radio of document.getElementsByName("mode"))
      radio.onchange = () => this.#choose(this.mode);
    button("#remove-audio").onclick = () => {
      this.remove();
      field.focus();
    };
    const distance = input("init_noise_level");
    distance.oninput = () => {
      find("output", HTMLOutputElement).textContent = distance.valueAsNumber.toFixed(2);
    };
    new ResizeObserver(() => this.draw()).observe(element("#parts"));
  }

  /** @returns {Mode} */
  get mode() {
    const chosen = find("input[name=mode]:checked", HTMLInputElement).value;
    return /** @type {Mode} */ (chosen);
  }

  /** Length of the audio in seconds; 0: there is none, or the browser cannot read it. */
  get seconds() {
    return this.#sound?.seconds ?? 0;
  }

  /** @param {File} file @param {Mode} mode @param {Region[]} [regions] */
  put(file, mode, regions = []) {
    const held = new DataTransfer();
    held.items.add(file);
    input("audio").files = held.files;
    return this.#load(mode, regions);
  }

  remove() {
    input("audio").value = "";
    return this.#load();
  }

  /** Send the audio; return the fields of a request that edits it. @returns {Promise<Partial<Request>>} */
  async fields() {
    const file = input("audio").files?.[0];
    if (!file) return {};
    const id = await upload(file);
    if (this.mode === "init")
      return { init_audio: id, init_noise_level: input("init_noise_level").valueAsNumber };
    if (this.mode === "inpaint") return { inpaint_audio: id, regions: this.#parts.regions };
    return { continue_audio: id, intro: input("intro").valueAsNumber };
  }

  draw() {
    const canvas = find("#parts canvas", HTMLCanvasElement);
    if (this.#sound && canvas.clientWidth) drawWave(canvas, this.#sound);
  }

  /** @param {Mode} [mode] @param {Region[]} [regions] */
  async #load(mode = this.mode, regions = []) {
    const file = input("audio").files?.[0];
    // What the browser cannot read, the service may.
    const sound = file ? await decoded(file).catch(() => null) : null;
    if (file !== input("audio").files?.[0]) return; // another was chosen meanwhile
    this.#sound = sound;
    element("#edit").hidden = !file;
    element("#drop-hint").hidden = Boolean(file);
    element("#parts").hidden = !sound;
    this.#parts.set(this.seconds, regions);
    this.#choose(mode);
    this.draw();
  }

  /** @param {Mode} mode */
  #choose(mode) {
    find(`input[name=mode][value=${mode}]`, HTMLInputElement).checked = true;
    for (const fields of document.querySelectorAll(".mode-fields"))
      if (fields instanceof HTMLElement) fields.hidden = fields.dataset["mode"] !== mode;
    this.dispatchEvent(new Event("change"));
  }
}

export const edit = new Edit();
