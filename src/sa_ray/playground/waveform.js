/** Draw waveforms: a lane for each channel, peaks pale and loudness strong. */

import { find } from "./elements.js";

const PALE = 0.4;

/** Show a stretch of a sound over its waveform. @param {HTMLElement} mark
 * @param {import("./types.js").Region} region @param {number} seconds Length of the sound. */
export function place(mark, { start, end }, seconds) {
  mark.style.left = `${(100 * (start || 0)) / seconds}%`;
  mark.style.width = `${(100 * Math.max(0, (end || 0) - (start || 0))) / seconds}%`;
}

/** Draw a sound on the canvas for it, in its colour.
 * @param {Element} within @param {import("./sound.js").Sound} sound */
export function drawWave(within, { outlines }) {
  const canvas = find(".wave", HTMLCanvasElement, within);
  const scale = Math.min(window.devicePixelRatio, 2);
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.fillStyle = getComputedStyle(canvas).color;
  outlines.forEach((columns, lane) => {
    const half = canvas.height / outlines.length / 2;
    /** @param {number} x @param {number} low @param {number} high Samples. */
    const bar = (x, low, high) =>
      context.fillRect(x, half * (2 * lane + 1 - high), 1, Math.max(1, (high - low) * half));
    for (let x = 0; x < canvas.width; x++) {
      const from = Math.floor((x * columns.length) / canvas.width);
      const to = Math.max(from + 1, ((x + 1) * columns.length) / canvas.width);
      const here = columns.slice(from, to);
      const rms = Math.max(...here.map((column) => column.rms));
      context.globalAlpha = PALE;
      bar(x, Math.min(...here.map(({ low }) => low)), Math.max(...here.map(({ high }) => high)));
      context.globalAlpha = 1;
      bar(x, -rms, rms);
    }
  });
}
