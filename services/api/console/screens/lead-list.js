// The list that is on screen: its page, its total, what is selected, and what changed meanwhile.

import { ask, cursorOf, Problem } from "../api.js";
import { follow, whenFollowed } from "../changes.js";
import { forget, leadOf, mark, own, put, putAll, readLead, readLeads } from "../store.js";
import { batch, signal } from "../vendor/signals-core.js";

/**
 * @typedef {import("../store.js").Lead} Lead
 * @typedef {object} Page
 * @property {string} key the query it answers
 * @property {readonly string[]} ids
 * @property {URLSearchParams | null} next
 * @property {boolean} loading
 * @property {unknown} error
 */

export const FILTERS = ["q", "status", "source", "country", "hasSummary", "createdAfter"];
const SIZE = 100;
const MOST_AT_ONCE = 25;
const FRESH_FOR = 30_000;

/** @type {import("../vendor/signals-core.js").Signal<Page>} */
export const page = signal({ key: "", ids: [], next: null, loading: true, error: null });
/** How many leads the list has; null until it is known. */
export const total = signal(/** @type {number | null} */ (null));
/** Leads that others have made since the list was read. */
export const fresh = signal(/** @type {ReadonlySet<string>} */ (new Set()));
/** Rows that do not belong here any more, and why. */
export const strays = signal(/** @type {ReadonlyMap<string, "deleted" | "moved">} */ (new Map()));
export const selection = signal({
  ids: /** @type {ReadonlySet<string>} */ (new Set()),
  all: false,
});

/** @type {AbortController | null} */
let reading = null;
/**
 * @typedef {object} Ahead the next page, read before it is asked for
 * @property {string} key
 * @property {number} at
 * @property {Promise<Answer>} answer
 * @property {ReadonlySet<string> | null} ids of its leads, once they are known
 */
/** @type {Ahead | null} */
let ahead = null;
let totalOf = "";

/** @typedef {{rows: Lead[], next: URLSearchParams | null}} Answer */

/** What of an address says which leads: a page of a list has the same filters as all of it. */
export function filtersOf(/** @type {URLSearchParams} */ query) {
  const kept = new URLSearchParams();
  for (const name of FILTERS) {
    const value = query.get(name);
    if (value) kept.set(name, value);
  }
  return kept;
}

/** @param {URLSearchParams} query */
function request(query) {
  const asked = filtersOf(query);
  for (const name of ["sort", "after"]) {
    const value = query.get(name);
    if (value) asked.set(name, value);
  }
  asked.set("limit", String(SIZE));
  return asked;
}

/**
 * @param {URLSearchParams} asked
 * @param {AbortSignal} [stop]
 * @returns {Promise<Answer>}
 */
async function read(asked, stop) {
  const { data, headers } = await ask("GET", "/leads", { query: asked, ...(stop && { signal: stop }) });
  return { rows: /** @type {Lead[]} */ (data), next: cursorOf(headers) };
}

/**
 * Shows the page that an address names. Rows that are there stay until the new ones come.
 * @param {URLSearchParams} query
 */
export async function load(query) {
  const asked = request(query);
  const key = asked.toString();
  reading?.abort();
  const mine = (reading = new AbortController());
  page.value = { ...page.peek(), key, loading: true, error: null };
  try {
    await whenFollowed();
    if (mine.signal.aborted) return;
    const isAhead = ahead?.key === key && Date.now() - ahead.at < FRESH_FOR;
    const found = await (isAhead && ahead ? ahead.answer : read(asked, mine.signal));
    if (mine.signal.aborted) return;
    show(key, found);
    void count(query);
    readAhead(found.next);
  } catch (error) {
    if (mine.signal.aborted) return;
    page.value = { ...page.peek(), loading: false, error };
    if (!(error instanceof Problem)) throw error;
  }
}

/**
 * @param {string} key
 * @param {Answer} found
 */
function show(key, { rows, next }) {
  batch(() => {
    putAll(rows);
    page.value = { key, ids: rows.map(({ id }) => id), next, loading: false, error: null };
    strays.value = new Map();
    fresh.value = new Set();
  });
}

/** @param {URLSearchParams | null} next */
function readAhead(next) {
  ahead = null;
  if (!next) return;
  const asked = request(next);
  const answer = read(asked);
  /** @type {Ahead} */
  const mine = { key: asked.toString(), at: Date.now(), answer, ids: null };
  ahead = mine;
  answer.then(
    ({ rows }) => {
      mine.ids = new Set(rows.map(({ id }) => id));
    },
    () => {
      if (ahead === mine) ahead = null;
    },
  );
}

/** Forgets the page that was read ahead when one of its leads has changed since. @param {readonly {leadId: string}[]} changes */
function dropAhead(changes) {
  const ids = ahead?.ids;
  if (!ids || changes.some(({ leadId }) => ids.has(leadId))) ahead = null;
}

/** @param {URLSearchParams} query */
async function count(query) {
  const filters = filtersOf(query);
  const key = filters.toString();
  if (key !== totalOf) total.value = null;
  totalOf = key;
  filters.set("limit", "1");
  filters.set("count", "exact");
  try {
    const { headers } = await ask("GET", "/leads", { query: filters });
    const known = headers.get("X-Total-Count");
    if (totalOf === key && known !== null) total.value = Number(known);
  } catch (error) {
    // The rows are there; how many there are in all is not worth an error.
    if (!(error instanceof Problem)) throw error;
  }
}

/** All leads of a list, as far as one needs to know them. @param {URLSearchParams} query @param {AbortSignal} stop */
export async function allLeads(query, stop) {
  /** @type {import("../store.js").Seen[]} */
  const seen = [];
  /** @type {URLSearchParams | null} */
  let asked = filtersOf(query);
  asked.set("limit", "500");
  while (asked && !stop.aborted) {
    /** @type {Answer} */
    const found = await read(asked, stop);
    for (const { id, version, firstName, lastName } of found.rows) {
      seen.push({ id, version, firstName, lastName });
    }
    asked = found.next;
  }
  return seen;
}

/** @param {string} id @param {boolean} [on] */
export function toggle(id, on) {
  const ids = new Set(selection.peek().ids);
  if (on ?? !ids.has(id)) ids.add(id);
  else ids.delete(id);
  selection.value = { ids, all: false };
}

/** Selects all rows between two. @param {string} from @param {string} to */
export function selectRange(from, to) {
  const { ids } = page.peek();
  const [start = 0, end = 0] = [ids.indexOf(from), ids.indexOf(to)].sort((a, b) => a - b);
  const chosen = new Set(selection.peek().ids);
  for (const id of ids.slice(Math.max(start, 0), end + 1)) chosen.add(id);
  selection.value = { ids: chosen, all: false };
}

export function clearSelection() {
  selection.value = { ids: new Set(), all: false };
}

/** Takes away what is deleted by the reader's own hand. @param {string} id */
export function removeRow(id) {
  const known = page.peek();
  page.value = { ...known, ids: known.ids.filter((one) => one !== id) };
  if (selection.peek().ids.has(id)) toggle(id, false);
  const count = total.peek();
  if (count !== null) total.value = Math.max(0, count - 1);
}

/** Whether a lead belongs to the list, as far as this page can tell. @param {Lead} lead */
function belongs(lead) {
  const query = new URLSearchParams(page.peek().key);
  const summary = query.get("hasSummary");
  return (
    [lead.status, null].includes(/** @type {any} */ (query.get("status"))) &&
    [lead.source, null].includes(query.get("source")) &&
    (summary === null || String(lead.summary !== null) === summary)
  );
}

/**
 * Keeps the rows current while the list is shown.
 * @param {() => string | undefined} opened the lead in the drawer
 * @param {() => void} reload
 */
export function keepCurrent(opened, reload) {
  return follow({
    gap() {
      reload();
      const open = opened();
      if (open) readLead(open).catch(() => {});
    },
    changed(changes) {
      dropAhead(changes);
      const shown = new Set(page.peek().ids);
      const open = opened();
      const [added, gone] = [new Set(fresh.peek()), new Map(strays.peek())];
      /** @type {string[]} */
      const stale = [];
      for (const { leadId, leadVersion, change } of changes) {
        const isShown = shown.has(leadId) || leadId === open;
        if (change === "deleted") {
          added.delete(leadId);
          if (shown.has(leadId)) gone.set(leadId, "deleted");
          if (leadId === open) forget(leadId);
        } else if (!isShown) {
          if (change === "created" && !own.has(leadId)) added.add(leadId);
        } else if ((leadOf(leadId).peek()?.version ?? 0) < leadVersion) stale.push(leadId);
      }
      batch(() => {
        if (added.size !== fresh.peek().size) fresh.value = added;
        strays.value = gone;
      });
      if (stale.length) void refresh(stale);
    },
  });
}

/** @param {string[]} ids */
async function refresh(ids) {
  try {
    if (ids.length > MOST_AT_ONCE) await refreshPage(new Set(ids));
    else await readLeads(ids);
  } catch (error) {
    // The next change, or the reader, brings the rows up to date.
    if (!(error instanceof Problem)) throw error;
    return;
  }
  mark(ids);
  const moved = new Map(strays.peek());
  for (const id of ids) {
    const lead = leadOf(id).peek();
    if (!page.peek().ids.includes(id) || !lead) continue;
    if (!belongs(lead)) moved.set(id, "moved");
    else if (moved.get(id) === "moved") moved.delete(id);
  }
  strays.value = moved;
}

/** Reads many rows in one request; those that are elsewhere by now are read alone. */
async function refreshPage(/** @type {Set<string>} */ ids) {
  const { rows } = await read(new URLSearchParams(page.peek().key));
  batch(() => rows.forEach(put));
  for (const { id } of rows) ids.delete(id);
  await readLeads([...ids]);
}
