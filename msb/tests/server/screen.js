// What a screen shows after what was written to it.
"use strict";

const assert = require("assert");
const { Screen } = require(process.argv[2]);

function shows(written, expected, rows = 4, columns = 10) {
  const said = [];
  const screen = new Screen(rows, columns, (text) => said.push(text));
  screen.write(Buffer.from(written));
  const lines = Array.from({ length: rows }, (_, row) => screen.text(row));
  while (lines.length && lines[lines.length - 1] === "") lines.pop();
  assert.deepStrictEqual(lines, expected, JSON.stringify(written));
  screen.said = said;
  return screen;
}

shows("ab\r\ncd", ["ab", "cd"]);
shows("ab\bX", ["aX"]);
shows("a\tb", ["a       b"]);
// A line that is full: the next character wraps, a carriage return does not.
shows("0123456789", ["0123456789"]);
shows("0123456789a", ["0123456789", "a"]);
shows("0123456789\rX", ["X123456789"]);
shows("\x1b[?7l0123456789ab", ["012345678b"]);
// Scrolling, and its region (DECSTBM).
const scrolled = shows("1\r\n2\r\n3\r\n4\r\n5", ["2", "3", "4", "5"]);
assert.deepStrictEqual(scrolled.scrolled.map((line) => line[0].text), ["1"]);
shows("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\nX", ["1", "3", "X", "4"]);
shows("1\r\n2\r\n3\x1b[2;1H\x1bM\x1bM", ["", "1", "2", "3"]);
// Moving and erasing.
shows("\x1b[2;3HX\x1b[AY\x1b[2DZ", ["  ZY", "  X"].map((line, at) => (at === 0 ? "  ZY" : line)));
shows("abcdef\x1b[1;3H\x1b[K", ["ab"]);
shows("abcdef\x1b[1;3H\x1b[1K", ["   def"]);
shows("a\r\nb\r\nc\x1b[2;1H\x1b[J", ["a"]);
shows("a\r\nb\r\nc\x1b[2J", []);
shows("abcdef\x1b[1;2H\x1b[2P", ["adef"]);
shows("abcdef\x1b[1;2H\x1b[2@", ["a  bcdef"]);
shows("abcdef\x1b[1;2H\x1b[2X", ["a  def"]);
shows("a\r\nb\r\nc\x1b[1;1H\x1b[L", ["", "a", "b", "c"]);
shows("a\r\nb\r\nc\x1b[1;1H\x1b[M", ["b", "c"]);
shows("ab\x1b7\x1b[3;3Hx\x1b8c", ["abc", "", "  x"]);
// Out of bounds is the edge.
shows("\x1b[99;99HX\x1b[99A\x1b[99DY", ["Y", "", "", "         X"]);
// A full-screen program leaves what was there.
shows("main\x1b[?1049h\x1b[Hother\x1b[?1049l", ["main"]);
shows("main\x1b[?1049h\x1b[Hother", ["other"]);
// Colours: 16, 256, all.
let screen = shows("\x1b[31;1mr\x1b[38;5;200mp\x1b[48;2;1;2;3mb\x1b[0mn\x1b[93my", ["rpbny"]);
assert.deepStrictEqual(screen.lines[0].slice(0, 5).map((cell) => cell.style && { ...cell.style }), [
  { fore: 1, bold: true }, { fore: 200, bold: true }, { fore: 200, bold: true, back: "#010203" }, null, { fore: 11 },
]);
// What is asked is answered, and nothing else.
assert.deepStrictEqual(shows("ab\x1b[6n\x1b[c", ["ab"]).said, ["\x1b[1;3R", "\x1b[?62;22c"]);
// A title is no text; what never ends is none either; what is broken off is dropped.
screen = shows("\x1b]0;title\x07x\x1b]2;b\x1b\\y", ["xy"]);
assert.strictEqual(screen.title, "b");
shows("\x1b[31\x18x\x1b(By", ["xy"]);
// UTF-8 in pieces, wide and combining characters.
screen = new Screen(2, 4, () => {});
for (const byte of Buffer.from("é日本語")) screen.write(Buffer.from([byte]));
assert.strictEqual(screen.text(0) + "|" + screen.text(1), "é日|本語");
shows("e\u0301x", ["e\u0301x"]);
// Another size keeps what is there, and the cursor.
screen = shows("1\r\n2\r\n3\r\n4", ["1", "2", "3", "4"]);
screen.resize(2, 5);
assert.deepStrictEqual([screen.text(0), screen.text(1), screen.row], ["3", "4", 1]);
screen.resize(6, 20);
assert.strictEqual(screen.lines.length, 6);
assert.ok(screen.lines.every((line) => line.length === 20));
// Nothing that can be written breaks it.
let seed = 1;
const random = (below) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % below; };
const pieces = ["\x1b", "[", "]", "?", ";", "9", "99999", "0", "m", "H", "J", "K", "L", "M", "P", "@", "S", "T", "r", "h", "l",
  "b", "1049", "\r", "\n", "\t", "\b", "x", "日", "\u0301", "\x07", "\x18", "c", "X", "\x1b7", "\x1b8", "\x1bM", "38;5;", "48;2;"];
for (let round = 0; round < 300; round += 1) {
  screen = new Screen(1 + random(6), 1 + random(12), () => {});
  for (let piece = 0; piece < 200; piece += 1) {
    screen.write(Buffer.from(pieces[random(pieces.length)]));
    if (random(50) === 0) screen.resize(1 + random(6), 1 + random(12));
    assert.ok(screen.row >= 0 && screen.row < screen.rows && screen.column >= 0 && screen.column < screen.columns);
    assert.strictEqual(screen.lines.length, screen.rows);
    assert.ok(screen.lines.every((line) => line.length === screen.columns));
  }
}
