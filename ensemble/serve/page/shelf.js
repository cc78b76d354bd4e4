// The conversations at the left: a list, or what a search has found.

import * as api from "./api.js";
import { $, el } from "./dom.js";
import { state } from "./state.js";
import { ago, t } from "./texts.js";

let open = () => {};

export function begin(onOpen, onNew) {
  open = onOpen;
  let waiting = 0;
  $("#search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(draw, 180); });
  $("#search").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); $("#conversations .go")?.focus(); }
  });
  $("#conversations").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = [...document.querySelectorAll("#conversations .go")], at = all.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    (all[at + step] ?? (step < 0 ? $("#search") : all[at])).focus();
  });
  $("#new").addEventListener("click", () => { show(false); onNew(); });
  $("#shelf-open").addEventListener("click", () => show(true));
  $("#shelf-close").addEventListener("click", () => show(false));
  document.addEventListener("pointerdown", (event) => {
    if ($("#shelf").classList.contains("out") && !event.target.closest("#shelf")) show(false);
  });
}

/** On a narrow page: slide the shelf in or out. */
export function show(out) {
  const was = $("#shelf").classList.toggle("out", out) !== out;
  $("#shelf-open").setAttribute("aria-expanded", String(out));
  if (out) $("#new").focus();
  else if (!was && $("#shelf").contains(document.activeElement)) $("#shelf-open").focus();
}

export const isOut = () => $("#shelf").classList.contains("out");

export async function draw() {
  const words = $("#search").value.trim();
  const found = await api.get(`/api/conversations${words ? `?q=${encodeURIComponent(words)}` : ""}`);
  if (words !== $("#search").value.trim()) return;
  const items = words ? found.hits.map(hit) : found.conversations.map(conversation);
  $("#conversations").replaceChildren(...(items.length ? items : [
    el("li", { class: "none", text: t(words ? "nothing_found" : "none_yet") })]));
}

function conversation(one) {
  const mine = one.id === state.thread;
  const item = el("li", { class: mine ? "open" : undefined },
    el("button", { class: "go", "aria-current": mine ? "true" : undefined, on: { click: () => go(one.id) } },
      el("b", { text: one.title }), el("small", { text: `${ago(one.updated)} · ${t("turns", { n: one.turns })}` })));
  const bin = el("button", { text: t("delete"), on: { click: async () => {
    if (!bin.classList.contains("sure")) {
      bin.classList.add("sure");
      bin.textContent = t("really");
      setTimeout(() => { bin.classList.remove("sure"); bin.textContent = t("delete"); }, 3000);
      return;
    }
    await api.remove(`/api/conversations/${one.id}`);
    if (mine) open(null);
    await draw();
  } } });
  item.append(el("div", { class: "acts" }, el("button", { text: t("rename"), on: { click: () => rename(item, one) } }), bin));
  return item;
}

function rename(item, one) {
  const field = el("input", { value: one.title, maxlength: 200, "aria-label": t("retitle") });
  const done = async (keep) => {
    if (field.dataset.done) return;
    field.dataset.done = "1";
    if (keep) {
      await api.post(`/api/conversations/${one.id}/title`, { title: field.value });
      if (one.id === state.thread) { state.title = field.value; $("#title").textContent = field.value; }
    }
    await draw();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") done(true);
    if (event.key === "Escape") { event.stopPropagation(); done(false); }
  });
  field.addEventListener("blur", () => done(true));
  item.replaceChildren(field);
  field.select();
}

function hit(one) {
  const snippet = el("small");
  for (const [at, part] of one.snippet.split(/[⟦⟧]/).entries()) snippet.append(at % 2 ? el("mark", { text: part }) : part);
  return el("li", { class: one.thread === state.thread ? "open" : undefined },
    el("button", { class: "go", on: { click: () => go(one.thread, one.turn) } }, el("b", { text: one.title }), snippet));
}

function go(thread, turn) {
  show(false);
  open(thread, turn);
}
