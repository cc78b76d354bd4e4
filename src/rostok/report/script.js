// Pointing at a seed anywhere dims all others everywhere. Without this script the page only lacks that.
(() => {
  const all = [...document.querySelectorAll("[data-seed]")];
  const show = (event) => {
    const found = event.target.closest?.("[data-seed]");
    document.body.classList.toggle("pointing", Boolean(found));
    for (const part of all) part.classList.toggle("on", Boolean(found) && part.dataset.seed === found.dataset.seed);
  };
  for (const name of ["pointerover", "focusin"]) document.addEventListener(name, show);
})();
