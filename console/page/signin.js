// Signing in with a console key, where the console listens beyond this machine.

import { $, h } from "./dom.js";

/** Ask for a key until one is accepted, then load the page again. */
export function signIn() {
  const field = h("input", { type: "password", id: "key", name: "key", autocomplete: "current-password", required: true, "aria-describedby": "key-help" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const form = h(
    "form",
    { class: "panel sign-in" },
    h("h1", {}, "Sign in"),
    h("label", { for: "key" }, "Console key"),
    field,
    h("p", { class: "hint", id: "key-help" }, "Make one with ", h("code", {}, "headrace keys create --kind console"), ". It is kept in this browser's cookie, where no script can read it."),
    problem,
    h("button", { class: "primary", type: "submit" }, "Sign in"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const refused = await send(field.value.trim());
    problem.hidden = !refused;
    problem.textContent = refused;
    if (!refused) location.reload();
    else field.select();
  });
  const root = $("#view");
  root.className = "view signing-in";
  root.replaceChildren(form);
  field.focus();
}

/** Return why the key was refused, "" when it was not. */
async function send(key) {
  try {
    const answer = await fetch("/api/sign-in", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ key }) });
    if (answer.ok) return "";
    const { error } = await answer.json();
    return `${error.message} ${error.remedy}`;
  } catch {
    return "The console does not answer. Try again.";
  }
}
