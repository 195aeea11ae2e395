/** What the browser keeps. Where it refuses, as with site data switched off, this page remembers. */

const PREFIX = "sa-ray/";

/** @type {Map<string, string>} */
const here = new Map();

/** @typedef {"browser" | "tab"} Where For all tabs and until forgotten, or for this one alone. */

/** @param {Where} where */
const storage = (where) => (where === "tab" ? sessionStorage : localStorage);

/** @param {string} name @param {Where} [where] @returns {string | null} */
export function read(name, where = "browser") {
  try {
    return storage(where).getItem(PREFIX + name);
  } catch {
    return here.get(where + name) ?? null;
  }
}

/**
 * Keep `text`; null forgets. Return whether there was room for it.
 *
 * @param {string} name
 * @param {string | null} text
 * @param {Where} [where]
 */
export function write(name, text, where = "browser") {
  try {
    if (text === null) storage(where).removeItem(PREFIX + name);
    else storage(where).setItem(PREFIX + name, text);
    return true;
  } catch (error) {
    if (error instanceof DOMException && error.name === "QuotaExceededError") return false;
    if (text === null) here.delete(where + name);
    else here.set(where + name, text);
    return true;
  }
}

/**
 * Call `changed` when another tab has changed what is kept under `name`.
 *
 * @param {string} name
 * @param {() => void} changed
 */
export function onChange(name, changed) {
  window.addEventListener("storage", (event) => {
    if (event.key === PREFIX + name || event.key === null) changed();
  });
}
