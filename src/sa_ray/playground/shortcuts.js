/** The keyboard: shortcuts of single keys, which can be switched off, and the list of them. */
import { compare } from "./compare.js";
import { button, dialog, element, input } from "./elements.js";
import { read, write } from "./kept.js";
import { player } from "./player.js";
import { clips } from "./results.js";

const STEP_S = 1;

/** Name of the clip that had the focus last. */
let last = "";

/** Return the clip that shortcuts are for. */
function current() {
  const all = clips();
  const focused = all.find(({ node }) => node.contains(document.activeElement));
  const known = [last, player.current].map((name) => all.find((clip) => clip.name === name));
  const found = focused ?? known.find(Boolean) ?? all[0];
  last = found?.name ?? "";
  return found;
}

/** @param {number} by */
function move(by) {
  const all = clips();
  const at = all.findIndex(({ node }) => node.contains(document.activeElement));
  all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)]?.node.focus();
}

/** @param {number} by Seconds. */
function step(by) {
  const clip = current();
  clip?.seek(clip.at + by);
}

/** @param {string} name Class of one of a clip's controls. */
const press = (name) => () => {
  const clip = current();
  if (clip) element(`.${name}`, clip.node).click();
};

const showList = () => dialog("keyboard-dialog").showModal();

/** What keys do; index.html lists them. @type {Record<string, () => void>} */
const KEYS = {
  "/": () => element("#prompt").focus(),
  j: () => move(1),
  k: () => move(-1),
  " ": press("play"),
  ArrowLeft: () => step(-STEP_S),
  ArrowRight: () => step(STEP_S),
  s: press("again"),
  v: press("vary"),
  e: press("extend"),
  i: press("inpaint"),
  l: press("loop"),
  d: press("download"),
  f: press("favourite"),
  a: press("side-a"),
  b: press("side-b"),
  x: () => compare.switchOver(),
  "?": showList,
};

/** Return whether what has the focus uses the key itself. @param {KeyboardEvent} event */
function isTaken({ target, key }) {
  if (!(target instanceof Element) || target.closest("dialog")) return true;
  if (target.matches("textarea, select, [type=text], [type=number], [type=file]")) return true;
  if (key === " ") return target.matches("button, input, summary");
  return key.startsWith("Arrow") && target.matches("input");
}

const single = input("single-keys");
single.checked = read("single-keys") !== "off";
single.onchange = () => write("single-keys", single.checked ? "on" : "off");
button("#keyboard").onclick = showList;
document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || !single.checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTaken(event) || (event.repeat && !/^(j|k|Arrow.*)$/.test(event.key))) return;
  event.preventDefault();
  act();
});
