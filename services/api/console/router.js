// Addresses: which screen is shown is what the address says, and Back goes where it was.

import { batch, signal } from "./vendor/signals-core.js";

const BASE = "/console";

/**
 * @typedef {object} Place
 * @property {string} path below the console, such as `/leads/7`
 * @property {string} search the query with its question mark, or nothing
 * @property {Record<string, any>} state what the entry of the history keeps
 * @property {"push" | "replace" | "back" | "load"} by how one got there
 */

/** @returns {Place} */
function read(/** @type {Place["by"]} */ by) {
  return {
    path: location.pathname.slice(BASE.length) || "/",
    search: location.search,
    state: history.state ?? {},
    by,
  };
}

export const place = signal(read("load"));

/** Where in the history the shown entry is: Back and Forward are told apart by it. */
let position = 0;
/** Whether the browser is on its way back to where a guard keeps it. */
let isReturning = false;

/** What asks before one leaves: returns true to stay. @type {Set<() => boolean>} */
export const guards = new Set();

/**
 * Returns the address of a screen for a link.
 * @param {string} path
 * @param {URLSearchParams | Record<string, string | null | undefined>} [query]
 */
export function address(path, query) {
  const pairs = query instanceof URLSearchParams ? query : new URLSearchParams();
  if (query && !(query instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined && value !== "") pairs.set(name, value);
    }
  }
  const text = pairs.toString();
  return `${BASE}${path}${text ? `?${text}` : ""}`;
}

/** Whether something asks to stay where one is, such as a draft. */
export function stays() {
  return [...guards].some((guard) => guard());
}

/**
 * Goes to an address of the console.
 * @param {string} to as `address` makes it
 * @param {{replace?: boolean, state?: Record<string, any>}} [options]
 */
export function navigate(to, { replace = false, state = {} } = {}) {
  if (new URL(to, location.href).pathname !== location.pathname && stays()) return;
  if (!replace) position += 1;
  history[replace ? "replaceState" : "pushState"]({ ...state, position }, "", to);
  place.value = read(replace ? "replace" : "push");
}

/** Adds to what the present entry of the history keeps. @param {Record<string, any>} more */
export function remember(more) {
  history.replaceState({ ...history.state, ...more }, "");
}

/** Follows the browser's own navigation, and links within the console. */
export function listen() {
  history.scrollRestoration = "manual";
  position = history.state?.position ?? 0;
  remember({ position });
  addEventListener("popstate", goBack);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey) return;
    if (event.shiftKey || event.altKey || !(event.target instanceof Element)) return;
    const link = event.target.closest("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
    if (link.origin !== location.origin || !isOwn(link.pathname)) return;
    event.preventDefault();
    batch(() => navigate(link.pathname + link.search));
  });
}

/** Shows where the browser has gone by itself, or has it come back to a draft. */
function goBack() {
  const to = history.state?.position ?? position;
  const isSame = read("back").path === place.peek().path;
  const hasReturned = isReturning && to === position;
  isReturning = false;
  if (hasReturned) return;
  if (!isSame && to !== position && stays()) {
    isReturning = true;
    history.go(position - to);
    return;
  }
  position = to;
  place.value = read("back");
}

/** Whether a path is one of the console's own. @param {string} path */
export function isOwn(path) {
  return path === BASE || path.startsWith(`${BASE}/`);
}
