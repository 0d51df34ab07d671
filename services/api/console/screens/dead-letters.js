// Dead letters: events that could not be handled, why, and what is to become of them.

import { cursorOf } from "../api.js";
import { ago, count, counted, moment } from "../format.js";
import { bind } from "../keyboard.js";
import { address, navigate, place } from "../router.js";
import { Confirm } from "../ui/dialog.js";
import { html, useDelayed, useLatest, useTitle, useValue } from "../ui/html.js";
import { asProblem, Copy, Empty, Failure, Skeleton } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import { forOperators, operate, useReading } from "./operator.js";

/**
 * @typedef {import("../schema").components["schemas"]["DeadLetter"]} Letter
 * @typedef {import("../schema").components["schemas"]["WholeDeadLetter"]} WholeLetter
 * @typedef {import("../schema").components["schemas"]["DeadLetterCount"]} Count
 * @typedef {{letters: Letter[], next: URLSearchParams | null, matching: number}} Page
 * @typedef {"retry" | "discard"} Action
 */

const PATH = "/admin/dead-letters";
const SIZE = 100;
const COUNTED_EVERY = 5000;
/** By which letters are told apart, in the address and in the API. */
const CONDITIONS = /** @type {const} */ (["reason", "group", "type"]);
const LABELS = { reason: "Reason", group: "Group", type: "Event" };
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const DeadLetters = forOperators("Dead letters", Letters);

/** @param {URLSearchParams} query */
function conditionsOf(query) {
  const kept = new URLSearchParams();
  for (const name of CONDITIONS) {
    const value = query.get(name);
    if (value) kept.set(name, value);
  }
  return kept;
}

/** @param {Count} count @param {typeof CONDITIONS[number]} name */
function valueOf(count, name) {
  return name === "group" ? count.consumerGroup : count[name];
}

/** The counts that meet all conditions but one. @param {readonly Count[]} counts @param {URLSearchParams} query @param {string} [without] */
function matching(counts, query, without) {
  return counts.filter((one) =>
    CONDITIONS.every((name) => {
      const wanted = name === without ? null : query.get(name);
      return !wanted || wanted === valueOf(one, name);
    }),
  );
}

/** @param {readonly Count[]} counts */
function sum(counts) {
  return counts.reduce((all, one) => all + one.count, 0);
}

/** @param {AbortSignal} [signal] */
async function readCounts(signal) {
  const { data } = await operate("GET", `${PATH}/counts`, signal && { signal });
  return /** @type {Count[]} */ (data);
}

/** @param {URLSearchParams} query @param {AbortSignal} signal @returns {Promise<Page>} */
async function readPage(query, signal) {
  const asked = conditionsOf(query);
  asked.set("limit", String(SIZE));
  const after = query.get("after");
  if (after) asked.set("after", after);
  const [{ data, headers }, counts] = await Promise.all([
    operate("GET", PATH, { query: asked, signal }),
    readCounts(signal),
  ]);
  return {
    letters: /** @type {Letter[]} */ (data),
    next: cursorOf(headers),
    matching: sum(matching(counts, query)),
  };
}

/** @param {{params: readonly string[]}} props */
function Letters({ params }) {
  const { search } = useValue(place);
  const query = useMemo(() => new URLSearchParams(search), [search]);
  const opened = params[0];
  const key = `${conditionsOf(query)}&${query.get("after") ?? ""}`;
  const page = useReading((signal) => readPage(query, signal), { key });
  const counts = useReading(readCounts, { every: () => COUNTED_EVERY });
  const [act, setAct] = useState(/** @type {Action | null} */ (null));
  useTitle("Dead letters");
  const letters = page.data?.letters ?? [];
  const close = useLatest(() => {
    navigate(address("/dead-letters", query));
    requestAnimationFrame(() => focusLetter(opened));
  });
  const gone = useLatest((/** @type {string} */ id) => {
    reload();
    // Another may be open by the time that one is answered.
    if (opened !== id) return;
    const at = letters.findIndex((one) => String(one.id) === id);
    const next = letters[at + 1] ?? letters[at - 1];
    navigate(address("/dead-letters", query));
    requestAnimationFrame(() => focusLetter(next && String(next.id)));
  });
  const reload = useLatest(() => {
    page.reload();
    counts.reload();
  });
  useKeys(letters, query, opened, close);
  const now = counts.data && sum(matching(counts.data, query));
  return html`<div class=${`split ${opened ? "with-drawer" : ""}`}>
    <h1 id="letters" class="visually-hidden" tabindex="-1">Dead letters</h1>
    <section class="list" aria-labelledby="letters">
      <div class="toolbar">
        <strong class="title" aria-hidden="true">Dead letters</strong>
        <${Conditions} counts=${counts.data} query=${query} />
      </div>
      <${Changed} page=${page.data} now=${now} reload=${page.reload} />
      <${Rows} page=${page} query=${query} opened=${opened} now=${now} />
    </section>
    ${opened &&
    html`<${Drawer} key=${opened} id=${opened} close=${close} gone=${() => gone(opened)} />`}
    ${Boolean(now) && html`<${Bulk} number=${now} query=${query} choose=${setAct} />`}
    ${act &&
    html`<${Many} action=${act} query=${query} close=${() => setAct(null)} done=${reload} />`}
  </div>`;
}

/** Says what has come or gone since the list was read: rows do not move by themselves. @param {{page: Page | null, now: number | null, reload: () => void}} props */
function Changed({ page, now, reload }) {
  const more = page && now !== null ? now - page.matching : 0;
  return html`<div role="status">
    ${more !== 0 &&
    html`<button type="button" class="fresh" onClick=${reload}>
      ${more > 0 ? `▲ ${count(more)} new` : `▼ ${count(-more)} gone meanwhile`} · Show
    </button>`}
  </div>`;
}

/** @param {{counts: readonly Count[] | null, query: URLSearchParams}} props */
function Conditions({ counts, query }) {
  const refine = (/** @type {string} */ name, /** @type {string} */ value) => {
    const next = conditionsOf(query);
    if (value) next.set(name, value);
    else next.delete(name);
    navigate(address("/dead-letters", next), { replace: true });
  };
  return CONDITIONS.map((name) => {
    const given = query.get(name) ?? "";
    const values = choices(counts ?? [], query, name);
    return html`<label key=${name} class="inline">
      <span class="visually-hidden">${LABELS[name]}</span>
      <select onChange=${(/** @type {any} */ event) => refine(name, event.target.value)}>
        <option value="" selected=${!given}>Any ${LABELS[name].toLowerCase()}</option>
        ${values.map(
          ([value, number]) =>
            html`<option key=${value} value=${value} selected=${value === given}>
              ${value} (${count(number)})
            </option>`,
        )}
      </select>
    </label>`;
  });
}

/**
 * What there is to choose of, and how many letters each would leave; what is chosen always.
 * @param {readonly Count[]} counts
 * @param {URLSearchParams} query
 * @param {typeof CONDITIONS[number]} name
 */
function choices(counts, query, name) {
  /** @type {Map<string, number>} */
  const numbers = new Map();
  for (const one of matching(counts, query, name)) {
    const value = valueOf(one, name);
    if (value) numbers.set(value, (numbers.get(value) ?? 0) + one.count);
  }
  const given = query.get(name);
  if (given && !numbers.has(given)) numbers.set(given, 0);
  return [...numbers].sort(([one], [other]) => one.localeCompare(other));
}

/** @param {{page: import("./operator.js").Reading<Page>, query: URLSearchParams, opened: string | undefined, now: number | null}} props */
function Rows({ page, query, opened, now }) {
  const { data, error, loading, reload } = page;
  const isSlow = useDelayed(loading);
  if (!data) {
    if (!error) return html`<${Skeleton} lines=${10} label="Loading dead letters" />`;
    return html`<${Failure}
      title="The dead letters could not be read."
      error=${error}
      retry=${reload}
    />`;
  }
  const { letters, next } = data;
  return html`
    ${error && html`<${Failure} title="These rows may be old." error=${error} retry=${reload} />`}
    ${letters.length
      ? html`<table class=${`sheet ${isSlow ? "slow" : ""}`} aria-busy=${loading}>
          <caption class="visually-hidden">Dead letters, newest first</caption>
          <thead>
            <tr>
              <th scope="col">Event</th>
              <th scope="col">Group</th>
              <th scope="col">Reason</th>
              <th scope="col" class="wide">Newest error</th>
              <th scope="col" class="number">Attempts</th>
              <th scope="col">Parked</th>
            </tr>
          </thead>
          <tbody onClick=${(/** @type {MouseEvent} */ event) => onRowClick(event, query)}>
            ${letters.map(
              (one) => html`<${Row} key=${one.id} letter=${one} query=${query} opened=${opened} />`,
            )}
          </tbody>
        </table>`
      : html`<${Nothing} query=${query} now=${now} />`}
    <${Foot} shown=${letters.length} next=${next} query=${query} all=${data.matching} />
  `;
}

/** @param {{letter: Letter, query: URLSearchParams, opened: string | undefined}} props */
function Row({ letter, query, opened }) {
  const { id, type, group, reason, error, attempts, deadAt } = letter;
  const isOpen = opened === String(id);
  return html`<tr data-id=${id} class=${isOpen ? "open" : ""}>
    <th scope="row">
      <a
        class="name"
        href=${address(`/dead-letters/${id}`, query)}
        aria-current=${isOpen ? "true" : undefined}
        ><bdi>${type || "no event"}</bdi><span class="visually-hidden"> ${id}</span></a
      >
    </th>
    <td data-label="Group"><bdi>${group}</bdi></td>
    <td data-label="Reason"><bdi>${reason}</bdi></td>
    <td class="wide cut"><bdi>${error}</bdi></td>
    <td class="number" data-label="Attempts">${count(attempts)}</td>
    <td><time datetime=${deadAt} title=${moment(deadAt)}>${ago(deadAt)}</time></td>
  </tr>`;
}

/** @param {MouseEvent} event @param {URLSearchParams} query */
function onRowClick(event, query) {
  const target = /** @type {Element} */ (event.target);
  if (target.closest("a, button") || getSelection()?.toString()) return;
  const id = target.closest("tr")?.dataset.id;
  if (id) navigate(address(`/dead-letters/${id}`, query));
}

/** @param {{query: URLSearchParams, now: number | null}} props */
function Nothing({ query, now }) {
  if ([...conditionsOf(query)].length) {
    return html`<${Empty} title="No dead letter matches these filters">
      <a class="button" href=${address("/dead-letters")}>Clear all filters</a>
    <//>`;
  }
  if (query.has("after") && now) {
    return html`<${Empty} title="There are no older ones">
      <a class="button" href=${address("/dead-letters")}>Go to the newest</a>
    <//>`;
  }
  return html`<${Empty} title="There are no dead letters">
    <p>Every event that was taken up could be handled.</p>
  <//>`;
}

/** @param {{shown: number, all: number, next: URLSearchParams | null, query: URLSearchParams}} props */
function Foot({ shown, all, next, query }) {
  const older = conditionsOf(query);
  const after = next?.get("after");
  if (after) older.set("after", after);
  const isPaged = query.has("after");
  if (!shown && !isPaged) return null;
  return html`<nav class="foot" aria-label="Pages">
    <span role="status">
      ${isPaged || after ? `${count(shown)} of ${count(all)}` : counted(all, "dead letter")}
    </span>
    ${isPaged && html`<a href=${address("/dead-letters", conditionsOf(query))}>Newest</a>`}
    ${after && html`<a href=${address("/dead-letters", older)}>Older ›</a>`}
  </nav>`;
}

/** @param {string | undefined} id */
function focusLetter(id) {
  const link = id && document.querySelector(`tr[data-id="${CSS.escape(id)}"] a.name`);
  const found = link || document.getElementById("letters");
  if (found instanceof HTMLElement) found.focus();
}

/**
 * @param {readonly Letter[]} letters
 * @param {URLSearchParams} query
 * @param {string | undefined} opened
 * @param {() => void} close
 */
function useKeys(letters, query, opened, close) {
  const step = useLatest((/** @type {number} */ by) => {
    const row = document.activeElement?.closest("tr[data-id]");
    const current = opened ?? (row instanceof HTMLElement ? row.dataset.id : undefined);
    const at = letters.findIndex((one) => String(one.id) === current);
    const next = letters[at < 0 ? 0 : at + by];
    if (!next) return;
    if (opened) navigate(address(`/dead-letters/${next.id}`, query), { replace: true });
    else focusLetter(String(next.id));
  });
  const leave = useLatest(() => {
    if (!opened) return false;
    close();
    return true;
  });
  useEffect(() => bind({ j: () => step(1), k: () => step(-1), Escape: () => leave() }), []);
}

/** @param {{id: string, close: () => void, gone: () => void}} props */
function Drawer({ id, close, gone }) {
  const { data, error, loading, reload } = useReading(async (signal) => {
    const { data: letter } = await operate("GET", `${PATH}/${id}`, { signal });
    return /** @type {WholeLetter} */ (letter);
  });
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useTitle(`Dead letter ${id}`);
  useLayoutEffect(() => heading.current?.focus(), []);
  const isGone = Boolean(error) && asProblem(error).status === 404;
  return html`<aside class="drawer" aria-labelledby="drawer-title">
    <header class="drawer-head">
      <h2 id="drawer-title" ref=${heading} tabindex="-1">
        <bdi>${data?.type || "Dead letter"}</bdi> ${id}
      </h2>
      <span class="grow" />
      <button type="button" class="icon" aria-label="Close" title="Esc" onClick=${close}>✕</button>
    </header>
    <div class="drawer-body">
      ${isGone
        ? html`<p class="empty">There is no such letter: it was retried or discarded.</p>`
        : data
          ? html`<${Whole} letter=${data} gone=${gone} />`
          : error && !loading
            ? html`<${Failure}
                title="The letter could not be read."
                error=${error}
                retry=${reload}
              />`
            : html`<${Skeleton} lines=${8} label="Loading the letter" />`}
    </div>
  </aside>`;
}

/** @param {{letter: WholeLetter, gone: () => void}} props */
function Whole({ letter, gone }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [asks, setAsks] = useState(false);
  const name = `${letter.type || "The entry"} of ${letter.group}`;
  const retry = async () => {
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      const { data } = await operate("POST", `${PATH}/${letter.id}/retry`);
      const { hopeless } = /** @type {{hopeless: number}} */ (data);
      if (hopeless) throw new Error("It was never an event that a group could read: it stays here.");
      toast({ text: `${name} is back in its stream` });
      gone();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  const discard = async () => {
    await operate("DELETE", `${PATH}/${letter.id}`);
    setAsks(false);
    toast({ text: `${name} is discarded` });
    gone();
  };
  return html`<div class="drawer-line">
      <button type="button" class="button primary" disabled=${busy} onClick=${retry}>
        ${busy ? "One moment…" : "Retry"}
      </button>
      <button type="button" class="button danger" onClick=${() => setAsks(true)}>Discard</button>
      <span class="grow" />
      <${LeadLink} letter=${letter} />
    </div>
    ${error && html`<${Failure} title="It was not retried." error=${error} />`}
    <${Facts} letter=${letter} />
    <${Payload} fields=${letter.fields} />
    ${asks &&
    html`<${Confirm}
      title="Discard this letter?"
      action="Discard"
      run=${discard}
      close=${() => setAsks(false)}
    >
      <p><bdi>${name}</bdi>: what the event would have done is never done.</p>
    <//>`}`;
}

/** @param {{letter: WholeLetter}} props */
function LeadLink({ letter }) {
  const { subject = "" } = letter.fields;
  if (!UUID.test(subject)) return null;
  return html`<a href=${address(`/leads/${subject}`)}>Its lead</a>`;
}

/** @param {{letter: WholeLetter}} props */
function Facts({ letter }) {
  const facts = [
    ["Reason", letter.reason],
    ["Attempts", count(letter.attempts)],
    ["Parked", `${moment(letter.deadAt)}, ${ago(letter.deadAt)}`],
    ["Group", letter.group],
    ["Stream", `${letter.stream} ${letter.entryId}`],
  ];
  return html`<h3 class="apart">Newest error</h3>
    <pre class="raw" tabindex="0" role="region" aria-label="Newest error">${letter.error}</pre>
    <dl class="values">
      ${facts.map(
        ([label, value]) => html`<div key=${label}>
          <dt>${label}</dt>
          <dd><bdi>${value}</bdi></dd>
        </div>`,
      )}
      <div>
        <dt>Event</dt>
        <dd><code>${letter.eventId}</code> <${Copy} text=${letter.eventId} what="the event's id" /></dd>
      </div>
    </dl>`;
}

/** The event as it stood in the stream, as text. @param {{fields: Record<string, string>}} props */
function Payload({ fields }) {
  const text = Object.entries(fields)
    .map(([name, value]) => `${name}: ${indented(value)}`)
    .join("\n");
  return html`<h3 class="apart">Payload</h3>
    <pre class="raw" tabindex="0" role="region" aria-label="Payload">${text}</pre>
    <${Copy} text=${JSON.stringify(fields)} what="the payload" />`;
}

/** Has JSON stand in lines, and leaves all else as it is. @param {string} value */
function indented(value) {
  if (!/^[[{]/.test(value)) return value;
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

/** @param {{number: number, query: URLSearchParams, choose: (action: Action) => void}} props */
function Bulk({ number, query, choose }) {
  const isAll = ![...conditionsOf(query)].length;
  return html`<section class="bulk" aria-label="All that match">
    <strong>${number === 1 ? "The one" : `All ${count(number)}`}${isAll ? "" : " that match"}:</strong>
    <button type="button" class="button" onClick=${() => choose("retry")}>Retry…</button>
    <button type="button" class="button danger" onClick=${() => choose("discard")}>Discard…</button>
  </section>`;
}

/**
 * Asks before all that match are retried or discarded; for the latter a number has to be typed.
 * @param {{action: Action, query: URLSearchParams, close: () => void, done: () => void}} props
 */
function Many({ action, query, close, done }) {
  // What was counted when it was asked for is what one answers to.
  const counts = useReading(readCounts);
  const chosen = counts.data && matching(counts.data, query);
  if (!chosen) return null;
  const number = sum(chosen);
  const word = action === "retry" ? "Retry" : "Discard";
  const run = async () => {
    const { retried, hopeless, discarded } = await actOn(action, query.get("type"), chosen);
    toast({
      text:
        action === "discard"
          ? `${counted(discarded, "dead letter")} discarded`
          : `${counted(retried, "event")} back in the streams` +
            (hopeless ? `; ${count(hopeless)} never were events, and stay` : ""),
      time: 8000,
    });
    close();
    done();
  };
  return html`<${Confirm}
    title=${`${word} ${counted(number, "dead letter")}?`}
    action=${word}
    typed=${action === "discard" ? `discard ${number}` : undefined}
    run=${run}
    close=${close}
  >
    <p>
      ${action === "retry"
        ? "Each goes back to the group that parked it, as a first attempt."
        : "What these events would have done is never done. That cannot be undone."}
    </p>
    <ul class="plain">
      ${chosen.map(
        (one) => html`<li key=${`${one.consumerGroup} ${one.type} ${one.reason}`}>
          <strong>${count(one.count)}</strong> <bdi>${one.type}</bdi> of <bdi>${one.consumerGroup}</bdi>:
          <bdi> ${one.reason}</bdi>
        </li>`,
      )}
    </ul>
  <//>`;
}

/**
 * Acts on what was shown, and on no other kind that has come since.
 * @param {Action} action
 * @param {string | null} type that is chosen
 * @param {readonly Count[]} chosen
 */
async function actOn(action, type, chosen) {
  const all = { retried: 0, hopeless: 0, discarded: 0 };
  // By reason and group, which every letter has: what is no event may have no type.
  const kinds = new Map(
    chosen.map(({ consumerGroup: group, reason }) => [`${group} ${reason}`, { group, reason }]),
  );
  for (const kind of kinds.values()) {
    const query = { ...kind, type };
    const { data } = await operate(
      action === "retry" ? "POST" : "DELETE",
      action === "retry" ? `${PATH}/retry` : PATH,
      { query, deadline: 60_000 },
    );
    const report = /** @type {Partial<typeof all>} */ (data);
    for (const name of /** @type {(keyof typeof all)[]} */ (Object.keys(all))) {
      all[name] += report[name] ?? 0;
    }
  }
  return all;
}
