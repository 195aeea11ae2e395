/** The keyboard: shortcuts of single keys, which can be switched off, and the list of them. */
import { compare } from "./compare.js";
import { button, element, find, input } from "./elements.js";
import { read, write } from "./kept.js";
import { player } from "./player.js";
import { clips } from "./results.js";

/** @typedef {import("./clip.js").Clip} Clip */

const STEP_SECONDS = 1;

/** @type {Clip | undefined} */
let lastClip;

/** The clip that shortcuts are for: the one with the focus, or the last that had it or played. */
function current() {
  const all = clips().filter(({ node }) => !node.hidden);
  const focused = all.find(({ node }) => node.contains(document.activeElement));
  lastClip = focused ?? all.find(({ name }) => name === lastClip?.name);
  lastClip ??= all.find(({ name }) => name === player.current) ?? all[0];
  return lastClip;
}

/** @param {number} by */
function move(by) {
  const all = clips().filter(({ node }) => node.checkVisibility());
  const place = all.findIndex(({ node }) => node.contains(document.activeElement));
  const next = all[place < 0 ? 0 : Math.min(Math.max(place + by, 0), all.length - 1)];
  next?.node.focus();
}

/** @param {string} name Class of one of the clip's buttons. */
const press = (name) => () =>
  /** @type {HTMLElement | null | undefined} */ (
    current()?.node.querySelector(`.${name}`)
  )?.click();

/** @type {[string, string, () => unknown][]} Key, what it does, how. */
const KEYS = [
  ["/", "To the prompt", () => element("#prompt").focus()],
  ["j", "Next clip", () => move(1)],
  ["k", "Clip before", () => move(-1)],
  [" ", "Play or pause the clip", press("play")],
  ["ArrowLeft", "A second back", () => current()?.step(-STEP_SECONDS)],
  ["ArrowRight", "A second on", () => current()?.step(STEP_SECONDS)],
  ["s", "Again with this seed", press("again")],
  ["v", "Vary", press("vary")],
  ["e", "Extend", press("extend")],
  ["i", "Inpaint here", press("inpaint")],
  ["l", "Loop", press("loop")],
  ["d", "Download", press("download")],
  ["f", "Favourite", press("favourite")],
  ["a", "Compare as A", press("side-a")],
  ["b", "Compare as B", press("side-b")],
  ["x", "Switch between A and B", () => compare.switchOver()],
  ["?", "This list", () => find("#keyboard-dialog", HTMLDialogElement).showModal()],
];
const NAMES = new Map([
  [" ", "Space"],
  ["ArrowLeft", "←"],
  ["ArrowRight", "→"],
]);

/** @param {KeyboardEvent} event @returns {boolean} Whether the focus is on what uses the key itself. */
function isTaken({ target, key }) {
  if (!(target instanceof Element) || target.closest("dialog")) return true;
  if (target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=range])"))
    return true;
  if (key === " ") return target.matches("button, input, summary");
  return key.startsWith("Arrow") && target.matches("input");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (!input("single-keys").checked || isTaken(event)) return;
  const found = KEYS.find(([key]) => key === event.key);
  if (!found) return;
  event.preventDefault();
  found[2]();
});

/** @type {[string, string][]} */
const shown = [
  ["Ctrl Enter", "Generate"],
  ...KEYS.map(([key, text]) => /** @type {[string, string]} */ ([NAMES.get(key) ?? key, text])),
];
for (const [keys, text] of shown) {
  const [term, told] = [document.createElement("dt"), document.createElement("dd")];
  for (const key of keys.split(" "))
    term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
  told.textContent = text;
  element("#shortcuts").append(term, told);
}
input("single-keys").checked = read("single-keys") !== "off";
input("single-keys").onchange = () =>
  write("single-keys", input("single-keys").checked ? "on" : "off");
button("#keyboard").onclick = () => find("#keyboard-dialog", HTMLDialogElement).showModal();
