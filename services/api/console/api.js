// Requests to the REST API: the only module that calls `fetch`.

/**
 * @typedef {import("./schema").components["schemas"]} Schemas
 * @typedef {Record<string, string | number | boolean | null | undefined>} Query
 *
 * @typedef {object} Options
 * @property {Query | URLSearchParams} [query]
 * @property {unknown} [body] sent as JSON, unless it is a Blob
 * @property {string} [type] the body's media type
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {number} [deadline] in milliseconds, until the answer's headers are there
 * @property {boolean} [anonymous] send no token
 *
 * @typedef {object} Authority
 * @property {() => string | null} token
 * @property {(used: string | null) => Promise<boolean>} renew false when one has to sign in
 */

// What a page gets that asks for something which is not there (any more), or in another form.
const UNEXPECTED = new Set([400, 404, 405, 406, 410, 415, 422]);

const DEADLINE = 20_000;
const TRIES = 3;
const SILENCE = 45_000;
const LATE = "The server has not answered in time";
// What may be gone in a moment: a process that restarts, a dependency that comes back.
const PASSING = new Set([502, 503, 504]);

/** A refusal or failure, as RFC 9457 has it; without a connection the code is `unreachable`. */
export class Problem extends Error {
  /**
   * @param {object} given
   * @param {string} given.code
   * @param {string} given.detail
   * @param {number} [given.status] 0 when there was no answer
   * @param {Record<string, string>} [given.errors] by field
   * @param {string} [given.requestId]
   * @param {number} [given.retryAfter] in seconds
   * @param {Record<string, any>} [given.members] what else the body says
   */
  constructor({ code, detail, status = 0, errors = {}, requestId = "", retryAfter, members = {} }) {
    super(detail);
    this.code = code;
    this.detail = detail;
    this.status = status;
    this.errors = errors;
    this.requestId = requestId;
    this.retryAfter = retryAfter;
    this.members = members;
  }
}

/** @type {Authority} */
let authority = { token: () => null, renew: async () => false };

/** Has requests sent with tokens from here. @param {Authority} given */
export function setAuthority(given) {
  authority = given;
}

/** @type {() => void} */
let onUnexpected = () => {};

/** Has a function called when the API may be another one than this page was made for. @param {() => void} call */
export function setOnUnexpected(call) {
  onUnexpected = call;
}

/**
 * Sends a request and returns its answer, which was a success.
 *
 * A read is tried again while something is down for a moment; a write is not, and has a key of its
 * own where it may be repeated. A token that has ended is renewed once.
 * @param {string} method
 * @param {string} path with its leading slash
 * @param {Options} [options]
 * @returns {Promise<Response>}
 * @throws {Problem}
 */
export async function send(method, path, options = {}) {
  let renewed = false;
  for (let attempt = 1; ; attempt += 1) {
    const token = options.anonymous ? null : authority.token();
    try {
      return await sendOnce(method, path, options, token);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401 && !options.anonymous && !renewed && isSession(error)) {
        renewed = true;
        if (await authority.renew(token)) continue;
        throw error;
      }
      const passes = error.status === 0 || PASSING.has(error.status);
      if (method !== "GET" || !passes || attempt >= TRIES || options.signal?.aborted) throw error;
      await pause(Math.min(error.retryAfter ?? 0.3 * attempt, 2) * 1000, options.signal);
    }
  }
}

/** Whether it is the user who is not signed in, and not an operator's key that is missing. */
function isSession(/** @type {Problem} */ problem) {
  return problem.code === "invalid-token" || problem.code === "unauthenticated";
}

/**
 * Sends a request and returns what the answer's JSON says, with its headers.
 * @template T
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<{status: number, data: T, headers: Headers}>}
 */
export async function ask(method, path, options) {
  const response = await send(method, path, options);
  const { status, headers } = response;
  const text = status === 204 ? "" : await textOf(response, options);
  try {
    return { status, data: /** @type {T} */ (text ? JSON.parse(text) : null), headers };
  } catch {
    onUnexpected();
    throw new Problem({ code: "unknown", detail: "The answer is not what the API would say", status });
  }
}

/**
 * Reads all of an answer, which may break off as well.
 * @param {Response} response
 * @param {Options} [options]
 */
async function textOf(response, { signal, deadline = DEADLINE } = {}) {
  try {
    return await within(deadline, response.text());
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (signal?.aborted) throw new DOMException("Cancelled", "AbortError");
    throw new Problem({ code: "unreachable", detail: "The answer has broken off" });
  }
}

/**
 * @template T
 * @param {number} time in milliseconds
 * @param {Promise<T>} result
 * @returns {Promise<T>}
 */
async function within(time, result) {
  const come = new AbortController();
  const late = pause(time, come.signal).then(() => {
    throw new Problem({ code: "timeout", detail: LATE });
  });
  // What has come in time does not ask for the other any more.
  late.catch(() => {});
  try {
    return await Promise.race([result, late]);
  } finally {
    come.abort();
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {Options} options
 * @param {string | null} token
 */
async function sendOnce(method, path, options, token) {
  const { body, signal, deadline = DEADLINE } = options;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), deadline);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(path + queryOf(options.query), {
      method,
      headers: headersOf(options, token),
      body: body === undefined ? null : body instanceof Blob ? body : JSON.stringify(body),
      // Joined so that nothing of a request stays with a signal that lives longer.
      signal: signal ? AbortSignal.any([signal, limit.signal]) : limit.signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (signal?.aborted) throw new DOMException("Cancelled", "AbortError");
    const late = limit.signal.aborted;
    throw new Problem({
      code: late ? "timeout" : "unreachable",
      detail: late ? LATE : "The server cannot be reached",
    });
  } finally {
    clearTimeout(timer);
  }
  if (response.ok) return response;
  if (UNEXPECTED.has(response.status)) onUnexpected();
  throw await problemOf(response);
}

/**
 * @param {Options} options
 * @param {string | null} token
 */
function headersOf({ body, type, headers }, token) {
  /** @type {Record<string, string>} */
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = type ?? "application/json";
  if (token !== null) sent.Authorization = `Bearer ${token}`;
  return sent;
}

/** @param {Options["query"]} query */
function queryOf(query) {
  if (!query) return "";
  const pairs = query instanceof URLSearchParams ? query : new URLSearchParams();
  if (!(query instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined && value !== "") pairs.set(name, String(value));
    }
  }
  const text = pairs.toString();
  return text && `?${text}`;
}

/** @param {Response} response */
async function problemOf(response) {
  /** @type {Record<string, any>} */
  let members = {};
  try {
    members = await response.json();
  } catch {
    // A proxy in between answers what it likes.
  }
  const retryAfter = Number(response.headers.get("Retry-After"));
  const { code, detail, errors, ...rest } = members;
  return new Problem({
    code: code ?? "unknown",
    detail: detail ?? `The server has answered ${response.status}`,
    status: response.status,
    errors,
    requestId: response.headers.get("X-Request-Id") ?? "",
    ...(retryAfter > 0 ? { retryAfter } : {}),
    members: rest,
  });
}

/**
 * Waits; ends early when the signal says so.
 * @param {number} time in milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(time, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, time);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
  });
}

/**
 * Yields the events of a stream as they come (Server-Sent Events).
 *
 * `EventSource` cannot send a token. A stream without even a heartbeat is given up.
 * @param {Response} response
 * @returns {AsyncGenerator<{event: string, data: any, id: string | null}, void, void>}
 * @throws {Problem} `timeout`
 */
export async function* events(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await within(SILENCE, reader.read());
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const found = parseEvent(block);
        if (found) yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {string} block */
function parseEvent(block) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
  }
  if (fields.id === undefined && fields.data === undefined) return null;
  return {
    event: fields.event ?? "",
    data: fields.data === undefined ? null : JSON.parse(fields.data),
    id: fields.id ?? null,
  };
}

/** Returns a key under which a write may be repeated. Plain HTTP has no `randomUUID`. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The address of the next page that an answer's `Link` names; null after the last. */
export function cursorOf(/** @type {Headers} */ headers) {
  const link = headers.get("Link")?.match(/<([^>]*)>;\s*rel="next"/);
  return link?.[1] ? new URL(link[1], location.origin).searchParams : null;
}

/** The tag of the page that the server has now: another one is another release. */
export async function currentRelease() {
  const response = await send("HEAD", "/console", { anonymous: true, deadline: 5000 });
  return response.headers.get("ETag") ?? "";
}
