// What there is to read and to keep: seeds and their pages, memory, export, the report.

import * as api from "./api.js";
import { $, button, el } from "./dom.js";
import { dialog } from "./dialog.js";
import { face, state } from "./state.js";
import { current, t } from "./texts.js";

// ── seeds and pages ───────────────────────────────────────────────────────────────────────────────────────────

export function seeds() {
  const serving = new Set(state.run.experts.map((one) => one.seed));
  dialog(t("seeds"), [el("ul", { class: "library" }, ...state.run.seeds.map((one) => el("li", {},
    el("button", { type: "button", hue: one.hue, on: { click: () => seed(one.seed) } }, el("span", { class: "badge", "aria-hidden": "true", text: one.number }),
      el("b", { text: one.title }), el("small", { class: "quiet", text: t(serving.has(one.seed) ? "serving" : "silent") })))))]);
}

async function seed(id) {
  const one = await api.get(`/api/seeds/${id}`), who = face(id), names = Object.fromEntries(one.nodes.map((node) => [node.key, node]));
  const pages = el("div"), more = el("button", { type: "button", class: "plain", text: t("more") });
  let offset = 0;
  const next = async () => {
    const told = await api.get(`/api/seeds/${id}/pages?offset=${offset}&limit=10`);
    offset += told.pages.length;
    pages.append(...told.pages.map(page));
    more.hidden = offset >= told.total;
  };
  more.addEventListener("click", next);
  const body = el("div", { hue: who.hue },
    button("book", t("back"), seeds, { class: "plain" }), el("p", { class: "glyphs", "aria-hidden": "true", text: one.glyphs }), el("p", { class: "scene", text: one.scene }),
    el("h3", { text: t("path") }), el("ol", { class: "path" }, ...one.walk.map((step) => el("li", {},
      el("span", {}, el("b", { text: names[step.source].name, title: names[step.source].gloss }), el("em", { text: ` ${step.operation} ` }),
        el("b", { text: names[step.target].name, title: names[step.target].gloss })), el("small", { text: step.sentence })))),
    el("h3", { text: t("clashes") }), el("ul", {}, ...one.contradictions.map((clash) => el("li", { text: clash.sentence }))),
    el("details", {}, el("summary", { class: "quiet", text: t("formula") }), el("code", { text: one.formula })),
    el("h3", { text: t("pages") }), pages, more);
  dialog(one.title, [body]);
  await next();
}

function page(one) {
  const facts = [`${one.spec + 1}`, one.kind, one.register, t("shown_by", { author: t(`author_${one.author}`) }), one.held_out && t("held_out")];
  const text = one.turns.length ? one.turns.flatMap((turn) => [el("b", { text: `${turn.role}: ` }), `${turn.content}\n\n`]) : [one.text];
  return el("article", { class: "page" }, el("small", { text: facts.filter(Boolean).join(" · ") }), ...text);
}

// ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────

export async function notes() {
  const { notes: kept } = await api.get("/api/notes");
  const text = el("input", { "aria-label": t("notes_label"), placeholder: t("notes_label") });
  const words = el("input", { "aria-label": t("forget_text"), placeholder: t("forget_hint") });
  const add = el("form", { class: "line" }, text, el("button", { class: "plain", text: t("notes_add") }));
  add.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (text.value.trim()) await api.post("/api/notes", { text: text.value }).then(notes);
  });
  const forget = el("form", { class: "line" }, words, el("button", { class: "plain", text: t("forget_find") })), found = el("div");
  words.addEventListener("input", () => found.replaceChildren());  // what is shown belongs to the words that were looked for
  forget.addEventListener("submit", (event) => {
    event.preventDefault();
    if (words.value.trim()) doomed(words.value, found);
  });
  dialog(t("notes"), [el("p", { class: "quiet", text: t("notes_text") }), add,
    kept.length ? el("ul", { class: "notes" }, ...kept.map((note) => el("li", {}, el("span", { text: note.text }),
      surely(t("forget"), async () => { await api.post("/api/forget", { what: [note.id] }); await notes(); }))))
      : el("p", { class: "mark", text: t("notes_none") }),
    el("h3", { text: t("forget_text") }), forget, found], { slim: true });
  text.focus();
}

/** Show what these words would erase; the button below it erases just that, and the words where they stand in titles. */
async function doomed(what, box) {
  const seen = await api.post("/api/found", { what }), ids = known(seen);
  const erase = el("button", { type: "button", class: "plain", text: t("forget_these", { n: ids.length }), on: { click: async () => {
    if (ids.length) await api.post("/api/forget", { what: ids });
    if (known(await api.post("/api/found", { what })).length) { await doomed(what, box); return; }  // said meanwhile, and not seen yet
    const { forgotten } = await api.post("/api/forget", { what });
    await notes();
    $("#dialog-body").append(el("p", { class: "mark", role: "status", text: t("forgotten", { n: ids.length + forgotten }) }));
    document.dispatchEvent(new Event("forgotten"));
  } } });
  box.replaceChildren(
    el("p", { class: "quiet", role: "status", text: t(ids.length ? "forget_found" : "forget_nothing") }),
    el("ul", { class: "notes" }, ...seen.notes.map((note) => el("li", {}, el("span", { text: note.text }))),
      ...seen.turns.map(([, turn]) => el("li", {}, el("span", { text: `${turn.question}\n→ ${turn.text}` })))), erase);
}

const known = (found) => [...found.notes.map((note) => note.id), ...found.turns.map(([, turn]) => turn.id)];

/** A button that asks once more before it does something. */
function surely(text, does) {
  const node = el("button", { type: "button", text, on: { click: async () => {
    if (node.textContent === t("really")) { await does(); return; }
    node.textContent = t("really");
    setTimeout(() => { node.textContent = text; }, 3000);
  } } });
  return node;
}

// ── export and report ─────────────────────────────────────────────────────────────────────────────────────────

export function exports() {
  const choices = (thread) => el("div", { class: "choices" }, ...["markdown", "jsonl"].map((format) => el("button", {
    type: "button", class: "plain", text: t(format), on: { click: () => save(format, thread) } })));
  dialog(t("export"), [...(state.thread && state.turns.length ? [el("h3", { text: t("export_this") }), choices(state.thread)] : []),
    el("h3", { text: t("export_all") }), choices(null)], { slim: true });
}

async function save(format, thread) {
  const blob = await api.file(`/api/export?format=${format}${thread ? `&thread=${thread}` : ""}`);
  const link = el("a", { href: URL.createObjectURL(blob), download: `${thread ?? state.run.name}.${format === "markdown" ? "md" : "jsonl"}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The report in a tab of its own; opened at once, since a browser allows that only while the click is fresh. */
export async function report() {
  const tab = window.open("about:blank", "_blank");
  if (tab) tab.opener = null;
  try {
    const { url } = await api.post("/api/report", { language: current() });
    if (tab) tab.location.replace(url); else location.assign(url);
  } catch (error) {
    tab?.close();
    dialog(t("report"), [el("p", { class: "problem", role: "alert", text: error.message || t("gone") })], { slim: true });
  }
}
