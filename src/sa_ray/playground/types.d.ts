/** Shapes of the API that the page uses (docs/api.md), and of what it keeps in the browser. */

/** Seconds. */
export type Region = { start: number; end: number };

export type Adapter = { name: string; strength: number };

/** Body of `POST /jobs`. */
export type Request = {
  prompt: string;
  model?: string;
  negative_prompt?: string;
  duration?: number;
  steps?: number;
  cfg_scale?: number;
  seed?: number;
  n?: number;
  format?: string;
  loop?: boolean;
  loras?: Adapter[];
  init_audio?: string;
  init_noise_level?: number;
  inpaint_audio?: string;
  regions?: Region[];
  continue_audio?: string;
  intro?: number;
};

/** One of a job's `results`. */
export type ClipFile = {
  index: number;
  seed: number;
  audio_duration: number;
  warning: string | null;
};

export type JobView = {
  id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  model: string;
  format: string;
  engine: string | null;
  /** Percent. */
  progress: number;
  queue_position: number | null;
  cancel_requested: boolean;
  error: string | null;
  results: ClipFile[];
  timings: { generation_seconds: number | null };
};

export type Model = {
  id: string;
  max_duration_seconds: number;
  default_steps: number;
  default_cfg_scale: number;
};

export type ModelList = {
  default: string;
  engine: string;
  max_steps: number;
  models: Model[];
};

export type Preset = {
  name: string;
  kind: string;
  models: string[];
  prompt: string;
  duration: number;
};

/** How a job ended, as far as the page goes on to show it. */
export type End = {
  status: "succeeded" | "failed" | "cancelled" | "gone";
  model: string;
  format: string;
  engine: string | null;
  error: string | null;
  /** Seconds of generation. */
  made_in: number | null;
  results: ClipFile[];
};

/** One request in the history. */
export type Entry = {
  /** Its `Idempotency-Key`, which names it here. */
  key: string;
  /** Of the job; null until the service has accepted it. */
  id: string | null;
  /** When it was asked for, Unix milliseconds. */
  at: number;
  request: Request;
  end: End | null;
  /** Indexes of clips. */
  favourites: number[];
};
