// A terminal in the page: a screen, the keys, and the WebSocket between it and a shell.
"use strict";

const COLOURS = ["#2b333b", "#ff7b72", "#5fd38d", "#e3b341", "#6cb6ff", "#d2a8ff", "#56d4dd", "#d7dde4",
  "#71808f", "#ffa198", "#7ee2a8", "#f2cc60", "#9ecbff", "#e2c5ff", "#86e5ec", "#ffffff"];

// xterm's 256 colours: 16 by name, a cube of 6 by 6 by 6, and 24 greys.
function colour(value) {
  if (typeof value === "string") return value;
  if (value < 16) return COLOURS[value];
  if (value >= 232) { const grey = 8 + (value - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
  const level = (part) => (part === 0 ? 0 : 55 + part * 40);
  const cube = value - 16;
  return `rgb(${level(Math.floor(cube / 36))},${level(Math.floor(cube / 6) % 6)},${level(cube % 6)})`;
}

const KEYS = {
  Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Insert: "\x1b[2~", Delete: "\x1b[3~", PageUp: "\x1b[5~",
  PageDown: "\x1b[6~", F1: "\x1bOP", F2: "\x1bOQ", F3: "\x1bOR", F4: "\x1bOS", F5: "\x1b[15~", F6: "\x1b[17~",
  F7: "\x1b[18~", F8: "\x1b[19~", F9: "\x1b[20~", F10: "\x1b[21~", F11: "\x1b[23~", F12: "\x1b[24~",
};
const ARROWS = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D", Home: "H", End: "F" };

class Terminal {
  constructor(place, hello) {
    this.view = document.createElement("div");
    this.view.className = "screen";
    this.view.tabIndex = 0;
    this.view.setAttribute("aria-label", "Terminal");
    place.replaceChildren(this.view);
    const size = this.measure();
    this.screen = new Screen(size.rows, size.columns, (text) => this.send(text));
    this.drawn = false;
    this.view.addEventListener("keydown", (event) => this.key(event));
    this.view.addEventListener("paste", (event) => this.paste(event));
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(place);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/page/terminal`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify({ ...hello, ...this.measure() }));
    this.socket.onmessage = (event) => this.message(event.data);
    this.socket.onclose = () => this.ended("The connection is closed.");
    this.view.focus();
    this.draw();
  }

  close() {
    this.watch.disconnect();
    this.socket.onclose = null;
    this.socket.close();
  }

  // How many characters there is room for.
  measure() {
    const probe = document.createElement("span");
    probe.className = "probe";
    probe.textContent = "M".repeat(100);
    this.view.append(probe);
    const box = probe.getBoundingClientRect();
    const line = parseFloat(getComputedStyle(this.view).lineHeight) || box.height;
    probe.remove();
    const columns = Math.floor((this.view.clientWidth - 2) / (box.width / 100)) || 80;
    const rows = Math.floor(this.view.clientHeight / line) || 24;
    return { rows: Math.max(2, Math.min(rows, 500)), columns: Math.max(10, Math.min(columns, 500)) };
  }

  fit() {
    const size = this.measure();
    if (size.rows === this.screen.rows && size.columns === this.screen.columns) return;
    this.screen.resize(size.rows, size.columns);
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(size));
    this.draw();
  }

  message(data) {
    if (typeof data !== "string") {
      this.screen.write(new Uint8Array(data));
      return this.draw();
    }
    const last = JSON.parse(data);
    return this.ended("error" in last ? last.error : `The shell ended with ${last.exit}.`);
  }

  ended(text) {
    this.socket.onclose = null;
    this.screen.write(new TextEncoder().encode(`\r\n\x1b[0;33m${text.replace(/[\x00-\x1f\x7f]/g, " ")}\x1b[0m\r\n`));
    this.screen.cursorShown = false;
    this.draw();
  }

  send(text) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(new TextEncoder().encode(text));
  }

  key(event) {
    const text = this.textOf(event);
    if (text === null) return;
    event.preventDefault();
    event.stopPropagation();
    this.send(text);
    this.view.scrollTop = this.view.scrollHeight;
  }

  textOf(event) {
    const { key, ctrlKey, altKey, metaKey, shiftKey } = event;
    if (metaKey || event.isComposing) return null;
    // The browser's own: copy, paste.
    if (ctrlKey && shiftKey && /^[cv]$/i.test(key)) return null;
    if (key in ARROWS) {
      const modified = 1 + (shiftKey ? 1 : 0) + (altKey ? 2 : 0) + (ctrlKey ? 4 : 0);
      if (modified > 1) return `\x1b[1;${modified}${ARROWS[key]}`;
      return (this.screen.applicationKeys ? "\x1bO" : "\x1b[") + ARROWS[key];
    }
    if (key === "Tab" && shiftKey) return "\x1b[Z";
    if (key in KEYS) return (altKey ? "\x1b" : "") + KEYS[key];
    if ([...key].length !== 1) return null;
    if (!ctrlKey) return (altKey ? "\x1b" : "") + key;
    if (key === " ") return "\0";
    const code = key.toUpperCase().charCodeAt(0);
    return code >= 0x40 && code < 0x60 ? (altKey ? "\x1b" : "") + String.fromCharCode(code & 31) : null;
  }

  paste(event) {
    event.preventDefault();
    // Without what could end the brackets from inside.
    const text = event.clipboardData.getData("text").replace(/\r?\n/g, "\r").replaceAll("\x1b", "");
    this.send(this.screen.bracketedPaste ? `\x1b[200~${text}\x1b[201~` : text);
  }

  // Draws all of it, once for all that came since the last time.
  draw() {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      const { screen, view } = this;
      const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 4;
      const lines = screen.other ? screen.lines : [...screen.scrolled, ...screen.lines];
      const cursor = screen.cursorShown ? lines.length - screen.rows + screen.row : -1;
      view.replaceChildren(...lines.map((line, at) => row(line, at === cursor ? screen.column : -1)));
      if (atEnd) view.scrollTop = view.scrollHeight;
    });
  }
}

// A line as an element: characters of one style together.
function row(line, cursor) {
  const element = document.createElement("div");
  let at = 0;
  while (at < line.length) {
    const { style } = line[at];
    let text = "";
    const from = at;
    do {
      text += line[at].text;
      at += 1;
    } while (at < line.length && line[at].style === style && at !== cursor && from !== cursor);
    const part = document.createElement("span");
    part.textContent = text;
    if (style) dress(part, style);
    if (from === cursor) part.classList.add("cursor");
    element.append(part);
  }
  return element;
}

function dress(part, style) {
  for (const name of ["bold", "faint", "italic", "underline", "struck"]) if (style[name]) part.classList.add(name);
  let fore = style.fore === undefined ? null : colour(style.fore);
  let back = style.back === undefined ? null : colour(style.back);
  if (style.inverse) [fore, back] = [back || "#10151a", fore || "#d7dde4"];
  if (fore) part.style.color = fore;
  if (back) part.style.backgroundColor = back;
}
