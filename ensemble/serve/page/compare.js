// The base and the nearest experts on one question, side by side as they speak.

import * as api from "./api.js";
import { $, colour, el, fill } from "./dom.js";
import { dialog } from "./dialog.js";
import { face } from "./state.js";
import { number, t } from "./texts.js";

export function compare(question) {
  if (!question) { dialog(t("compare"), [el("p", { text: t("compare_what") })], { slim: true }); return; }
  const lanes = el("div", { class: "lanes" }), stop = new AbortController(), known = new Map();
  dialog(t("compare"), [el("p", { class: "quiet", text: t("compare_text") }), el("blockquote", { text: question }), lanes], { onClose: () => stop.abort() });
  const lane = (who) => {
    if (!known.has(who)) {
      const parts = { name: el("div", { class: "name" }), words: el("div", { class: "words coming" }), cost: el("p", { class: "mark" }) };
      parts.node = el("section", { class: "lane answered" }, parts.name, parts.words, parts.cost);
      parts.words.style.whiteSpace = "pre-wrap";
      known.set(who, parts);
      lanes.replaceChildren(...[...known].sort(([a], [b]) => a - b).map(([, part]) => part.node));
    }
    return known.get(who);
  };
  (async () => {
    try {
      for await (const [kind, data] of api.events("/api/compare", { question, count: 2 }, stop.signal)) {
        const { node, name, words, cost } = lane(data.who);
        if (kind === "begun") {
          const who = face(data.speaker);
          colour(node, who.hue);
          name.replaceChildren(el("span", { class: "badge", "aria-hidden": "true", text: who.number || "·" }), el("span", { text: who.title }));
        } else if (kind === "text") words.append(data.text);
        else {
          words.classList.remove("coming");
          if (kind === "error") { words.textContent = data.error.message; words.classList.add("problem"); continue; }
          words.style.whiteSpace = "";
          fill(words, data.html);
          cost.textContent = `${t("tokens", { n: data.answer.tokens })} · ${t("seconds", { n: number(data.answer.seconds, 1) })}`;
        }
      }
    } catch (error) {
      if (error.name !== "AbortError") lanes.append(el("p", { class: "problem", role: "alert", text: error.message || t("gone") }));
    }
  })();
  $("#dialog").focus();
}
