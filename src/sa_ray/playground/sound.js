/** Decoded audio: its length, and its outline for the waveform. */

/** Columns of an outline; more than a screen has. */
const COLUMNS = 4096;
const RATE = 44_100;

/**
 * One channel's outline: lowest and highest sample and root of the mean square, for each column.
 *
 * @typedef {{low: Float32Array, high: Float32Array, rms: Float32Array}} Outline
 */

export class Sound {
  #url = "";

  /** @param {Blob} blob @param {AudioBuffer} buffer */
  constructor(blob, buffer) {
    this.blob = blob;
    this.seconds = buffer.duration;
    this.outlines = Array.from({ length: Math.min(buffer.numberOfChannels, 2) }, (_, channel) =>
      outline(buffer.getChannelData(channel)),
    );
    this.samples = mixed(buffer);
  }

  /** Its `blob:` URL. */
  get url() {
    this.#url ||= URL.createObjectURL(this.blob);
    return this.#url;
  }

  release() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = "";
  }
}

/** Decode audio. Throws where the browser cannot. @param {Blob} blob @returns {Promise<Sound>} */
export async function decoded(blob) {
  const context = new OfflineAudioContext(2, 1, RATE);
  return new Sound(blob, await context.decodeAudioData(await blob.arrayBuffer()));
}

/** @param {AudioBuffer} buffer @returns {Float32Array} The mean of its channels. */
function mixed(buffer) {
  const mix = buffer.getChannelData(0).slice();
  for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
    const other = buffer.getChannelData(channel);
    for (let i = 0; i < mix.length; i++) mix[i] = (mix[i] ?? 0) + (other[i] ?? 0);
  }
  return mix.map((sample) => sample / buffer.numberOfChannels);
}

/** @param {Float32Array} samples @returns {Outline} */
function outline(samples) {
  const columns = Math.max(1, Math.min(COLUMNS, samples.length));
  const [low, high, rms] = [0, 0, 0].map(() => new Float32Array(columns));
  if (!low || !high || !rms) throw new TypeError("unreachable");
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((column * samples.length) / columns);
    const to = Math.max(from + 1, Math.floor(((column + 1) * samples.length) / columns));
    let [least, most, squares] = [1, -1, 0];
    for (let i = from; i < to; i++) {
      const sample = samples[i] ?? 0;
      if (sample < least) least = sample;
      if (sample > most) most = sample;
      squares += sample * sample;
    }
    low[column] = least;
    high[column] = most;
    rms[column] = Math.sqrt(squares / (to - from));
  }
  return { low, high, rms };
}
