/** Decoded audio: its length, its outline for the waveform, its channels for the spectrogram. */

/** Columns of an outline; as many as a wide clip has pixels. */
const COLUMNS = 2048;
const RATE = 44_100;

/** @typedef {{low: number, high: number, rms: number}} Column Lowest and highest sample, and root of
 * the mean square, in one column of one channel. */

export class Sound {
  /** @param {Blob} blob @param {string} url @param {AudioBuffer} buffer */
  constructor(blob, url, buffer) {
    const length = Math.min(buffer.numberOfChannels, 2);
    this.channels = Array.from({ length }, (_, channel) => buffer.getChannelData(channel));
    this.blob = blob;
    this.url = url;
    this.seconds = buffer.duration;
    this.outlines = this.channels.map(outline);
  }
}

/** @type {Promise<any>} */
let last = Promise.resolve();

/** Decode audio, one sound at a time: long ones take hundreds of MB. Throws where the browser cannot.
 * @param {Blob} blob @param {string} [url] @returns {Promise<Sound>} */
export function decoded(blob, url = "") {
  const decode = async () => {
    const context = new OfflineAudioContext(2, 1, RATE);
    return new Sound(blob, url, await context.decodeAudioData(await blob.arrayBuffer()));
  };
  last = last.then(decode, decode);
  return last;
}

/** @param {Float32Array} samples @returns {Column[]} */
function outline(samples) {
  const length = Math.min(COLUMNS, samples.length);
  return Array.from({ length }, (_, column) => {
    const from = Math.floor((column * samples.length) / length);
    const to = Math.floor(((column + 1) * samples.length) / length);
    let [low, high, squares] = [1, -1, 0];
    for (const sample of samples.subarray(from, to)) {
      low = Math.min(low, sample);
      high = Math.max(high, sample);
      squares += sample * sample;
    }
    return { low, high, rms: Math.sqrt(squares / (to - from)) };
  });
}
