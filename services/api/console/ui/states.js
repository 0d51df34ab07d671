// Loading, empty and failed: what stands where content does not (yet).

import { Problem } from "../api.js";
import { useState } from "../vendor/hooks.js";
import { html, useDelayed } from "./html.js";

/** @typedef {import("../vendor/preact.js").ComponentChildren} Children */

/** Grey lines in the place of text. @param {{lines?: number, label?: string}} props */
export function Skeleton({ lines = 4, label = "Loading" }) {
  const shows = useDelayed(true);
  return html`<div class="skeleton" role="status" aria-label=${label}>
    ${shows && Array.from({ length: lines }, (_, at) => html`<span key=${at} class="bone" />`)}
  </div>`;
}

/** @param {{title: string, children?: Children}} props */
export function Empty({ title, children }) {
  return html`<div class="empty">
    <p class="empty-title">${title}</p>
    ${children}
  </div>`;
}

/**
 * What failed, why, the request's id for whoever looks into it, and another try.
 * @param {{error: unknown, retry?: () => void, title?: string}} props
 */
export function Failure({ error, retry, title }) {
  const problem = asProblem(error);
  return html`<div class="failure" role="alert">
    <p>${title && html`<strong>${title}</strong> `}<bdi>${problem.detail}</bdi></p>
    ${problem.requestId && html`<p class="note">Request <code>${problem.requestId}</code></p>`}
    ${retry && html`<button type="button" class="button" onClick=${retry}>Retry</button>`}
  </div>`;
}

/** @param {unknown} error */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  return new Problem({
    code: "defect",
    detail: error instanceof Error ? error.message : "Something went wrong",
  });
}

/** Copies a text where the browser lets it: plain HTTP has no clipboard. @param {{text: string, what: string}} props */
export function Copy({ text, what }) {
  const [done, setDone] = useState(false);
  if (!navigator.clipboard) return null;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // The browser's user does not let it: the text can be selected.
      return;
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button type="button" class="link" aria-label=${`Copy ${what}`} onClick=${copy}>
    ${done ? "Copied" : "Copy"}
  </button>`;
}
