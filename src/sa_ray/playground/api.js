/** Calls of the public API. */
/** @import {JobView, Request} from "./types.js" */
import { lost } from "./connection.js";
import { apiKey, askForKey } from "./key.js";

/** An answer that is an error, as docs/api.md has it. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status @param {string | null} [param]
   * @param {number | null} [retryAfter] Seconds; null: asking again is of no use. */
  constructor(message, status, param = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/** Call the service; ask for a key where it wants one. Throws `ApiError` or `ConnectionLost`.
 * @param {string} path Relative to the page. @param {RequestInit} [init] */
export async function call(path, init = {}) {
  for (;;) {
    const key = apiKey();
    const headers = new Headers(init.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    const answer = await fetch(path, { cache: "no-store", ...init, headers }).catch(() => {
      throw lost();
    });
    if (answer.ok) return answer;
    const error = await errorOf(answer);
    if (error.status !== 401 || !(await askForKey(key))) throw error;
  }
}

/** @param {Response} answer */
async function errorOf(answer) {
  const error = (await answer.json().catch(() => null))?.error;
  if (!error?.code && answer.status >= 502) throw lost(); // a proxy, with nobody behind it
  const retryAfter = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return new ApiError(
    error?.message ?? `The service answered ${answer.status}.`,
    answer.status,
    error?.param,
    Number.isNaN(retryAfter) ? null : Math.max(retryAfter, 1),
  );
}

/** @param {string} path */
export const get = async (path) => (await call(path)).json();

/** Return the id of the job. @param {Request} request @param {string} key Idempotency key.
 * @returns {Promise<string>} */
export async function submit(request, key) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  const answer = await call("jobs", { method: "POST", headers, body: JSON.stringify(request) });
  return (await answer.json()).id;
}

/** Send audio; return the id that names it. @param {Blob} body @returns {Promise<string>} */
export async function upload(body) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await (await call("v1/uploads", { method: "POST", headers, body })).json()).id;
}

/** Cancel a job; return it, or null if it had ended: it is deleted then. @param {string} id
 * @returns {Promise<JobView | null>} */
export async function cancel(id) {
  const answer = await call(`jobs/${id}`, { method: "DELETE" });
  return answer.status === 204 ? null : answer.json();
}

/** Fetch a clip: never from a bucket, whose CORS rules need not know this page.
 * @param {string} id @param {number} index */
export const audioOf = async (id, index) =>
  (await call(`jobs/${id}/audio?index=${index}&redirect=false`)).blob();
