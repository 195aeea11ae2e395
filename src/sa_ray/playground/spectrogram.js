/** Spectrograms: time across, pitch upwards on a logarithmic scale, level as brightness. */
import { find, sleep } from "./elements.js";

const SIZE = 2048;
const RATE = 44_100;
const COLUMNS = 640;
const COLUMNS_AT_ONCE = 80;
const ROWS = 112;
const [LOWEST_HZ, HIGHEST_HZ] = [40, 18_000];
const [FLOOR_DB, CEILING_DB] = [-92, -12];

/** From silence to full level: black, violet, red, amber, pale. */
const COLOURS = [0x0d0f14, 0x341b5c, 0x942962, 0xe55c30, 0xfbb63e, 0xfcfad2].map((colour) =>
  [16, 8, 0].map((bits) => (colour >> bits) & 255),
);

/** @param {number} length @param {(turn: number) => number} of */
const table = (length, of) => Float64Array.from({ length }, (_, i) => of((2 * Math.PI * i) / SIZE));
const WINDOW = table(SIZE, (turn) => 0.5 - 0.5 * Math.cos(turn));
const COS = table(SIZE / 2, Math.cos);
const SIN = table(SIZE / 2, Math.sin);

/** Where each row begins among the frequencies, from the lowest up. */
const EDGES = Array.from({ length: ROWS + 1 }, (_, row) =>
  Math.floor((SIZE / RATE) * LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (row / ROWS)),
);

/** Fast Fourier transform of samples at `at` onwards, windowed; the result is complex.
 * @param {Float32Array[]} channels One or two. @param {number} at */
function transformed([left = new Float32Array(), right = left], at) {
  const [re, im] = [new Float64Array(SIZE), new Float64Array(SIZE)];
  for (let i = 0, reversed = 0; i < SIZE; i++) {
    re[reversed] = (((left[at + i] ?? 0) + (right[at + i] ?? 0)) / 2) * (WINDOW[i] ?? 0);
    let bit = SIZE >> 1;
    for (; reversed & bit; bit >>= 1) reversed ^= bit;
    reversed ^= bit;
  }
  for (let half = 1; half < SIZE; half *= 2)
    for (let a = 0; a < SIZE; a += a % half === half - 1 ? half + 1 : 1) {
      const turn = (a % half) * (SIZE / 2 / half);
      const [cos, sin, b] = [COS[turn] ?? 0, SIN[turn] ?? 0, a + half];
      const [x, y, u, v] = [re[b] ?? 0, im[b] ?? 0, re[a] ?? 0, im[a] ?? 0];
      re[b] = u - x * cos - y * sin;
      im[b] = v - y * cos + x * sin;
      re[a] = u + x * cos + y * sin;
      im[a] = v + y * cos - x * sin;
    }
  return { re, im };
}

/** @param {number} power Of a bin; SIZE / 4 squared at full scale. */
function colourOf(power) {
  const db = 10 * Math.log10(power / (SIZE / 4) ** 2 + 1e-12);
  const level = Math.min(Math.max((db - FLOOR_DB) / (CEILING_DB - FLOOR_DB), 0), 0.999);
  const at = level * (COLOURS.length - 1);
  const [under = [], over = []] = COLOURS.slice(Math.floor(at));
  return under.map((part, i) => part + ((over[i] ?? 0) - part) * (at % 1));
}

/** Draw on the canvas for it, and leave the browser time for others in between.
 * @param {Element} within @param {import("./sound.js").Sound} sound */
export async function drawSpectrogram(within, { channels }) {
  const canvas = find(".spectrum", HTMLCanvasElement, within);
  [canvas.width, canvas.height] = [COLUMNS, ROWS];
  const context = canvas.getContext("2d");
  for (let column = 0; column < COLUMNS; column++) {
    if (column % COLUMNS_AT_ONCE === 0) await sleep(0);
    const middle = Math.round(((column + 0.5) * (channels[0]?.length ?? 0)) / COLUMNS);
    const { re, im } = transformed(channels, middle - SIZE / 2);
    const pixels = new ImageData(1, ROWS);
    for (let row = 0; row < ROWS; row++) {
      const [from = 0, to = 0] = EDGES.slice(row);
      let power = 0;
      for (let bin = from; bin < Math.max(from + 1, to); bin++)
        power = Math.max(power, (re[bin] ?? 0) ** 2 + (im[bin] ?? 0) ** 2);
      pixels.data.set([...colourOf(power), 255], 4 * (ROWS - 1 - row));
    }
    context?.putImageData(pixels, column, 0);
  }
}
