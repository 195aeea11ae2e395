/** Audio that the next request edits: chosen, dropped, or a clip that was made here. */
/** @import {Region, Request} from "./types.js" */
import { upload } from "./api.js";
import { button, element, find, input } from "./elements.js";
import { Parts } from "./parts.js";
import { decoded } from "./sound.js";
import { drawWave } from "./waveform.js";

/** @typedef {"init" | "inpaint" | "continue"} Mode */

/** Tells of another sound or mode by "change". */
class Edit extends EventTarget {
  /** @type {import("./sound.js").Sound | null} */
  #sound = null;
  /** The edit of a request that is made again; its audio is with the service.
   * @type {Partial<Request>} */
  #kept = {};
  #parts = new Parts(() => this.mode === "inpaint" || this.#choose("inpaint"));

  constructor() {
    super();
    const form = element("#generate");
    /** @param {DragEvent} event */
    const dragged = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      form.classList.toggle("dropping", event.type === "dragover");
      const file = event.type === "drop" && event.dataTransfer.files[0];
      if (file) this.put(file, "init");
    };
    Object.assign(form, { ondragover: dragged, ondragleave: dragged, ondrop: dragged });
    input("audio").onchange = () => this.#load();
    for (const radio of document.getElementsByName("mode"))
      radio.onchange = () => this.#choose(this.mode);
    button("#remove-audio").onclick = () => {
      this.remove();
      input("audio").focus();
    };
    input("init_noise_level").oninput = () => {
      const distance = input("init_noise_level").valueAsNumber;
      find("output", HTMLOutputElement).textContent = distance.toFixed(2);
    };
    new ResizeObserver(() => this.draw()).observe(element("#parts"));
  }

  get mode() {
    return /** @type {Mode} */ (find("input[name=mode]:checked", HTMLInputElement).value);
  }

  get file() {
    return input("audio").files?.[0];
  }

  /** Length of the audio in seconds; 0: there is none, or none that the browser can read. */
  get seconds() {
    return this.#sound?.seconds ?? 0;
  }

  /** @param {File} file @param {Mode} mode @param {Region[]} [regions] */
  put(file, mode, regions) {
    const held = new DataTransfer();
    held.items.add(file);
    input("audio").files = held.files;
    return this.#load(mode, regions);
  }

  /** Edit the same audio in the same way once more. @param {Request} request */
  keep({ init_audio, init_noise_level, inpaint_audio, regions, continue_audio, intro }) {
    this.remove();
    if (!init_audio && !inpaint_audio && !continue_audio) return;
    this.#kept = { init_audio, init_noise_level, inpaint_audio, regions, continue_audio, intro };
    element("#drop-hint").textContent = "The same edit of the same audio. Choose or drop another.";
    button("#remove-audio").hidden = false;
  }

  remove() {
    input("audio").value = "";
    this.#load();
  }

  /** Send the audio; return the fields of a request that edits it. @returns {Promise<Partial<Request>>} */
  async fields() {
    if (!this.file) return this.#kept;
    const id = await upload(this.file);
    if (this.mode === "inpaint") return { inpaint_audio: id, regions: this.#parts.regions };
    if (this.mode === "continue")
      return { continue_audio: id, intro: input("intro").valueAsNumber };
    return { init_audio: id, init_noise_level: input("init_noise_level").valueAsNumber };
  }

  draw() {
    if (this.#sound) drawWave(element("#parts"), this.#sound);
  }

  /** @param {Mode} [mode] @param {Region[]} [regions] */
  async #load(mode = this.mode, regions = []) {
    const file = this.file;
    // What the browser cannot read, the service may.
    const sound = file ? await decoded(file).catch(() => null) : null;
    if (file !== this.file) return; // another was chosen meanwhile
    this.#sound = sound;
    if (sound) sound.channels = []; // much, and of no use here
    this.#kept = {};
    button("#remove-audio").hidden = !file;
    element("#drop-hint").textContent = "Or drop a file here.";
    element("#edit").hidden = !file;
    element("#drop-hint").hidden = Boolean(file);
    element("#parts").hidden = element("#parts-hint").hidden = !sound;
    this.#parts.set(this.seconds, regions);
    this.#choose(mode);
    this.draw();
  }

  /** @param {Mode} mode */
  #choose(mode) {
    find(`input[name=mode][value=${mode}]`, HTMLInputElement).checked = true;
    for (const one of ["init", "inpaint", "continue"])
      element(`.mode-fields[data-mode=${one}]`).hidden = one !== mode;
    this.dispatchEvent(new Event("change"));
  }
}

export const edit = new Edit();
