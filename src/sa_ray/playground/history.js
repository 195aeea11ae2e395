/** The history: requests, what became of them, and which clips are favourites. All tabs share it. */
/** @import {Entry, Request} from "./types.js" */
import { onChange, read, write } from "./kept.js";

const NAME = "history";

/** Entries that are kept, and where there is no room even for fewer, in this page alone; favourites
 * and those under way are, however many they are. */
const [MOST, FEWEST] = [200, 12];

/** @param {any} end */
const isEnd = ({ results, made_in }) =>
  Array.isArray(results) && !results.includes(null) && Number.isFinite(made_in ?? 0);

/** Tell an entry from what else may have been left there. @param {any} one */
const isEntry = (one) =>
  typeof one?.key === "string" &&
  typeof one.request?.prompt === "string" &&
  Array.isArray(one.favourites) &&
  (one.end === null || isEnd(one.end ?? {}));

class History extends EventTarget {
  constructor() {
    super();
    onChange(NAME, () => this.#tell());
  }

  /** Newest first. @returns {Entry[]} */
  all() {
    try {
      return JSON.parse(read(NAME) ?? "[]").filter(isEntry);
    } catch {
      return [];
    }
  }

  /** @param {string} key */
  get(key) {
    return this.all().find((entry) => entry.key === key);
  }

  /** @param {Request} request @returns {Entry} */
  add(request) {
    const random = crypto.getRandomValues(new Uint32Array(4)); // randomUUID() wants HTTPS
    const key = Array.from(random, (part) => part.toString(16).padStart(8, "0")).join("");
    const entry = { key, id: null, at: Date.now(), request, end: null, favourites: [] };
    this.#save([entry, ...this.all()]);
    return entry;
  }

  /** Change an entry, unless it was removed. @param {string} key @param {Partial<Entry>} changes */
  change(key, changes) {
    this.#save(this.all().map((entry) => (entry.key === key ? { ...entry, ...changes } : entry)));
  }

  /** @param {(entry: Entry) => boolean} forgets */
  remove(forgets) {
    this.#save(this.all().filter((entry) => !forgets(entry)));
  }

  /** @param {string} key @param {number} index Of a clip. */
  toggleFavourite(key, index) {
    const now = this.get(key)?.favourites ?? [];
    const without = now.filter((one) => one !== index);
    this.change(key, { favourites: without.length < now.length ? without : [...now, index] });
  }

  /** @param {Entry[]} entries */
  #save(entries) {
    let most = MOST;
    const kept = () => entries.filter((one, at) => at < most || !one.end || one.favourites.length);
    while (!write(NAME, JSON.stringify(kept())) && most > FEWEST) most /= 2;
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

export const history = new History();
