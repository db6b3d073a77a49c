// What HTML cannot do for forms: send once, show the choice in the launch strip, ask in a dialog instead of on a page.

// -- once: the second click of a double click, and Enter after it, do nothing. The server's launch key is the real guard.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  // After this event, or the button's own name would be missing from what is sent.
  setTimeout(() => {
    for (const button of form.querySelectorAll("button[type=submit]")) button.disabled = true;
  });
});

// A page that comes back from the browser's memory holds a used launch key, disabled buttons and old states.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// -- the launch strip reads what the folded fields say
const launch = document.querySelector("#launch:has([data-readout])");
const show = () => {
  for (const place of launch.querySelectorAll("[data-shows]")) {
    const field = launch.elements[place.dataset.shows];
    const chosen = field instanceof RadioNodeList ? [...field].find((radio) => radio.checked) : field;
    const text = chosen?.dataset?.label ?? chosen?.value ?? "";
    if (text) place.textContent = text;
  }
  for (const tag of launch.querySelectorAll("[data-with-gpus]")) tag.hidden = launch.elements.gpus.value === "0";
};
if (launch) {
  launch.addEventListener("input", show);
  // Whatever keeps a form from being sent must be seen: a folded field cannot show the browser's complaint.
  launch.addEventListener("invalid", () => launch.querySelector("details")?.setAttribute("open", ""), true);
}

// -- questions come into a dialog; without this script the same link opens them as a page
const dialog = document.querySelector("#dialog");
if (dialog) {
  document.addEventListener("htmx:after:swap", () => {
    if (dialog.childElementCount && !dialog.open) dialog.showModal();
  });
  // A question that cannot be asked here, since its workspace is gone or nobody answers, is asked as a page.
  for (const trouble of ["htmx:after:request", "htmx:error"]) {
    document.addEventListener(trouble, (event) => {
      const { ctx } = event.detail;
      if (ctx?.target !== dialog || (trouble === "htmx:after:request" && ctx.response.status < 400)) return;
      event.preventDefault();
      location.assign(ctx.sourceElement.href);
    });
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => dialog.replaceChildren());
}
