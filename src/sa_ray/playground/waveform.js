/** Draw waveforms: a lane for each channel, peaks pale and loudness strong. */

const PALE = 0.4;

/** Draw a sound, in the colour of the canvas.
 * @param {HTMLCanvasElement} canvas @param {import("./sound.js").Sound} sound */
export function drawWave(canvas, { outlines }) {
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
