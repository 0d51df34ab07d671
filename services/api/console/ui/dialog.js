// Dialogs: the browser's own, which keep the focus inside and give it back.

import { useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { html, useAlive } from "./html.js";
import { asProblem } from "./states.js";

/** @typedef {import("../vendor/preact.js").ComponentChildren} Children */

let latest = 0;

/**
 * @param {object} props
 * @param {string} props.title
 * @param {() => void} props.close
 * @param {boolean} [props.stays] Esc does not close it
 * @param {string} [props.kind]
 * @param {Children} [props.children]
 */
export function Dialog({ title, close, stays = false, kind = "", children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [id] = useState(() => `dialog-${(latest += 1)}`);
  useLayoutEffect(() => {
    const dialog = /** @type {HTMLDialogElement} */ (element.current);
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog
    ref=${element}
    class=${kind}
    aria-labelledby=${id}
    onCancel=${(/** @type {Event} */ event) => {
      event.preventDefault();
      if (!stays) close();
    }}
  >
    <h2 id=${id}>${title}</h2>
    ${children}
  </dialog>`;
}

/**
 * Asks before something that cannot be undone; from many on, for the number to be typed.
 * @param {object} props
 * @param {string} props.title
 * @param {string} props.action the button's word
 * @param {() => Promise<void> | void} props.run
 * @param {() => void} props.close
 * @param {string} [props.typed] what has to be typed
 * @param {Children} [props.children]
 */
export function Confirm({ title, action, run, close, typed, children }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const alive = useAlive();
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy || (typed && text.trim() !== typed)) return;
    setBusy(true);
    setProblem("");
    try {
      await run();
    } catch (error) {
      if (alive.current) setProblem(asProblem(error).detail);
    }
    if (alive.current) setBusy(false);
  };
  return html`<${Dialog} title=${title} close=${close} kind="small">
    <form onSubmit=${submit}>
      ${children}
      ${typed &&
      html`<label class="field">
        <span>Type <strong>${typed}</strong> to go on</span>
        <input
          value=${text}
          autocomplete="off"
          onInput=${(/** @type {any} */ event) => setText(event.target.value)}
        />
      </label>`}
      ${problem && html`<p class="failure" role="alert"><bdi>${problem}</bdi></p>`}
      <div class="actions">
        <button type="button" class="button" autofocus=${!typed} onClick=${close}>Cancel</button>
        <button
          type="submit"
          class="button danger"
          disabled=${busy || (typed && text.trim() !== typed)}
        >
          ${busy ? "Working…" : action}
        </button>
      </div>
    </form>
  <//>`;
}
