// Runs before the modules, and without them.
(() => {
  const TRIED = "trunkline-console-tried";

  // Before anything is drawn: the colours that were chosen last time, if the system's are not wanted.
  document.documentElement.dataset.theme = localStorage.getItem("trunkline-theme") ?? "system";

  // A module that does not arrive would leave the page empty: they are asked for once more, then it says so.
  addEventListener(
    "error",
    ({ target }) => {
      if (!(target instanceof HTMLScriptElement)) return;
      if (sessionStorage.getItem(TRIED) === null) {
        sessionStorage.setItem(TRIED, "once");
        location.reload();
      } else {
        sessionStorage.removeItem(TRIED);
        document.getElementById("console").textContent = "The console could not be loaded. Load the page again.";
      }
    },
    true,
  );
  addEventListener("console-begins", () => sessionStorage.removeItem(TRIED));
})();
