// The panel that tells why: how near, who voted, where the question lies among the seeds, what was read, what it cost.

import * as api from "./api.js";
import { $, colour, el } from "./dom.js";
import { face, state } from "./state.js";
import { number, t } from "./texts.js";

let shown = null, before = null;

export const isOpen = () => !$("#why").hidden;

export function close() {
  if (!isOpen()) return;
  $("#why").hidden = true;
  $("#app").classList.remove("explained");
  shown = null;
  before?.focus?.();
}

export function toggle(reasons) {
  if (isOpen()) close();
  else if (reasons) show(reasons);
}

export function redraw() { if (shown) show(shown); }

/** Show reasons: {question, route, speaker, answer or null while it is being made, place on the map or nothing}. */
export async function show(reasons) {
  if (!isOpen()) before = document.activeElement;
  shown = reasons;
  const { question, route, answer, speaker } = reasons, who = face(speaker);
  colour($("#why"), who.hue);
  $("#why-title").textContent = t("why_who", { title: who.title });
  const map = el("div");
  $("#why-body").replaceChildren(
    el("p", { text: opinion(route) }), gauge(route),
    el("h3", { text: t("votes") }), votes(route),
    el("h3", { text: t("map") }), map,
    ...(answer ? [el("h3", { text: t("read") }), ...memories(answer)] : []),
    el("h3", { text: t("nearest") }), texts(route),
    ...(answer ? [el("h3", { text: t("cost") }), cost(answer)] : []));
  $("#why").hidden = false;
  $("#app").classList.add("explained");
  reasons.place ??= await api.post("/api/route", { question }).then((told) => told.place).catch(() => null);
  if (shown === reasons) map.replaceChildren(picture(route, reasons.place));
}

function opinion(route) {
  const values = { score: number(route.score), threshold: number(route.threshold), strategy: route.strategy };
  const other = { nearest: "", evidence: "_evidence" }[route.strategy] ?? "_other";  // the others' scores have scales of their own
  return t(route.pinned ? "by_hand" : `${route.seed === null ? "far" : "near"}${other}`, values);
}

function gauge(route) {
  const whole = Math.max(1, route.score, route.threshold), share = (value) => Math.round(100 * Math.max(0, value / whole));
  return el("div", { class: "gauge", role: "img", "aria-label": opinion(route) }, el("i", { "width%": share(route.score), hue: face(best(route)).hue }),
    el("b", { "width%": share(route.threshold) }), el("span", { "width%": share(route.threshold), text: number(route.threshold) }));
}

const best = (route) => route.seed ?? Object.keys(route.scores)[0] ?? null;

function votes(route) {
  const all = Object.entries(route.scores).slice(0, 12), sum = all.reduce((whole, [, weight]) => whole + weight, 0), total = Math.max(1, sum);
  if (sum < 0.995) all.push(["", 1 - sum]);  // what is nobody's is the base's
  all.sort(([, one], [, other]) => other - one);
  return el("ol", { class: "votes" }, ...all.slice(0, 6).filter(([, weight], place) => !place || weight / total >= 0.005).map(([seed, weight]) => {
    const who = face(seed || null), percent = Math.round((100 * weight) / total);
    return el("li", { hue: who.hue }, el("span", { class: "badge", "aria-hidden": "true", text: who.number || "·" }), el("b", { text: who.title, title: who.title }),
      el("small", { text: `${percent} %` }), el("span", { class: "bar" }, el("i", { "width%": percent })));
  }));
}

const kinds = { seed: "seed_kind", node: "node_kind" };

function texts(route) {
  return el("ul", { class: "texts" }, ...route.neighbours.slice(0, 6).map((one) => {
    const who = face(one.seed);
    return el("li", { hue: who.hue }, el("small", { text: `${number(one.similarity)} · ${who.title} · ${t(kinds[one.kind] ?? "page_kind")}` }), one.label);
  }));
}

function memories(answer) {
  if (!answer.memories.length) return [el("p", { class: "quiet", text: t("read_none") })];
  return answer.memories.map((one) => el("details", { class: "memory" },
    el("summary", { text: t("read_of", { source: one.source, score: number(one.similarity) }) }), el("blockquote", { text: one.text })));
}

function cost(answer) {
  const together = answer.experts.length > 1 ? [t("together", { titles: answer.experts.map((seed) => face(seed).title).join(", ") })] : [];
  const facts = [t("tokens", { n: answer.tokens }), t("prompt_tokens", { n: answer.prompt_tokens }), t("seconds", { n: number(answer.seconds, 1) }), ...together];
  return el("p", { class: "facts" }, ...facts.map((text) => el("span", { text })));
}

// ── the map ───────────────────────────────────────────────────────────────────────────────────────────────────

const WIDTH = 320, HEIGHT = 240, PAD = 22;

function picture(route, place) {
  const seeds = state.run.seeds.filter((one) => one.place);
  if (!seeds.length) return el("p", { class: "quiet", text: "—" });
  const points = [...seeds.map((one) => one.place), ...state.run.pages.map(([, x, y]) => [x, y]), ...(place ? [place] : [])];
  const xs = points.map((one) => one[0]), ys = points.map((one) => one[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((WIDTH - 2 * PAD) / (right - left || 1), (HEIGHT - 2 * PAD) / (high - low || 1));
  const at = ([x, y]) => [WIDTH / 2 + (x - (left + right) / 2) * scale, HEIGHT / 2 - (y - (low + high) / 2) * scale];
  const total = Object.values(route.scores).reduce((sum, weight) => sum + weight, 0) || 1;
  const dots = new Map();
  for (const [seed, x, y] of state.run.pages) {
    const [px, py] = at([x, y]);
    dots.set(seed, `${dots.get(seed) ?? ""}M${px.toFixed(1)} ${py.toFixed(1)}h.01`);
  }
  const nearest = face(best(route)).title;
  const drawing = el("svg", { class: "map", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": t("map_text", { title: nearest }) });
  for (const [seed, path] of dots) drawing.append(el("path", { class: "dots", d: path, hue: face(seed).hue }));
  const here = place ? at(place) : null, top = Object.keys(route.scores);
  for (const one of here ? top.slice(0, 3) : []) {
    const seed = seeds.find((known) => known.seed === one);
    if (!seed) continue;
    const [x, y] = at(seed.place);
    drawing.append(el("line", { class: "ray", x1: here[0], y1: here[1], x2: x, y2: y, opacity: 0.2 + 0.6 * (route.scores[one] / total) }));
  }
  for (const one of seeds) {
    const [x, y] = at(one.place), weight = (route.scores[one.seed] ?? 0) / total;
    drawing.append(el("circle", { class: "seed", hue: one.hue, cx: x, cy: y, r: 4 + 8 * Math.sqrt(weight) }, el("title", { text: one.title })));
  }
  for (const one of seeds.filter((known) => seeds.length <= 6 || top.slice(0, 3).includes(known.seed))) {
    const [x, y] = at(one.place), text = one.title.length > 30 ? `${one.title.slice(0, 29)}…` : one.title, half = text.length * 2.6;
    drawing.append(el("text", { x: Math.max(half + 3, Math.min(WIDTH - half - 3, x)), y: y > HEIGHT - 26 ? y - 15 : y + 21, text }));
  }
  if (here) {
    drawing.append(el("circle", { class: "here", cx: here[0], cy: here[1], r: 5 }, el("title", { text: t("question_here") })),
      el("circle", { class: "here-dot", cx: here[0], cy: here[1], r: 1.6 }));
  }
  return drawing;
}
