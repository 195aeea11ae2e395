/** Jobs on their way: submitted, followed to their end, cancelled. A reload goes on with them. */
/** @import {End, Entry, JobView, Request} from "./types.js" */
import { ApiError, cancel, submit } from "./api.js";
import { ConnectionLost, untilItIsBack } from "./connection.js";
import { sleep } from "./elements.js";
import { follow } from "./events.js";
import { history } from "./history.js";

/** Seconds: a service that wants to be left alone for longer is not asked again unbidden. */
const LONGEST_RETRY = 120;

/** @param {End["status"]} status @param {string | null} [error] @returns {End} */
const without = (status, error = null) => {
  return { status, error, model: "", format: "", engine: null, made_in: null, results: [] };
};

/** @param {JobView} job @returns {End} */
const endOf = ({ status, error, model, format, engine, timings, results }) => ({
  ...{ status: /** @type {End["status"]} */ (status), error, model, format, engine },
  made_in: timings.generation_seconds,
  results: results.map(({ index, seed, audio_duration, warning }) => {
    return { index, seed, audio_duration, warning };
  }),
});

class Jobs extends EventTarget {
  /** What is known of those under way, by key: as last seen, or why there is none yet.
   * @type {Map<string, JobView | string>} */
  live = new Map();
  /** @type {Set<string>} */
  #running = new Set();

  /** Submit a request, and return once it is accepted. Throws the `ApiError` that refuses it.
   * @param {Request} request */
  async submit(request) {
    const entry = history.add(request);
    try {
      await this.#accepted(entry);
    } catch (error) {
      history.remove(({ key }) => key === entry.key);
      throw error;
    }
  }

  /** Go on with what is under way. @param {boolean} [all] Also with what was not accepted yet. */
  resume(all = false) {
    for (const entry of history.all()) {
      if (entry.end || this.#running.has(entry.key) || !(entry.id || all)) continue;
      this.#running.add(entry.key);
      this.#end(entry)
        .catch((error) => (error.status === 401 ? null : without("failed", error.message)))
        .then((end) => end && history.change(entry.key, { end })) // without a key, another time
        .finally(() => {
          this.live.delete(entry.key);
          this.#running.delete(entry.key);
        });
    }
  }

  /** @param {string} key */
  async cancel(key) {
    const id = history.get(key)?.id;
    const job = id && (await cancel(id));
    if (job) this.#tell(key, job);
    else history.change(key, { end: without("cancelled") });
  }

  /** @param {Entry} entry @returns {Promise<End>} */
  async #end(entry) {
    const id = entry.id ?? (await this.#accepted(entry));
    const job = id && (await follow(id, (now) => this.#tell(entry.key, now)));
    return job ? endOf(job) : (history.get(entry.key)?.end ?? without("gone"));
  }

  /** Submit until it is accepted; return the job's id, null if it was cancelled before.
   * @param {Entry} entry */
  async #accepted({ key, request }) {
    for (;;) {
      try {
        if (history.get(key)?.end) return null;
        const id = await submit(request, key);
        if (history.get(key)?.end) await cancel(id);
        history.change(key, { id });
        return id;
      } catch (error) {
        if (error instanceof ConnectionLost) {
          this.#tell(key, "waits for the connection");
          await untilItIsBack();
          continue;
        }
        const wait = error instanceof ApiError ? error.retryAfter : null;
        if (wait === null || wait > LONGEST_RETRY) throw error;
        this.#tell(key, `busy, asks again in ${wait} s`);
        await sleep(1000 * wait);
      }
    }
  }

  /** @param {string} key @param {JobView | string} now */
  #tell(key, now) {
    this.live.set(key, now);
    this.dispatchEvent(new CustomEvent("progress", { detail: key }));
  }
}

export const jobs = new Jobs();
history.addEventListener("change", () => jobs.resume());
