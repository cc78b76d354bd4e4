// The page's beginning: the token, the run, the texts; then everything listens.

import * as api from "./api.js";
import * as chat from "./chat.js";
import { compare } from "./compare.js";
import * as box from "./dialog.js";
import { $, el, say } from "./dom.js";
import * as keys from "./keys.js";
import * as reading from "./reading.js";
import * as shelf from "./shelf.js";
import { state } from "./state.js";
import { settle, t, translate, turn } from "./texts.js";
import * as why from "./why.js";

async function begin() {
  translate();
  box.begin();
  $("#lock").addEventListener("submit", async (event) => {
    event.preventDefault();
    api.keepToken($("#token").value.trim());
    await enter(true);
  });
  listen();
  await api.takeToken();
  await enter(false);
}

/** Load the run, and the conversation that the address names. Without the right token the lock is shown. */
async function enter(tried) {
  try {
    state.run = await api.get("/api/run");
  } catch (error) {
    lock();
    $("#lock-error").textContent = error.status === 401 ? (tried ? t("lock_wrong") : "") : (error.message || t("gone"));
    return;
  }
  settle(state.run.language);
  $("#lock").hidden = true;
  $("#app").hidden = false;
  drawAll();
  const thread = new URLSearchParams(location.hash.slice(1)).get("c");
  await chat.open(thread).catch(() => chat.open(null));
}

function lock() {
  $("#app").hidden = true;
  $("#lock").hidden = false;
  $("#token").focus();
}

function drawAll() {
  translate();
  $("#run-name").textContent = state.run.name;
  const kept = state.pin;
  $("#pin").replaceChildren(el("option", { value: "", text: t("auto") }), el("option", { value: "base", text: t("base") }),
    ...state.run.experts.map((one) => el("option", { value: one.model, text: `${one.number} · ${one.title}` })));
  $("#pin").value = kept;
  $("#language").textContent = t("language");
  chat.drawEmpty();
  chat.told();
}

function listen() {
  const field = $("#question");
  shelf.begin((thread, turnId) => chat.open(thread, turnId), () => chat.open(null));
  $("#composer").addEventListener("submit", (event) => { event.preventDefault(); chat.send(); });
  field.addEventListener("input", chat.grow);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    chat.send();
  });
  $("#stop").addEventListener("click", chat.stop);
  $("#pin").addEventListener("change", () => chat.pin($("#pin").value));
  $("#compare").addEventListener("click", () => compare(field.value.trim() || state.turns.at(-1)?.question));
  $("#why-close").addEventListener("click", why.close);
  $("#open-seeds").addEventListener("click", reading.seeds);
  $("#open-notes").addEventListener("click", reading.notes);
  $("#open-export").addEventListener("click", reading.exports);
  $("#open-report").addEventListener("click", reading.report);
  $("#help").addEventListener("click", keys.help);
  $("#theme").addEventListener("click", theme);
  $("#language").addEventListener("click", () => { turn(); drawAll(); chat.draw(); shelf.draw(); why.redraw(); });
  document.addEventListener("locked", lock);
  addEventListener("hashchange", () => { if (location.hash.includes("token=")) api.takeToken().then(() => enter(false)); });
  document.addEventListener("forgotten", () => chat.open(state.thread).catch(() => chat.open(null)));
  addEventListener("unhandledrejection", (event) => {
    if (event.reason instanceof api.Failure) {
      event.preventDefault();
      if (event.reason.status === 401) return;
      box.dialog(t("conversation"), [el("p", { class: "problem", role: "alert", text: event.reason.message || t("gone") })], { slim: true });
    }
  });
  keys.begin({ theme });
}

/** As the system has it, then light, then dark. */
function theme() {
  const next = { auto: "light", light: "dark", dark: "auto" }[localStorage.getItem("rostok.theme") ?? "auto"];
  if (next === "auto") { localStorage.removeItem("rostok.theme"); delete document.documentElement.dataset.theme; }
  else { localStorage.setItem("rostok.theme", next); document.documentElement.dataset.theme = next; }
  say(t(`theme_${next}`));
}

begin();
