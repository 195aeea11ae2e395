/** Follow jobs: by server-sent events, and by asking where connections are short. */
import { ApiError, call, get } from "./api.js";
import { ConnectionLost, lose } from "./connection.js";

/** @typedef {import("./types.js").JobView} JobView */

/** Streams that all tabs have open at once: browsers have six connections to a host. */
const STREAMS = 3;
const ASK_EVERY_MS = 2000;
const LONGEST_WAIT_MS = 15_000;
const ENDS = new Set(["succeeded", "failed", "cancelled"]);

/** @param {number} ms @returns {Promise<void>} */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Tell `changed` of each change of a job, and return the job as it ended; null: the service does not
 * know it. Goes on through lost connections. Throws an `ApiError` that repeating does not mend.
 *
 * @param {string} id
 * @param {(job: JobView) => void} changed
 * @returns {Promise<JobView | null>}
 */
export async function follow(id, changed) {
  const stream = new JobStream(id, changed);
  for (let wait = 500; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      const before = stream.told;
      const job = await withStream(
        () => stream.read(),
        () => ask(id, changed),
      );
      if (job && ENDS.has(job.status)) return job;
      if (stream.told > before) wait = 500;
      await sleep(job ? ASK_EVERY_MS : wait);
    } catch (error) {
      if (error instanceof ConnectionLost) {
        await lose();
        continue;
      }
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 404) return null;
      if (error.status < 500 && error.status !== 429) throw error;
      await sleep(error.retryAfter === null ? wait : 1000 * error.retryAfter);
    }
  }
}

/** @param {string} id @param {(job: JobView) => void} changed @returns {Promise<JobView>} */
async function ask(id, changed) {
  /** @type {JobView} */
  const job = await get(`jobs/${id}`);
  changed(job);
  return job;
}

let ownStreams = 0;

/**
 * Call `withOne` if a stream may be opened, else `without`.
 *
 * @template T
 * @param {() => Promise<T>} withOne
 * @param {() => Promise<T>} without
 * @returns {Promise<T>}
 */
async function withStream(withOne, without) {
  if (!navigator.locks) {
    // Not a secure context: other tabs are not known, so one for each.
    if (ownStreams > 0) return without();
    ownStreams += 1;
    return withOne().finally(() => {
      ownStreams -= 1;
    });
  }
  for (let place = 0; place < STREAMS; place++) {
    /** @type {{value: T} | null} */
    const got = await navigator.locks.request(
      `sa-ray/stream-${place}`,
      { ifAvailable: true },
      async (lock) => lock && { value: await withOne() },
    );
    if (got) return got.value;
  }
  return without();
}

/** The events of one job. A stream that is read again goes on where it broke off. */
class JobStream {
  #lastId = "";
  told = 0;

  /** @param {string} id @param {(job: JobView) => void} changed */
  constructor(id, changed) {
    this.id = id;
    this.changed = changed;
  }

  /** Read until the stream ends; return the job if that was its end, else null. */
  async read() {
    const headers = { Accept: "text/event-stream", "Last-Event-ID": this.#lastId };
    const answer = await call(`jobs/${this.id}/events`, { headers });
    if (answer.status === 204 || !answer.body) return ask(this.id, this.changed);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    /** @type {JobView | null} */
    let job = null;
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        lose();
        throw new ConnectionLost("The stream of events broke off.");
      });
      if (done) break;
      const blocks = (text + value).split(/\r?\n\r?\n/);
      text = blocks.pop() ?? "";
      for (const block of blocks) job = this.#take(block) ?? job;
    }
    return job && ENDS.has(job.status) ? job : null;
  }

  /** @param {string} block One event. @returns {JobView | null} */
  #take(block) {
    const fields = new Map(
      block.split(/\r?\n/).map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
      }),
    );
    const data = fields.get("data");
    if (!data) return null; // a comment, so that the connection is not idle
    this.#lastId = fields.get("id") ?? this.#lastId;
    this.told += 1;
    /** @type {JobView} */
    const job = JSON.parse(data);
    this.changed(job);
    return job;
  }
}
