/** The API key: kept for this tab, or in this browser if its user wants that. */
import { button, dialog, element, input } from "./elements.js";
import { read, write } from "./kept.js";

const NAME = "key";

/** @type {Promise<boolean> | null} */
let asking = null;

/** Return the key, less what no key has and no header takes; empty: none. */
export const apiKey = () => (read(NAME, "tab") || read(NAME) || "").replace(/[^!-~]/g, "");

/** @param {string} inTab @param {string} inBrowser */
function keep(inTab, inBrowser) {
  write(NAME, inTab, "tab");
  write(NAME, inBrowser);
  showKeyButton();
}

export const forgetKey = () => keep("", "");

export function showKeyButton() {
  button("#change-key").hidden = apiKey() === "";
}

/** Ask for a key; return whether one was given. Whoever asks meanwhile waits for the same.
 * @param {string} refused The key that was refused; empty: there was none. */
export function askForKey(refused) {
  if (apiKey() !== refused) return Promise.resolve(true); // given meanwhile
  asking ??= ask(refused).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {string} refused @returns {Promise<boolean>} */
function ask(refused) {
  const box = dialog("key-dialog");
  const field = input("key");
  element("#key-why").textContent = refused
    ? "The service does not take this key. It may be mistyped or revoked."
    : "This service wants a key. Its operator hands them out.";
  field.value = box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => {
    box.onclose = () => {
      const key = box.returnValue === "use" ? field.value : "";
      if (key && input("keep-key").checked) keep("", key);
      else if (key) keep(key, "");
      resolve(key !== "");
    };
  });
}
