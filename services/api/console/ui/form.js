// Forms: a label, a field, and what is wrong with it, joined for screen readers.

import { useLayoutEffect, useRef } from "../vendor/hooks.js";
import { html } from "./html.js";

/** @typedef {import("../vendor/preact.js").ComponentChildren} Children */

/**
 * @param {object} props
 * @param {string} props.name
 * @param {string} props.label
 * @param {string} props.value
 * @param {(value: string) => void} props.change
 * @param {Children} [props.error]
 * @param {string} [props.hint]
 * @param {string} [props.type]
 * @param {number} [props.max]
 * @param {boolean} [props.required]
 * @param {string} [props.autocomplete]
 * @param {boolean} [props.first] has the focus at the beginning
 * @param {string} [props.prefix] of ids, where two forms may be shown
 */
export function Field(props) {
  const { name, label, value, change, error, hint, type = "text", max, required = false } = props;
  const id = `${props.prefix ?? "field"}-${name}`;
  const notes = [error && `${id}-error`, hint && `${id}-hint`].filter(Boolean).join(" ");
  return html`<div class=${`field ${error ? "wrong" : ""}`}>
    <label for=${id}>${label}${required && html`<span aria-hidden="true"> *</span>`}</label>
    <input
      id=${id}
      name=${name}
      type=${type}
      value=${value}
      maxlength=${max}
      required=${required}
      autocomplete=${props.autocomplete ?? "off"}
      data-first=${props.first}
      aria-invalid=${error ? "true" : undefined}
      aria-describedby=${notes || undefined}
      onInput=${(/** @type {any} */ event) => change(event.target.value)}
    />
    ${hint && html`<p class="note" id=${`${id}-hint`}>${hint}</p>`}
    ${error && html`<p class="error" id=${`${id}-error`}>✗ ${error}</p>`}
  </div>`;
}

/**
 * A form that sends on Ctrl+Enter, and puts the focus on what is wrong.
 * @param {object} props
 * @param {() => void} props.submit
 * @param {string} [props.label]
 * @param {unknown} [props.errors] changes when there are new ones
 * @param {Children} [props.children]
 */
export function Form({ submit, label, errors, children }) {
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  useLayoutEffect(() => {
    const first = form.current?.querySelector("[data-first]");
    if (first instanceof HTMLElement) first.focus();
  }, []);
  useLayoutEffect(() => {
    const wrong = form.current?.querySelector("[aria-invalid]");
    if (wrong instanceof HTMLElement) wrong.focus();
  }, [errors]);
  return html`<form
    ref=${form}
    class="form"
    aria-label=${label}
    novalidate
    onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      submit();
    }}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        submit();
      }
    }}
  >
    ${children}
  </form>`;
}
