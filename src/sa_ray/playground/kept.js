/** What the browser keeps. Where it refuses, as with site data switched off, this page remembers. */

const PREFIX = "sa-ray/";

/** @type {Map<string, string>} */
const here = new Map();

/** @typedef {"browser" | "tab"} Where Until it is forgotten, or for this tab alone. */

/** @param {Where} where */
const storage = (where) => (where === "tab" ? sessionStorage : localStorage);

/** @param {string} name @param {Where} [where] */
export function read(name, where = "browser") {
  try {
    return storage(where).getItem(PREFIX + name);
  } catch {
    return here.get(where + name) ?? null;
  }
}

/** Keep `text`; return whether there was room. @param {string} name @param {string} text
 * @param {Where} [where] */
export function write(name, text, where = "browser") {
  try {
    storage(where).setItem(PREFIX + name, text);
  } catch (error) {
    if (error instanceof DOMException && error.name === "QuotaExceededError") return false;
    here.set(where + name, text);
  }
  return true;
}

/** Call `changed` when another tab changes it. @param {string} name @param {() => void} changed */
export function onChange(name, changed) {
  window.addEventListener("storage", ({ key }) => {
    if (key === PREFIX + name || key === null) changed();
  });
}
