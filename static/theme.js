// Runs before the first paint: a stored choice beats the system's, and `js` tells the stylesheet that scripts run.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  let stored = null;
  try {
    stored = localStorage.getItem("berth.theme");
  } catch {
    // Storage may be switched off; then the system's theme it is.
  }
  apply(stored);

  document.addEventListener("DOMContentLoaded", () => {
    for (const choice of document.querySelectorAll("input[name=theme]")) {
      choice.checked = choice.value === (stored || "system");
      choice.addEventListener("change", () => {
        apply(choice.value);
        try {
          localStorage.setItem("berth.theme", choice.value);
        } catch {
          // The choice then lasts for this page only.
        }
      });
    }
  });
})();
