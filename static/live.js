// Keeps every [data-live] region as new as the server: a socket says that something changed, htmx fetches the fragment.
// Without a socket it polls; nothing else differs. The page never computes a state itself.

const region = document.querySelector("[data-live]");
const banner = document.querySelector("#stale");
const say = document.querySelector("#say");

const PING = 10_000;          // also how long a silent socket is trusted
const STALE = 15_000;
const POLL = { socket: { busy: 5_000, calm: 30_000 }, alone: { busy: 2_000, calm: 10_000 } };

let socket = null;
let attempt = 0;
let reconnectAt = 0;
let subscribed = "";
let pingAt = 0;
let heardAt = performance.now();   // when the server last answered anything
let fetchedAt = heardAt;           // when the region was last asked for
let fetching = false;
let again = false;                 // something changed while a fetch was under way, or while reading held it up

const now = () => performance.now();
const live = () => socket?.readyState === 1;
const shown = () => document.querySelector("[data-live]") ?? region;

// -- fetching ---------------------------------------------------------------------------------------------------------

/** Never change what is being read or answered: an open question, or selected text inside the region. */
function held() {
  if (document.querySelector("dialog[open]")) return true;
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && shown().contains(selection.anchorNode));
}

function refresh() {
  if (now() - fetchedAt > 20_000) fetching = false;   // a request that never came back holds nobody up
  if (fetching || held()) {
    again = true;
    return;
  }
  again = false;
  fetching = true;
  fetchedAt = now();
  shown().dispatchEvent(new Event("refresh"));
}

/** "12.5" is job 12, fifth change: a later start has a higher job, a later change a higher version. */
function older(a, b) {
  const [jobA, versionA] = a.split(".").map(Number);
  const [jobB, versionB] = b.split(".").map(Number);
  return jobA < jobB || (jobA === jobB && versionA < versionB);
}

document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.sourceElement !== shown()) return;
  ctx.request.headers["If-None-Match"] = `"${shown().dataset.edition}"`;
});

document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.sourceElement !== shown()) return;
  const { status } = ctx.response;
  if (status < 500) heardAt = now();
  if (status === 404) location.reload();   // deleted elsewhere, or no longer ours: the page itself says so
  if (status >= 400) event.preventDefault();
});

document.addEventListener("htmx:before:swap", (event) => {
  const { ctx, tasks } = event.detail;
  if (ctx.sourceElement !== shown()) return;
  const fresh = tasks[0]?.fragment?.querySelector?.("[data-live]");
  const before = shown().dataset.order;
  if (held() || (before && fresh?.dataset.order && older(fresh.dataset.order, before))) {
    again ||= held();
    event.preventDefault();
  }
});

document.addEventListener("htmx:finally:request", (event) => {
  if (!region || event.detail.ctx.sourceElement !== shown()) return;
  fetching = false;
  announce();
  subscribe();
  openWhenReady();
});

// -- what follows a change --------------------------------------------------------------------------------------------

let said = shown()?.dataset.say;

function announce() {
  const { say: text, title } = shown().dataset;
  if (title) document.title = title;
  if (text === said) return;
  said = text;
  if (say) say.textContent = text;
}

/** Whoever launched is waiting for the Lab, not for this page: open it once, and only if somebody is looking. */
function openWhenReady() {
  const here = new URL(location.href);
  if (here.searchParams.get("open") !== "1" || document.visibilityState !== "visible") return;
  const { status } = shown().dataset;
  if (!["ready", "failed", "stopped"].includes(status)) return;
  here.searchParams.delete("open");
  history.replaceState(history.state, "", here);
  if (status === "ready") document.querySelector("form[data-open]")?.requestSubmit();
}

// -- the socket -------------------------------------------------------------------------------------------------------

function connect() {
  reconnectAt = Infinity;
  if (!("WebSocket" in window) || !window.WebSocket) return;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  try {
    socket = new WebSocket(`${scheme}//${location.host}/ws/live`);
  } catch {
    return retryLater();
  }
  socket.addEventListener("open", () => {
    attempt = 0;
    subscribed = "";
    heardAt = now();
    subscribe();
    refresh();               // what happened between the page and the socket
  });
  socket.addEventListener("message", (event) => {
    heardAt = now();
    const message = JSON.parse(event.data);
    if (!message.topic) return;
    const order = shown().dataset.order;
    if (order && message.version && older(`${message.job}.${message.version}`, order)) return;
    setTimeout(refresh, Math.random() * (shown().dataset.pace === "busy" ? 60 : 1500));
  });
  socket.addEventListener("close", (event) => {
    socket = null;
    delete document.documentElement.dataset.socket;
    if (event.code === 4401) refresh();      // logged out: the fragment's answer leads to the log-in page
    else if (event.code !== 4400) retryLater();
  });
}

function retryLater() {
  const longest = Math.min(30_000, 500 * 2 ** attempt++);
  reconnectAt = now() + longest * (0.5 + Math.random() / 2);
}

function subscribe() {
  const { topics } = shown().dataset;
  if (!live() || topics === subscribed) return;
  subscribed = topics;
  document.documentElement.dataset.socket = "open";   // for whoever debugs a page, or tests one
  socket.send(JSON.stringify({ subscribe: topics.split(" ") }));
}

// -- the heartbeat of this page -----------------------------------------------------------------------------------------

function beat() {
  const t = now();
  const silent = t - heardAt;
  if (live() && t - pingAt > PING) {
    pingAt = t;
    socket.send('{"ping":1}');
  }
  if (live() && silent > STALE) socket.close(4000);   // open in name only
  if (!socket && t >= reconnectAt) connect();

  const pace = POLL[live() ? "socket" : "alone"][shown().dataset.pace] ?? 10_000;
  if (document.visibilityState === "visible" && (again || t - fetchedAt > pace)) refresh();

  const stale = silent > STALE && document.visibilityState === "visible";
  banner.hidden = !stale;
  if (stale) {
    const text = `No answer from Berth for ${Math.floor(silent / 5000) * 5} s. What you see may be out of date; trying again.`;
    if (banner.textContent !== text) banner.textContent = text;
  }
}

if (region) {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") return;
    heardAt = Math.max(heardAt, now() - PING);   // a sleeping tab is not a silent server
    refresh();
    openWhenReady();
  });
  document.addEventListener("DOMContentLoaded", openWhenReady);
  openWhenReady();
  connect();
  setInterval(beat, 500);
}
