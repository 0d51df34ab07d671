// The order of a replay: which events, counted first, and begun when the number is typed.

import { Problem } from "../api.js";
import { count, counted, moment } from "../format.js";
import { address, navigate } from "../router.js";
import { Field, Form } from "../ui/form.js";
import { html, useAlive, useTitle } from "../ui/html.js";
import { asProblem, Empty, Failure, Skeleton } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { operate, useReading } from "./operator.js";

/**
 * @typedef {import("../schema").components["schemas"]["ReplayPlan"]} Plan
 * @typedef {import("../schema").components["schemas"]["Replay"]} Replay
 * @typedef {import("../schema").components["schemas"]["Stream"]} Stream
 *
 * @typedef {object} Draft as it is typed
 * @property {"archive" | "stream"} origin
 * @property {string} to the stream and its group
 * @property {string} since
 * @property {string} until
 * @property {string} types
 * @property {string} leadIds
 * @property {string} correlationId
 * @property {string} first
 * @property {string} last
 * @property {string} rate
 * @property {boolean} withModel
 */

// Counting reads all that is in the range.
const LONG = 50_000;

/** @type {Draft} */
const BLANK = {
  origin: "archive",
  to: "",
  since: "",
  until: "",
  types: "",
  leadIds: "",
  correlationId: "",
  first: "",
  last: "",
  rate: "",
  withModel: false,
};

/** @param {string} text */
function listed(text) {
  return text.split(/[\s,;]+/).filter(Boolean);
}

/** A local time as the API reads it; what is no time is left to the API to refuse. @param {string} text */
function instant(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? text : time.toISOString();
}

/** @param {Draft} draft */
function bodyOf(draft) {
  const { origin, to, since, until, types, leadIds, correlationId, first, last, rate } = draft;
  const [stream, group] = to.split(" ");
  return {
    origin,
    stream,
    group,
    types: listed(types),
    leadIds: listed(leadIds),
    withModel: draft.withModel,
    ...(since && { since: instant(since) }),
    ...(until && { until: instant(until) }),
    ...(correlationId.trim() && { correlationId: correlationId.trim() }),
    ...(origin === "stream" && first.trim() && { first: first.trim() }),
    ...(origin === "stream" && last.trim() && { last: last.trim() }),
    ...(rate.trim() && { rate: /^\d+$/.test(rate.trim()) ? Number(rate) : rate }),
  };
}

export function Order() {
  useTitle("New replay");
  const groups = useReading(async (signal) => {
    const { data } = await operate("GET", "/admin/streams", { signal });
    const streams = /** @type {Stream[]} */ (data);
    return streams.flatMap((one) => one.groups.map(({ name }) => `${one.name} ${name}`));
  });
  return html`<div class="page">
    <p><a href=${address("/replays")}>‹ All replays</a></p>
    <h1>New replay</h1>
    ${groups.data && !groups.data.length
      ? html`<${Empty} title="No group has read any stream yet">
          <p>Once a service has run, what it has done can be replayed.</p>
        <//>`
      : groups.data
      ? html`<${Whole} groups=${groups.data} />`
      : groups.error
        ? html`<${Failure}
            title="The groups could not be read."
            error=${groups.error}
            retry=${groups.reload}
          />`
        : html`<${Skeleton} lines=${8} label="Loading the groups" />`}
  </div>`;
}

/** @param {{groups: readonly string[]}} props */
function Whole({ groups }) {
  const [draft, setDraft] = useState({ ...BLANK, to: groups[0] ?? "" });
  const [plan, setPlan] = useState(/** @type {Plan | null} */ (null));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const [busy, setBusy] = useState(false);
  const set = (/** @type {Partial<Draft>} */ more) => {
    setDraft((known) => ({ ...known, ...more }));
    // What was counted is not what would be replayed any more.
    setPlan(null);
  };
  const counts = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    setPlan(null);
    try {
      const { data } = await operate("POST", "/admin/replays", {
        body: { ...bodyOf(draft), dryRun: true },
        deadline: LONG,
      });
      setPlan(/** @type {Plan} */ (data));
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  return html`<${Form} submit=${counts} label="Replay" errors=${problem}>
      <${Fields} draft=${draft} set=${set} groups=${groups} errors=${problem?.errors ?? {}} />
      ${problem && html`<${Rest} problem=${problem} />`}
      <div class="actions start">
        <button type="submit" class=${`button ${plan ? "" : "primary"}`} disabled=${busy}>
          ${busy ? "Counting…" : "Count first"}
        </button>
      </div>
    <//>
    ${plan && html`<${Start} plan=${plan} draft=${draft} />`}`;
}

const SHOWN = ["since", "until", "types", "leadIds", "correlationId", "first", "last", "rate"];

/** What is wrong and belongs to no field. @param {{problem: Problem}} props */
function Rest({ problem }) {
  const others = Object.entries(problem.errors).filter(
    ([name]) => !SHOWN.includes(name.split(".")[0] ?? ""),
  );
  if (others.length === 0 && Object.keys(problem.errors).length) return null;
  const detail = others.map(([name, reason]) => `${name}: ${reason}`).join("; ");
  const shown = detail ? new Problem({ ...problem, detail }) : problem;
  return html`<${Failure} title="It could not be counted." error=${shown} />`;
}

/** @param {Record<string, string>} errors @param {string} name */
function errorOf(errors, name) {
  const found = Object.entries(errors).find(([key]) => key === name || key.startsWith(`${name}.`));
  return found?.[1] ?? "";
}

/**
 * @param {object} props
 * @param {Draft} props.draft
 * @param {(more: Partial<Draft>) => void} props.set
 * @param {readonly string[]} props.groups
 * @param {Record<string, string>} props.errors
 */
function Fields({ draft, set, groups, errors }) {
  const field = (
    /** @type {Exclude<keyof Draft, "withModel" | "origin">} */ name,
    /** @type {string} */ label,
    more = {},
  ) =>
    html`<${Field}
      name=${name}
      label=${label}
      value=${draft[name]}
      change=${(/** @type {string} */ value) => set({ [name]: value })}
      error=${errorOf(errors, name)}
      ...${more}
    />`;
  const ways = /** @type {const} */ ([
    ["archive", "The archive: whatever was applied, from the beginning"],
    ["stream", "The stream: what it still holds, also what was never applied"],
  ]);
  return html`
    <fieldset>
      <legend>Read the events from</legend>
      ${ways.map(
        ([origin, label]) => html`<label key=${origin} class="choice">
          <input
            type="radio"
            name="origin"
            checked=${draft.origin === origin}
            onChange=${() => set({ origin })}
          />
          ${label}
        </label>`,
      )}
    </fieldset>
    <label class="field">
      <span>For the group</span>
      <select onChange=${(/** @type {any} */ event) => set({ to: event.target.value })}>
        ${groups.map((one) => {
          const [stream, group] = one.split(" ");
          return html`<option key=${one} value=${one} selected=${draft.to === one}>
            ${group}, of ${stream}
          </option>`;
        })}
      </select>
    </label>
    <div class="pair">
      ${field("since", "Made since", { type: "datetime-local" })}
      ${field("until", "and before", { type: "datetime-local" })}
    </div>
    ${field("types", "Types of events", { hint: "Such as lead-created; none: all" })}
    ${field("leadIds", "Ids of leads", { hint: "Up to 1,000; none: all" })}
    <details class="more">
      <summary>More conditions</summary>
      ${field("correlationId", "Correlation id", { hint: "The request's id, of all that came of it" })}
      ${draft.origin === "stream" &&
      html`<div class="pair">
        ${field("first", "From the entry")} ${field("last", "up to the entry")}
      </div>`}
    </details>
    ${field("rate", "Events a second, at most", { hint: "None: as fast as the group takes them" })}
    <label class="switch">
      <input
        type="checkbox"
        checked=${draft.withModel}
        onChange=${(/** @type {any} */ event) => set({ withModel: event.target.checked })}
      />
      Summaries may call the model again, which costs
    </label>
  `;
}

/** @param {{plan: Plan, draft: Draft}} props */
function Start({ plan, draft }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => heading.current?.focus(), []);
  const total = Object.values(plan.counts).reduce((all, one) => all + one, 0);
  const missing = Object.values(plan.missing).reduce((all, one) => all + one, 0);
  const typed = `replay ${total}`;
  const alive = useAlive();
  const start = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy || text.trim() !== typed) return;
    setBusy(true);
    setError(null);
    try {
      const { data } = await operate("POST", "/admin/replays", {
        body: { ...bodyOf(draft), dryRun: false },
      });
      const show = () => navigate(address(`/replays/${/** @type {Replay} */ (data).id}`));
      if (alive.current) show();
      else toast({ text: "The replay has begun", time: 8000, action: { label: "Show", run: show } });
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`<section class="outcome" aria-labelledby="plan">
    <h2 id="plan" ref=${heading} tabindex="-1">
      ${total ? `At most ${counted(total, "event")} would be put back` : "There is nothing to put back"}
    </h2>
    <${Counts} plan=${plan} />
    ${missing > 0 &&
    html`<p class="note">
      ${counted(missing, "applied event")}
      ${missing === 1 ? " is" : " are"} too old for the stream, which
      ${plan.streamBegins ? ` begins ${moment(plan.streamBegins)}` : " is empty"}: the archive has
      ${missing === 1 ? " it" : " them"}.
    </p>`}
    ${total > 0 &&
    html`<form onSubmit=${start}>
      <label class="field">
        <span>Type <strong>${typed}</strong> to begin</span>
        <input
          value=${text}
          autocomplete="off"
          onInput=${(/** @type {any} */ event) => setText(event.target.value)}
        />
      </label>
      ${error && html`<${Unsure} error=${error} />`}
      <button type="submit" class="button primary" disabled=${busy || text.trim() !== typed}>
        ${busy ? "Beginning…" : "Start"}
      </button>
    </form>`}
  </section>`;
}

/** What failed, and may have begun all the same. @param {{error: unknown}} props */
function Unsure({ error }) {
  return html`<${Failure} title="It was not begun." error=${error} />
    ${!asProblem(error).status &&
    html`<p class="note">
      Without an answer that is not certain: <a href=${address("/replays")}>look at the replays</a> first.
    </p>`}`;
}

/** @param {{plan: Plan}} props */
function Counts({ plan }) {
  const types = [...new Set([...Object.keys(plan.counts), ...Object.keys(plan.missing)])].sort();
  if (!types.length) return null;
  return html`<ul class="plain">
    ${types.map(
      (type) => html`<li key=${type}>
        <strong>${count(plan.counts[type] ?? 0)}</strong> <bdi>${type}</bdi>
        ${plan.missing[type] && html`<span class="note"> · ${count(plan.missing[type])} missing</span>`}
      </li>`,
    )}
  </ul>`;
}
