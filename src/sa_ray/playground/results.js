/** The results: the history's jobs, those under way among them, each with its clips. */
/** @import {Entry, JobView} from "./types.js" */
import { Clip } from "./clip.js";
import { compare } from "./compare.js";
import { announce, button, copied, dialog, element, find, input } from "./elements.js";
import { showError } from "./errors.js";
import { history } from "./history.js";
import { jobs } from "./jobs.js";
import { player } from "./player.js";

const GONE = "The service does not have this job any more.";

/** @type {Map<string, Card>} By key of their entries. */
const cards = new Map();

const every = () => [...cards.values()].flatMap((card) => card.clips);

/** Return the clips that are shown, as they stand on the page. */
export const clips = () =>
  [...document.querySelectorAll(".clip")].flatMap(
    (node) => every().find((clip) => clip.node === node && node.checkVisibility()) ?? [],
  );

/** @param {JobView | string | undefined} now */
function stateText(now) {
  if (typeof now !== "object") return now ?? "sent";
  if (now.cancel_requested) return "is being cancelled";
  if (now.status === "running")
    return now.progress < 100 ? `${Math.round(now.progress)} %` : "is stored";
  if (now.queue_position === null) return "queued";
  return now.queue_position > 1 ? `queued, ${now.queue_position - 1} ahead` : "queued, next";
}

/** @param {Entry} entry */
function factsOf({ at, end, request }) {
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  return [
    end?.model || request.model,
    request.init_audio && "variation",
    request.inpaint_audio && "parts remade",
    request.continue_audio && "continued",
    request.loop && "loop",
    request.steps && `${request.steps} steps`,
    end?.made_in && `made in ${end.made_in.toFixed(end.made_in < 1 ? 2 : 1)} s`,
    isToday || new Date(at).toLocaleDateString(),
    new Date(at).toLocaleTimeString([], { timeStyle: "short" }),
  ];
}

class Card {
  /** @type {Clip[]} */
  clips = [];
  #isEnded = false;

  /** @param {Entry} entry */
  constructor({ key, request }) {
    this.key = key;
    this.node = copied("job-template");
    this.node.ariaLabel = element("h3", this.node).textContent = request.prompt;
    button(".cancel", this.node).onclick = () => jobs.cancel(key).catch(showError);
    button(".retry", this.node).onclick = () => jobs.submit(request).catch(showError);
  }

  /** @param {Entry} entry As it is now. */
  show(entry) {
    if (!this.#isEnded && entry.end) this.#end(entry);
    if (!entry.end) this.#showProgress();
    element(".facts", this.node).textContent = factsOf(entry)
      .filter((fact) => typeof fact === "string" && fact)
      .join(" · ");
    const all = !input("only-favourites").checked;
    this.node.hidden = !all && entry.favourites.length === 0;
    for (const clip of this.clips) {
      clip.showMarks(entry);
      clip.node.hidden = !all && !entry.favourites.includes(clip.file.index);
    }
  }

  #showProgress() {
    const now = jobs.live.get(this.key);
    const progress = find("progress", HTMLProgressElement, this.node);
    if (typeof now === "object" && now.progress) progress.value = now.progress;
    else progress.removeAttribute("value");
    element(".state", this.node).textContent = stateText(now);
  }

  /** @param {Entry} entry */
  #end(entry) {
    const { end, request } = entry;
    if (!end) return;
    this.#isEnded = true;
    element(".running", this.node).hidden = true;
    element(".ended", this.node).hidden = end.status === "succeeded";
    element(".message", this.node).textContent =
      end.status === "gone" ? GONE : (end.error ?? end.status);
    this.node.classList.toggle("failed", end.status === "failed");
    this.clips = end.results.map((file) => new Clip(entry, end, file));
    element(".clips", this.node).append(...this.clips.map(({ node }) => node));
    if (jobs.live.has(this.key)) announce(`${request.prompt}: ${end.status}`);
  }

  remove() {
    cards.delete(this.key);
    this.node.remove();
    for (const clip of this.clips) clip.release();
  }
}

export function showResults() {
  const entries = history.all();
  const keys = new Set(entries.map(({ key }) => key));
  for (const card of cards.values()) if (!keys.has(card.key)) card.remove();
  const list = element("#jobs");
  entries.forEach((entry, at) => {
    const card = cards.get(entry.key) ?? new Card(entry);
    cards.set(entry.key, card);
    if (list.children[at] !== card.node) list.insertBefore(card.node, list.children[at] ?? null);
    card.show(entry);
  });
  element("#empty").hidden = entries.length > 0;
}

const clearing = dialog("clear-dialog");
button("#clear").onclick = () => clearing.showModal();
clearing.onclose = () => {
  const all = input("clear-favourites").checked;
  if (clearing.returnValue === "clear")
    history.remove(({ end, favourites }) => end !== null && (all || favourites.length === 0));
  clearing.returnValue = "";
};
input("only-favourites").onchange = showResults;
history.addEventListener("change", showResults);
compare.addEventListener("change", showResults);
jobs.addEventListener("progress", (event) => {
  const entry = history.get(/** @type {CustomEvent<string>} */ (event).detail);
  if (entry) cards.get(entry.key)?.show(entry);
});
player.addEventListener("change", () => {
  for (const clip of every()) clip.show();
});
player.addEventListener("time", () =>
  every()
    .find(({ name }) => name === player.current)
    ?.show(),
);
