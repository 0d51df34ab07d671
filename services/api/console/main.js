// Starts the console: who is signed in, the frame around every screen, and which one is shown.

import { setOnUnexpected } from "./api.js";
import { begin as followChanges, connection, isOutdated, suspectRelease } from "./changes.js";
import { bind, listen as listenToKeys } from "./keyboard.js";
import { address, listen as listenToAddresses, navigate, place, stays } from "./router.js";
import { Help } from "./screens/help.js";
import { Leads } from "./screens/leads.js";
import { SignIn, SignInAgain } from "./screens/sign-in.js";
import { begin as beginSession, ended, operatorKey, session, signOut } from "./session.js";
import { clear, onOperationEnd, resume } from "./store.js";
import { reportEnd } from "./screens/lead-actions.js";
import { html, useTitle, useValue } from "./ui/html.js";
import { Skeleton } from "./ui/states.js";
import { toast, Toasts } from "./ui/toast.js";
import { render } from "./vendor/preact.js";
import { useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from "./vendor/hooks.js";
import { effect } from "./vendor/signals-core.js";

/**
 * @typedef {(props: {params: readonly string[]}) => any} Screen what follows the screen's name in
 *   the address are its params
 * @typedef {{at: RegExp, screen?: Screen, load?: () => Promise<Screen>}} Entry
 */

/** Every screen. Those that are not needed first are loaded when they are. @type {Entry[]} */
const SCREENS = [
  { at: /^\/leads(?:\/([\w-]+))?$/, screen: Leads },
  {
    at: /^\/import(?:\/([\w-]+))?$/,
    load: async () => (await import("./screens/import.js")).Import,
  },
  { at: /^\/streams$/, load: async () => (await import("./screens/streams.js")).Streams },
  {
    at: /^\/dead-letters(?:\/([\w-]+))?$/,
    load: async () => (await import("./screens/dead-letters.js")).DeadLetters,
  },
  {
    at: /^\/replays(?:\/([\w-]+))?$/,
    load: async () => (await import("./screens/replays.js")).Replays,
  },
  { at: /^\/syncs$/, load: async () => (await import("./screens/syncs.js")).Syncs },
  { at: /^\/doctor$/, load: async () => (await import("./screens/doctor.js")).Doctor },
];

/** What the head of the page leads to. */
const NAVIGATION = [
  { path: "/leads", label: "Leads" },
  { path: "/import", label: "Import" },
];
/** The operators' part of it, which needs their key. */
const OPERATIONS = [
  { path: "/streams", label: "Streams" },
  { path: "/dead-letters", label: "Dead letters" },
  { path: "/replays", label: "Replays" },
  { path: "/syncs", label: "Syncs" },
  { path: "/doctor", label: "Doctor" },
];

/** @type {Map<Entry, Screen>} */
const loaded = new Map();

function App() {
  const user = useValue(session);
  const isEnded = useValue(ended);
  const { path, search } = useValue(place);
  const isSignIn = path === "/sign-in" || path === "/sign-up";
  useLayoutEffect(() => {
    if (path === "/") navigate(address("/leads"), { replace: true });
    else if (!user && !isEnded && !isSignIn) {
      const next = address(path) + search;
      navigate(address("/sign-in", path === "/leads" && !search ? {} : { next }), { replace: true });
    }
  }, [path, user, isEnded]);
  if (isSignIn) return html`<${SignIn} isNew=${path === "/sign-up"} /><${Toasts} />`;
  if (!user && !isEnded) return null;
  return html`<${Frame} path=${path} />
    ${isEnded && html`<${SignInAgain} />`}
    <${Toasts} />`;
}

/** @param {{path: string}} props */
function Frame({ path }) {
  const [helps, setHelps] = useState(false);
  const screen = SCREENS.findIndex(({ at }) => at.test(path));
  const shown = useRef(screen);
  useEffect(() => bind({ "?": () => setHelps(true) }), []);
  useEffect(() => {
    // What had the focus may be gone with the screen before; a screen may have taken it itself.
    const main = document.getElementById("main");
    if (shown.current !== screen && !main?.contains(document.activeElement)) {
      main?.focus({ preventScroll: true });
    }
    shown.current = screen;
  }, [screen]);
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <header class="head">
      <nav aria-label="Screens">
        ${NAVIGATION.map((one) => html`<${Way} key=${one.path} ...${one} shown=${path} />`)}
        <details class="menu">
          <summary class=${OPERATIONS.some((one) => path.startsWith(one.path)) ? "current" : ""}>
            Streams <span aria-hidden="true">▾</span>
          </summary>
          <div class="menu-body">
            ${OPERATIONS.map(
              (one) => html`<${Way} key=${one.path} ...${one} shown=${path} kind="item" />`,
            )}
          </div>
        </details>
      </nav>
      <span class="grow" />
      <${Live} />
      <${Outdated} />
      <${Theme} />
      <button type="button" class="icon" aria-label="Keyboard shortcuts" onClick=${() => setHelps(true)}>
        ?
      </button>
      <${Account} />
    </header>
    <main id="main" tabindex="-1">
      <${Guarded} key=${screen} path=${path} />
    </main>
    ${helps && html`<${Help} close=${() => setHelps(false)} />`}`;
}

/** @param {{path: string, label: string, shown: string, kind?: string}} props */
function Way({ path, label, shown, kind }) {
  const isShown = shown.startsWith(path);
  return html`<a class=${kind} href=${address(path)} aria-current=${isShown ? "page" : undefined}>
    ${label}
  </a>`;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

/** A screen, or that it cannot be shown: the rest of the page stays. @param {{path: string}} props */
function Guarded({ path }) {
  const [broken] = useErrorBoundary((/** @type {unknown} */ error) => {
    suspectRelease();
    console.error(error);
  });
  return broken ? html`<${Gone} />` : html`<${Shown} path=${path} />`;
}

/** @param {{path: string}} props */
function Shown({ path }) {
  const entry = SCREENS.find(({ at }) => at.test(path));
  const [, setLoaded] = useState(0);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (!entry?.load || loaded.has(entry)) return;
    entry.load().then(
      (screen) => {
        loaded.set(entry, screen);
        setLoaded((count) => count + 1);
      },
      () => {
        suspectRelease();
        setFailed(true);
      },
    );
  }, [entry]);
  if (!entry) return html`<${Nowhere} />`;
  const screen = entry.screen ?? loaded.get(entry);
  if (screen) return html`<${screen} params=${entry.at.exec(path)?.slice(1) ?? []} />`;
  return failed ? html`<${Gone} />` : html`<${Skeleton} lines=${6} />`;
}

function Nowhere() {
  useTitle("Not found");
  return html`<div class="page">
    <h1>There is nothing at this address</h1>
    <p><a href=${address("/leads")}>Go to the leads</a></p>
  </div>`;
}

function Gone() {
  const isOld = useValue(isOutdated);
  useTitle("Not shown");
  return html`<div class="page" role="alert">
    <h1>This screen cannot be shown</h1>
    <p>The server ${isOld ? "has" : "may have"} a new version of this page.</p>
    <button type="button" class="button primary" onClick=${reload}>Reload</button>
  </div>`;
}

function reload() {
  location.reload();
}

function Outdated() {
  const isOld = useValue(isOutdated);
  return html`<span role="status">
    ${isOld && html`<button type="button" class="link" onClick=${reload}>New version · Reload</button>`}
  </span>`;
}

/** Says what went wrong in the page itself: it may not fit what the server answers by now. */
function reportDefects() {
  const report = (/** @type {unknown} */ error) => {
    suspectRelease();
    const detail = error instanceof Error ? error.message : String(error);
    toast({
      kind: "error",
      text: `Something went wrong in this page: ${detail}`,
      action: { label: "Reload", run: reload },
    });
  };
  addEventListener("error", ({ error, message }) => report(error ?? message));
  addEventListener("unhandledrejection", ({ reason }) => report(reason));
}

const CONNECTIONS = {
  connecting: "Connecting…",
  live: "Live",
  lost: "Not connected: trying again",
  paused: "Paused",
};

function Live() {
  const state = useValue(connection);
  return html`<span class=${`live ${state}`} role="status" title=${CONNECTIONS[state]}>
    <span aria-hidden="true">${state === "live" ? "●" : "○"}</span>
    <span class="word">${CONNECTIONS[state]}</span>
  </span>`;
}

function Theme() {
  const [theme, setTheme] = useState(
    () =>
      document.documentElement.dataset.theme ??
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
  );
  const other = theme === "dark" ? "light" : "dark";
  const change = () => {
    document.documentElement.dataset.theme = other;
    try {
      localStorage.setItem("leads.theme", other);
    } catch {
      // Then it holds for this page.
    }
    setTheme(other);
  };
  return html`<button type="button" class="icon" aria-label=${`Use ${other} colours`} onClick=${change}>
    ${theme === "dark" ? "☀" : "☾"}
  </button>`;
}

function Account() {
  const user = useValue(session);
  const hasKey = useValue(operatorKey, Boolean);
  if (!user) return null;
  const leave = async () => {
    if (stays()) return;
    await signOut();
    clear();
    navigate(address("/sign-in"));
  };
  return html`<details class="menu">
    <summary title=${user.email}><bdi class="who">${user.email}</bdi> ▾</summary>
    <div class="menu-body right">
      <p class="note"><bdi>${user.email}</bdi></p>
      ${hasKey &&
      html`<button type="button" class="item" onClick=${() => (operatorKey.value = "")}>
        Forget the operators' key
      </button>`}
      <button type="button" class="item" onClick=${leave}>Sign out</button>
      <a class="item" href="/docs" target="_blank" rel="noopener">API documentation</a>
    </div>
  </details>`;
}

/** Closes menus on a click elsewhere and on Esc. */
function closeMenus() {
  const open = () => document.querySelectorAll("details.menu[open]");
  document.addEventListener("click", (event) => {
    for (const menu of open()) {
      const inside = event.target instanceof Node && menu.contains(event.target);
      const chosen = event.target instanceof Element && event.target.closest(".item");
      if (!inside || chosen) menu.removeAttribute("open");
    }
  });
  document.addEventListener(
    "keydown",
    (event) => {
      const [menu] = open();
      if (event.key !== "Escape" || !menu) return;
      event.preventDefault();
      menu.removeAttribute("open");
      menu.querySelector("summary")?.focus();
    },
    true,
  );
}

async function start() {
  setOnUnexpected(suspectRelease);
  reportDefects();
  listenToAddresses();
  listenToKeys();
  closeMenus();
  onOperationEnd(reportEnd);
  await beginSession();
  followChanges();
  let user = session.peek()?.email;
  effect(() => {
    const now = session.value?.email;
    if (now && user && now !== user) clear();
    user = now ?? user;
  });
  if (session.peek()) resume();
  const root = document.getElementById("app");
  root?.replaceChildren();
  if (root) render(html`<${App} />`, root);
}

void start();
