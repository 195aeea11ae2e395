/** Draw waveforms: a lane for each channel, peaks pale and loudness strong. */

/** @typedef {import("./sound.js").Sound} Sound */

const PALE = 0.45;

/** Give a canvas the pixels that it has on the screen. @param {HTMLCanvasElement} canvas */
export function sized(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser draws on no canvas.");
  return context;
}

/** Draw in the colour of the canvas. @param {HTMLCanvasElement} canvas @param {Sound} sound */
export function drawWave(canvas, sound) {
  const context = sized(canvas);
  const { width, height } = canvas;
  const lane = height / sound.outlines.length;
  context.fillStyle = getComputedStyle(canvas).color;
  sound.outlines.forEach(({ low, high, rms }, channel) => {
    const middle = lane * (channel + 0.5);
    const half = lane / 2 - 1;
    for (let x = 0; x < width; x++) {
      const from = Math.floor((x * low.length) / width);
      const to = Math.max(from + 1, Math.floor(((x + 1) * low.length) / width));
      let [least, most, loud] = [1, -1, 0];
      for (let i = from; i < to; i++) {
        least = Math.min(least, low[i] ?? 0);
        most = Math.max(most, high[i] ?? 0);
        loud = Math.max(loud, rms[i] ?? 0);
      }
      context.globalAlpha = PALE;
      context.fillRect(x, middle - most * half, 1, Math.max(1, (most - least) * half));
      context.globalAlpha = 1;
      context.fillRect(x, middle - loud * half, 1, 2 * loud * half);
    }
  });
}
