// Short messages that pass: three at most, and errors stay until they are closed.

import { signal } from "../vendor/signals-core.js";
import { html, useValue } from "./html.js";

/**
 * @typedef {object} Toast
 * @property {string} text
 * @property {"info" | "error"} [kind]
 * @property {{label: string, run: () => void}} [action]
 * @property {number} [time] in milliseconds
 */

const MOST = 3;

const shown = signal(/** @type {readonly (Toast & {id: number})[]} */ ([]));
let latest = 0;

/** Shows a message; returns what takes it away. @param {Toast} toast */
export function toast(toast) {
  latest += 1;
  const id = latest;
  shown.value = [...shown.peek(), { ...toast, id }].slice(-MOST);
  const close = () => {
    shown.value = shown.peek().filter((one) => one.id !== id);
  };
  if (toast.kind !== "error") setTimeout(close, toast.time ?? 5000);
  return close;
}

export function Toasts() {
  const toasts = useValue(shown);
  const close = (/** @type {number} */ id) => {
    shown.value = shown.peek().filter((one) => one.id !== id);
  };
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.map(
      ({ id, text, kind, action }) => html`<div key=${id} class=${`toast ${kind ?? "info"}`}>
        <span class="grow"><bdi>${text}</bdi></span>
        ${action &&
        html`<button
          type="button"
          class="link"
          onClick=${() => {
            close(id);
            action.run();
          }}
        >
          ${action.label}
        </button>`}
        <button type="button" class="icon" aria-label="Close message" onClick=${() => close(id)}>
          ✕
        </button>
      </div>`,
    )}
  </div>`;
}
