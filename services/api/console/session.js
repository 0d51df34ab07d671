// Who is signed in: tokens in this tab's storage, shared with the tabs that are open beside it.

import { ask, pause, Problem, setAuthority } from "./api.js";
import { signal } from "./vendor/signals-core.js";

/**
 * @typedef {object} Session
 * @property {string} access
 * @property {string} refresh
 * @property {number} expires when the access token does, in milliseconds
 * @property {number} made the newest of several sessions counts
 * @property {string} email
 *
 * @typedef {{kind: "ask"} | {kind: "have", session: Session} |
 *   {kind: "left", email: string} | {kind: "renews", email: string, lot: number}} Message
 */

const KEY = "leads.session";
// So long before its end a token is renewed.
const EARLY = 60_000;
const ANSWER = 250;
const AGAIN = 15_000;
const RENEWAL = 5000;
// What a timer can count.
const LONGEST = 2 ** 31 - 1;

/** @type {import("./vendor/signals-core.js").Signal<Session | null>} */
export const session = signal(stored());

/** Whether a session has ended that nobody ended: what is on screen stays there meanwhile. */
export const ended = signal(false);

/** The operators' key: in memory alone, asked for at the first screen that needs it. */
export const operatorKey = signal("");

const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(KEY);
/** The renewal that another tab has announced: until when, and by which lot. */
let other = { until: 0, lot: 0 };
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {Promise<boolean> | null} */
let renewing = null;

/** @returns {Session | null} */
function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch {
    return null;
  }
}

/** @param {Session | null} next */
function keep(next) {
  session.value = next;
  clearTimeout(timer);
  try {
    if (next) sessionStorage.setItem(KEY, JSON.stringify(next));
    else sessionStorage.removeItem(KEY);
  } catch {
    // Without storage the session lasts as long as the page.
  }
  if (next) {
    ended.value = false;
    schedule(next.expires - EARLY - Date.now());
  }
}

/** @param {number} delay */
function schedule(delay) {
  clearTimeout(timer);
  const wait = Math.min(Math.max(delay, 1000), LONGEST);
  timer = setTimeout(() => void renew(session.value?.access ?? null), wait);
}

/** @param {Message} message */
function tell(message) {
  channel?.postMessage(message);
}

channel?.addEventListener("message", (/** @type {MessageEvent<Message>} */ { data }) => {
  const mine = session.value;
  if (data.kind === "ask" && mine) tell({ kind: "have", session: mine });
  if (data.kind === "have" && isNewer(data.session, mine)) {
    keep(data.session);
    other = { until: 0, lot: 0 };
  }
  if (data.kind === "renews" && mine?.email === data.email) {
    other = { until: Date.now() + RENEWAL, lot: data.lot };
  }
  if (data.kind === "left" && mine?.email === data.email) leave();
});

/**
 * Tabs may belong to different users: each follows its own.
 * @param {Session} other
 * @param {Session | null} mine
 */
function isNewer(other, mine) {
  return !mine || (other.email === mine.email && other.made > mine.made);
}

setAuthority({ token: () => session.value?.access ?? null, renew });

/** Takes up the session that this tab has, or one of a tab beside it. */
export async function begin() {
  const mine = session.value;
  if (mine) schedule(mine.expires - EARLY - Date.now());
  else if (channel) {
    tell({ kind: "ask" });
    await arrival(ANSWER, 0);
  }
}

/**
 * Waits until there is a session newer than one made at `made`.
 * @param {number} time in milliseconds
 * @param {number} made
 */
async function arrival(time, made) {
  for (let waited = 0; waited < time && (session.value?.made ?? 0) <= made; waited += 20) {
    await pause(20);
  }
  return (session.value?.made ?? 0) > made;
}

/**
 * Renews the session, once for all who ask; false when one has to sign in again.
 * @param {string | null} used the token that was refused, or is about to end
 */
function renew(used) {
  renewing ??= withLock(() => renewNow(used)).finally(() => {
    renewing = null;
  });
  return renewing;
}

/**
 * Lets one tab at a time renew: a refresh token serves once, and ends the session when it is used
 * again. Plain HTTP has no locks: there tabs announce it, and of two the smaller lot goes first.
 * @param {() => Promise<boolean>} work
 */
async function withLock(work) {
  if (navigator.locks) return navigator.locks.request(KEY, work);
  const made = session.value?.made ?? 0;
  const isAnnounced = other.until > Date.now();
  const lot = isAnnounced ? 1 : Math.random();
  if (!isAnnounced) {
    tell({ kind: "renews", email: session.value?.email ?? "", lot });
    await pause(100);
  }
  const isLater = other.until > Date.now() && other.lot < lot;
  return (isLater && (await arrival(RENEWAL, made))) || work();
}

/** @param {string | null} used */
async function renewNow(used) {
  const mine = session.value;
  if (!mine) return false;
  // Another tab may have renewed it meanwhile, and said so.
  if (mine.access !== used) return true;
  if (channel) {
    tell({ kind: "ask" });
    if (await arrival(50, mine.made)) return true;
  }
  try {
    const { data } = await ask("POST", "/authentication/refresh", {
      body: { refresh_token: mine.refresh },
      anonymous: true,
    });
    take(/** @type {Tokens} */ (data), mine.email);
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401 || error.status === 403) return adoptOrEnd(mine);
    // The auth server is away, which ends no session.
    schedule(AGAIN);
    return mine.expires > Date.now();
  }
}

/** @param {Session} mine */
async function adoptOrEnd(mine) {
  tell({ kind: "ask" });
  if (channel && (await arrival(ANSWER, mine.made))) return true;
  keep(null);
  ended.value = true;
  return false;
}

/** @typedef {{access_token: string, refresh_token: string, expires_in: number}} Tokens */

/**
 * @param {Tokens} tokens
 * @param {string} email
 */
function take(tokens, email) {
  const next = {
    access: tokens.access_token,
    refresh: tokens.refresh_token,
    expires: Date.now() + tokens.expires_in * 1000,
    made: Date.now(),
    email,
  };
  keep(next);
  tell({ kind: "have", session: next });
}

/**
 * @param {string} email
 * @param {string} password
 * @throws {Problem}
 */
export async function signIn(email, password) {
  const { data } = await ask("POST", "/authentication/login", {
    body: { email, password },
    anonymous: true,
  });
  take(/** @type {Tokens} */ (data), email);
}

/**
 * Makes an account.
 * @param {string} email
 * @param {string} password
 * @throws {Problem}
 */
export async function signUp(email, password) {
  await ask("POST", "/authentication/signup", { body: { email, password }, anonymous: true });
}

/** Ends the session here, in the tabs beside, and on the server as far as it can be reached. */
export async function signOut() {
  try {
    await ask("POST", "/authentication/logout", { deadline: 5000 });
  } catch {
    // The tokens are forgotten here in any case.
  }
  tell({ kind: "left", email: session.value?.email ?? "" });
  leave();
}

function leave() {
  keep(null);
  ended.value = false;
  operatorKey.value = "";
}
