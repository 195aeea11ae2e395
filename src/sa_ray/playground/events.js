/** Follow jobs: one by server-sent events, others that run at the same time by asking. */
/** @import {JobView} from "./types.js" */
import { ApiError, call, get } from "./api.js";
import { ConnectionLost, lost, untilItIsBack } from "./connection.js";
import { sleep } from "./elements.js";

const ASK_EVERY_MS = 2000;
/** As many jobs are asked after in that time; where there are more, each waits longer. */
const ASKED_AT_ONCE = 8;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** Three heartbeats of a stream: after that it is dead, even if nobody has closed it. */
const SILENT_MS = 45_000;

/** Browsers have six connections to a host, for all tabs: each tab takes one for events. */
let streaming = false;
/** Jobs that are about to be asked after. */
let waiting = 0;

/** @param {JobView | null} job */
const hasEnded = (job) => /^(succeeded|failed|cancelled)$/.test(job?.status ?? "");

/**
 * Tell `changed` of each change of a job, and return the job as it ended; null: the service does not
 * know it. Goes on through lost connections. Throws an `ApiError` that repeating does not mend.
 * @param {string} id @param {(job: JobView) => void} changed @returns {Promise<JobView | null>}
 */
export async function follow(id, changed) {
  const stream = new JobStream(id, changed);
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      const asks = streaming;
      const job = await (asks ? stream.ask() : stream.read());
      if (hasEnded(job)) return job;
      if (job) wait = FIRST_WAIT_MS;
      await (asks ? aWhile() : sleep(wait));
    } catch (error) {
      if (error instanceof ConnectionLost) await untilItIsBack();
      else if (!(error instanceof ApiError)) throw error;
      else if (error.status === 404) return null;
      else if (error.status < 500 && error.status !== 429) throw error;
      else await sleep(error.retryAfter === null ? wait : 1000 * error.retryAfter);
    }
  }
}

/** Wait until a job may be asked after again. */
async function aWhile() {
  waiting += 1;
  await sleep(ASK_EVERY_MS * Math.max(1, waiting / ASKED_AT_ONCE));
  waiting -= 1;
}

/** The events of one job. A stream that is read again goes on where it broke off. */
class JobStream {
  #lastId = "";

  /** @param {string} id @param {(job: JobView) => void} changed */
  constructor(id, changed) {
    this.id = id;
    this.changed = changed;
  }

  /** Ask for the job as it is. @returns {Promise<JobView>} */
  async ask() {
    const job = await get(`jobs/${this.id}`);
    this.changed(job);
    return job;
  }

  /** Read until the stream ends; return the job of the last event. */
  async read() {
    streaming = true;
    const silence = new AbortController();
    const expired = () => silence.abort();
    let timer = setTimeout(expired, SILENT_MS);
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": this.#lastId };
      const answer = await call(`jobs/${this.id}/events`, { headers, signal: silence.signal });
      if (!answer.body) return await this.ask(); // 204: nothing new
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      /** @type {JobView | null} */
      let job = null;
      for (let text = ""; ; ) {
        const { done, value } = await reader.read().catch(() => {
          throw lost();
        });
        if (done) return job;
        clearTimeout(timer);
        timer = setTimeout(expired, SILENT_MS);
        const blocks = (text + value).split(/\r?\n\r?\n/);
        text = blocks.pop() ?? "";
        for (const block of blocks) job = this.#take(block) ?? job;
      }
    } finally {
      clearTimeout(timer);
      streaming = false;
    }
  }

  /** @param {string} block One event, or a comment that keeps the connection open. */
  #take(block) {
    const [, data] = /^data: ?(.*)$/m.exec(block) ?? [];
    if (!data) return null;
    this.#lastId = /^id: ?(.*)$/m.exec(block)?.[1] ?? this.#lastId;
    /** @type {JobView} */
    const job = JSON.parse(data);
    this.changed(job);
    return job;
  }
}
