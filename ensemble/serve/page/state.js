// What the page knows: the run, the conversation that is open, who is pinned.

import { t } from "./texts.js";

export const state = {
  run: null,        // /api/run
  thread: null,     // id of the open conversation; it is kept on the server from its first answer on
  title: "",
  turns: [],        // of that conversation, as the server keeps them
  pin: "",          // model name of who answers, "" lets the router choose
  editing: null,    // number of the turn whose question is being asked anew
  busy: null,       // AbortController of the answer in the making
};

const BASE = { seed: null, model: "base", number: 0, hue: null };

/** Who a seed's expert is; the base for null. */
export function face(seed) {
  if (seed === null || seed === undefined) return { ...BASE, title: t("base") };
  return state.run.seeds.find((one) => one.seed === seed) ?? state.run.experts.find((one) => one.seed === seed)
    ?? { seed, model: seed, title: state.run.titles[seed] ?? seed, number: 0, hue: null };
}

/** Who a pin means. */
export function pinned(model) {
  return model === "base" ? face(null) : state.run.experts.find((one) => one.model === model);
}
