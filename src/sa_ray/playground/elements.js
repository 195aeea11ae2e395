/** Find what the page's HTML holds, and say what cannot be seen. */

/**
 * Return the first element that `selector` names; throw if there is none, or of another kind.
 * @template {Element} T
 * @param {string} selector @param {{new (): T}} kind @param {ParentNode} [root] @returns {T}
 */
export function find(selector, kind, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) throw new TypeError(`the page has no ${selector}`);
  return found;
}

/** @param {string} id */
export const input = (id) => find(`#${id}`, HTMLInputElement);

/** @param {string} id */
export const dialog = (id) => find(`#${id}`, HTMLDialogElement);

/** @param {string} selector @param {ParentNode} [root] */
export const button = (selector, root) => find(selector, HTMLButtonElement, root);

/** @param {string} selector @param {ParentNode} [root] @returns {HTMLElement} */
export const element = (selector, root) => find(selector, HTMLElement, root);

/** Return a copy of what the template holds. @param {string} id */
export function copied(id) {
  const copy = find(`#${id}`, HTMLTemplateElement).content.cloneNode(true);
  return element("*", /** @type {DocumentFragment} */ (copy));
}

/** Say something to those who cannot see it happen. @param {string} text */
export function announce(text) {
  element("#announcements").textContent = text;
}

/** @param {number} seconds */
export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

/** Name what made a sound, and say if it was no model. @param {{engine: string | null}} made */
export const engineName = ({ engine }) =>
  engine === "procedural" ? "procedural engine (stand-in)" : engine;

/** @param {number} ms @returns {Promise<void>} */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
