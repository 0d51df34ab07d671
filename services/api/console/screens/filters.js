// Search and filters: what they are stands in the address, so that it can be kept and shared.

import { capital, SOURCES, STATUSES } from "../format.js";
import { bind } from "../keyboard.js";
import { address, navigate, place } from "../router.js";
import { html, useLatest, useValue } from "../ui/html.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { filtersOf } from "./lead-list.js";

const TYPING = 120;

/** @typedef {Record<string, string | null>} Changes */

/** Goes to the list with other filters; a page belongs to the ones before. @param {Changes} changes */
export function refine(changes) {
  const { path, search } = place.peek();
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  query.delete("after");
  navigate(address(path, query), { replace: true });
}

const WORDS = {
  q: "Search",
  status: "Status",
  source: "Source",
  country: "Country",
  hasSummary: "Summary",
  createdAfter: "Created since",
};

/** What is chosen of a few. @type {["status" | "source" | "hasSummary", [string, string][]][]} */
const CHOICES = [
  ["status", STATUSES.map((one) => [one, capital(one)])],
  ["source", SOURCES.map((one) => [one, capital(one)])],
  [
    "hasSummary",
    [
      ["true", "Written"],
      ["false", "None yet"],
    ],
  ],
];

/** @param {string} name @param {string} value */
function worded(name, value) {
  if (name === "hasSummary") return value === "true" ? "written" : "none";
  if (name === "createdAfter") return value.slice(0, 10);
  return value;
}

/** @param {{query: URLSearchParams}} props */
export function Filters({ query }) {
  const filters = filtersOf(query);
  filters.delete("q");
  const menu = useRef(/** @type {HTMLDetailsElement | null} */ (null));
  return html`
    <${Search} value=${query.get("q") ?? ""} />
    ${[...filters].map(
      ([name, value]) => html`<span key=${name} class="filter">
        ${WORDS[/** @type {keyof typeof WORDS} */ (name)]}: <bdi>${worded(name, value)}</bdi>
        <button
          type="button"
          class="icon"
          aria-label=${`Remove the filter ${WORDS[/** @type {keyof typeof WORDS} */ (name)]}`}
          onClick=${() => refine({ [name]: null })}
        >
          ✕
        </button>
      </span>`,
    )}
    <details class="menu" ref=${menu}>
      <summary class="button quiet">+ Filter</summary>
      <${Choices} filters=${filters} close=${() => menu.current?.removeAttribute("open")} />
    </details>
  `;
}

/** @param {{value: string}} props */
function Search({ value }) {
  const [text, setText] = useState(value);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const sent = useRef(value);
  useEffect(() => {
    // The address has changed by something else, such as Back.
    if (value !== sent.current) setText(value);
    sent.current = value;
  }, [value]);
  useEffect(() => bind({ "/": () => input.current?.select() }), []);
  const change = (/** @type {string} */ next) => {
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      sent.current = next.trim();
      refine({ q: next.trim() });
    }, TYPING);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return html`<input
    ref=${input}
    class="search"
    type="search"
    aria-label="Search leads"
    placeholder="Search  /"
    maxlength="100"
    value=${text}
    onInput=${(/** @type {any} */ event) => change(event.target.value)}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      if (text) change("");
      else input.current?.blur();
    }}
  />`;
}

/** @param {{filters: URLSearchParams, close: () => void}} props */
function Choices({ filters, close }) {
  const { search } = useValue(place);
  const given = (/** @type {string} */ name) => filters.get(name) ?? "";
  const apply = useLatest((/** @type {Event} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const entries = new FormData(form);
    const value = (/** @type {string} */ name) => String(entries.get(name) ?? "").trim() || null;
    const day = value("createdAfter");
    refine({
      status: value("status"),
      source: value("source"),
      country: value("country"),
      hasSummary: value("hasSummary"),
      createdAfter: day && new Date(`${day}T00:00`).toISOString(),
    });
    close();
  });
  return html`<form key=${search} class="menu-body form" aria-label="Filters" onSubmit=${apply}>
    ${CHOICES.map(
      ([name, choices]) => html`<label key=${name} class="field">
        <span>${WORDS[name]}</span>
        <select name=${name}>
          <option value="">Any</option>
          ${choices.map(
            ([value, label]) =>
              html`<option key=${value} value=${value} selected=${given(name) === value}>
                ${label}
              </option>`,
          )}
        </select>
      </label>`,
    )}
    <label class="field">
      <span>Country</span>
      <input name="country" maxlength="100" defaultValue=${given("country")} />
    </label>
    <label class="field">
      <span>Created since</span>
      <input name="createdAfter" type="date" defaultValue=${given("createdAfter").slice(0, 10)} />
    </label>
    <div class="actions">
      <button type="button" class="button" onClick=${() => clear(filters, close)}>Clear</button>
      <button type="submit" class="button primary">Apply</button>
    </div>
  </form>`;
}

/** @param {URLSearchParams} filters @param {() => void} close */
function clear(filters, close) {
  refine(Object.fromEntries([...filters.keys()].map((name) => [name, null])));
  close();
}
