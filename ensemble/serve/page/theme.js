// Before anything is drawn, so that a dark page does not flash in white.
const wanted = localStorage.getItem("rostok.theme");
if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;
