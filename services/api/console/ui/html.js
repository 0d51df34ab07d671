// Templates, and components that follow signals: what every other module of the interface stands on.

import { h } from "../vendor/preact.js";
import { useEffect, useLayoutEffect, useReducer, useRef } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";
import { effect } from "../vendor/signals-core.js";

/** Values become text nodes and attributes: nothing is ever parsed as markup. */
export const html = htm.bind(h);

/**
 * Returns a signal's value, or what `pick` makes of it, and renders anew when that changes.
 * @template T, [P=T]
 * @param {{readonly value: T, peek(): T}} source
 * @param {(value: T) => P} [pick]
 * @returns {P}
 */
export function useValue(source, pick) {
  const [, render] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const choose = pick ?? (/** @type {(value: T) => any} */ ((value) => value));
  const shown = choose(source.peek());
  const latest = useRef({ choose, shown });
  latest.current = { choose, shown };
  useLayoutEffect(
    () =>
      effect(() => {
        const now = latest.current.choose(source.value);
        if (now !== latest.current.shown) render(undefined);
      }),
    [source],
  );
  return shown;
}

/**
 * Returns a function that always calls the newest one given: for listeners that live long.
 * @template {(...given: any[]) => any} F
 * @param {F} callback
 * @returns {F}
 */
export function useLatest(callback) {
  const kept = useRef(callback);
  kept.current = callback;
  const stable = useRef(/** @type {F} */ ((...given) => kept.current(...given)));
  return stable.current;
}

/** Returns what is true in `current` while a component is shown: late answers ask for it. */
export function useAlive() {
  const alive = useRef(true);
  useEffect(
    () => () => {
      alive.current = false;
    },
    [],
  );
  return alive;
}

/**
 * Sets the document's title while a component is shown.
 * @param {string} title
 */
export function useTitle(title) {
  useEffect(() => {
    document.title = `${title} · Leads`;
  }, [title]);
}

/**
 * Returns true once a wait has taken so long that it should be shown.
 * @param {boolean} waits
 * @param {number} [delay] in milliseconds
 */
export function useDelayed(waits, delay = 200) {
  const [, render] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const since = useRef(0);
  if (!waits) since.current = 0;
  else if (!since.current) since.current = Date.now();
  useEffect(() => {
    if (!waits) return undefined;
    const timer = setTimeout(() => render(undefined), delay + 5);
    return () => clearTimeout(timer);
  }, [waits, delay]);
  return waits && Date.now() - since.current >= delay;
}
