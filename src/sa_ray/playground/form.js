/** The form: its limits, its values as a request, and errors at its fields. */
import { ApiError, get } from "./api.js";
import { ConnectionLost } from "./connection.js";
import { edit, MORE } from "./edit.js";
import { announce, button, copied, element, find, input } from "./elements.js";
import { jobs } from "./jobs.js";

/** @typedef {import("./types.js").Adapter} Adapter */
/** @typedef {import("./types.js").ModelList} ModelList */
/** @typedef {import("./types.js").Preset} Preset */
/** @typedef {import("./types.js").Request} Request */

const NUMBERS = /** @type {const} */ (["duration", "steps", "n", "cfg_scale"]);
const ENGINES = new Map([["procedural", "Procedural engine, a stand-in for Stable Audio 3"]]);

const form = find("#generate", HTMLFormElement);
const prompt = find("#prompt", HTMLTextAreaElement);
const model = find("#model", HTMLSelectElement);
const preset = find("#preset", HTMLSelectElement);
const format = find("#format", HTMLSelectElement);
const adapter = find("#add-adapter", HTMLSelectElement);

/** @type {ModelList | null} */
let known = null;
/** @type {Preset[]} */
let presets = [];
/** The length that the audio to edit has by itself; NaN: there is none. */
let ownLength = Number.NaN;

/** @param {string} name */
export const engineText = (name) => ENGINES.get(name) ?? name;

/** Ask the service for its limits, presets and adapters. */
export async function load() {
  known = /** @type {ModelList} */ (await get("v1/models"));
  element("#engine").textContent = engineText(known.engine);
  element("#engine").classList.toggle("stand-in", known.engine === "procedural");
  const chosen = model.value || known.default;
  model.replaceChildren(...known.models.map(({ id }) => new Option(id, id)));
  model.value = chosen;
  input("steps").max = String(known.max_steps ?? 50);
  presets = (await get("v1/presets")).presets;
  showModel(true);
}

/** Follow the chosen model. @param {boolean} [first] */
async function showModel(first = false) {
  const chosen = known?.models.find(({ id }) => id === model.value);
  if (!chosen) return;
  input("duration").max = String(chosen.max_duration_seconds);
  if (!first || !form.dataset["filled"]) {
    input("steps").value = String(chosen.default_steps);
    input("cfg_scale").value = String(chosen.default_cfg_scale);
  }
  const fitting = presets.filter(({ models }) => models.includes(chosen.id));
  const groups = [...new Set(fitting.map(({ kind }) => kind))].map((kind) => {
    const group = document.createElement("optgroup");
    group.label = kind;
    group.append(...fitting.filter((one) => one.kind === kind).map(({ name }) => new Option(name)));
    return group;
  });
  preset.replaceChildren(new Option("Choose one to begin with", ""), ...groups);
  element("#preset-field").hidden = fitting.length === 0;
  element("#chosen-adapters").replaceChildren();
  const { loras } =
    known?.engine === "procedural" ? { loras: [] } : await get(`v1/loras?model=${chosen.id}`);
  const names = loras.map((/** @type {{name: string}} */ one) => new Option(one.name));
  adapter.replaceChildren(new Option("None", ""), ...names);
  element("#adapters").hidden = names.length === 0;
}

/** @param {Adapter} chosen */
function addAdapter({ name, strength }) {
  const row = copied("adapter-template");
  const field = find("input", HTMLInputElement, row);
  const label = find("label", HTMLLabelElement, row);
  row.dataset["name"] = name;
  field.name = `loras.${element("#chosen-adapters").children.length}`;
  field.id = `adapter-${name}`;
  field.value = String(strength);
  label.htmlFor = field.id;
  label.textContent = `Strength of ${name}`;
  button("button", row).textContent = `Remove ${name}`;
  button("button", row).onclick = () => row.remove();
  element("#chosen-adapters").append(row);
}

/** @returns {Adapter[]} */
function chosenAdapters() {
  return [...element("#chosen-adapters").children].map((row) => ({
    name: /** @type {HTMLElement} */ (row).dataset["name"] ?? "",
    strength: find("input", HTMLInputElement, row).valueAsNumber,
  }));
}

/** Write a request into the form, without the audio that it edits. @param {Request} request */
export function fill(request) {
  form.dataset["filled"] = "yes";
  prompt.value = request.prompt;
  if (request.model && request.model !== model.value) {
    model.value = request.model;
    showModel(true);
  }
  for (const name of NUMBERS) {
    const value = request[name];
    if (value !== undefined) input(name).value = String(value);
  }
  input("seed").value = String(request.seed ?? "");
  input("negative_prompt").value = request.negative_prompt ?? "";
  input("loop").checked = request.loop ?? false;
  format.value = request.format ?? "wav";
  element("#chosen-adapters").replaceChildren();
  for (const one of request.loras ?? []) addAdapter(one);
}

/** Return what the form says, less the audio to edit. Throws an `ApiError` for what is no number. */
function written() {
  /** @type {Request} */
  const request = { prompt: prompt.value, model: model.value, format: format.value };
  for (const name of /** @type {const} */ ([...NUMBERS, "seed"])) {
    const field = input(name);
    const label = field.labels?.[0]?.textContent ?? name;
    if (field.validity.badInput)
      throw new ApiError(`${label} has to be a number.`, 422, "invalid_request", name);
    if (field.value !== "") request[name] = field.valueAsNumber;
  }
  if (request.duration === ownLength) delete request.duration;
  if (input("negative_prompt").value.trim())
    request.negative_prompt = input("negative_prompt").value;
  if (input("loop").checked) request.loop = true;
  const loras = chosenAdapters();
  return loras.length ? { ...request, loras } : request;
}

async function generate() {
  clearErrors();
  const submitting = button("[type=submit]", form);
  submitting.disabled = true;
  try {
    const request = written();
    const sent = await edit.fields();
    submitting.disabled = false; // from here on it waits in the history
    announce("Sent");
    await jobs.submit({ ...request, ...sent });
  } catch (error) {
    showError(error);
  } finally {
    submitting.disabled = false;
  }
}

function clearErrors() {
  element("#alerts").replaceChildren();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  for (const message of form.querySelectorAll(".error")) message.remove();
}

/** Show an error at its field, or as an alert. @param {unknown} error */
export function showError(error) {
  if (!(error instanceof ApiError || error instanceof ConnectionLost)) throw error;
  const message = document.createElement("p");
  message.className = "error";
  message.textContent = error.message;
  const field = error instanceof ApiError ? fieldOf(error) : null;
  if (!field) {
    message.setAttribute("role", "alert");
    element("#alerts").replaceChildren(message);
    return;
  }
  message.id = `error-of-${field.id}`;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", message.id);
  field.closest(".field")?.append(message);
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.focus();
}

/** @param {ApiError} error @returns {HTMLElement | null} */
function fieldOf({ param, status }) {
  if (
    /^(audio|(init|inpaint|continue)_audio)$/.test(param ?? "") ||
    status === 413 ||
    status === 415
  )
    return input("audio");
  for (let name = param ?? ""; name; name = name.slice(0, Math.max(0, name.lastIndexOf(".")))) {
    const found = form.querySelector(
      `[name="${CSS.escape(name)}"], [name^="${CSS.escape(name)}."]`,
    );
    if (found instanceof HTMLElement && found.checkVisibility({ checkVisibilityCSS: true }))
      return found;
    if (found instanceof HTMLElement && found.closest("details")) return found;
  }
  return null;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
form.addEventListener("input", () => {
  form.dataset["filled"] = "yes";
});
model.onchange = () => showModel().catch(showError);
preset.onchange = () => {
  const chosen = presets.find(({ name }) => name === preset.value);
  if (!chosen) return;
  prompt.value = chosen.prompt;
  input("duration").value = String(chosen.duration);
};
adapter.onchange = () => {
  const chosen = chosenAdapters().some(({ name }) => name === adapter.value);
  if (adapter.value && !chosen) addAdapter({ name: adapter.value, strength: 1 });
  adapter.value = "";
};
edit.addEventListener("change", () => {
  const length = edit.seconds;
  const own = edit.mode === "continue" ? length + MORE : length;
  const rounded = Math.round(100 * own) / 100;
  // Left out of the request, so that it is exact; "Go on from it" has to name its length.
  ownLength = length && edit.mode !== "continue" ? rounded : Number.NaN;
  if (length) input("duration").value = String(rounded);
});
