/** Dark or light: as the system has it, or as the user says. */
import { button } from "./elements.js";
import { read, write } from "./kept.js";

const THEMES = ["system", "dark", "light"];

/** @param {() => void} redraw Called when colours have changed. */
export function startTheme(redraw) {
  const toggle = button("#theme");
  let theme = read("theme") ?? "system";
  const show = () => {
    document.documentElement.dataset["theme"] = theme;
    toggle.textContent = `Theme: ${theme}`;
    redraw();
  };
  toggle.onclick = () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
    write("theme", theme);
    show();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  show();
}
