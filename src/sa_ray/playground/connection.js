/** Whether the service can be reached. While it cannot, it is asked again and again. */
import { element } from "./elements.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

/** The service, or the network before it, did not answer. */
export class ConnectionLost extends Error {}

/** @type {Promise<void> | null} */
let coming = null;

/** Note that a request got no answer; return a promise of the connection's return. */
export function lose() {
  coming ??= untilItAnswers().finally(() => {
    coming = null;
    element("#connection").textContent = "";
  });
  return coming;
}

/** Wait for `ms`, or until the browser is back on line. @param {number} ms @returns {Promise<void>} */
function pause(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    }
    window.addEventListener("online", done);
  });
}

async function untilItAnswers() {
  element("#connection").textContent = "Connection lost. Trying again.";
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    // Not all pages at once, where many have lost it.
    await pause(wait * (0.75 + Math.random() / 2));
    try {
      const answer = await fetch("health", { cache: "no-store" });
      if (answer.ok) return;
    } catch {
      // still away
    }
  }
}
