// The leads: a page of the list, and beside it the one that is open.

import { ago, count, counted, moment, nameOf } from "../format.js";
import { bind } from "../keyboard.js";
import { address, navigate, place, remember, stays } from "../router.js";
import { leadOf, marked, pending, writingOf } from "../store.js";
import { Chip } from "../ui/chip.js";
import { html, useDelayed, useLatest, useTitle, useValue } from "../ui/html.js";
import { Empty, Failure, Skeleton } from "../ui/states.js";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import { signal } from "../vendor/signals-core.js";
import { BulkBar } from "./bulk.js";
import { ConflictDialog } from "./conflict.js";
import { exportList } from "./export.js";
import { Filters, refine } from "./filters.js";
import { DeleteDialog, Drawer, editing } from "./lead-drawer.js";
import { addressOf, summariseLead } from "./lead-actions.js";
import {
  clearSelection,
  filtersOf,
  fresh,
  keepCurrent,
  load,
  page,
  selection,
  selectRange,
  strays,
  toggle,
  total,
} from "./lead-list.js";

/** @typedef {import("../store.js").Lead} Lead */

const SIZE = 100;
/** Now, for what says how long ago something was. */
const clock = signal(Date.now());
setInterval(() => {
  if (!document.hidden) clock.value = Date.now();
}, 30_000);

const DEFAULT_SORT = "-createdAt";

/** @param {{params: readonly string[]}} props */
export function Leads({ params }) {
  const { search, by, state } = useValue(place);
  const query = useMemo(() => new URLSearchParams(search), [search]);
  const isNew = params[0] === "new";
  const opened = params[0];
  const pane = useRef(/** @type {HTMLElement | null} */ (null));
  const reload = useLatest(() => void load(query));
  const isOpened = useLatest(() => (isNew ? undefined : opened));
  useTitle("Leads");
  useEffect(() => keepCurrent(isOpened, reload), []);
  useLayoutEffect(() => {
    void load(query).then(() => {
      // Another page or list begins at its top; Back comes to where one was.
      if (pane.current) pane.current.scrollTop = by === "push" ? 0 : (state.scroll ?? 0);
    });
  }, [listKey(query)]);
  const close = useLatest(() => {
    const id = isNew ? undefined : opened;
    navigate(address("/leads", query));
    requestAnimationFrame(() => focusRow(id ?? page.peek().ids[0]));
  });
  useKeys({ opened, isNew, query, close });
  return html`<div class=${`leads ${opened ? "with-drawer" : ""}`}>
    <h1 class="visually-hidden">Leads</h1>
    <section
      class="list"
      ref=${pane}
      aria-label="Leads"
      onScroll=${(/** @type {any} */ event) => keepScroll(event.currentTarget.scrollTop)}
    >
      <${Toolbar} query=${query} />
      <${Rows} query=${query} opened=${opened} reload=${reload} />
    </section>
    ${opened && html`<${Drawer} key=${opened} id=${opened} close=${close} />`}
    <${BulkBar} query=${query} />
    <${ConflictDialog} />
    <${DeleteDialog} />
  </div>`;
}

/** What of an address decides which rows are shown. @param {URLSearchParams} query */
function listKey(query) {
  return `${filtersOf(query)}&${query.get("sort") ?? ""}&${query.get("after") ?? ""}`;
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let scrolling;

/** @param {number} top */
function keepScroll(top) {
  const where = place.peek();
  clearTimeout(scrolling);
  scrolling = setTimeout(() => {
    if (place.peek() === where) remember({ scroll: top });
  }, 150);
}

/** @param {{query: URLSearchParams}} props */
function Toolbar({ query }) {
  return html`<div class="toolbar">
    <${Filters} query=${query} />
    <span class="grow" />
    <details class="menu">
      <summary class="button quiet">Export</summary>
      <div class="menu-body right">
        <button type="button" class="item" onClick=${() => exportList(query, "csv")}>
          CSV, for spreadsheets
        </button>
        <button type="button" class="item" onClick=${() => exportList(query, "ndjson")}>
          NDJSON, for programs
        </button>
      </div>
    </details>
    <a class="button primary" href=${address("/leads/new", query)}>+ New</a>
  </div>`;
}

/** @param {{query: URLSearchParams, opened: string | undefined, reload: () => void}} props */
function Rows({ query, opened, reload }) {
  const { ids, loading, error, next, key } = useValue(page);
  const isSlow = useDelayed(loading);
  const rows = useMemo(() => ids.map((id) => html`<${Row} key=${id} id=${id} />`), [ids]);
  if (error && !ids.length) {
    return html`<${Failure} title="The leads could not be read." error=${error} retry=${reload} />`;
  }
  if (loading && !ids.length) return html`<${Skeleton} lines=${12} label="Loading leads" />`;
  const isEmpty = !ids.length && !loading;
  return html`
    ${error && html`<${Failure} title="These rows may be old." error=${error} retry=${reload} />`}
    <${Fresh} reload=${reload} />
    <${Waiting} />
    ${isEmpty
      ? html`<${Nothing} query=${query} />`
      : html`<table class=${`rows ${isSlow ? "slow" : ""}`} aria-busy=${loading}>
            <caption class="visually-hidden">Leads</caption>
            <${Head} query=${query} ids=${ids} />
            <tbody onClick=${onRowClick} data-opened=${opened}>${rows}</tbody>
          </table>
          <${Foot} query=${query} shown=${ids.length} next=${next} key=${key} />`}
  `;
}

/** A click anywhere in a row opens it. @param {MouseEvent} event */
function onRowClick(event) {
  const target = /** @type {Element} */ (event.target);
  if (target.closest("a, button, input, label, select") || getSelection()?.toString()) return;
  const id = target.closest("tr")?.dataset.id;
  if (id) navigate(addressOf(id));
}

/** @param {{reload: () => void}} props */
function Fresh({ reload }) {
  const number = useValue(fresh).size;
  const show = () => {
    const query = new URLSearchParams(place.peek().search);
    if (query.has("after")) refine({});
    else reload();
  };
  return html`<div role="status">
    ${number > 0 &&
    html`<button type="button" class="fresh" onClick=${show}>
      ▲ ${counted(number, "new lead")} · Show
    </button>`}
  </div>`;
}

/** Leads that are accepted, and not stored yet. */
function Waiting() {
  const creates = useValue(pending).filter(({ kind }) => kind === "create");
  if (!creates.length) return null;
  return html`<ul class="waiting" aria-label="Accepted leads">
    ${creates.map(
      ({ id, name }) => html`<li key=${id}>
        <bdi>${name}</bdi> <${Chip} kind="waiting">waiting to be stored<//>
      </li>`,
    )}
  </ul>`;
}

/** @param {{query: URLSearchParams}} props */
function Nothing({ query }) {
  const filters = filtersOf(query);
  if ([...filters].length) {
    return html`<${Empty} title="No lead matches these filters">
      <button
        type="button"
        class="button"
        onClick=${() => refine(Object.fromEntries([...filters.keys()].map((one) => [one, null])))}
      >
        Clear all filters
      </button>
    <//>`;
  }
  return html`<${Empty} title="There are no leads yet">
    <p>Create the first, or bring those you have.</p>
    <p class="actions">
      <a class="button primary" href=${address("/leads/new")}>+ New lead</a>
      <a class="button" href=${address("/import")}>Import a file</a>
    </p>
  <//>`;
}

/** @param {{query: URLSearchParams, ids: readonly string[]}} props */
function Head({ query, ids }) {
  const chosen = useValue(selection);
  const number = ids.filter((id) => chosen.ids.has(id)).length;
  const box = useRef(/** @type {HTMLInputElement | null} */ (null));
  useLayoutEffect(() => {
    if (box.current) box.current.indeterminate = number > 0 && number < ids.length;
  });
  const toggleAll = () => {
    if (number === ids.length) clearSelection();
    else if (ids.length) selectRange(/** @type {string} */ (ids[0]), /** @type {string} */ (ids.at(-1)));
  };
  return html`<thead>
    <tr>
      <th class="check" scope="col">
        <label class="box">
          <input
            ref=${box}
            type="checkbox"
            aria-label="Select all rows of this page"
            checked=${number > 0 && number === ids.length}
            onChange=${toggleAll}
          />
        </label>
      </th>
      <${SortHead} query=${query} by="lastName" label="Name" />
      <th scope="col">Next action</th>
      <th scope="col">Status</th>
      <th scope="col" class="where">Place</th>
      <${SortHead} query=${query} by="createdAt" label="Created" kind="created" />
      <${SortHead} query=${query} by="updatedAt" label="Updated" kind="updated" />
    </tr>
  </thead>`;
}

/** @param {{query: URLSearchParams, by: string, label: string, kind?: string}} props */
function SortHead({ query, by, label, kind = "" }) {
  const sort = query.get("sort") ?? DEFAULT_SORT;
  const isMine = sort.replace("-", "") === by;
  const isDown = isMine && sort.startsWith("-");
  // Times begin with the newest, names with A.
  const next = isMine ? (isDown ? by : `-${by}`) : by === "lastName" ? by : `-${by}`;
  const change = () => refine({ sort: next === DEFAULT_SORT ? null : next });
  return html`<th
    scope="col"
    class=${kind}
    aria-sort=${isMine ? (isDown ? "descending" : "ascending") : "none"}
  >
    <button type="button" class="sort" onClick=${change}>
      ${label}<span aria-hidden="true">${isMine ? (isDown ? " ↓" : " ↑") : ""}</span>
    </button>
  </th>`;
}

/** @type {string | undefined} */
let lastSelected;

/** @param {{id: string}} props */
function Row({ id }) {
  const known = useValue(leadOf(id));
  const kept = useRef(/** @type {Lead | null} */ (null));
  const isMarked = useValue(marked, (ids) => ids.has(id));
  const isSelected = useValue(selection, ({ ids, all }) => all || ids.has(id));
  const isOpen = useValue(place, ({ path }) => path.endsWith(id));
  const stray = useValue(strays, (all) => all.get(id));
  const now = useValue(clock);
  // A row whose lead is gone stays, and says so.
  if (known) kept.current = known;
  const lead = kept.current;
  if (!lead) return null;
  const name = nameOf(lead);
  const select = (/** @type {MouseEvent} */ event) => {
    if (event.shiftKey && lastSelected) selectRange(lastSelected, id);
    else toggle(id);
    lastSelected = id;
  };
  const marks = [isMarked && "marked", isSelected && "selected", isOpen && "open", stray && "stray"];
  return html`<tr data-id=${id} class=${marks.filter(Boolean).join(" ")}>
    <td class="check">
      <label class="box">
        <input
          type="checkbox"
          aria-label=${`Select ${name}`}
          checked=${isSelected}
          onClick=${select}
        />
      </label>
    </td>
    <th scope="row">
      <a class="name" href=${addressOf(id)} aria-current=${isOpen ? "true" : undefined}>
        <bdi>${name}</bdi>
      </a>
      <span class="mail"><bdi>${lead.email}</bdi></span>
    </th>
    <td class="next"><${NextAction} lead=${lead} stray=${stray} /></td>
    <td class="state"><${Chip} kind=${lead.status} /></td>
    <td class="where"><bdi>${[lead.city, lead.country].filter(Boolean).join(", ")}</bdi></td>
    <td class="created"><${Time} at=${lead.createdAt} now=${now} /></td>
    <td class="updated"><${Time} at=${lead.updatedAt} now=${now} /></td>
  </tr>`;
}

/** @param {{at: string, now: number}} props */
export function Time({ at, now }) {
  return html`<time datetime=${at} title=${moment(at)}>${ago(at, Math.max(now, Date.now()))}</time>`;
}

/** @param {{lead: Lead, stray: "deleted" | "moved" | undefined}} props */
function NextAction({ lead, stray }) {
  const writing = useValue(writingOf(lead.id));
  if (stray === "deleted") return html`<span class="note">Deleted meanwhile</span>`;
  const note = stray === "moved" && html`<span class="note"> · no longer in this list</span>`;
  if (writing?.state === "failed") {
    return html`<${Chip} kind="failed">not summarised<//>
      <button type="button" class="link" onClick=${() => summariseLead(lead.id)}>Retry</button>`;
  }
  if (writing) {
    const word = { queued: "queued…", running: "writing…", waiting: "waiting…" }[writing.state];
    return html`<${Chip} kind="running">${word}<//>`;
  }
  if (!lead.nextAction) return html`<span class="note">—${note}</span>`;
  return html`<bdi>${lead.nextAction}</bdi>${lead.summaryStale && html` <${Chip} kind="stale" />`}
    ${note}`;
}

/** @param {{query: URLSearchParams, shown: number, next: URLSearchParams | null}} props */
function Foot({ query, shown, next }) {
  const all = useValue(total);
  const { state } = useValue(place);
  const number = query.has("after") ? (state.page ?? null) : 1;
  const start = number === null ? null : (number - 1) * SIZE + 1;
  return html`<nav class="foot" aria-label="Pages">
    <span role="status">
      ${start === null ? counted(shown, "lead") : `${count(start)}–${count(start + shown - 1)}`}
      ${all === null ? "" : ` of ${count(all)}`}
    </span>
    <button
      type="button"
      class="icon"
      aria-label="Previous page"
      disabled=${!query.has("after")}
      onClick=${() => previous(query)}
    >
      ‹
    </button>
    <button type="button" class="icon" aria-label="Next page" disabled=${!next} onClick=${turn}>
      ›
    </button>
  </nav>`;
}

/** Goes to the next page; false on the last one. */
function turn() {
  const { next } = page.peek();
  const after = next?.get("after");
  if (!after) return false;
  const { path, search, state } = place.peek();
  const query = new URLSearchParams(search);
  const number = query.has("after") ? state.page : 1;
  query.set("after", after);
  navigate(address(path, query), {
    state: { page: number && number + 1, trail: [...(state.trail ?? []), search] },
  });
  return true;
}

/** Goes to the page before, by the way one came; else to the first. @param {URLSearchParams} query */
function previous(query) {
  const { path, state } = place.peek();
  /** @type {string[]} */
  const trail = state.trail ?? [];
  const before = new URLSearchParams(trail.at(-1) ?? query);
  if (!trail.length) before.delete("after");
  navigate(address(path, before), {
    state: { page: trail.length && state.page ? state.page - 1 : 1, trail: trail.slice(0, -1) },
  });
}

/** @param {string | undefined} id */
function focusRow(id) {
  const link = id && document.querySelector(`tr[data-id="${CSS.escape(id)}"] a.name`);
  if (!(link instanceof HTMLElement)) return false;
  link.focus();
  return true;
}

/** The row that keys are about: the one that is open, has the focus, or had it last. */
function currentRow() {
  const row = document.activeElement?.closest("tr[data-id]");
  return row instanceof HTMLElement ? row.dataset.id : undefined;
}

/**
 * @param {object} given
 * @param {string | undefined} given.opened
 * @param {boolean} given.isNew
 * @param {URLSearchParams} given.query
 * @param {() => void} given.close
 */
function useKeys({ opened, isNew, query, close }) {
  const [kept] = useState(() => ({ last: /** @type {string | undefined} */ (undefined) }));
  const current = () => (isNew ? undefined : opened) ?? currentRow() ?? kept.last;
  const move = useLatest((/** @type {number} */ step) => {
    const { ids } = page.peek();
    const now = current();
    const at = now ? ids.indexOf(now) : -1;
    const id = at < 0 ? ids[0] : ids[at + step];
    if (!id) return void (step > 0 && at >= 0 && turn());
    kept.last = id;
    if (opened && !isNew) navigate(addressOf(id), { replace: true });
    else focusRow(id);
  });
  const withCurrent = useLatest((/** @type {(id: string) => void} */ act) => {
    const id = current();
    if (!id) return false;
    kept.last = id;
    act(id);
    return true;
  });
  const summariseSome = useLatest(() => {
    const { ids } = selection.peek();
    if (ids.size) document.getElementById("bulk-summarise")?.click();
    else return withCurrent((id) => void summariseLead(id));
    return true;
  });
  const escape = useLatest(() => {
    if (editing.peek()) {
      if (!stays()) editing.value = null;
    } else if (opened) close();
    else if (selection.peek().ids.size || selection.peek().all) clearSelection();
    else return false;
    return true;
  });
  const create = useLatest(() => navigate(address("/leads/new", query)));
  useEffect(
    () =>
      bind({
        n: create,
        j: () => move(1),
        k: () => move(-1),
        s: summariseSome,
        x: () =>
          withCurrent((id) => {
            toggle(id);
            lastSelected = id;
          }),
        "Shift+x": () => withCurrent((id) => selectRange(lastSelected ?? id, id)),
        e: () =>
          withCurrent((id) => {
            editing.value = id;
            if (opened !== id) navigate(addressOf(id));
          }),
        Enter: () => {
          if (document.activeElement !== document.body) return false;
          return withCurrent((id) => navigate(addressOf(id)));
        },
        Escape: escape,
      }),
    [],
  );
}
