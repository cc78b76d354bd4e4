// The one dialog: what it shows, and how it ends.

import { $ } from "./dom.js";

let ending = () => {};

export function begin() {
  $("#dialog-close").addEventListener("click", () => $("#dialog").close());
  $("#dialog").addEventListener("close", () => {
    if ($("#dialog").open) return;  // the event comes late: another one is open already
    ending();
    ending = () => {};
    $("#dialog-body").replaceChildren();
  });
  $("#dialog").addEventListener("click", (event) => { if (event.target === $("#dialog")) $("#dialog").close(); });
}

export function dialog(title, content, { slim = false, onClose = () => {} } = {}) {
  ending();
  ending = onClose;
  $("#dialog-title").textContent = title;
  $("#dialog-body").replaceChildren(...content);
  $("#dialog-body").scrollTop = 0;
  $("#dialog").classList.toggle("slim", slim);
  if (!$("#dialog").open) $("#dialog").showModal();
}

export const isOpen = () => $("#dialog").open;
