/** The page: starts its parts. */
import { ApiError } from "./api.js";
import { lose } from "./connection.js";
import { edit } from "./edit.js";
import { button } from "./elements.js";
import { load, showError } from "./form.js";
import { jobs } from "./jobs.js";
import { forgetKey, showKeyButton } from "./key.js";
import { clips, showResults } from "./results.js";
import "./shortcuts.js";
import { startTheme } from "./theme.js";

const LOAD_AGAIN_MS = 3000;

/** Learn what the service can do, as soon as it can be reached. */
async function start() {
  try {
    await load();
  } catch (error) {
    if (error instanceof ApiError) {
      showError(error);
      if (error.status >= 500 || error.status === 429) setTimeout(start, LOAD_AGAIN_MS);
      return;
    }
    await lose();
    await start();
  }
}

startTheme(() => {
  edit.draw();
  for (const clip of clips()) clip.draw();
});
for (const close of document.querySelectorAll("dialog .close"))
  close.addEventListener("click", () => close.closest("dialog")?.close());
button("#change-key").onclick = () => {
  forgetKey();
  start();
};
showKeyButton();
showResults();
await start();
jobs.resume(true);
