// One lead beside the list: what to do next, who it is, and what happened.

import { ask } from "../api.js";
import { capital, FIELDS, labelOf, moment, nameOf, STATUSES } from "../format.js";
import { address, navigate, place } from "../router.js";
import { deleteLead, leadOf, pending, readLead, writingOf } from "../store.js";
import { Chip } from "../ui/chip.js";
import { Confirm } from "../ui/dialog.js";
import { html, useTitle, useValue } from "../ui/html.js";
import { asProblem, Copy, Failure, Skeleton } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { signal } from "../vendor/signals-core.js";
import { addressOf, setStatus, summariseLead } from "./lead-actions.js";
import { EditLead, NewLead, shownValue } from "./lead-form.js";
import { page, removeRow } from "./lead-list.js";
import { History, Summaries } from "./lead-history.js";

/** @typedef {import("../store.js").Lead} Lead */

/** The lead whose fields are being edited. */
export const editing = signal(/** @type {string | null} */ (null));
const deleting = signal(/** @type {Lead | null} */ (null));

/** @param {{id: string, close: () => void}} props */
export function Drawer({ id, close }) {
  const isNew = id === "new";
  return html`<aside class="drawer" aria-labelledby="drawer-title">
    ${isNew ? html`<${Creating} close=${close} />` : html`<${Opened} id=${id} close=${close} />`}
  </aside>`;
}

/** @param {{close: () => void}} props */
function Creating({ close }) {
  useTitle("New lead");
  return html`<header class="drawer-head">
      <h2 id="drawer-title">New lead</h2>
      <span class="grow" />
      <button type="button" class="icon" aria-label="Close" onClick=${close}>✕</button>
    </header>
    <div class="drawer-body"><${NewLead} close=${close} /></div>`;
}

/** @param {{id: string, close: () => void}} props */
function Opened({ id, close }) {
  const lead = useValue(leadOf(id));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [isMissing, setMissing] = useState(false);
  const wasThere = useRef(false);
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  if (lead) wasThere.current = true;
  const isGone = isMissing || wasThere.current;
  useTitle(lead ? nameOf(lead) : "Lead");
  const read = async () => {
    setError(null);
    try {
      if (!(await readLead(id))) setMissing(true);
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => void read(), [id]);
  useLayoutEffect(() => heading.current?.focus(), [id]);
  useEffect(
    () => () => {
      if (editing.peek() === id) editing.value = null;
    },
    [id],
  );
  return html`<header class="drawer-head">
      <h2 id="drawer-title" ref=${heading} tabindex="-1">
        <bdi>${lead ? nameOf(lead) : "Lead"}</bdi>
      </h2>
      <span class="grow" />
      <${Steps} id=${id} />
      <button type="button" class="icon" aria-label="Close" title="Esc" onClick=${close}>✕</button>
    </header>
    <div class="drawer-body">
      ${lead
        ? html`<${Whole} lead=${lead} error=${error} retry=${read} />`
        : isGone
          ? html`<p class="empty">There is no such lead. It may have been deleted.</p>`
          : error
            ? html`<${Missing} error=${error} retry=${read} />`
            : html`<${Skeleton} lines=${8} label="Loading the lead" />`}
    </div>`;
}

/** @param {{error: unknown, retry: () => void}} props */
function Missing({ error, retry }) {
  if (asProblem(error).code !== "lead-not-stored-yet") {
    return html`<${Failure} title="The lead could not be read." error=${error} retry=${retry} />`;
  }
  return html`<p><${Chip} kind="waiting">waiting to be stored<//></p>
    <button type="button" class="button" onClick=${retry}>Look again</button>`;
}

/** The leads before and after in the list. @param {{id: string}} props */
function Steps({ id }) {
  const { ids } = useValue(page);
  const at = ids.indexOf(id);
  if (at < 0) return null;
  const go = (/** @type {string | undefined} */ to) => {
    if (to) navigate(addressOf(to), { replace: true });
  };
  return html`<button
      type="button"
      class="icon"
      aria-label="Previous lead"
      title="k"
      disabled=${at === 0}
      onClick=${() => go(ids[at - 1])}
    >
      ‹
    </button>
    <button
      type="button"
      class="icon"
      aria-label="Next lead"
      title="j"
      disabled=${at === ids.length - 1}
      onClick=${() => go(ids[at + 1])}
    >
      ›
    </button>`;
}

/** @param {{lead: Lead, error: unknown, retry: () => void}} props */
function Whole({ lead, error, retry }) {
  const waiting = useValue(pending).filter(({ leadId }) => leadId === lead.id);
  return html`
    ${error && html`<${Failure} title="This may be old." error=${error} retry=${retry} />`}
    ${waiting.some(({ kind }) => kind !== "summary") &&
    html`<p><${Chip} kind="waiting">a change waits to be stored<//></p>`}
    <div class="drawer-line">
      <label class="visually-hidden" for="lead-status">Status</label>
      <select
        id="lead-status"
        class=${`status ${lead.status}`}
        value=${lead.status}
        onChange=${(/** @type {any} */ event) => setStatus(lead.id, event.target.value)}
      >
        ${STATUSES.map(
          (one) =>
            html`<option key=${one} value=${one} selected=${one === lead.status}>
              ${capital(one)}
            </option>`,
        )}
      </select>
      <bdi class="grow cut">${lead.email}</bdi>
      <${Copy} text=${lead.email} what="the e-mail address" />
    </div>
    <${NextSteps} lead=${lead} />
    <${Tabs} lead=${lead} />
  `;
}

/** @param {{lead: Lead}} props */
function NextSteps({ lead }) {
  const writing = useValue(writingOf(lead.id));
  const isBusy = Boolean(writing && writing.state !== "failed");
  const label = !lead.summary ? "Summarise" : lead.summaryStale ? "Summarise anew" : "Write anew";
  return html`<section class="next-steps" aria-label="Next action and summary">
    <h3>Next action</h3>
    <p class="next-action"><bdi>${lead.nextAction ?? "Not known yet: have the lead summarised."}</bdi></p>
    ${lead.summary &&
    html`<h3>Summary</h3>
      <p class="summary"><bdi>${lead.summary}</bdi></p>`}
    <div class="drawer-line">
      <span class="grow" role="status">
        ${isBusy && writing
          ? html`<${Progress} state=${writing.state} />`
          : html`<${Provenance} lead=${lead} />`}
      </span>
      <button
        type="button"
        class=${`button ${lead.summary && !lead.summaryStale ? "" : "primary"}`}
        disabled=${isBusy}
        title="s"
        onClick=${() => summariseLead(lead.id, Boolean(lead.summary) && !lead.summaryStale)}
      >
        ${label}
      </button>
    </div>
    ${writing?.state === "failed" &&
    html`<${Failure}
      title="It was not summarised."
      error=${writing.problem}
      retry=${() => summariseLead(lead.id)}
    />`}
  </section>`;
}

const STEPS = { queued: 1, running: 2, waiting: 1, failed: 0 };

/** @param {{state: "queued" | "running" | "waiting" | "failed"}} props */
function Progress({ state }) {
  const words = { queued: "Queued…", running: "Writing…", waiting: "Waiting its turn…", failed: "" };
  return html`<span class="steps">
    <progress max="3" value=${STEPS[state]} aria-label="Summary" /> ${words[state]}
  </span>`;
}

/** Where the text comes from: which model, when, by which prompt. @param {{lead: Lead}} props */
function Provenance({ lead }) {
  const [from, setFrom] = useState(/** @type {import("./lead-history.js").LeadSummary | null} */ (null));
  useEffect(() => {
    let current = true;
    if (!lead.summary) return undefined;
    ask("GET", `/leads/${lead.id}/summaries`, { query: { limit: 10 } }).then(
      ({ data }) => {
        const all = /** @type {import("./lead-history.js").LeadSummary[]} */ (data);
        const written = all.find(({ state, summary }) => state === "succeeded" && summary);
        if (current) setFrom(written ?? null);
      },
      () => {},
    );
    return () => {
      current = false;
    };
  }, [lead.id, lead.summary, lead.nextAction]);
  if (!lead.summary) return null;
  return html`<span class="note provenance">
    ${from && html`<bdi>${from.model}</bdi> · prompt ${from.promptVersion}${from.finishedAt &&
    html` · <time datetime=${from.finishedAt}>${moment(from.finishedAt)}</time>`}`}
    ${lead.summaryStale && html` <${Chip} kind="stale" />`}
  </span>`;
}

const TABS = /** @type {const} */ (["Fields", "Summaries", "History"]);

/** @param {{lead: Lead}} props */
function Tabs({ lead }) {
  const [shown, setShown] = useState(/** @type {typeof TABS[number]} */ ("Fields"));
  const isEdited = useValue(editing) === lead.id;
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (isEdited) setShown("Fields");
  }, [isEdited]);
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(shown) + step + TABS.length) % TABS.length];
    if (next) setShown(next);
    requestAnimationFrame(() => {
      const tab = list.current?.querySelector('[aria-selected="true"]');
      if (tab instanceof HTMLElement) tab.focus();
    });
  };
  return html`<div class="tabs" role="tablist" aria-label="About this lead" ref=${list} onKeyDown=${keys}>
      ${TABS.map(
        (tab) => html`<button
          key=${tab}
          type="button"
          role="tab"
          id=${`tab-${tab}`}
          aria-controls="tab-panel"
          aria-selected=${tab === shown ? "true" : "false"}
          tabindex=${tab === shown ? 0 : -1}
          onClick=${() => setShown(tab)}
        >
          ${tab}
        </button>`,
      )}
    </div>
    <div id="tab-panel" role="tabpanel" aria-labelledby=${`tab-${shown}`}>
      ${shown === "Fields" &&
      (isEdited
        ? html`<${EditLead}
            lead=${lead}
            done=${() => {
              editing.value = null;
            }}
          />`
        : html`<${Fields} lead=${lead} />`)}
      ${shown === "Summaries" && html`<${Summaries} lead=${lead} />`}
      ${shown === "History" && html`<${History} lead=${lead} />`}
    </div>`;
}

/** @param {{lead: Lead}} props */
function Fields({ lead }) {
  return html`<dl class="values">
      ${FIELDS.map(
        ({ name, label }) => html`<div key=${name}>
          <dt>${label}</dt>
          <dd><bdi>${shownValue(lead, name)}</bdi></dd>
        </div>`,
      )}
      <div>
        <dt>Source</dt>
        <dd><bdi>${lead.source}</bdi></dd>
      </div>
      <div>
        <dt>Created</dt>
        <dd>${moment(lead.createdAt)}</dd>
      </div>
      <div>
        <dt>Changed</dt>
        <dd>${moment(lead.updatedAt)} · v${lead.version}</dd>
      </div>
    </dl>
    <div class="actions start">
      <button
        type="button"
        class="button"
        title="e"
        onClick=${() => {
          editing.value = lead.id;
        }}
      >
        Edit
      </button>
      <span class="grow" />
      <button
        type="button"
        class="button danger quiet"
        onClick=${() => {
          deleting.value = lead;
        }}
      >
        Delete
      </button>
    </div>`;
}

/** Asks before a lead is deleted; afterwards the next one is where the reader is. */
export function DeleteDialog() {
  const lead = useValue(deleting);
  return lead && html`<${Deletion} key=${lead.id} lead=${lead} />`;
}

/** @param {{lead: Lead}} props */
function Deletion({ lead }) {
  const [before, setBefore] = useState(/** @type {Lead | null} */ (null));
  const close = () => {
    deleting.value = null;
  };
  /** Deletes it as it is shown here; what it has become meanwhile is shown first. */
  const deleteShown = async () => {
    try {
      return await deleteLead(lead);
    } catch (error) {
      const now = asProblem(error).code === "version-mismatch" && (await readLead(lead.id));
      // Deleted by somebody else: then there is nothing to ask for.
      if (now === null) return true;
      if (!now) throw error;
      setBefore(lead);
      deleting.value = now;
      throw new Error("Somebody has changed this lead meanwhile, and it is not deleted.");
    }
  };
  const run = async () => {
    const { ids } = page.peek();
    const at = ids.indexOf(lead.id);
    const next = ids[at + 1] ?? ids[at - 1];
    const isDone = await deleteShown();
    close();
    toast({
      text: isDone
        ? `${nameOf(lead)} is deleted`
        : `${nameOf(lead)} will be deleted once that is possible`,
    });
    removeRow(lead.id);
    navigate(address("/leads", new URLSearchParams(place.peek().search)), { replace: true });
    requestAnimationFrame(() => {
      const link = next && document.querySelector(`tr[data-id="${CSS.escape(next)}"] a.name`);
      if (link instanceof HTMLElement) link.focus();
    });
  };
  return html`<${Confirm} title="Delete this lead?" action="Delete" close=${close} run=${run}>
    <p><strong><bdi>${nameOf(lead)}</bdi></strong> (<bdi>${lead.email}</bdi>)</p>
    ${before && html`<${Differences} before=${before} now=${lead} />`}
    <p>What is known of this person is erased everywhere. That cannot be undone.</p>
  <//>`;
}

/** What another has changed. @param {{before: Lead, now: Lead}} props */
function Differences({ before, now }) {
  const names = [...FIELDS.map(({ name }) => name), "status", "summary"];
  const changed = names.filter((name) => shownValue(before, name) !== shownValue(now, name));
  return html`<dl class="changes">
    ${changed.map(
      (name) => html`<div key=${name}>
        <dt>${capital(labelOf(name))}</dt>
        <dd><bdi>${shownValue(before, name)}</bdi> → <bdi>${shownValue(now, name)}</bdi></dd>
      </div>`,
    )}
  </dl>`;
}
