// Signing in and up, as a page and, when a session has ended, in place.

import { address, isOwn, navigate, place } from "../router.js";
import { ended, session, signIn, signOut, signUp } from "../session.js";
import { Dialog } from "../ui/dialog.js";
import { Field, Form } from "../ui/form.js";
import { html, useTitle, useValue } from "../ui/html.js";
import { asProblem } from "../ui/states.js";
import { useEffect, useState } from "../vendor/hooks.js";

/** @typedef {import("../api.js").Problem} Problem */

/** @param {Problem} problem */
function wording(problem) {
  if (problem.code === "captcha-failed") {
    return `This page cannot show the captcha that is asked for: ${problem.detail}`;
  }
  if (problem.code === "email-not-confirmed") {
    return "Confirm the address first: open the link in the mail, then sign in.";
  }
  return problem.detail;
}

/** @param {{isNew: boolean}} props */
export function SignIn({ isNew }) {
  const { search } = useValue(place);
  const user = useValue(session);
  const next = new URLSearchParams(search).get("next");
  const target = next && isOwn(next.split("?")[0] ?? "") ? next : address("/leads");
  useTitle(isNew ? "Sign up" : "Sign in");
  useEffect(() => {
    if (user) navigate(target, { replace: true });
  }, [user]);
  return html`<main class="door" id="main">
    <div class="door-box">
      <p class="brand"><span aria-hidden="true" class="brand-mark">L</span> Leads</p>
      <h1>${isNew ? "Make an account" : "Sign in"}</h1>
      <${Account} key=${isNew} isNew=${isNew} />
      <p class="note">
        ${isNew ? "You have an account? " : "No account yet? "}
        <a href=${address(isNew ? "/sign-in" : "/sign-up") + search}>
          ${isNew ? "Sign in" : "Sign up"}
        </a>
      </p>
    </div>
  </main>`;
}

/** Over what is on screen, which stays as it is. */
export function SignInAgain() {
  const leave = () => {
    void signOut();
    ended.value = false;
    navigate(address("/sign-in"));
  };
  return html`<${Dialog} title="Your session has ended" close=${leave} stays kind="small">
    <p>Sign in again to go on: what you have entered is still here.</p>
    <${Account} isNew=${false} />
    <button type="button" class="link" onClick=${leave}>Sign in as somebody else</button>
  <//>`;
}

/** @param {{isNew: boolean}} props */
function Account({ isNew }) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const [told, setTold] = useState("");
  const submit = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      if (isNew) await signUp(email, password);
      await signIn(email, password);
    } catch (error) {
      const found = asProblem(error);
      if (isNew && found.code === "email-not-confirmed") setTold(wording(found));
      else setProblem(found);
      setBusy(false);
    }
  };
  if (told) return html`<p class="told" role="status">The account is made. ${told}</p>`;
  const errors = problem?.errors ?? {};
  const isAtFields = Boolean(errors.email || errors.password);
  return html`<${Form} submit=${submit} errors=${problem}>
    <${Field}
      name="email"
      label="E-mail"
      type="email"
      autocomplete="username"
      first
      value=${email}
      change=${setEmail}
      error=${errors.email}
    />
    <${Field}
      name="password"
      label="Password"
      type="password"
      autocomplete=${isNew ? "new-password" : "current-password"}
      hint=${isNew ? "At least 8 characters" : ""}
      value=${password}
      change=${setPassword}
      error=${errors.password}
    />
    ${problem && !isAtFields && html`<p class="failure" role="alert">${wording(problem)}</p>`}
    <button type="submit" class="button primary wide" disabled=${busy}>
      ${busy ? "One moment…" : isNew ? "Sign up" : "Sign in"}
    </button>
  <//>`;
}
