/** Find what the page's HTML holds. */

/**
 * Return the first element that `selector` names; throw if it is not there, or of another kind.
 *
 * @template {Element} T
 * @param {string} selector
 * @param {{new (): T}} kind
 * @param {ParentNode} [root]
 * @returns {T}
 */
export function find(selector, kind, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) throw new TypeError(`the page has no ${selector}`);
  return found;
}

/** @param {string} id @returns {HTMLInputElement} */
export const input = (id) => find(`#${id}`, HTMLInputElement);

/**
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {HTMLButtonElement}
 */
export const button = (selector, root) => find(selector, HTMLButtonElement, root);

/**
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {HTMLElement}
 */
export const element = (selector, root) => find(selector, HTMLElement, root);

/**
 * Return a copy of the first element in the template `id`.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function copied(id) {
  const first = find(`#${id}`, HTMLTemplateElement).content.firstElementChild?.cloneNode(true);
  if (!(first instanceof HTMLElement)) throw new TypeError(`the template ${id} is empty`);
  return first;
}

/** Say something to those who cannot see it happen. @param {string} text */
export function announce(text) {
  element("#announcements").textContent = text;
}

/** @param {number} seconds @returns {string} */
export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}
