/** The results: the history's jobs, those under way among them, each with its clips. */
import { Clip } from "./clip.js";
import { compare } from "./compare.js";
import { announce, button, copied, element, find, input } from "./elements.js";
import { engineText, showError } from "./form.js";
import { history } from "./history.js";
import { jobs } from "./jobs.js";
import { player } from "./player.js";

/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {import("./types.js").JobView} JobView */

/** @type {Map<string, Card>} */
const cards = new Map();

/** Clips as they stand on the page. */
export const clips = () => history.all().flatMap(({ key }) => cards.get(key)?.clips ?? []);

/** @param {JobView | string | undefined} now @returns {string} */
function stateText(now) {
  if (now === undefined) return "sent";
  if (typeof now === "string") return now;
  if (now.cancel_requested) return "is being cancelled";
  if (now.status === "queued") {
    const ahead = (now.queue_position ?? 1) - 1;
    if (now.queue_position === null) return "queued";
    return ahead ? `queued, ${ahead} ahead` : "queued, next";
  }
  return now.progress >= 100 ? "being stored" : `${Math.round(now.progress)} %`;
}

class Card {
  /** @type {Clip[]} */
  clips = [];

  /** @param {Entry} entry */
  constructor(entry) {
    this.key = entry.key;
    this.node = copied("job-template");
    this.node.ariaLabel = entry.request.prompt;
    element("h3", this.node).textContent = entry.request.prompt;
    const cancel = button(".cancel", this.node);
    cancel.onclick = () => {
      cancel.disabled = true;
      jobs.cancel(this.key).catch((error) => {
        cancel.disabled = false;
        showError(error);
      });
    };
    button(".retry", this.node).onclick = () => jobs.submit(entry.request).catch(showError);
  }

  /** @param {Entry} entry */
  show(entry) {
    const { end, request } = entry;
    if (end && element(".running", this.node).hidden === false) this.#end(entry);
    if (!end) this.#showProgress();
    const what = [
      request.loop && "loop",
      request.init_audio && "variation",
      request.inpaint_audio && "parts remade",
      request.continue_audio && "continued",
    ];
    const facts = [
      engineText(end?.engine ?? ""),
      end?.model ?? request.model,
      ...what,
      request.steps && `${request.steps} steps`,
      end?.made_in && `made in ${end.made_in.toFixed(1)} s`,
      new Date(entry.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" }),
    ];
    element(".facts", this.node).textContent = facts.filter(Boolean).join(" · ");
    for (const clip of this.clips) clip.showMarks(entry);
    const favouritesOnly = input("only-favourites").checked;
    this.node.hidden = favouritesOnly && entry.favourites.length === 0;
    for (const clip of this.clips)
      clip.node.hidden = favouritesOnly && !entry.favourites.includes(clip.file.index);
  }

  #showProgress() {
    const now = jobs.live.get(this.key);
    const progress = find("progress", HTMLProgressElement, this.node);
    if (typeof now === "object" && now.status === "running") progress.value = now.progress;
    else progress.removeAttribute("value");
    element(".state", this.node).textContent = stateText(now);
  }

  /** @param {Entry} entry */
  #end(entry) {
    const { end, request } = entry;
    if (!end) return;
    element(".running", this.node).hidden = true;
    element(".ended", this.node).hidden = end.status === "succeeded";
    button(".retry", this.node).hidden = end.status === "cancelled";
    const gone = "The service does not have this job any more.";
    element(".message", this.node).textContent =
      end.status === "gone" ? gone : end.status === "cancelled" ? "cancelled" : end.error;
    this.node.classList.toggle("failed", end.status === "failed");
    this.clips = end.results.map((file) => new Clip(entry, end, file));
    element(".clips", this.node).append(...this.clips.map(({ node }) => node));
    if (jobs.live.has(this.key)) announce(`${request.prompt}: ${end.status}`);
  }

  remove() {
    for (const clip of this.clips) clip.release();
    this.node.remove();
  }
}

export function showResults() {
  const entries = history.all();
  const keys = new Set(entries.map(({ key }) => key));
  for (const [key, card] of cards)
    if (!keys.has(key)) {
      card.remove();
      cards.delete(key);
    }
  const list = element("#jobs");
  entries.forEach((entry, place) => {
    const card = cards.get(entry.key) ?? new Card(entry);
    cards.set(entry.key, card);
    card.show(entry);
    if (list.children[place] !== card.node)
      list.insertBefore(card.node, list.children[place] ?? null);
  });
  element("#empty").hidden = entries.length > 0;
}

/** @param {Event} event */
function progressed(event) {
  const key = /** @type {CustomEvent<string>} */ (event).detail;
  const entry = history.get(key);
  if (entry) cards.get(key)?.show(entry);
}

const showClips = () => clips().forEach((clip) => clip.show());

const clearing = find("#clear-dialog", HTMLDialogElement);
button("#clear").onclick = () => clearing.showModal();
button("#clear-now").onclick = () => {
  history.clear(input("clear-favourites").checked);
  clearing.close();
};
input("only-favourites").onchange = showResults;
history.addEventListener("change", showResults);
history.addEventListener("change", () => jobs.resume());
compare.addEventListener("change", showResults);
jobs.addEventListener("progress", progressed);
for (const name of ["change", "time", "ended"]) player.addEventListener(name, showClips);
