// Everything the mouse can do, from the keyboard.

import { $, el } from "./dom.js";
import * as chat from "./chat.js";
import { compare } from "./compare.js";
import * as box from "./dialog.js";
import * as reading from "./reading.js";
import * as shelf from "./shelf.js";
import { state } from "./state.js";
import { t } from "./texts.js";
import * as why from "./why.js";

const OFF = "rostok.keys";  // single keys can be switched off, since they get in the way of voice control

export function begin({ theme }) {
  const single = {
    "/": () => $("#question").focus(), "n": () => $("#new").click(), "s": () => { shelf.show(true); $("#search").focus(); },
    "w": () => why.toggle(state.turns.length && state.turns.at(-1).answer ? chat.reasons(state.turns.at(-1)) : null),
    "c": () => compare($("#question").value.trim() || state.turns.at(-1)?.question), "r": chat.again,
    "e": () => { if (state.turns.length && !state.busy) chat.edit(state.turns.length - 1); }, "b": () => chat.branch(),
    "p": () => $("#pin").focus(), "j": () => move(1), "k": () => move(-1), "d": reading.seeds, "m": reading.notes,
    "x": reading.exports, "o": reading.report, "t": theme, "?": help,
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { escape(event); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || box.isOpen()) return;
    if (event.target.closest("input, textarea, select")?.checkVisibility() || localStorage.getItem(OFF)) return;
    const does = single[event.key];
    if (does) { event.preventDefault(); does(); }
  });
}

function escape(event) {
  if (box.isOpen()) return;  // the dialog closes itself
  if (state.busy) chat.stop();
  else if (state.editing !== null) { $("#question").value = ""; chat.grow(); chat.edit(null); }
  else if (shelf.isOut()) shelf.show(false);
  else if (why.isOpen()) why.close();
  else if (event.target.closest("input, textarea, select")) event.target.blur();
  else return;
  event.preventDefault();
}

function move(step) {
  const all = chat.answers(), at = all.indexOf(document.activeElement?.closest(".answered"));
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + step))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

const LIST = [["/", "k_ask"], ["Enter", "k_send"], ["Shift+Enter", "k_line"], ["Esc", "k_stop"], ["n", "k_new"], ["s", "k_search"], ["w", "k_why"],
  ["c", "k_compare"], ["r", "k_again"], ["e", "k_edit"], ["b", "k_branch"], ["p", "k_pin"], ["j k", "k_move"], ["d", "k_seeds"], ["m", "k_notes"],
  ["x", "k_export"], ["o", "k_report"], ["t", "k_theme"], ["?", "k_help"]];

export function help() {
  const check = el("input", { type: "checkbox", checked: !localStorage.getItem(OFF) });
  check.addEventListener("change", () => { if (check.checked) localStorage.removeItem(OFF); else localStorage.setItem(OFF, "off"); });
  box.dialog(t("shortcuts"), [
    el("dl", { class: "keys" }, ...LIST.map(([keys, what]) => el("div", {}, el("dt", {}, ...keys.split(" ").map((key) => el("kbd", { text: key }))),
      el("dd", { text: t(what) })))),
    el("label", { class: "check" }, check, el("span", { text: t("keys_on") }))]);
}
