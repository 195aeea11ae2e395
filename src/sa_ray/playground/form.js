/** The form: what the service offers, and what is asked of it. */
/** @import {Adapter, ModelList, Preset, Request} from "./types.js" */
import { ApiError, get } from "./api.js";
import { edit } from "./edit.js";
import { announce, button, element, find, input } from "./elements.js";
import { clearErrors, showError } from "./errors.js";
import { jobs } from "./jobs.js";

/** Seconds that "Go on from it" adds unless told otherwise. */
const MORE_S = 5;
const NUMBERS = /** @type {const} */ (["duration", "steps", "n", "cfg_scale", "seed"]);

const form = find("#generate", HTMLFormElement);
const prompt = find("#prompt", HTMLTextAreaElement);
const model = find("#model", HTMLSelectElement);
const preset = find("#preset", HTMLSelectElement);
const format = find("#format", HTMLSelectElement);

/** @type {ModelList | null} */
let offered = null;
/** @type {Preset[]} */
let presets = [];
/** Length that the audio to edit has by itself, as the field shows it; NaN: none is edited. */
let ownLength = Number.NaN;

/** Ask the service for its models, presets and adapters. */
export async function load() {
  const models = /** @type {ModelList} */ (await get("v1/models"));
  const isStandIn = models.engine === "procedural";
  element("#engine").textContent = isStandIn
    ? "Procedural engine, a stand-in for Stable Audio 3"
    : models.engine;
  element("#engine").classList.toggle("stand-in", isStandIn);
  input("steps").max = String(models.max_steps);
  const chosen = offered ? model.value : models.default;
  model.replaceChildren(...models.models.map(({ id }) => new Option(id)));
  model.value = chosen;
  presets = (await get("v1/presets")).presets;
  offered = models;
  await showModel();
}

/** Follow the chosen model: its limits and defaults, and what goes with it. */
async function showModel() {
  const chosen = offered?.models.find(({ id }) => id === model.value);
  if (!chosen) return;
  input("duration").max = String(chosen.max_duration_seconds);
  // What was typed stays.
  input("steps").defaultValue = String(chosen.default_steps);
  input("cfg_scale").defaultValue = String(chosen.default_cfg_scale);
  const fitting = presets.filter(({ models }) => models.includes(chosen.id));
  const groups = [...new Set(fitting.map(({ kind }) => kind))].map((kind) => {
    const group = Object.assign(document.createElement("optgroup"), { label: kind });
    group.append(...fitting.filter((one) => one.kind === kind).map(({ name }) => new Option(name)));
    return group;
  });
  preset.replaceChildren(new Option("Choose one to begin with", ""), ...groups);
  element("#preset-field").hidden = fitting.length === 0;
  // The stand-in takes none, and where there are many, to list them takes long.
  const found =
    offered?.engine === "procedural" ? [] : (await get(`v1/loras?model=${chosen.id}`)).loras;
  if (model.value !== chosen.id) return; // another was chosen meanwhile
  const names = found.map((/** @type {Adapter} */ { name }) => name);
  element("#adapters-field").hidden = names.length === 0;
  element("#loras-hint").textContent =
    `Name or name:strength, with spaces between: ${names.join(", ")}`;
}

/** Write a request into the form, without the audio that it edits. @param {Request} request */
export function fill(request) {
  clearErrors();
  prompt.value = request.prompt;
  if (request.model && request.model !== model.value) {
    model.value = request.model;
    showModel().catch(showError);
  }
  for (const name of NUMBERS) if (name in request) input(name).value = String(request[name] ?? "");
  input("negative_prompt").value = request.negative_prompt ?? "";
  input("loop").checked = request.loop ?? false;
  format.value = request.format ?? "wav";
  const loras = (request.loras ?? []).map(({ name, strength }) => `${name}:${strength}`);
  input("loras").value = loras.join(" ");
  prompt.focus();
}

/** @param {string} text @returns {Adapter} */
function adapter(text) {
  const [name = "", strength = "1"] = text.split(":");
  if (Number.isNaN(Number(strength)))
    throw new ApiError(`The strength of ${name} has to be a number.`, 422, "loras");
  return { name, strength: Number(strength) };
}

/** Return what the form asks for, less the audio to edit. Throws an `ApiError` for no number. */
function written() {
  /** @type {Request} */
  const request = { prompt: prompt.value, format: format.value };
  if (model.value) request.model = model.value; // else the service has not told its models yet
  for (const name of NUMBERS) {
    const field = input(name);
    const label = field.labels?.[0]?.textContent;
    if (field.validity.badInput) throw new ApiError(`${label} has to be a number.`, 422, name);
    if (field.value) request[name] = field.valueAsNumber;
  }
  if (request.duration === ownLength) delete request.duration; // and so it is exact
  if (input("negative_prompt").value.trim())
    request.negative_prompt = input("negative_prompt").value;
  if (input("loop").checked) request.loop = true;
  const loras = input("loras")
    .value.split(/[\s,]+/)
    .filter(Boolean);
  if (loras.length) request.loras = loras.map(adapter);
  return request;
}

async function generate() {
  const submitting = button("[type=submit]", form);
  if (submitting.disabled) return;
  clearErrors();
  submitting.disabled = true;
  try {
    const request = { ...written(), ...(await edit.fields()) };
    submitting.disabled = false; // from here on it waits in the history
    announce("Sent");
    await jobs.submit(request);
    if (!offered) await load(); // it had no key when it began
  } catch (error) {
    showError(error);
  } finally {
    submitting.disabled = false;
  }
}

form.onsubmit = (event) => {
  event.preventDefault();
  generate();
};
form.onkeydown = (event) => {
  if (event.key !== "Enter") return;
  const sends = event.ctrlKey || event.metaKey;
  // A key that is held sends once, and what has the focus does not send as well.
  if (sends || (event.repeat && event.target !== prompt)) event.preventDefault();
  if (sends && !event.repeat) form.requestSubmit();
};
model.onchange = () => {
  showModel().catch(showError);
  for (const field of [input("steps"), input("cfg_scale")]) field.value = field.defaultValue;
};
preset.onchange = () => {
  const chosen = presets.find(({ name }) => name === preset.value);
  if (!chosen) return;
  prompt.value = chosen.prompt;
  input("duration").value = String(chosen.duration);
};
edit.addEventListener("change", () => {
  const length = edit.seconds + (edit.mode === "continue" ? MORE_S : 0);
  if (edit.seconds) input("duration").value = String(Math.round(100 * length) / 100);
  const isOwn = edit.file && edit.mode !== "continue";
  ownLength = isOwn ? input("duration").valueAsNumber : Number.NaN;
});
