// A lead as a form: a new one, or one that is edited.

import { newKey } from "../api.js";
import { FIELDS, nameOf } from "../format.js";
import { guards, navigate } from "../router.js";
import { changeLead, createLead, leadOf, readLead } from "../store.js";
import { Field, Form } from "../ui/form.js";
import { html, useAlive, useLatest } from "../ui/html.js";
import { asProblem } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { addressOf, conflict, returned } from "./lead-actions.js";

/**
 * @typedef {import("../api.js").Problem} Problem
 * @typedef {import("../store.js").Lead} Lead
 * @typedef {Record<string, string>} Draft what the fields hold, as text
 */

/** @param {Record<string, any>} source @returns {Draft} */
function draftOf(source) {
  return Object.fromEntries(FIELDS.map(({ name }) => [name, source[name] ?? ""]));
}

/** What a draft changes of a lead; what is empty is cleared. @param {Draft} draft @param {Draft} from */
function changesOf(draft, from) {
  /** @type {Record<string, string | null>} */
  const changes = {};
  for (const { name } of FIELDS) {
    const value = (draft[name] ?? "").trim();
    if (value !== (from[name] ?? "")) changes[name] = value || null;
  }
  return changes;
}

/**
 * The fields with what is wrong with each, and above them what belongs to none.
 * @param {object} props
 * @param {Draft} props.draft
 * @param {(name: string, value: string) => void} props.change
 * @param {Problem | null} props.problem
 */
function Fields({ draft, change, problem }) {
  const errors = { ...problem?.errors };
  const taken = problem?.code === "duplicate-lead" ? problem.members : null;
  const known = new Set(FIELDS.map(({ name }) => /** @type {string} */ (name)));
  const others = Object.entries(errors).filter(([name]) => !known.has(name));
  const isAtFields = Object.keys(errors).some((name) => known.has(name)) || known.has(taken?.field);
  return html`
    ${problem &&
    (!isAtFields || others.length > 0) &&
    html`<div class="failure" role="alert">
      ${others.length
        ? others.map(([name, text]) => html`<p key=${name}><bdi>${name}: ${text}</bdi></p>`)
        : html`<p><bdi>${problem.detail}</bdi></p>`}
      ${problem.requestId && html`<p class="note">Request <code>${problem.requestId}</code></p>`}
    </div>`}
    <div class="fields">
      ${FIELDS.map(({ name, label, max, ...rest }, at) => {
        const isTaken = taken?.field === name;
        return html`<${Field}
          key=${name}
          prefix="lead"
          name=${name}
          label=${label}
          max=${max}
          required=${"required" in rest}
          type=${"type" in rest ? rest.type : "text"}
          hint=${"hint" in rest ? rest.hint : ""}
          first=${at === 0}
          value=${draft[name] ?? ""}
          change=${(/** @type {string} */ value) => change(name, value)}
          error=${isTaken ? html`<${Taken} id=${taken?.leadId} />` : errors[name]}
        />`;
      })}
    </div>
  `;
}

/** Who has what should be one's own. @param {{id: string | undefined}} props */
function Taken({ id }) {
  const [name, setName] = useState("another lead");
  useEffect(() => {
    if (!id) return;
    readLead(id).then(
      (lead) => lead && setName(nameOf(lead)),
      () => {},
    );
  }, [id]);
  return html`taken by <bdi>${name}</bdi>${id && html`: <a href=${addressOf(id)}>open</a>`}`;
}

// Time enough for those who are slow with keys, too.
const LEAVE_WITHIN = 20_000;

/**
 * Asks before a draft is lost: the first attempt to leave is told so, the next one goes.
 * @param {boolean} isDirty
 * @param {Draft} draft
 */
function useGuard(isDirty, draft) {
  const warned = useRef({ of: /** @type {Draft | null} */ (null), at: 0, close: () => {} });
  const stays = useLatest(() => {
    const { of, at, close } = warned.current;
    if (!isDirty || (of === draft && Date.now() - at < LEAVE_WITHIN)) return false;
    close();
    warned.current = {
      of: draft,
      at: Date.now(),
      close: toast({ text: "There are unsaved entries. Once more to leave them.", time: LEAVE_WITHIN }),
    };
    return true;
  });
  useEffect(() => () => warned.current.close(), []);
  useEffect(() => {
    guards.add(stays);
    const warn = (/** @type {Event} */ event) => {
      if (isDirty) event.preventDefault();
    };
    addEventListener("beforeunload", warn);
    return () => {
      guards.delete(stays);
      removeEventListener("beforeunload", warn);
    };
  }, [isDirty]);
}

/** @param {{close: () => void}} props */
export function NewLead({ close }) {
  const [from] = useState(() => {
    const given = returned.peek();
    returned.value = null;
    return given;
  });
  const [draft, setDraft] = useState(() => draftOf(from?.draft ?? {}));
  const [problem, setProblem] = useState(from?.problem ?? null);
  const [busy, setBusy] = useState(false);
  // The same intent has the same key, however often it is sent; what is edited is another one.
  const key = useRef(newKey());
  const isSent = useRef(false);
  const alive = useAlive();
  const change = (/** @type {string} */ name, /** @type {string} */ value) => {
    key.current = newKey();
    setDraft((before) => ({ ...before, [name]: value }));
  };
  const isDirty = !isSent.current && Object.values(draft).some((value) => value.trim());
  useGuard(isDirty, draft);
  const submit = async () => {
    if (busy) return;
    const given = Object.fromEntries(
      Object.entries(draft).flatMap(([name, value]) => (value.trim() ? [[name, value]] : [])),
    );
    setBusy(true);
    setProblem(null);
    try {
      const lead = await createLead(given, key.current);
      isSent.current = true;
      if (!alive.current) {
        toast({ text: lead ? `${nameOf(lead)} is created` : "Accepted: it is stored later" });
        return;
      }
      guards.clear();
      if (lead) {
        toast({ text: `${nameOf(lead)} is created` });
        navigate(addressOf(lead.id), { replace: true });
      } else {
        toast({ text: "Accepted: it is stored as soon as that is possible" });
        close();
      }
    } catch (error) {
      setProblem(asProblem(error));
      setBusy(false);
    }
  };
  const cancel = () => {
    guards.clear();
    close();
  };
  return html`<${Form} submit=${submit} label="New lead" errors=${problem}>
    <${Fields} draft=${draft} change=${change} problem=${problem} />
    <div class="actions">
      <button type="button" class="button" onClick=${cancel}>Cancel</button>
      <button type="submit" class="button primary" disabled=${busy} title="Ctrl+Enter">
        ${busy ? "Creating…" : "Create"}
      </button>
    </div>
  <//>`;
}

/**
 * @param {object} props
 * @param {Lead} props.lead
 * @param {() => void} props.done
 */
export function EditLead({ lead, done }) {
  // What the form began with: a change that another makes meanwhile must not slip in unseen.
  const [before] = useState(lead);
  const [draft, setDraft] = useState(() => draftOf(before));
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const [busy, setBusy] = useState(false);
  const changes = changesOf(draft, draftOf(before));
  const isDirty = Object.keys(changes).length > 0;
  useGuard(isDirty && !busy, draft);
  const submit = async () => {
    if (busy) return;
    if (!isDirty) return done();
    setBusy(true);
    setProblem(null);
    try {
      const after = await changeLead(before, changes);
      if (!after) toast({ text: "Accepted: it is stored as soon as that is possible" });
      guards.clear();
      done();
    } catch (error) {
      const found = asProblem(error);
      if (found.code === "version-mismatch") conflict.value = { before, changes, done };
      else setProblem(found);
      setBusy(false);
    }
  };
  const isOlder = (leadOf(lead.id).peek()?.version ?? before.version) > before.version;
  return html`<${Form} submit=${submit} label=${`Edit ${nameOf(before)}`} errors=${problem}>
    ${isOlder &&
    html`<p class="told">Somebody has changed this lead meanwhile: saving shows what differs.</p>`}
    <${Fields}
      draft=${draft}
      problem=${problem}
      change=${(/** @type {string} */ name, /** @type {string} */ value) =>
        setDraft((known) => ({ ...known, [name]: value }))}
    />
    <div class="actions">
      <button type="button" class="button" onClick=${done}>Cancel</button>
      <button type="submit" class="button primary" disabled=${busy} title="Ctrl+Enter">
        ${busy ? "Saving…" : "Save"}
      </button>
    </div>
  <//>`;
}

/** @param {Record<string, any>} lead @param {string} name */
export function shownValue(lead, name) {
  const value = lead[name];
  return value === null || value === "" || value === undefined ? "—" : String(value);
}
