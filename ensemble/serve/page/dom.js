// Elements without strings of HTML. The one place that takes HTML takes the server's, which was sanitised there last.

const policy = window.trustedTypes?.createPolicy("rostok", { createHTML: (html) => html });

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element: props are attributes, but for `text`, `on` ({event: function}) and `hue` (an expert's colour; null: the base). */
export function el(name, props = {}, ...children) {
  const svg = SVG.has(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "on") for (const [event, does] of Object.entries(value)) node.addEventListener(event, does);
    else if (key === "hue") colour(node, value);
    else if (key === "width%") node.style.setProperty("--share", `${value}%`);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = new Set(["svg", "path", "circle", "line", "g", "use", "text", "title", "rect"]);

export function colour(node, hue) {
  if (hue === null || hue === undefined) node.classList.add("of-base");
  else { node.classList.remove("of-base"); node.style.setProperty("--hue", hue); }
  return node;
}

export const icon = (name) => el("svg", { "aria-hidden": "true" }, el("use", { href: `#i-${name}` }));

export function button(name, text, does, props = {}) {
  return el("button", { type: "button", ...props, on: { click: does } }, icon(name), el("span", { text }));
}

/** Put the server's sanitised HTML into a node. */
export function fill(node, html) {
  node.innerHTML = policy ? policy.createHTML(html) : html;
  return node;
}

/** Say something to screen readers. */
export function say(text) { $("#live").textContent = text; }
