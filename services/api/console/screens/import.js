// Import: a file, what its columns mean, a trial, and the real thing with what could not be written.

import { ask, newKey, pause, Problem, send } from "../api.js";
import { line, parse } from "../csv.js";
import { count, counted, FIELDS, labelOf, size } from "../format.js";
import { address, navigate } from "../router.js";
import { Chip } from "../ui/chip.js";
import { html, useAlive, useTitle } from "../ui/html.js";
import { asProblem, Failure, Skeleton } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import { save } from "./export.js";

/**
 * @typedef {import("../store.js").Operation} Operation
 * @typedef {"create" | "upsert"} Mode
 * @typedef {{row: number, errors: Record<string, string>, existingLeadId?: string}} RowError
 *
 * @typedef {object} Chosen a file, as far as it is looked at here
 * @property {File} file
 * @property {"text/csv" | "application/x-ndjson"} type
 * @property {string} charset
 * @property {string[]} header of CSV
 * @property {string[][]} rows the first ones, without blank ones
 */

const LARGEST = 64 * 1024 * 1024;
const LOOKED_AT = 256 * 1024;
const SHOWN_ROWS = 20;
const SHOWN_ERRORS = 50;
const SKIPPED = "";
// Columns that exports have and imports pass over; by `id` an upsert knows a lead.
const EXPORTED =
  "id summary nextAction summaryStale status source createdBy createdAt updatedAt version".split(" ");

/** The file of the operation that is shown: it gives failed rows back. @type {Map<string, Chosen>} */
const files = new Map();

/** @param {{params: readonly string[]}} props */
export function Import({ params }) {
  useTitle("Import");
  return html`<div class="page import">
    <h1>Import leads</h1>
    ${params[0]
      ? html`<${Running} key=${params[0]} id=${params[0]} />`
      : html`<${Preparation} />`}
  </div>`;
}

/** How a title is compared: as the API does, whatever its case and spacing. */
function plain(/** @type {string} */ title) {
  return title.normalize("NFKC").replace(/[\s_-]/g, "").toLowerCase();
}

/** The field that a title names by itself; null for one that is not known. @param {string} title */
function fieldOf(title) {
  const name = plain(title);
  const names = [...FIELDS.map((field) => /** @type {string} */ (field.name)), ...EXPORTED];
  return names.find((one) => one.toLowerCase() === name) ?? null;
}

/** A field that a title that is not known may well mean. @param {string} title */
function guess(title) {
  const name = plain(title);
  const found = FIELDS.find(({ label }) => plain(label) === name);
  if (found) return found.name;
  if (/^(given|fore|first)/.test(name)) return "firstName";
  if (/^(sur|family|last)/.test(name)) return "lastName";
  if (/mail/.test(name)) return "email";
  if (/mobile|cell/.test(name)) return "cell";
  if (/phone|tel/.test(name)) return "phone";
  if (/birth/.test(name)) return "dob";
  if (/town|city/.test(name)) return "city";
  if (/country/.test(name)) return "country";
  return null;
}

/** @param {readonly string[]} header @returns {Record<string, string>} */
function firstMapping(header) {
  /** @type {Record<string, string>} */
  const mapping = {};
  const used = new Set(header.map(fieldOf));
  for (const title of header) {
    const known = fieldOf(title);
    const guessed = known ?? guess(title);
    const field = known || (guessed && !used.has(guessed)) ? guessed : SKIPPED;
    mapping[title] = field ?? SKIPPED;
    used.add(mapping[title] ?? null);
  }
  return mapping;
}

/**
 * Looks at the beginning of a file.
 * @param {File} file
 * @param {string} [charset]
 * @returns {Promise<Chosen>}
 */
async function look(file, charset) {
  if (file.size > LARGEST) {
    throw new Error(`The file has ${size(file.size)}: at most ${size(LARGEST)} can be imported.`);
  }
  const bytes = new Uint8Array(await file.slice(0, LOOKED_AT).arrayBuffer());
  if (!bytes.length) throw new Error("The file is empty.");
  if ((bytes[0] === 0x50 && bytes[1] === 0x4b) || (bytes[0] === 0xd0 && bytes[1] === 0xcf)) {
    throw new Error("The file is a workbook: save it as CSV, and choose that.");
  }
  const found = charset ?? charsetOf(bytes);
  const text = new TextDecoder(found).decode(bytes, { stream: file.size > LOOKED_AT });
  const isNdjson = /\.(ndjson|jsonl)$/i.test(file.name) || text.trimStart().startsWith("{");
  if (isNdjson) {
    return { file, type: "application/x-ndjson", charset: found, header: [], rows: [] };
  }
  const { header, rows } = parse(text, SHOWN_ROWS * 2);
  const shown = rows.filter((row) => row.some((cell) => cell.trim())).slice(0, SHOWN_ROWS);
  return { file, type: "text/csv", charset: found, header, rows: shown };
}

/** @param {Uint8Array} bytes */
function charsetOf(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  try {
    // The last letter may be cut.
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return "utf-8";
  } catch {
    return "windows-1252";
  }
}

function Preparation() {
  const [chosen, setChosen] = useState(/** @type {Chosen | null} */ (null));
  const [mapping, setMapping] = useState(/** @type {Record<string, string>} */ ({}));
  const [mode, setMode] = useState(/** @type {Mode} */ ("create"));
  const [problem, setProblem] = useState("");
  const looks = useRef(0);
  const choose = async (/** @type {File | undefined} */ file, /** @type {string} */ charset = "") => {
    if (!file) return;
    const mine = (looks.current += 1);
    setProblem("");
    try {
      const found = await look(file, charset || undefined);
      if (mine !== looks.current) return;
      setChosen(found);
      if (!charset) setMapping(firstMapping(found.header));
    } catch (error) {
      if (mine !== looks.current) return;
      setChosen(null);
      setProblem(asProblem(error).detail);
    }
  };
  return html`
    <${FileStep} chosen=${chosen} choose=${choose} problem=${problem} />
    ${chosen &&
    html`<${ColumnStep}
        chosen=${chosen}
        mapping=${mapping}
        setMapping=${setMapping}
        choose=${choose}
      />
      <${StartStep} chosen=${chosen} mapping=${mapping} mode=${mode} setMode=${setMode} />`}
  `;
}

/** @param {{chosen: Chosen | null, choose: (file: File | undefined) => void, problem: string}} props */
function FileStep({ chosen, choose, problem }) {
  const [isOver, setOver] = useState(false);
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(false);
    choose(event.dataTransfer?.files[0]);
  };
  return html`<section class="step" aria-labelledby="step-file">
    <h2 id="step-file">1 · File</h2>
    <label
      class=${`drop ${isOver ? "over" : ""}`}
      onDragOver=${(/** @type {Event} */ event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave=${() => setOver(false)}
      onDrop=${drop}
    >
      <input
        type="file"
        accept=".csv,.tsv,.txt,.ndjson,.jsonl,text/csv,application/x-ndjson"
        aria-describedby="file-note"
        onChange=${(/** @type {any} */ event) => choose(event.target.files[0])}
      />
      ${chosen
        ? html`<strong><bdi>${chosen.file.name}</bdi></strong>
            <span class="note">${size(chosen.file.size)} · choose or drop another</span>`
        : html`<strong>Choose a file, or drop it here</strong>
            <span class="note" id="file-note">CSV with a line of titles, or NDJSON, up to 64 MiB</span>`}
    </label>
    ${problem && html`<p class="failure" role="alert"><bdi>${problem}</bdi></p>`}
  </section>`;
}

/**
 * @param {object} props
 * @param {Chosen} props.chosen
 * @param {Record<string, string>} props.mapping
 * @param {(mapping: Record<string, string>) => void} props.setMapping
 * @param {(file: File, charset: string) => void} props.choose
 */
function ColumnStep({ chosen, mapping, setMapping, choose }) {
  const { header, rows } = chosen;
  if (chosen.type !== "text/csv") {
    return html`<section class="step">
      <h2>2 · Columns</h2>
      <p class="note">Lines of NDJSON name their fields themselves.</p>
    </section>`;
  }
  return html`<section class="step" aria-labelledby="step-columns">
    <h2 id="step-columns">2 · Columns</h2>
    <div class="scrolls" tabindex="0" role="region" aria-label="The first rows of the file">
      <table class="preview">
        <thead>
          <tr>
            ${header.map(
              (title, at) => html`<th key=${at} scope="col">
                <bdi class="cut">${title || "(no title)"}</bdi>
                <${Meaning} title=${title} mapping=${mapping} setMapping=${setMapping} />
              </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row, number) => html`<tr key=${number}>
              ${header.map(
                (title, at) => html`<td
                  key=${at}
                  class=${mapping[title] === SKIPPED ? "skipped" : ""}
                >
                  <bdi>${row[at] ?? ""}</bdi>
                </td>`,
              )}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <p class="note">
      The first ${counted(rows.length, "row")}.${" "}
      <label class="inline">
        Written as
        <select
          value=${chosen.charset}
          onChange=${(/** @type {any} */ event) => choose(chosen.file, event.target.value)}
        >
          ${["utf-8", "windows-1252", "utf-16le", "utf-16be"].map(
            (one) => html`<option key=${one} value=${one} selected=${one === chosen.charset}>
              ${one}
            </option>`,
          )}
        </select>
      </label>
    </p>
  </section>`;
}

/**
 * @param {object} props
 * @param {string} props.title
 * @param {Record<string, string>} props.mapping
 * @param {(mapping: Record<string, string>) => void} props.setMapping
 */
function Meaning({ title, mapping, setMapping }) {
  const chosen = mapping[title] ?? SKIPPED;
  if (EXPORTED.includes(chosen)) {
    return html`<span class="note">${chosen === "id" ? "the lead's id" : "passed over"}</span>`;
  }
  return html`<select
    aria-label=${`What ${title || "the column without a title"} means`}
    value=${chosen}
    onChange=${(/** @type {any} */ event) =>
      setMapping({ ...mapping, [title]: event.target.value })}
  >
    <option value="" selected=${chosen === SKIPPED}>Skip</option>
    ${FIELDS.map(
      ({ name, label }) =>
        html`<option key=${name} value=${name} selected=${chosen === name}>${label}</option>`,
    )}
  </select>`;
}

/** What is wrong with a mapping before anything is sent; nothing when it may be tried. */
function complaint(/** @type {Record<string, string>} */ mapping, /** @type {Mode} */ mode) {
  const used = Object.values(mapping).filter((name) => name !== SKIPPED);
  const twice = used.find((name, at) => used.indexOf(name) !== at);
  if (twice) return `${labelOf(twice)} is there more than once`;
  const missing = FIELDS.filter((field) => "required" in field && !used.includes(field.name));
  if (missing.length) return `Needed as well: ${missing.map(({ label }) => label).join(", ")}`;
  if (mode === "upsert" && !used.includes("externalId") && !used.includes("id")) {
    return "To update leads, a column must be the External id";
  }
  return "";
}

/** What the API has to be told of the columns. @param {Record<string, string>} mapping */
function mapParameters(mapping) {
  return Object.entries(mapping)
    .filter(([title, name]) => title && fieldOf(title) !== name)
    .map(([title, name]) => `${title}:${name}`);
}

/**
 * @param {object} props
 * @param {Chosen} props.chosen
 * @param {Record<string, string>} props.mapping
 * @param {Mode} props.mode
 * @param {(mode: Mode) => void} props.setMode
 */
function StartStep({ chosen, mapping, mode, setMode }) {
  const [trial, setTrial] = useState(/** @type {string | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const isCsv = chosen.type === "text/csv";
  const wrong = isCsv ? complaint(mapping, mode) : "";
  const intent = useMemo(() => newKey(), [chosen, mapping, mode]);
  const latest = useRef(intent);
  latest.current = intent;
  const alive = useAlive();
  useEffect(() => setTrial(null), [intent]);
  const upload = async (/** @type {boolean} */ isTrial) => {
    setBusy(true);
    setProblem(null);
    try {
      const query = new URLSearchParams({ mode, dryRun: String(isTrial) });
      if (isCsv) for (const one of mapParameters(mapping)) query.append("map", one);
      const charset = chosen.charset === "utf-8" ? "" : `; charset=${chosen.charset}`;
      const { data } = await ask("POST", "/leads/import", {
        query,
        body: chosen.file,
        type: chosen.type + charset,
        headers: { "Idempotency-Key": `${intent}-${isTrial ? "trial" : "import"}` },
        deadline: 300_000,
      });
      const { id } = /** @type {Operation} */ (data);
      files.set(id, chosen);
      const show = () => navigate(address(`/import/${id}`));
      // What was tried is not what is chosen by now, or somebody has gone elsewhere.
      if (isTrial) latest.current === intent && setTrial(id);
      else if (alive.current) show();
      else toast({ text: "The import has begun", time: 8000, action: { label: "Show", run: show } });
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  const modes = /** @type {const} */ ([
    ["create", "Add", "leads that are known stay as they are"],
    ["upsert", "Add and update", "by their External id, or the id of an export"],
  ]);
  return html`<section class="step" aria-labelledby="step-start">
    <h2 id="step-start">3 · Dry run and import</h2>
    <fieldset>
      <legend class="visually-hidden">What to do with the rows</legend>
      ${modes.map(
        ([name, label, note]) => html`<label key=${name} class="choice">
          <input
            type="radio"
            name="mode"
            checked=${mode === name}
            onChange=${() => setMode(name)}
          />
          <span>${label} <span class="note">${note}</span></span>
        </label>`,
      )}
    </fieldset>
    ${wrong && html`<p class="error" role="status">✗ ${wrong}</p>`}
    ${problem && html`<${Refusal} problem=${problem} />`}
    ${trial && html`<${Outcome} key=${trial} id=${trial} />`}
    <div class="actions start">
      <button
        type="button"
        class="button"
        disabled=${busy || Boolean(wrong)}
        onClick=${() => upload(true)}
      >
        ${busy ? "Sending…" : "Dry run"}
      </button>
      <button
        type="button"
        class="button primary"
        disabled=${busy || Boolean(wrong)}
        onClick=${() => upload(false)}
      >
        Import
      </button>
    </div>
  </section>`;
}

/** @param {{problem: Problem}} props */
function Refusal({ problem }) {
  const errors = Object.entries(problem.errors);
  return html`<div class="failure" role="alert">
    <p><strong>The file was not taken.</strong></p>
    ${errors.length
      ? html`<ul>
          ${errors.map(([name, text]) => html`<li key=${name}><bdi>${name}: ${text}</bdi></li>`)}
        </ul>`
      : html`<p><bdi>${problem.detail}</bdi></p>`}
    ${problem.requestId && html`<p class="note">Request <code>${problem.requestId}</code></p>`}
  </div>`;
}

/** @param {{id: string}} props */
function Running({ id }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => heading.current?.focus(), []);
  return html`<section class="step" aria-labelledby="step-import">
    <h2 id="step-import" ref=${heading} tabindex="-1">4 · Import</h2>
    <${Outcome} id=${id} />
    <div class="actions start">
      <a class="button" href=${address("/leads", { source: "import" })}>See imported leads</a>
      <a class="button" href=${address("/import")}>Import another file</a>
    </div>
  </section>`;
}

/** Asks for an operation until it has ended. @param {string} id */
function useOperation(id) {
  const [operation, setOperation] = useState(/** @type {Operation | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  useEffect(() => {
    const stop = new AbortController();
    const run = async () => {
      for (let delay = 500; !stop.signal.aborted; delay = Math.min(delay * 1.3, 3000)) {
        try {
          const { data } = await ask("GET", `/operations/${id}`, { signal: stop.signal });
          if (stop.signal.aborted) return;
          const found = /** @type {Operation} */ (data);
          setOperation(found);
          setError(null);
          if (found.status !== "pending") return;
        } catch (problem) {
          if (stop.signal.aborted) return;
          setError(problem);
          if (problem instanceof Problem && problem.status === 404) return;
        }
        await pause(delay, stop.signal);
      }
    };
    void run();
    return () => stop.abort();
  }, [id]);
  return { operation, error };
}

const COUNTS = /** @type {const} */ ([
  ["created", "created"],
  ["updated", "updated"],
  ["duplicate", "known already"],
  ["invalid", "not valid"],
  ["refused", "refused"],
]);

/** How far an import has come, and what it could not write. @param {{id: string}} props */
function Outcome({ id }) {
  const { operation, error } = useOperation(id);
  if (!operation) {
    return error
      ? html`<${Failure} title="The import cannot be found." error=${error} />`
      : html`<${Skeleton} lines=${2} label="Reading how far it has come" />`;
  }
  const { status, progress, dryRun, errorFile, ignoredColumns } = operation;
  const failed = progress ? progress.duplicate + progress.invalid + progress.refused : 0;
  return html`<div class="outcome">
    <p role="status">
      ${status === "pending" && html`<${Chip} kind="running">${progress ? "under way" : "queued"}<//>`}
      ${status === "succeeded" && html`<${Chip} kind="qualified">${dryRun ? "tried" : "done"}<//>`}
      ${status === "failed" && html`<${Chip} kind="failed">ended early<//>`}
      ${progress && html` <strong>${counted(progress.rows, "row")}</strong>`}
      ${dryRun && html`<span class="note"> · nothing is written yet</span>`}
    </p>
    ${status === "pending" && html`<progress aria-label="Import" />`}
    ${operation.error &&
    html`<p class="error">
      <bdi>${operation.error.detail ?? operation.error.code}</bdi>${operation.error.row &&
      ` (row ${operation.error.row})`}
    </p>`}
    ${progress &&
    html`<dl class="counts">
      ${COUNTS.map(
        ([name, label]) => html`<div key=${name} class=${progress[name] ? name : "none"}>
          <dt>${label}</dt>
          <dd>${count(progress[name])}</dd>
        </div>`,
      )}
    </dl>`}
    ${ignoredColumns?.length
      ? html`<p class="note">
          Columns with values that cannot be imported: <bdi>${ignoredColumns.join(", ")}</bdi>
        </p>`
      : null}
    ${(errorFile || failed > 0) &&
    status !== "pending" &&
    html`<${Errors} id=${id} failed=${failed} />`}
  </div>`;
}

/** @param {RowError} error */
function reasonOf(error) {
  return Object.entries(error.errors)
    .map(([name, text]) => (name === "row" ? text : `${name}: ${text}`))
    .join("; ");
}

/** @param {{id: string, failed: number}} props */
function Errors({ id, failed }) {
  const [errors, setErrors] = useState(/** @type {readonly RowError[] | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const read = async () => {
    setProblem(null);
    try {
      const response = await send("GET", `/operations/${id}/errors`, {
        headers: { Accept: "application/x-ndjson" },
      });
      const lines = (await response.text()).split("\n").filter(Boolean);
      setErrors(lines.map((one) => /** @type {RowError} */ (JSON.parse(one))));
    } catch (error) {
      if (error instanceof Problem && error.code === "errors-not-found") setErrors([]);
      else setProblem(error);
    }
  };
  useEffect(() => void read(), [id]);
  if (problem) {
    return html`<${Failure} title="The errors could not be read." error=${problem} retry=${read} />`;
  }
  if (!errors) return html`<${Skeleton} lines=${3} label="Loading the errors" />`;
  if (!errors.length) return null;
  return html`<h3>Rows that could not be written</h3>
    <ul class="row-errors" tabindex="0" aria-label="Rows that could not be written">
      ${errors.slice(0, SHOWN_ERRORS).map(
        (one) => html`<li key=${one.row}>
          <span class="error">✗ row ${count(one.row)}</span> <bdi>${reasonOf(one)}</bdi>
          ${one.existingLeadId &&
          html` · <a href=${address(`/leads/${one.existingLeadId}`)}>open the lead</a>`}
        </li>`,
      )}
    </ul>
    ${errors.length > SHOWN_ERRORS &&
    html`<p class="note">and ${counted(errors.length - SHOWN_ERRORS, "more row", "more rows")}</p>`}
    <button type="button" class="button" onClick=${() => giveBack(id, errors)}>
      Failed rows as CSV
    </button>
    ${!files.has(id) &&
    failed > 0 &&
    html`<p class="note">
      The page was loaded anew since the file was chosen: the CSV has the numbers of rows, and why
      they failed.
    </p>`}`;
}

/**
 * Saves the rows that failed with their reasons, to be mended and imported again.
 * @param {string} id
 * @param {readonly RowError[]} errors
 */
async function giveBack(id, errors) {
  const chosen = files.get(id);
  if (!chosen || chosen.type !== "text/csv") {
    const rows = errors.map((one) => line([String(one.row), reasonOf(one)]));
    return save(["\uFEFF", line(["row", "reason"]), ...rows], "failed-rows.csv", "text/csv");
  }
  const text = new TextDecoder(chosen.charset).decode(await chosen.file.arrayBuffer());
  const { header, rows } = parse(text);
  const lines = errors.map((one) => {
    const cells = rows[one.row - 1] ?? [];
    return line([...header.map((_, at) => cells[at] ?? ""), String(one.row), reasonOf(one)]);
  });
  save(["\uFEFF", line([...header, "row", "reason"]), ...lines], "failed-rows.csv", "text/csv");
}
