/** Calls of the public API. */
import { ConnectionLost, lose } from "./connection.js";
import { apiKey, askForKey } from "./key.js";

/** @typedef {import("./types.js").JobView} JobView */
/** @typedef {import("./types.js").Request} Request */

/** An answer that is an error, as docs/api.md has it. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {string} code
   * @param {string | null} param
   * @param {number | null} retryAfter Seconds after which to ask again; null: of no use.
   */
  constructor(message, status, code = "", param = null, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/**
 * Call the service; ask for a key where it wants one. Throws `ApiError` or `ConnectionLost`.
 *
 * @param {string} path Relative to the page.
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function call(path, init = {}) {
  for (;;) {
    const key = apiKey();
    const answer = await send(path, init, key);
    if (answer.ok) return answer;
    const error = await errorOf(answer);
    if (error.status !== 401 || !(await askForKey(key))) throw error;
  }
}

/** @param {string} path @param {RequestInit} init @param {string} key */
async function send(path, init, key) {
  const headers = new Headers(init.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { cache: "no-store", ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    lose();
    throw new ConnectionLost("The service cannot be reached.");
  }
}

/** @param {Response} answer @returns {Promise<ApiError>} */
async function errorOf(answer) {
  /** @type {{code?: string, message?: string, param?: string | null} | undefined} */
  let told;
  try {
    told = (await answer.json()).error;
  } catch {
    told = undefined;
  }
  if (!told?.code && answer.status >= 502) {
    lose(); // a proxy answers, and has nobody behind it
    throw new ConnectionLost("The service cannot be reached.");
  }
  const after = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  const message = told?.message ?? `The service answered ${answer.status}.`;
  const wait = Number.isNaN(after) ? null : after;
  return new ApiError(message, answer.status, told?.code, told?.param ?? null, wait);
}

/** @template T @param {string} path @returns {Promise<T>} */
export async function get(path) {
  return (await call(path)).json();
}

/**
 * @param {Request} request
 * @param {string} key Idempotency key.
 * @returns {Promise<{id: string}>}
 */
export async function submit(request, key) {
  const answer = await call("jobs", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": key },
    body: JSON.stringify(request),
  });
  return answer.json();
}

/** Send audio; return the id that names it. @param {Blob} file @returns {Promise<string>} */
export async function upload(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await (await call("v1/uploads", { method: "POST", headers, body: file })).json()).id;
}

/** Cancel a job; return it, or null if it had ended, and is deleted now.
 * @param {string} id @returns {Promise<JobView | null>} */
export async function cancel(id) {
  const answer = await call(`jobs/${id}`, { method: "DELETE" });
  return answer.status === 204 ? null : answer.json();
}

/** @param {string} id @param {number} index @returns {Promise<Blob>} */
export async function audioOf(id, index) {
  // Never from a bucket, whose CORS rules need not know this page.
  return (await call(`jobs/${id}/audio?index=${index}&redirect=false`)).blob();
}
