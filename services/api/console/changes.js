// What happens to leads while one looks: follows `/changes`, and tells whoever listens.

import { currentRelease, events, pause, Problem, send } from "./api.js";
import { session } from "./session.js";
import { effect, signal } from "./vendor/signals-core.js";

/**
 * @typedef {{leadId: string, leadVersion: number, change: string}} Change
 * @typedef {object} Listener
 * @property {(changes: Change[]) => void} changed
 * @property {() => void} gap something was missed: read anew what is on screen
 */

const SILENCE = 45_000;
const GATHER = 250;
const MOST_WAIT = 30_000;
// HTTP/1.1 has six connections to a host, which all tabs share.
const HIDDEN = 30_000;

/** @type {import("./vendor/signals-core.js").Signal<"connecting" | "live" | "lost" | "paused">} */
export const connection = signal("connecting");

/** Whether the server has another release of this page than the one that runs. */
export const isOutdated = signal(false);

/** @type {Set<Listener>} */
const listeners = new Set();
/** @type {Map<string, Change>} */
let gathered = new Map();
/** @type {string | null} */
let last = null;
/** @type {AbortController | null} */
let running = null;
let release = "";

/** Follows changes until the returned function is called. @param {Listener} listener */
export function follow(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Connects while somebody is signed in and the page is looked at. */
export function begin() {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let hiding;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => stop("paused"), HIDDEN);
    else start();
  });
  addEventListener("online", start);
  let user = session.peek()?.email;
  effect(() => {
    const now = session.value?.email;
    if (now !== user) last = null;
    user = now;
    if (now) start();
    else stop("lost");
  });
}

function start() {
  if (running || !session.peek() || document.hidden) return;
  running = new AbortController();
  void run(running.signal);
}

/** @param {"paused" | "lost"} state */
function stop(state) {
  running?.abort();
  running = null;
  connection.value = state;
}

/** @param {AbortSignal} signal */
async function run(signal) {
  for (let failures = 0; !signal.aborted; failures += 1) {
    const began = Date.now();
    try {
      await connect(signal);
      if (Date.now() - began > SILENCE) failures = 0;
    } catch (error) {
      if (!(error instanceof Problem || error instanceof TypeError) && !signal.aborted) {
        if (!(error instanceof DOMException)) throw error;
      }
    }
    if (signal.aborted) return;
    connection.value = "lost";
    // Jittered: what has lost its server at one moment does not come back at one moment.
    const wait = Math.min(1000 * 2 ** Math.min(failures, 5), MOST_WAIT);
    await pause(wait * (0.5 + Math.random() / 2), signal);
  }
}

/** @param {AbortSignal} outer */
async function connect(outer) {
  const silence = new AbortController();
  const end = () => silence.abort();
  outer.addEventListener("abort", end);
  let timer = setTimeout(end, SILENCE);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(end, SILENCE);
  };
  try {
    const response = await send("GET", "/changes", {
      headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) },
      signal: silence.signal,
    });
    connection.value = "live";
    void checkRelease();
    const abort = new Promise((_, reject) => {
      silence.signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    });
    const stream = events(response, alive);
    try {
      for (;;) {
        const next = await Promise.race([stream.next(), abort]);
        if (!next || typeof next !== "object" || !("done" in next) || next.done) return;
        take(/** @type {any} */ (next).value);
      }
    } finally {
      void stream.return();
    }
  } finally {
    clearTimeout(timer);
    outer.removeEventListener("abort", end);
    silence.abort();
  }
}

/** @param {{event: string, data: any, id: string | null}} message */
function take({ event, data, id }) {
  if (id) last = id;
  if (event === "gap") for (const listener of listeners) listener.gap();
  if (event !== "lead-changed") return;
  if (!gathered.size) setTimeout(deliver, GATHER);
  const known = gathered.get(data.leadId);
  // Of several changes the newest says how the lead is, and one that made it stays known as that.
  if (known?.change === "created" && data.change !== "deleted") data.change = "created";
  gathered.set(data.leadId, data);
}

function deliver() {
  const changes = [...gathered.values()];
  gathered = new Map();
  for (const listener of listeners) listener.changed(changes);
}

async function checkRelease() {
  try {
    const tag = await currentRelease();
    const mine = import.meta.url.split("/").at(-2) ?? "";
    release ||= mine;
    isOutdated.value = Boolean(tag) && !tag.includes(release);
  } catch {
    // The next reconnect asks again.
  }
}
