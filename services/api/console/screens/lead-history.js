// What happened to a lead: its events and the requests for its summaries, newest first.

import { ask, cursorOf } from "../api.js";
import { capital, labelOf, moment } from "../format.js";
import { Chip } from "../ui/chip.js";
import { html } from "../ui/html.js";
import { Failure, Skeleton } from "../ui/states.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";

/**
 * @typedef {import("../store.js").Lead} Lead
 * @typedef {import("../schema").components["schemas"]["LeadEvent"]} LeadEvent
 * @typedef {import("../schema").components["schemas"]["LeadSummary"]} LeadSummary
 */

const SIZE = 20;

/**
 * Reads a list page by page, and anew when the lead has changed.
 * @template T
 * @param {string} path
 * @param {number} version
 */
function usePages(path, version) {
  const [rows, setRows] = useState(/** @type {readonly T[] | null} */ (null));
  const [next, setNext] = useState(/** @type {URLSearchParams | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const asked = useRef(0);
  const read = async (/** @type {URLSearchParams | null} */ from) => {
    const mine = (asked.current += 1);
    setError(null);
    try {
      const { data, headers } = await ask("GET", path, { query: from ?? { limit: SIZE } });
      if (mine !== asked.current) return;
      const found = /** @type {T[]} */ (data);
      setRows((known) => (from ? [...(known ?? []), ...found] : found));
      setNext(cursorOf(headers));
    } catch (problem) {
      if (mine === asked.current) setError(problem);
    }
  };
  useEffect(() => void read(null), [path, version]);
  return { rows, next, error, read };
}

/**
 * @template T
 * @param {object} props
 * @param {string} props.path
 * @param {number} props.version
 * @param {string} props.label
 * @param {(row: T) => any} props.item
 */
function Timeline({ path, version, label, item }) {
  const { rows, next, error, read } = usePages(path, version);
  if (error && !rows) return html`<${Failure} error=${error} retry=${() => read(null)} />`;
  if (!rows) return html`<${Skeleton} lines=${4} label=${label} />`;
  if (!rows.length) return html`<p class="note">Nothing yet.</p>`;
  return html`<ol class="timeline" aria-label=${label}>
      ${rows.map((/** @type {any} */ row) => html`<li key=${row.id}>${item(row)}</li>`)}
    </ol>
    ${error && html`<${Failure} error=${error} retry=${() => read(next)} />`}
    ${next &&
    html`<button type="button" class="button" onClick=${() => read(next)}>Older</button>`}`;
}

/** @type {Record<string, string>} */
const EVENTS = {
  "lead-created": "Created",
  "lead-updated": "Changed",
  "lead-upserted": "Created or changed",
  "lead-deleted": "Deleted",
  "summary-requested": "Summary asked for",
};

/** @param {{lead: Lead}} props */
export function History({ lead }) {
  return html`<${Timeline}
    path=${`/leads/${lead.id}/history`}
    version=${lead.version}
    label="History"
    item=${event}
  />`;
}

/** @param {LeadEvent} one */
function event(one) {
  const given = one.data.changes ?? {};
  const changes = typeof given === "object" && given ? Object.entries(given) : [];
  return html`<p>
      <strong>${EVENTS[one.type] ?? one.type}</strong> → ${one.outcome}
      <span class="note"> by ${one.source}</span>
    </p>
    ${changes.length > 0 &&
    html`<dl class="changes">
      ${changes.map(
        ([name, value]) => html`<div key=${name}>
          <dt>${capital(labelOf(name))}</dt>
          <dd><bdi>${value === null ? "cleared" : String(value)}</bdi></dd>
        </div>`,
      )}
    </dl>`}
    <p class="note">
      <time datetime=${one.time}>${moment(one.time)}</time> · request
      <code> ${one.correlationId}</code>
    </p>`;
}

/** @param {{lead: Lead}} props */
export function Summaries({ lead }) {
  return html`<${Timeline}
    path=${`/leads/${lead.id}/summaries`}
    version=${lead.version}
    label="Summaries"
    item=${summary}
  />`;
}

/** @param {LeadSummary} one */
function summary(one) {
  const kind = { queued: "waiting", running: "running", succeeded: "qualified", failed: "failed" };
  return html`<p>
      <${Chip} kind=${kind[one.state]}>${one.state}${one.reused ? ", still current" : ""}<//>
      <span class="note"> of v${one.leadVersion}</span>
    </p>
    ${one.summary && html`<p class="summary"><bdi>${one.summary}</bdi></p>`}
    ${one.nextAction && html`<p><strong>Next: </strong><bdi>${one.nextAction}</bdi></p>`}
    ${one.reason && html`<p class="error"><bdi>${one.reason}: ${one.detail ?? ""}</bdi></p>`}
    <p class="note">
      <bdi>${one.model}</bdi> · prompt ${one.promptVersion} ·
      <time datetime=${one.requestedAt}> ${moment(one.requestedAt)}</time>
      ${one.latencyMs !== null && ` · ${(one.latencyMs / 1000).toFixed(1)} s`}
    </p>`;
}
