/** Errors of the form: at the field that is at fault, or as an alert. */
import { ApiError } from "./api.js";
import { ConnectionLost } from "./connection.js";
import { element, input } from "./elements.js";

const form = element("#generate");

/** @param {Element} field */
function clear(field) {
  document.getElementById(field.getAttribute("aria-describedby") ?? "")?.remove();
  field.removeAttribute("aria-invalid");
  field.removeAttribute("aria-describedby");
}

export function clearErrors() {
  element("#alerts").replaceChildren();
  form.querySelectorAll("[aria-invalid]").forEach(clear);
}

/** Show what went wrong. What is no answer of the service is a bug, and thrown on.
 * @param {unknown} error */
export function showError(error) {
  if (!(error instanceof ApiError || error instanceof ConnectionLost)) throw error;
  const field = error instanceof ApiError ? fieldOf(error) : null;
  const message = document.createElement("p");
  message.className = "error";
  message.textContent = error.message;
  if (!field) {
    message.role = "alert";
    element("#alerts").replaceChildren(message);
    return;
  }
  clear(field);
  message.id = `error-of-${field.id}`;
  field.ariaInvalid = "true";
  field.setAttribute("aria-describedby", message.id);
  field.addEventListener("input", () => clear(field), { once: true });
  field.closest(".field")?.append(message);
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.focus();
}

/** @param {ApiError} error @returns {HTMLElement | null} */
function fieldOf({ param, status }) {
  const names = (param ?? "").split(".");
  if ([413, 415].includes(status) || /^(\w+_)?audio$/.test(param ?? "")) return input("audio");
  for (; names[0]; names.pop()) {
    const name = CSS.escape(names.join("."));
    const found = form.querySelector(`[name="${name}"], [name^="${name}."]`);
    if (found instanceof HTMLElement) return found;
  }
  return null;
}
