// The conversation: questions, answers as they come, and what can be done with each.

import * as api from "./api.js";
import { $, button, colour, el, fill, say } from "./dom.js";
import { face, pinned, state } from "./state.js";
import { number, t } from "./texts.js";
import * as shelf from "./shelf.js";
import * as why from "./why.js";
import { compare } from "./compare.js";

/** Draw the open conversation anew. */
export function draw() {
  $("#log").replaceChildren(...state.turns.flatMap((turn, place) => [asked(turn.question, place), answered(turn, place)]));
  $("#empty").hidden = state.turns.length > 0 || state.busy !== null;
  buttons();
  $("#title").textContent = state.title || t("untitled");
  document.title = state.title ? `${state.title} · Rostok` : `Rostok · ${state.run.name}`;
}

/** Open a conversation of the server's; null begins a new one. */
export async function open(thread, turn) {
  leave();
  edit(null);
  const one = thread ? await api.get(`/api/conversations/${encodeURIComponent(thread)}`) : { id: null, title: "", said: [] };
  Object.assign(state, { thread: one.id, title: one.title, turns: one.said });
  history.replaceState(null, "", one.id ? `#c=${one.id}` : location.pathname);
  why.close();
  draw();
  shelf.draw();
  const found = turn && state.turns.findIndex((known) => known.id === turn);
  if (found >= 0 && turn) answers()[found]?.scrollIntoView({ block: "center" });
  else bottom();
  if (!matchMedia("(max-width: 760px)").matches) $("#question").focus();
}

/** Go away from an answer in the making: the server stops it, and keeps what was said. */
function leave() {
  state.busy?.abort();
  state.busy = null;
  buttons();
}

/** Send what stands in the field. */
export async function send() {
  const question = $("#question").value.trim();
  if (!question || state.busy) return;
  const place = state.editing, last = place !== null && place === state.turns.length - 1;
  $("#question").value = "";
  grow();
  edit(null);
  if (last) state.turns.pop();  // replaced on the server in the same step as the new answer is kept
  else if (place !== null) {    // an earlier question: a conversation of its own
    state.thread = place > 0 ? (await api.post(`/api/conversations/${state.thread}/fork`, { upto: place })).thread : null;
    state.turns = state.turns.slice(0, place);
  }
  draw();
  await ask(question, last);
}

export async function again() {
  if (state.busy || !state.turns.length) return;
  const last = state.turns.pop();
  draw();
  await ask(last.question, true);
}

/** Ask; `replaces`: the new turn takes the place of the last one. */
async function ask(question, replaces) {
  const mine = state.busy = new AbortController();
  $("#empty").hidden = true;
  const place = state.turns.length;
  const words = el("div", { class: "words coming" }), text = document.createTextNode(""), name = el("div", { class: "name" },
    el("span", { text: t("thinking") }));
  const item = colour(el("li", { class: "answered fresh" }, name, words), null);
  words.append(text);
  $("#log").append(asked(question, place), item);
  bottom();
  buttons();
  try {
    const thread = state.thread ?? (await api.post("/api/conversations")).thread;
    if (state.busy !== mine) return;  // another conversation was opened meanwhile
    state.thread = thread;
    history.replaceState(null, "", `#c=${state.thread}`);
    const body = { question, again: replaces };
    if (state.pin) body.pin = state.pin;
    let answer = null, html = "";
    for await (const [kind, data] of api.events(`/api/conversations/${thread}/ask`, body, mine.signal)) {
      if (state.busy !== mine) return;
      if (kind === "begun") {
        const who = face(data.speaker);
        colour(item, who.hue);
        name.replaceChildren(...called(who, data.route.score));
        say(t("answers", { title: who.title }));
        if (why.isOpen()) why.show({ question, answer: null, route: data.route, speaker: data.speaker, place: data.place });
      } else if (kind === "text") {
        const near = isNear();
        text.appendData(data.text);
        if (near) bottom();
      } else if (kind === "error") throw new api.Failure(500, data.error.message);
      else if (kind === "done") ({ answer, html } = data);
    }
    if (answer === null) throw new api.Failure(0, "");
    if (replaces && answer.finish === "stopped" && !answer.text) state.turns = (await api.get(`/api/conversations/${thread}`)).said;  // the old one stays
    else state.turns.push({ id: answer.id, number: place, question, text: answer.text, speaker: answer.title, answer, html });
    if (!state.title) state.title = question.slice(0, 60);
    state.busy = null;
    const near = isNear();
    draw();
    if (near) bottom();
    say(t("answered", { title: face(answer.seed).title, text: answer.text }));
    if (why.isOpen()) why.show(reasons(state.turns[place]));
  } catch (error) {
    if (error.name === "AbortError" || (state.busy !== null && state.busy !== mine)) return;
    state.busy = null;
    words.classList.remove("coming");
    const told = error.status ? error.message : t(text.length ? "lost" : "gone");
    item.append(el("p", { class: "problem", role: "alert", text: told }),
      el("div", { class: "acts" }, button("again", t("retry"), () => { item.previousSibling.remove(); item.remove(); retry(question, replaces); })));
  } finally {
    if (state.busy === mine) state.busy = null;
    buttons();
    shelf.draw().catch(() => {});
  }
}

/** Ask again after a failure. What was kept of the broken answer is replaced, and so is the turn that it was to replace. */
async function retry(question, replaces) {
  const nothing = { said: [] };
  const kept = !state.thread ? nothing : await api.get(`/api/conversations/${encodeURIComponent(state.thread)}`)
    .catch((error) => (error.status === 404 ? nothing : null));
  let over = replaces;
  if (kept) {  // else the server still does not answer, as asking will show
    state.turns = kept.said;
    over = state.turns.length > 0 && (replaces || state.turns.at(-1).question === question);
    if (over) state.turns.pop();
  }
  draw();
  await ask(question, over);
}

/** Stop the answer in the making; what was said is kept. */
export async function stop() {
  if (!state.busy || !state.thread) return;
  const busy = state.busy;
  $("#stop").disabled = true;
  try {
    for (let tries = 0; state.busy === busy && tries < 30; tries++) {  // it may not have begun yet
      if ((await api.post(`/api/conversations/${state.thread}/stop`)).stopped) break;
      await new Promise((wake) => { setTimeout(wake, 100); });
    }
  } catch {
    busy.abort();
  } finally {
    $("#stop").disabled = false;
  }
}

/** Ask a question anew: put it into the field; null forgets about it. */
export function edit(place) {
  state.editing = place;
  if (place !== null) {
    $("#question").value = state.turns[place].question;
    grow();
    $("#question").focus();
  }
  told();
}

/** The line above the field: an edit, or a pin. */
export function told() {
  const line = $("#state"), who = state.pin ? pinned(state.pin) : null;
  line.hidden = state.editing === null && !who;
  if (state.editing !== null) {
    const last = state.editing === state.turns.length - 1;
    line.replaceChildren(el("span", { text: t(last ? "editing" : "editing_branch") }), el("button", {
      type: "button", text: t("cancel"), on: { click: () => { $("#question").value = ""; grow(); edit(null); } } }));
  } else if (who) {
    line.replaceChildren(el("span", { text: t("pinned_state", { title: who.title }) }), el("button", {
      type: "button", text: t("unpin"), on: { click: () => pin("") } }));
  }
}

/** Who answers from now on; "" is whoever is nearest. */
export function pin(model) {
  state.pin = model;
  $("#pin").value = model;
  const who = model ? pinned(model) : null, label = $("#pin").closest(".pin");
  label.classList.toggle("set", Boolean(who));
  if (who) colour(label, who.hue);
  told();
  if (!state.busy) draw();
}

/** Make the field as high as its text. */
export function grow() {
  const field = $("#question");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
  buttons();
}

export function buttons() {
  const busy = state.busy !== null;
  $("#stop").hidden = !busy;
  $("#send").hidden = busy;
  $("#send").disabled = !$("#question").value.trim();
}

export const answers = () => [...document.querySelectorAll("#log .answered")];

export const reasons = (turn) => ({ question: turn.question, answer: turn.answer, route: turn.answer?.route, speaker: turn.answer?.seed ?? null });

export function explain(turn = state.turns.at(-1)) {
  if (turn?.answer) why.show(reasons(turn));
}

// ── one turn ──────────────────────────────────────────────────────────────────────────────────────────────────

function asked(question, place) {
  return el("li", { class: "asked" }, el("span", { class: "unseen", text: `${t("you")}: ` }), el("div", { class: "words", text: question }),
    el("div", { class: "acts" }, button("edit", t("edit"), () => { if (!state.busy) edit(place); })));
}

function answered(turn, place) {
  const answer = turn.answer, who = answer ? face(answer.seed) : { ...face(null), title: turn.speaker || t("base") };
  const words = fill(el("div", { class: "words" }), turn.html);
  const item = el("li", { class: "answered", hue: who.hue, tabindex: -1 }, el("div", { class: "name" }, ...called(who, answer?.route.score)), words);
  if (answer?.finish === "stopped") item.append(el("p", { class: "mark", text: t("stopped") }));
  if (answer?.finish === "length") item.append(el("p", { class: "mark", text: t("cut") }));
  if (answer?.note) item.append(el("p", { class: "mark", text: t("note_spoke", { note: answer.note }) }));
  const last = place === state.turns.length - 1, model = answer?.seed ? who.model : "base";
  item.append(el("div", { class: "acts" },
    answer && button("why", t("why"), () => explain(turn)),
    last && button("again", t("again"), again),
    button("compare", t("compare"), () => compare(turn.question)),
    button("branch", t("branch"), () => branch(place)),
    button("pin", t(state.pin === model ? "unpin" : "pin_this"), () => pin(state.pin === model ? "" : model), { "aria-pressed": String(state.pin === model) }),
    navigator.clipboard && button("copy", t("copy"), async () => { await navigator.clipboard.writeText(turn.text); say(t("copied")); })));
  return item;
}

export function called(who, score) {
  return [badge(who), el("span", { text: who.title }), score !== undefined && who.seed ? el("span", { class: "near", text: number(score) }) : null].filter(Boolean);
}

export const badge = (who) => el("span", { class: "badge", "aria-hidden": "true", hue: who.hue, text: who.number || "·" });

/** A conversation of its own that begins as this one did, up to an answer. */
export async function branch(place = state.turns.length - 1) {
  if (place < 0 || state.busy) return;
  const { thread } = await api.post(`/api/conversations/${state.thread}/fork`, { upto: place + 1 });
  await open(thread);
}

/** What a new conversation shows: who listens, and what could be asked. */
export function drawEmpty() {
  const some = state.run.experts.slice(0, 4);
  $("#empty").replaceChildren(
    el("svg", { class: "sprout", "aria-hidden": "true" }, el("use", { href: "#i-sprout" })), el("h2", { text: t("empty_title") }),
    el("p", { text: t("empty_text", { n: state.run.experts.length }) }),
    el("div", { class: "starters" }, ...some.map((who) => {
      const question = t("starter", { node: state.run.starters[who.seed] });
      return state.run.starters[who.seed] && el("button", { type: "button", hue: who.hue, on: { click: () => { $("#question").value = question; send(); } } },
        el("b", { text: who.title }), el("span", { text: question }));
    })),
    ...(state.run.skipped.length ? [el("p", { class: "mark", text: `${t("skipped")}: ${state.run.skipped.join(" ")}` })] : []));
}

const isNear = () => { const box = $("#scroll"); return box.scrollHeight - box.scrollTop - box.clientHeight < 120; };
const bottom = () => { const box = $("#scroll"); box.scrollTop = box.scrollHeight; };
