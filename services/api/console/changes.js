// What happens to leads while one looks: one tab follows `/changes`, and tells it to all.

import { currentRelease, events, pause, Problem, send } from "./api.js";
import { session } from "./session.js";
import { effect, signal } from "./vendor/signals-core.js";

/**
 * @typedef {{leadId: string, leadVersion: number, change: string}} Change
 * @typedef {object} Listener
 * @property {(changes: Change[]) => void} changed
 * @property {() => void} gap something was missed: read anew what is on screen
 *
 * @typedef {"connecting" | "live" | "lost" | "paused"} State
 * @typedef {{event: string, data: any, id: string | null}} StreamEvent
 * @typedef {{kind: "leads", state: State, last: string | null} | {kind: "leaves"} |
 *   {kind: "goes-on", after: string | null} | {kind: "event", event: StreamEvent}} Told
 */

const STABLE = 45_000;
const GATHER = 250;
const MOST_WAIT = 30_000;
const HIDDEN = 30_000;
const BEAT = 5000;
// A leader that is not heard for so long has ended without a word.
const UNHEARD = 3 * BEAT;
// A list is read once its changes are followed, but does not wait for ever.
const PATIENCE = 300;
const SUSPECTED_EVERY = 10_000;

const RELEASE = import.meta.url.split("/").at(-2) ?? "";
const NOBODY = { rank: Infinity, at: 0 };

/** @type {import("./vendor/signals-core.js").Signal<State>} */
export const connection = signal("connecting");

/** Whether the server has another release of this page than the one that runs. */
export const isOutdated = signal(false);

/** @type {Set<Listener>} */
const listeners = new Set();
/** @type {Map<string, Change>} */
let gathered = new Map();
/** The newest event that is known here. @type {string | null} */
let last = null;
/** @type {AbortController | null} */
let running = null;
/** Ends the wait before the next try. */
let hurry = () => {};
let suspected = 0;

// HTTP/1.1 has six connections to a host, which all tabs share: of the tabs of one user and
// release, the one that has led longest goes on alone. Plain HTTP has no locks to settle it by.
const channel =
  typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(`leads.changes ${RELEASE}`);
/** @type {string | undefined} */
let user;
let rank = 0;
/** The leader beside this tab, and when it was heard. */
let leader = NOBODY;

/** @type {() => void} */
let beFollowed = () => {};
/** @type {Promise<void>} */
const followed = new Promise((resolve) => {
  beFollowed = resolve;
});
let isFollowed = false;
/** Whether something was read before its changes were followed. */
let isEarly = false;

/** Follows changes until the returned function is called. @param {Listener} listener */
export function follow(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Waits, once and not for long, until changes are followed: none falls between a list and them then. */
export async function whenFollowed() {
  if (isFollowed || isEarly) return;
  await Promise.race([followed, pause(PATIENCE)]);
  isEarly ||= !isFollowed;
}

/** Follows while somebody is signed in and the page is looked at. */
export function begin() {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let hiding;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => running && stop("paused"), HIDDEN);
    else start();
  });
  addEventListener("online", start);
  addEventListener("pagehide", () => stop("paused"));
  addEventListener("pageshow", ({ persisted }) => {
    // Kept by the browser for Back, it has not heard what was told meanwhile.
    if (persisted) miss();
    start();
  });
  channel?.addEventListener("message", hear);
  setInterval(() => (running ? lead() : start()), BEAT);
  effect(() => {
    const now = session.value?.email;
    if (now !== user) {
      stop("lost");
      user = now;
      last = null;
      leader = NOBODY;
      isEarly = listeners.size > 0;
    }
    if (now) start();
  });
}

function start() {
  hurry();
  const isLed = Date.now() - leader.at < UNHEARD;
  if (running || !user || document.hidden || isLed) return;
  running = new AbortController();
  rank = Date.now() + Math.random();
  connection.value = "connecting";
  lead();
  void run(running.signal);
}

/** @param {State} state */
function stop(state) {
  if (running) tell({ kind: "leaves" });
  leave();
  connection.value = state;
}

function leave() {
  running?.abort();
  running = null;
  hurry();
}

/** @param {Told} told */
function tell(told) {
  channel?.postMessage({ ...told, user, rank });
}

function lead() {
  tell({ kind: "leads", state: connection.peek(), last });
}

/** @param {MessageEvent<Told & {user: string, rank: number}>} message */
function hear({ data }) {
  if (!user || data.user !== user) return;
  if (data.kind === "leads") hearLeader(data);
  else if (data.rank !== leader.rank) return;
  else if (data.kind === "event") take(data.event);
  else if (data.kind === "goes-on") goOn(data.after);
  else {
    leader = NOBODY;
    connection.value = document.hidden ? "paused" : "connecting";
    // One of those that are left is the first, and the others hear of it.
    setTimeout(start, Math.random() * GATHER);
  }
}

/** @param {Told & {kind: "leads", rank: number}} told */
function hearLeader(told) {
  if (running && rank < told.rank) return lead();
  const isLed = Date.now() - leader.at < UNHEARD;
  if (isLed && leader.rank < told.rank) return;
  leave();
  leader = { rank: told.rank, at: Date.now() };
  connection.value = told.state;
  if (told.last === null) return;
  // A tab that is new has heard all that was told since it was loaded.
  const isComplete = last === null || last === told.last;
  last = told.last;
  if (told.state === "live") beginFollowing();
  if (!isComplete) miss();
}

/** Takes it that changes come from now on, from behind this event. @param {string | null} after */
function goOn(after) {
  const isComplete = last === after && !(after === null && isEarly);
  last = after;
  connection.value = "live";
  beginFollowing();
  void checkRelease();
  if (!isComplete) miss();
}

function beginFollowing() {
  isFollowed = true;
  beFollowed();
}

function miss() {
  isEarly = false;
  for (const listener of listeners) listener.gap();
}

/** @param {AbortSignal} signal */
async function run(signal) {
  for (let failures = 0; !signal.aborted; failures += 1) {
    const began = Date.now();
    try {
      await connect(signal);
      if (Date.now() - began > STABLE) failures = 0;
    } catch (error) {
      if (!(error instanceof Problem || error instanceof TypeError) && !signal.aborted) {
        if (!(error instanceof DOMException)) throw error;
      }
    }
    if (signal.aborted) return;
    connection.value = "lost";
    lead();
    // Jittered: what has lost its server at one moment does not come back at one moment.
    const wait = Math.min(1000 * 2 ** Math.min(failures, 5), MOST_WAIT);
    const nap = new AbortController();
    hurry = () => nap.abort();
    await pause(wait * (0.5 + Math.random() / 2), nap.signal);
  }
}

/** @param {AbortSignal} signal */
async function connect(signal) {
  const response = await send("GET", "/changes", {
    headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) },
    signal,
  });
  tell({ kind: "goes-on", after: last });
  goOn(last);
  for await (const event of events(response)) {
    if (signal.aborted) return;
    take(event);
    tell({ kind: "event", event });
  }
}

/** @param {StreamEvent} message */
function take({ event, data, id }) {
  if (id) last = id;
  if (event === "gap") miss();
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
    isOutdated.value = Boolean(tag) && !tag.includes(RELEASE);
  } catch {
    // The next reconnect asks again.
  }
}

/** Asks, now and then, whether an answer that nobody expected is that of another release. */
export function suspectRelease() {
  if (isOutdated.peek() || Date.now() - suspected < SUSPECTED_EVERY) return;
  suspected = Date.now();
  void checkRelease();
}
