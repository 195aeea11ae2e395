/** The API key: kept for this tab, or in this browser if its user wants that. */
import { button, element, find, input } from "./elements.js";
import { read, write } from "./kept.js";

const NAME = "key";

/** @type {Promise<boolean> | null} */
let asking = null;

/** @returns {string} Empty: none. */
export function apiKey() {
  return read(NAME, "tab") ?? read(NAME) ?? "";
}

export function showKeyButton() {
  button("#change-key").hidden = apiKey() === "";
}

export function forgetKey() {
  write(NAME, null, "tab");
  write(NAME, null);
  showKeyButton();
}

/**
 * Ask for a key; return whether one was given. Asked once, whoever asks meanwhile.
 *
 * @param {string} refused The key that was refused; empty: there was none.
 */
export function askForKey(refused) {
  if (apiKey() !== refused) return Promise.resolve(true); // given meanwhile
  asking ??= ask(refused).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {string} refused @returns {Promise<boolean>} */
function ask(refused) {
  const dialog = find("#key-dialog", HTMLDialogElement);
  const field = input("key");
  element("#key-why").textContent = refused
    ? "The service does not take this key. It may be mistyped or revoked."
    : "This service wants a key. Its operator hands them out.";
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const form = find("form", HTMLFormElement, dialog);
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = field.value.trim();
      if (key) {
        forgetKey();
        write(NAME, key, input("keep-key").checked ? "browser" : "tab");
        showKeyButton();
        dialog.close("given");
      }
    };
    dialog.onclose = () => {
      resolve(dialog.returnValue === "given");
      dialog.returnValue = "";
    };
  });
}
