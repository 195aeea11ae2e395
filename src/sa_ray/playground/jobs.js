/** Jobs on their way: submitted, followed to their end, cancelled. A reload goes on with them. */
import { ApiError, cancel, submit } from "./api.js";
import { ConnectionLost, lose } from "./connection.js";
import { follow, sleep } from "./events.js";
import { history } from "./history.js";

/** @typedef {import("./types.js").End} End */
/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {import("./types.js").JobView} JobView */
/** @typedef {import("./types.js").Request} Request */

/** Seconds: a service that wants to be left alone for longer is not asked again unbidden. */
const LONGEST_RETRY = 120;

/** @param {string} message @returns {End} */
const failed = (message) => ended("failed", message);

/**
 * @param {End["status"]} status
 * @param {string | null} [error]
 * @param {JobView | null} [job]
 * @returns {End}
 */
function ended(status, error = null, job = null) {
  return {
    status,
    error,
    model: job?.model ?? "",
    format: job?.format ?? "",
    engine: job?.engine ?? null,
    made_in: job?.timings.generation_seconds ?? null,
    results: (job?.results ?? []).map(({ index, seed, audio_duration, warning }) => {
      return { index, seed, audio_duration, warning };
    }),
  };
}

class Jobs extends EventTarget {
  /** What is known of jobs under way, by key: as last seen, or why there is none yet.
   * @type {Map<string, JobView | string>} */
  live = new Map();

  /** @type {Set<string>} */
  #running = new Set();

  /** @type {Set<string>} Cancelled before the service has accepted them. */
  #dropped = new Set();

  /**
   * Submit a request; return once the service has accepted it, whatever becomes of it then. Throws
   * the `ApiError` with which it was refused for good.
   *
   * @param {Request} request
   */
  async submit(request) {
    const entry = history.add(request);
    try {
      await this.#accepted(entry);
    } catch (error) {
      history.remove(entry.key);
      throw error;
    }
    this.resume();
  }

  /** Go on with what is under way. @param {boolean} [all] Also what no tab has submitted yet. */
  resume(all = false) {
    for (const entry of history.all()) {
      if (entry.end || this.#running.has(entry.key) || !(entry.id || all)) continue;
      this.#running.add(entry.key);
      this.#toItsEnd(entry)
        .catch((error) => failed(String(error.message)))
        .then((end) => {
          if (end) history.change(entry.key, { end });
          this.live.delete(entry.key);
        })
        .finally(() => this.#running.delete(entry.key));
    }
  }

  /** @param {string} key */
  async cancel(key) {
    const id = history.get(key)?.id;
    if (!id) {
      this.#dropped.add(key);
      history.change(key, { end: ended("cancelled") });
      return;
    }
    const job = await cancel(id);
    if (job) this.#tell(key, job);
    else history.change(key, { end: ended("cancelled") });
  }

  /** @param {Entry} entry @returns {Promise<End | null>} */
  async #toItsEnd(entry) {
    const id = entry.id ?? (await this.#accepted(entry));
    if (!id) return null;
    const job = await follow(id, (now) => this.#tell(entry.key, now));
    if (!job) return history.get(entry.key)?.end ?? ended("gone");
    return ended(/** @type {End["status"]} */ (job.status), job.error, job);
  }

  /** Submit until the service has accepted; return the job's id, null if dropped meanwhile.
   * @param {Entry} entry @returns {Promise<string | null>} */
  async #accepted(entry) {
    for (;;) {
      if (this.#dropped.has(entry.key)) return null;
      try {
        const { id } = await submit(entry.request, entry.key);
        if (this.#dropped.has(entry.key)) {
          await cancel(id);
          return null;
        }
        history.change(entry.key, { id });
        return id;
      } catch (error) {
        if (error instanceof ConnectionLost) {
          this.#tell(entry.key, "waits for the connection");
          await lose();
        } else if (error instanceof ApiError && error.retryAfter !== null) {
          if (error.retryAfter > LONGEST_RETRY) throw error;
          this.#tell(entry.key, `busy, asks again in ${error.retryAfter} s`);
          await sleep(1000 * error.retryAfter);
        } else throw error;
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
