// The page: which sandboxes there are, what they use, what they write, and a shell in one of them. What comes from a sandbox
// becomes text (textContent), never anything else.
"use strict";

const EVERY = 2000; // Milliseconds between two looks.
const ROOM = 150; // Values that are kept for a plot: five minutes.
const KEPT_LINES = 5000;

const $ = (id) => document.getElementById(id);
const sandboxes = new Map(); // By "namespace/name": what the server said last, and its history.
let chosen = location.hash.slice(1) || null;
let key = sessionStorage.getItem("key");
let terminal = null;
let log = null; // The log that is shown: { of, next }.

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

class Locked extends Error {}

async function answered(response) {
  if (response.status === 401) throw new Locked("This key opens nothing here.");
  const answer = await response.json();
  if (typeof answer.error === "string") throw new Error(answer.error);
  if (answer.error) throw new Error(answer.error.message);
  return answer;
}

async function call(method, params) {
  const body = JSON.stringify({ jsonrpc: "2.0", method, params, id: 1 });
  const request = { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body };
  return (await answered(await fetch("/api/v1/rpc", request))).result;
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
}

function ask(error) {
  const dialog = $("ask");
  if (dialog.open) return;
  if (key) trouble(error);
  dialog.showModal();
}

$("ask").addEventListener("close", () => {
  key = $("key").value.trim() || null;
  $("key").value = "";
  if (key) sessionStorage.setItem("key", key);
  trouble(null);
  look();
});

$("forget").addEventListener("click", () => {
  sessionStorage.removeItem("key");
  location.reload();
});

async function look() {
  try {
    const { sandboxes: found } = await call("sandbox.metrics.get", { namespace: "*" });
    trouble(null);
    note(found);
    list();
    detail();
    await readLog();
  } catch (error) {
    if (error instanceof Locked) return ask(error);
    trouble(error instanceof TypeError ? new Error("The server does not answer.") : error);
  }
  return undefined;
}

function note(found) {
  const seen = new Set();
  for (const now of found) {
    const id = `${now.namespace}/${now.name}`;
    seen.add(id);
    const known = sandboxes.get(id) || { cpu: [], memory: [] };
    known.now = now;
    known.cpu.push(now.running ? now.cpu_usage : null);
    known.memory.push(now.running ? now.memory_usage : null);
    for (const values of [known.cpu, known.memory]) if (values.length > ROOM) values.shift();
    sandboxes.set(id, known);
  }
  for (const id of sandboxes.keys()) if (!seen.has(id)) sandboxes.delete(id);
}

function cell(text, kind) {
  const element = document.createElement("td");
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

const percent = (value) => (value === null ? "–" : `${value.toFixed(0)} %`);
const mebibytes = (value) => (value === null ? "–" : `${value} MiB`);
function bytes(value) {
  if (value === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value.toFixed(at && value < 10 ? 1 : 0)} ${units[at]}`;
}

function list() {
  const focused = document.activeElement && document.activeElement.dataset.id;
  const rows = [...sandboxes].map(([id, { now }]) => {
    const row = document.createElement("tr");
    row.setAttribute("aria-selected", String(id === chosen));
    const name = document.createElement("td");
    const button = document.createElement("button");
    button.textContent = now.name;
    button.dataset.id = id;
    const namespace = document.createElement("small");
    namespace.textContent = ` ${now.namespace}`;
    name.append(button, namespace);
    const state = now.running ? "running" : "stopped";
    row.append(name, cell(state, state), cell(percent(now.cpu_usage), "number"), cell(mebibytes(now.memory_usage), "number"), cell(bytes(now.disk_usage), "number"));
    row.addEventListener("click", () => choose(id));
    return row;
  });
  $("list").replaceChildren(...rows);
  if (focused) for (const button of $("list").querySelectorAll("button")) if (button.dataset.id === focused) button.focus();
  const running = [...sandboxes.values()].filter(({ now }) => now.running).length;
  $("summary").textContent = `${sandboxes.size} ${sandboxes.size === 1 ? "sandbox" : "sandboxes"}, ${running} running`;
  $("none").hidden = sandboxes.size > 0;
  $("forget").hidden = !key;
}

function detail() {
  const known = sandboxes.get(chosen);
  $("one").hidden = !known;
  if (!known) return;
  const { now } = known;
  $("name").textContent = chosen;
  $("state").textContent = now.running ? "running" : "stopped";
  $("state").className = now.running ? "running" : "stopped";
  $("start").disabled = now.running;
  $("stop").disabled = !now.running;
  $("cpu").textContent = percent(now.cpu_usage);
  $("memory").textContent = mebibytes(now.memory_usage);
  plot($("plot-cpu"), known.cpu, ROOM, 100);
  plot($("plot-memory"), known.memory, ROOM, 50);
}

function choose(id) {
  if (id === chosen) return;
  chosen = id;
  history.replaceState(null, "", `#${id}`);
  show("logs");
  list();
  detail();
  readLog().catch(trouble);
}

function of(id) {
  const [namespace, sandbox] = id.split("/");
  return { namespace, sandbox };
}

async function readLog() {
  if (!sandboxes.has(chosen) || $("logs").hidden) return;
  const view = $("logs");
  if (!log || log.of !== chosen) {
    log = { of: chosen, next: null };
    view.replaceChildren();
  }
  const mine = log;
  const query = new URLSearchParams({ ...of(chosen), ...(mine.next === null ? {} : { after: mine.next }) });
  const { lines, next } = await answered(await fetch(`/page/logs?${query}`, { headers: headers() }));
  if (log !== mine) return;
  mine.next = next;
  const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 4;
  for (const line of lines) {
    const row = document.createElement("div");
    const time = document.createElement("time");
    time.textContent = new Date(line.at * 1000).toISOString().slice(11, 19);
    row.append(time, line.text);
    if (line.stderr) row.className = "stderr";
    view.append(row);
  }
  while (view.childElementCount > KEPT_LINES) view.firstElementChild.remove();
  if (atEnd) view.scrollTop = view.scrollHeight;
}

function show(what) {
  const shell = what === "terminal";
  $("logs").hidden = shell;
  $("terminal").hidden = !shell;
  $("show-logs").setAttribute("aria-pressed", String(!shell));
  $("show-terminal").setAttribute("aria-pressed", String(shell));
  if (terminal) terminal.close();
  terminal = null;
  if (shell) terminal = new Terminal($("terminal"), { key, ...of(chosen) });
  else $("terminal").replaceChildren();
}

$("show-logs").addEventListener("click", () => { show("logs"); readLog().catch(trouble); });
$("show-terminal").addEventListener("click", () => show("terminal"));

for (const verb of ["start", "stop"]) {
  $(verb).addEventListener("click", async () => {
    $(verb).disabled = true;
    try {
      await call(`sandbox.${verb}`, of(chosen));
    } catch (error) {
      return trouble(error);
    }
    return look();
  });
}

window.addEventListener("resize", detail);
look();
setInterval(() => { if (!document.hidden) look(); }, EVERY);
