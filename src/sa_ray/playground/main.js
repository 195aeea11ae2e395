/** The page: starts its parts. */
import { ApiError } from "./api.js";
import { ConnectionLost, untilItIsBack } from "./connection.js";
import { button, find, sleep } from "./elements.js";
import { clearErrors, showError } from "./errors.js";
import { load } from "./form.js";
import { jobs } from "./jobs.js";
import { read, write } from "./kept.js";
import { forgetKey, showKeyButton } from "./key.js";
import { showResults } from "./results.js";
import "./shortcuts.js";

const LOAD_AGAIN_S = 3;

/** Learn what the service offers, as soon as it can say.
 * @param {boolean} [hasFailed] An error of an earlier try is shown. */
async function start(hasFailed = false) {
  try {
    await load();
    if (hasFailed) clearErrors(); // otherwise those of a request that was sent meanwhile
  } catch (error) {
    if (error instanceof ConnectionLost) {
      await untilItIsBack();
      await start(hasFailed);
    } else {
      showError(error);
      if (!(error instanceof ApiError) || (error.status < 500 && error.status !== 429)) return;
      await sleep(1000 * (error.retryAfter ?? LOAD_AGAIN_S));
      await start(true);
    }
  }
}

const theme = find("#theme", HTMLSelectElement);
theme.value = read("theme") ?? ""; // style.css goes by the choice itself
theme.value ||= "system";
theme.onchange = () => write("theme", theme.value);
button("#change-key").onclick = () => {
  forgetKey();
  start();
};
showKeyButton();
showResults();
await start();
jobs.resume(true);
