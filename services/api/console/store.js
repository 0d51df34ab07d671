// What is known of leads, and what is under way: shared by all screens.

import { ask, events, newKey, pause, Problem, send } from "./api.js";
import { batch, signal } from "./vendor/signals-core.js";

/**
 * @typedef {import("./schema").components["schemas"]["Lead"]} Lead
 * @typedef {import("./schema").components["schemas"]["Operation"]} Operation
 * @typedef {import("./vendor/signals-core.js").Signal<Lead | null>} LeadSignal
 *
 * @typedef {Pick<Lead, "id" | "version" | "firstName" | "lastName">} Seen which lead, and how it was
 *
 * @typedef {object} Writing how far a summary has come
 * @property {"queued" | "running" | "waiting" | "failed"} state
 * @property {Problem} [problem] of one that failed
 *
 * @typedef {object} Pending a write that was accepted, and is not stored yet
 * @property {string} id of its operation
 * @property {"create" | "update" | "delete" | "summary"} kind
 * @property {string} name of the lead
 * @property {string | null} leadId
 * @property {Record<string, any>} draft what was given
 * @property {number} since
 */

const KEPT = 3000;
const STORED = "leads.pending";
const READS = 4;
// As many ids as one list may be asked for.
const LISTED = 100;

/** @type {Map<string, LeadSignal>} */
const leads = new Map();

/** Summaries that are being written, by lead. @type {Map<string, import("./vendor/signals-core.js").Signal<Writing | null>>} */
const writings = new Map();

/** Leads that have changed a moment ago, to be marked. */
export const marked = signal(/** @type {ReadonlySet<string>} */ (new Set()));

/** @type {import("./vendor/signals-core.js").Signal<readonly Pending[]>} */
export const pending = signal(restore());

/** Ids that this page has made: others' new leads are told of, and one's own are not. */
export const own = new Set();

/** The lead with this id, as far as it is known. @param {string} id @returns {LeadSignal} */
export function leadOf(id) {
  let found = leads.get(id);
  if (found) leads.delete(id);
  else found = signal(/** @type {Lead | null} */ (null));
  leads.set(id, found);
  return found;
}

/** Takes a lead in, unless a newer version of it is known. @param {Lead} lead */
export function put(lead) {
  const kept = leadOf(lead.id);
  if (!kept.peek() || /** @type {Lead} */ (kept.peek()).version < lead.version) kept.value = lead;
}

/** @param {readonly Lead[]} given */
export function putAll(given) {
  batch(() => given.forEach(put));
  if (leads.size <= KEPT) return;
  for (const id of [...leads.keys()].slice(0, leads.size - KEPT)) {
    leads.delete(id);
    if (!writings.get(id)?.peek()) writings.delete(id);
  }
}

/** @param {string} id */
export function forget(id) {
  const kept = leads.get(id);
  if (kept) kept.value = null;
  leads.delete(id);
}

/** @param {string} id */
export function writingOf(id) {
  let found = writings.get(id);
  if (!found) {
    found = signal(/** @type {Writing | null} */ (null));
    writings.set(id, found);
  }
  return found;
}

/** Forgets all of one user. */
export function clear() {
  leads.clear();
  writings.clear();
  pending.value = [];
  own.clear();
}

/** Shows for a moment that leads have changed. @param {readonly string[]} ids */
export function mark(ids) {
  marked.value = new Set([...marked.peek(), ...ids]);
  setTimeout(() => {
    const rest = new Set(marked.peek());
    for (const id of ids) rest.delete(id);
    marked.value = rest;
  }, 2500);
}

/**
 * Reads a lead anew; null when there is none any more.
 * @param {string} id
 * @param {AbortSignal} [stop]
 */
export async function readLead(id, stop) {
  try {
    const { data } = await ask("GET", `/leads/${id}`, stop ? { signal: stop } : {});
    put(/** @type {Lead} */ (data));
    return /** @type {Lead} */ (data);
  } catch (error) {
    if (error instanceof Problem && error.code === "lead-not-found") {
      forget(id);
      return null;
    }
    throw error;
  }
}

/** Reads leads anew, some at a time. @param {readonly string[]} ids */
export async function readLeads(ids) {
  const queue = [...ids];
  const work = async () => {
    for (let id = queue.shift(); id; id = queue.shift()) await readLead(id);
  };
  await Promise.all(Array.from({ length: READS }, work));
}

/**
 * Reads many leads, as a list has them: it may be a moment behind. Those that are gone are passed over.
 * @param {readonly string[]} ids
 */
export async function readList(ids) {
  for (let at = 0; at < ids.length; at += LISTED) {
    const query = new URLSearchParams(ids.slice(at, at + LISTED).map((id) => ["id", id]));
    query.set("limit", String(LISTED));
    const { data } = await ask("GET", "/leads", { query });
    batch(() => /** @type {Lead[]} */ (data).forEach(put));
  }
}

/**
 * Creates a lead. One that is stored later is among the pending, and returned as null.
 * @param {Record<string, any>} draft
 * @param {string} key of this intent: sent again, it has one effect
 * @returns {Promise<Lead | null>}
 * @throws {Problem}
 */
export async function createLead(draft, key) {
  const { status, data } = await ask("POST", "/leads", {
    body: draft,
    headers: { "Idempotency-Key": key },
  });
  if (status === 202) {
    const name = `${draft.firstName ?? ""} ${draft.lastName ?? ""}`.trim();
    wait({ id: /** @type {Operation} */ (data).id, kind: "create", name, leadId: null, draft });
    return null;
  }
  const lead = /** @type {Lead} */ (data);
  own.add(lead.id);
  put(lead);
  return lead;
}

/**
 * One's own changes of leads that are on their way: the version that the first of them was for, and
 * what the last one leaves.
 * @type {Map<string, {from: number, last: Promise<Lead | null>}>}
 */
const changing = new Map();

/**
 * Changes a lead. One's own changes that are on their way come first, and are none of somebody else's.
 * @param {Lead} lead as it was seen
 * @param {Record<string, any>} changes
 * @returns {Promise<Lead | null>} null when it is accepted and stored later
 * @throws {Problem}
 */
export async function changeLead(lead, changes) {
  const { from, last } = changing.get(lead.id) ?? { from: lead.version, last: null };
  // Each was for the version that the one before it has left: nobody's can be between them.
  const seen = (/** @type {Lead | null} */ left) => (left && lead.version >= from ? left : lead);
  const mine = last
    ? last.catch(() => null).then((left) => sendChange(seen(left), changes))
    : sendChange(lead, changes);
  changing.set(lead.id, { from, last: mine });
  try {
    return await mine;
  } finally {
    if (changing.get(lead.id)?.last === mine) changing.delete(lead.id);
  }
}

/**
 * Changes a lead: shown at once, and taken back when it is refused.
 * @param {Lead} lead
 * @param {Record<string, any>} changes
 * @returns {Promise<Lead | null>}
 */
async function sendChange(lead, changes) {
  const kept = leadOf(lead.id);
  const before = kept.peek() ?? lead;
  const shown = { ...before, ...changes };
  kept.value = shown;
  try {
    const { status, data } = await ask("PATCH", `/leads/${lead.id}`, {
      body: changes,
      type: "application/merge-patch+json",
      headers: { "If-Match": `"${lead.version}"`, "Idempotency-Key": newKey() },
    });
    if (status === 202) {
      const name = `${lead.firstName} ${lead.lastName}`;
      const id = /** @type {Operation} */ (data).id;
      wait({ id, kind: "update", name, leadId: lead.id, draft: changes });
      return null;
    }
    put(/** @type {Lead} */ (data));
    return /** @type {Lead} */ (data);
  } catch (error) {
    // What has come meanwhile is newer than both.
    if (kept.peek() === shown) kept.value = before;
    throw error;
  }
}

/**
 * Deletes a lead, if it is still as it was seen; false when that is accepted and done later.
 * @param {Seen} lead
 * @throws {Problem} `version-mismatch` when it has changed since
 */
export async function deleteLead(lead) {
  const headers = { "If-Match": `"${lead.version}"` };
  const { status, data } = await ask("DELETE", `/leads/${lead.id}`, { headers }).catch((error) => {
    // Somebody was first.
    if (error instanceof Problem && error.code === "lead-not-found") return { status: 204, data: null };
    throw error;
  });
  if (status === 202) {
    const name = `${lead.firstName} ${lead.lastName}`;
    wait({
      id: /** @type {Operation} */ (data).id,
      kind: "delete",
      name,
      leadId: lead.id,
      draft: {},
    });
    return false;
  }
  forget(lead.id);
  return true;
}

/**
 * Has a lead summarised, and follows how far that has come.
 * @param {string} id
 * @param {boolean} [anew] also when nothing has changed
 * @returns {Promise<"written" | "current" | "waiting" | "failed">}
 */
export async function summarise(id, anew = false) {
  const writing = writingOf(id);
  const state = writing.peek()?.state;
  if (state && state !== "failed") return "waiting";
  writing.value = { state: "queued" };
  const before = leads.get(id)?.peek()?.version ?? 0;
  try {
    const response = await send("POST", `/leads/${id}/summary`, {
      query: anew ? { regenerate: true } : {},
      headers: { Accept: "text/event-stream", "Idempotency-Key": newKey() },
    });
    if (response.status === 202) {
      followSummary((await response.json()).id, id);
      return "waiting";
    }
    for await (const { event, data } of events(response)) {
      if (event === "running") writing.value = { state: "running" };
      if (event === "accepted") {
        followSummary(data.id, id);
        return "waiting";
      }
      if (event === "failed") throw problemIn(data);
      if (event === "summarised") {
        put(data);
        writing.value = null;
        return data.version > before ? "written" : "current";
      }
    }
    throw new Problem({ code: "unreachable", detail: "The connection broke off meanwhile" });
  } catch (error) {
    if (!(error instanceof Problem || error instanceof TypeError)) throw error;
    const problem =
      error instanceof Problem
        ? error
        : new Problem({ code: "unreachable", detail: "The connection broke off meanwhile" });
    writing.value = { state: "failed", problem };
    return "failed";
  }
}

/** @param {any} body */
function problemIn({ code, detail, status, ...members }) {
  return new Problem({ code, detail, status, members });
}

/**
 * @param {string} operation
 * @param {string} leadId
 */
function followSummary(operation, leadId) {
  writingOf(leadId).value = { state: "waiting" };
  const name = leads.get(leadId)?.peek();
  wait({
    id: operation,
    kind: "summary",
    name: name ? `${name.firstName} ${name.lastName}` : "",
    leadId,
    draft: {},
  });
}

/**
 * What is to be done with an operation's end; screens say so.
 * @type {(pending: Pending, operation: Operation) => void}
 */
let onEnd = () => {};

/** @param {typeof onEnd} callback */
export function onOperationEnd(callback) {
  onEnd = callback;
}

/** @param {Omit<Pending, "since">} given */
function wait(given) {
  const one = { ...given, since: Date.now() };
  keepPending([...pending.peek().filter(({ id }) => id !== one.id), one]);
  void poll(one);
}

/** Goes on with what this tab was waiting for before it was loaded anew. */
export function resume() {
  for (const one of pending.peek()) {
    if (one.kind === "summary" && one.leadId) writingOf(one.leadId).value = { state: "waiting" };
    void poll(one);
  }
}

/** @param {Pending} one */
async function poll(one) {
  for (let delay = 1000; ; delay = Math.min(delay * 1.5, 5000)) {
    await pause(delay);
    if (!pending.peek().includes(one)) return;
    if (document.hidden) continue;
    try {
      const { data } = await ask("GET", `/operations/${one.id}`);
      const operation = /** @type {Operation} */ (data);
      if (operation.status !== "pending") return await end(one, operation);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status !== 404) continue;
      return await end(one, {
        id: one.id,
        status: "failed",
        error: { code: error.code, detail: error.detail },
      });
    }
  }
}

/**
 * @param {Pending} one
 * @param {Operation} operation
 */
async function end(one, operation) {
  const leadId = operation.leadId ?? one.leadId;
  const succeeded = operation.status === "succeeded";
  if (leadId && one.kind === "create") own.add(leadId);
  if (leadId && one.kind === "delete" && succeeded) forget(leadId);
  else if (leadId) {
    const lead = await readLead(leadId).catch(() => null);
    // What was shown at once, and is not stored, has the version of what it was to change.
    if (lead && !succeeded && leadOf(leadId).peek()?.version === lead.version) leadOf(leadId).value = lead;
  }
  if (leadId && one.kind === "summary") {
    const error = operation.error;
    const problem = new Problem({
      code: error?.code ?? "operation-failed",
      detail: error?.detail ?? "There is no summary this time",
    });
    writingOf(leadId).value = succeeded ? null : { state: "failed", problem };
  }
  keepPending(pending.peek().filter((other) => other !== one));
  onEnd(one, operation);
}

/** @param {readonly Pending[]} next */
function keepPending(next) {
  pending.value = next;
  try {
    sessionStorage.setItem(STORED, JSON.stringify(next));
  } catch {
    // Without storage it is followed as long as the page lives.
  }
}

/** @returns {readonly Pending[]} */
function restore() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
  } catch {
    return [];
  }
}
