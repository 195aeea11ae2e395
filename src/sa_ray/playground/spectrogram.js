/** Spectrograms: time across, pitch upwards on a logarithmic scale, level as brightness. */
import { sleep } from "./events.js";

/** @typedef {import("./sound.js").Sound} Sound */

const SIZE = 2048;
const COLUMNS = 640;
const ROWS = 112;
const LOWEST_HZ = 40;
const HIGHEST_HZ = 18_000;
const RATE = 44_100;
const FLOOR_DB = -95;
const CEILING_DB = -18;
const COLUMNS_AT_ONCE = 80;

/** Colours from silence to full level: dark, violet, red, amber, pale. */
const COLOURS = [
  [13, 15, 20],
  [52, 27, 92],
  [148, 41, 98],
  [229, 92, 48],
  [251, 182, 62],
  [252, 250, 210],
];

const WINDOW = Float64Array.from(
  { length: SIZE },
  (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE),
);
const COS = Float64Array.from({ length: SIZE / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const SIN = Float64Array.from({ length: SIZE / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / SIZE));

/** The first bin of each row, lowest first, and one behind the last. */
const BINS = Array.from({ length: ROWS + 1 }, (_, row) => {
  return (SIZE / RATE) * LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (row / ROWS);
});

/** Fast Fourier transform, in place. @param {Float64Array} re @param {Float64Array} im */
function transform(re, im) {
  for (let i = 1, j = 0; i < SIZE; i++) {
    let bit = SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j]] = [re[j] ?? 0, re[i] ?? 0]; // `im` is zero
  }
  for (let length = 2; length <= SIZE; length *= 2) {
    const half = length / 2;
    const step = SIZE / length;
    for (let start = 0; start < SIZE; start += length) {
      for (let k = 0; k < half; k++) {
        const [a, b] = [start + k, start + k + half];
        const [cos, sin] = [COS[k * step] ?? 0, -(SIN[k * step] ?? 0)];
        const [x, y] = [re[b] ?? 0, im[b] ?? 0];
        const [u, v] = [x * cos - y * sin, x * sin + y * cos];
        re[b] = (re[a] ?? 0) - u;
        im[b] = (im[a] ?? 0) - v;
        re[a] = (re[a] ?? 0) + u;
        im[a] = (im[a] ?? 0) + v;
      }
    }
  }
}

/** @param {number} level 0 to 1. @returns {number[]} */
function colour(level) {
  const place = Math.min(Math.max(level, 0), 1) * (COLOURS.length - 1);
  const [under, over] = [COLOURS[Math.floor(place)], COLOURS[Math.ceil(place)]];
  return [0, 1, 2].map(
    (i) => (under?.[i] ?? 0) + ((over?.[i] ?? 0) - (under?.[i] ?? 0)) * (place % 1),
  );
}

/** Draw, leaving the browser time for others in between. @param {HTMLCanvasElement} canvas
 * @param {Sound} sound */
export async function drawSpectrogram(canvas, { samples }) {
  canvas.width = COLUMNS;
  canvas.height = ROWS;
  const context = canvas.getContext("2d");
  const [re, im] = [new Float64Array(SIZE), new Float64Array(SIZE)];
  for (let column = 0; column < COLUMNS; column++) {
    if (column % COLUMNS_AT_ONCE === 0) await sleep(0);
    const start = Math.round(((column + 0.5) * samples.length) / COLUMNS) - SIZE / 2;
    for (let i = 0; i < SIZE; i++) re[i] = (samples[start + i] ?? 0) * (WINDOW[i] ?? 0);
    im.fill(0);
    transform(re, im);
    const pixels = new ImageData(1, ROWS);
    for (let row = 0; row < ROWS; row++) {
      const from = Math.floor(BINS[row] ?? 0);
      let power = 0;
      for (let bin = from; bin < Math.max(from + 1, BINS[row + 1] ?? 0); bin++)
        power = Math.max(power, (re[bin] ?? 0) ** 2 + (im[bin] ?? 0) ** 2);
      const db = 10 * Math.log10(power / (SIZE / 4) ** 2 + 1e-12);
      pixels.data.set(
        [...colour((db - FLOOR_DB) / (CEILING_DB - FLOOR_DB)), 255],
        4 * (ROWS - 1 - row),
      );
    }
    context?.putImageData(pixels, column, 0);
  }
}
