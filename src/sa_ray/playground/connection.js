/** Whether the service can be reached. While it cannot, it is asked again and again. */
import { element, sleep } from "./elements.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

/** The service, or the network before it, does not answer. */
export class ConnectionLost extends Error {}

/** @type {Promise<void> | null} */
let coming = null;

/** Note that the connection is lost; return the error to throw. */
export function lost() {
  untilItIsBack();
  return new ConnectionLost("The service cannot be reached.");
}

/** Wait until the service answers again. */
export function untilItIsBack() {
  coming ??= askUntilItAnswers().finally(() => {
    coming = null;
    element("#connection").textContent = "";
  });
  return coming;
}

async function askUntilItAnswers() {
  element("#connection").textContent = "Connection lost. Trying again.";
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    // Not all pages at once, where many have lost it.
    await sleep(wait * (0.75 + Math.random() / 2));
    const answer = await fetch("health", { cache: "no-store" }).catch(() => null);
    if (answer?.ok) return;
  }
}
