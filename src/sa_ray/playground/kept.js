/** What the browser keeps. Where it refuses, for want of room or with site data switched off,
 * this page remembers. */

const PREFIX = "sa-ray/";

/** @type {Map<string, string>} */
const here = new Map();

/** @typedef {"browser" | "tab"} Where Until it is forgotten, or for this tab alone. */

/** @param {Where} where */
const storage = (where) => (where === "tab" ? sessionStorage : localStorage);

/** @param {string} name @param {Where} [where] */
export function read(name, where = "browser") {
  try {
    return here.get(where + name) ?? storage(where).getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/** Keep `text`; return whether there was room. @param {string} name @param {string} text
 * @param {Where} [where] */
export function write(name, text, where = "browser") {
  try {
    storage(where).setItem(PREFIX + name, text);
    here.delete(where + name);
  } catch (error) {
    here.set(where + name, text);
    return !(error instanceof DOMException && error.name === "QuotaExceededError");
  }
  return true;
}

/** Call `changed` when another tab changes it. @param {string} name @param {() => void} changed */
export function onChange(name, changed) {
  window.addEventListener("storage", ({ key }) => {
    if (key === PREFIX + name || key === null) changed();
  });
}
