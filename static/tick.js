// Counts seconds between two answers of the server. Each element says how many seconds it showed when it was rendered
// (data-elapsed counts up, data-remaining down); only differences of this browser's clock are used, never its date.

const bases = new WeakMap();

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
}

function tick() {
  const now = performance.now();
  for (const element of document.querySelectorAll("[data-elapsed], [data-remaining]")) {
    const up = element.hasAttribute("data-elapsed");
    const given = up ? element.dataset.elapsed : element.dataset.remaining;
    const tag = `${given}@${element.dataset.at ?? ""}`;
    let base = bases.get(element);
    if (!base || base.tag !== tag) {
      base = { tag, at: now, seconds: Number(given) };
      bases.set(element, base);
    }
    const passed = (now - base.at) / 1000;
    const text = duration(up ? base.seconds + passed : base.seconds - passed);
    if (element.textContent !== text) element.textContent = text;
  }
}

tick();
setInterval(tick, 500);
document.addEventListener("htmx:after:swap", tick);
