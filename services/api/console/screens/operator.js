// What every operators' screen stands on: the key, requests that send it, and looks that repeat.

import { ask, pause, Problem } from "../api.js";
import { operatorKey, session } from "../session.js";
import { Dialog } from "../ui/dialog.js";
import { Field, Form } from "../ui/form.js";
import { html, useAlive, useLatest, useTitle, useValue } from "../ui/html.js";
import { asProblem } from "../ui/states.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { batch, effect, signal } from "../vendor/signals-core.js";

/** @typedef {import("../main.js").Screen} Screen */

const WRONG = "This is not the operators' key";
// The key is checked before anything else is looked at.
const TRIED = "/admin/replays";
const FOREVER = 2 ** 31 - 1;

/** Whether a key that was right is refused by now: what is on screen stays there meanwhile. */
const isRefused = signal(false);
effect(() => {
  if (!session.value || operatorKey.value) isRefused.value = false;
});

/** Headers carry bytes: of letters beyond ASCII those that UTF-8 has. @param {string} key */
function headerOf(key) {
  return { "X-API-Key": String.fromCharCode(...new TextEncoder().encode(key)) };
}

/**
 * Sends a request with the operators' key, as `ask` does. A key that is refused is asked for anew.
 * @template T
 * @param {string} method
 * @param {string} path
 * @param {import("../api.js").Options} [options]
 * @returns {Promise<{status: number, data: T, headers: Headers}>}
 * @throws {Problem}
 */
export async function operate(method, path, options = {}) {
  const key = operatorKey.peek();
  const headers = { ...options.headers, ...headerOf(key) };
  try {
    return await ask(method, path, { ...options, headers, anonymous: true });
  } catch (error) {
    if (error instanceof Problem && error.status === 401 && key && operatorKey.peek() === key) {
      batch(() => {
        operatorKey.value = "";
        isRefused.value = true;
      });
    }
    throw error;
  }
}

/**
 * Makes a screen of one that needs the key: without one it is asked for.
 * @param {string} title
 * @param {Screen} screen
 * @returns {Screen}
 */
export function forOperators(title, screen) {
  return function Operators({ params }) {
    const key = useValue(operatorKey);
    const refused = useValue(isRefused);
    const [asks, setAsks] = useState(true);
    useEffect(() => {
      if (!key) setAsks(true);
    }, [key]);
    return html`${key || refused
      ? html`<${screen} params=${params} />`
      : html`<${Locked} title=${title} enter=${() => setAsks(true)} />`}
    ${!key && asks && html`<${KeyDialog} again=${refused} close=${() => setAsks(false)} />`}`;
  };
}

/** @param {{title: string, enter: () => void}} props */
function Locked({ title, enter }) {
  useTitle(title);
  return html`<div class="page">
    <h1>${title}</h1>
    <p>This screen is for operators, who have a key.</p>
    <button type="button" class="button primary" onClick=${enter}>Enter the key</button>
  </div>`;
}

/** @param {{again: boolean, close: () => void}} props */
function KeyDialog({ again, close }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const alive = useAlive();
  const submit = async () => {
    const key = text.trim();
    if (busy || !key) return;
    setBusy(true);
    setProblem(null);
    const refusal = await refusalOf(key);
    if (!alive.current) return;
    setBusy(false);
    setProblem(refusal);
    if (!refusal) operatorKey.value = key;
  };
  const isWrong = problem?.status === 401;
  return html`<${Dialog} title="The operators' key" close=${close} kind="small">
    <p>
      ${again
        ? "The key is not accepted any more: what you have entered is still here."
        : "These screens are for operators. The key is the API's setting API_KEY; it is kept until this page is closed or loaded anew, and nowhere else."}
    </p>
    <${Form} submit=${submit} errors=${problem}>
      <${Field}
        name="operator-key"
        label="Key"
        type="password"
        first
        value=${text}
        change=${setText}
        error=${isWrong ? WRONG : ""}
      />
      ${problem &&
      !isWrong &&
      html`<p class="failure" role="alert"><bdi>${problem.detail}</bdi></p>`}
      <div class="actions">
        <button type="button" class="button" onClick=${close}>Cancel</button>
        <button type="submit" class="button primary" disabled=${busy || !text.trim()}>
          ${busy ? "One moment…" : "Use it"}
        </button>
      </div>
    <//>
  <//>`;
}

/** Returns why a key is not taken; null for one that is right. @param {string} key */
async function refusalOf(key) {
  try {
    await ask("GET", TRIED, { headers: headerOf(key), anonymous: true });
    return null;
  } catch (error) {
    const problem = asProblem(error);
    // The API has let the key pass, and has something else to complain of.
    return problem.status === 503 && problem.code !== "unknown" ? null : problem;
  }
}

/**
 * @template T
 * @typedef {object} Reading
 * @property {T | null} data the latest, also while it is read anew or cannot be
 * @property {unknown} error of the latest try
 * @property {boolean} loading
 * @property {number} at when the data came
 * @property {() => void} reload
 */

/**
 * Reads something, and again some time after each answer: never twice at once, and not while the
 * page is hidden or the key is asked for.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} read throws `Problem`
 * @param {object} [options]
 * @param {string} [options.key] what is read: another key is read at once
 * @param {(data: T | null) => number | null} [options.every] in milliseconds; null: not again
 * @returns {Reading<T>}
 */
export function useReading(read, { key = "", every = () => null } = {}) {
  const operator = useValue(operatorKey);
  const [state, setState] = useState(() => ({
    data: /** @type {T | null} */ (null),
    error: /** @type {unknown} */ (null),
    loading: true,
    at: 0,
  }));
  const latest = useLatest(read);
  const interval = useLatest(every);
  const again = useRef(() => {});
  useEffect(() => {
    if (!operator) return undefined;
    const stop = new AbortController();
    void repeat(stop.signal);
    return () => {
      stop.abort();
      again.current();
    };

    async function repeat(/** @type {AbortSignal} */ signal) {
      for (;;) {
        const next = new AbortController();
        again.current = () => next.abort();
        await visible(signal);
        if (signal.aborted) return;
        setState((known) => ({ ...known, loading: true }));
        try {
          const data = await latest(signal);
          if (signal.aborted) return;
          setState({ data, error: null, loading: false, at: Date.now() });
          await pause(interval(data) ?? FOREVER, next.signal);
        } catch (error) {
          if (signal.aborted) return;
          setState((known) => ({ ...known, error, loading: false }));
          if (!(error instanceof Problem)) reportError(error);
          await pause(interval(null) ?? FOREVER, next.signal);
        }
        if (signal.aborted) return;
      }
    }
  }, [key, operator]);
  const reload = useLatest(() => again.current());
  return { ...state, reload };
}

/** Waits while the page is hidden. @param {AbortSignal} signal @returns {Promise<void>} */
function visible(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });
}
