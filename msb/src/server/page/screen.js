// A terminal's screen: what is written to it, as a VT100 and its successors understand it (ECMA-48, and xterm's control
// sequences that shells and full-screen programs need). It knows nothing of the page.
"use strict";

const BLANK = Object.freeze({ text: " ", style: null });

class Screen {
  constructor(rows, columns, answer) {
    this.answer = answer; // Takes what the terminal says by itself: where its cursor is, what it is.
    this.scrolled = []; // Lines that left the screen at its top.
    this.decoder = new TextDecoder();
    this.reset(rows, columns);
  }

  reset(rows, columns) {
    this.rows = rows;
    this.columns = columns;
    this.lines = Array.from({ length: rows }, () => this.empty());
    this.other = null; // The main screen, while a full-screen program has its own.
    this.row = this.column = 0;
    this.wrapping = false; // The last column is written; the next character goes to the next line.
    this.style = null;
    this.saved = { row: 0, column: 0, style: null };
    this.top = 0;
    this.bottom = rows - 1;
    this.cursorShown = true;
    this.autowrap = true;
    this.applicationKeys = false;
    this.bracketedPaste = false;
    this.insert = false;
    this.title = "";
    this.state = "ground";
    this.sequence = "";
    this.last = " ";
  }

  empty() {
    return Array.from({ length: this.columns }, () => BLANK);
  }

  resize(rows, columns) {
    const fit = (line) => {
      const kept = line.slice(0, columns);
      while (kept.length < columns) kept.push(BLANK);
      return kept;
    };
    this.columns = columns;
    const change = (lines, keepTop) => {
      lines = lines.map(fit);
      while (lines.length > rows) {
        if (keepTop || lines.length - 1 > this.row) lines.pop();
        else {
          const gone = lines.shift();
          if (!this.other) this.remember(gone);
          this.row -= 1;
        }
      }
      while (lines.length < rows) lines.push(this.empty());
      return lines;
    };
    this.lines = change(this.lines, false);
    if (this.other) this.other.lines = change(this.other.lines, true);
    this.rows = rows;
    this.top = 0;
    this.bottom = rows - 1;
    this.moveTo(this.row, this.column);
  }

  remember(line) {
    this.scrolled.push(line);
    if (this.scrolled.length > 2000) this.scrolled.splice(0, 500);
  }

  write(bytes) {
    for (const character of this.decoder.decode(bytes, { stream: true })) this.take(character);
  }

  take(character) {
    const code = character.codePointAt(0);
    if (this.state === "string") {
      // OSC, DCS and the like: up to BEL or ST. Of them only a title means anything here.
      if (code === 0x07) this.string();
      else if (code === 0x1b) this.state = "string-escape";
      else if (code === 0x18 || code === 0x1a) this.state = "ground";
      else if (this.sequence.length < 1000) this.sequence += character;
      return;
    }
    if (this.state === "string-escape") {
      if (character === "\\") return this.string();
      this.state = "escape";
      this.sequence = "";
    }
    if (code < 0x20 || code === 0x7f) return this.control(code);
    switch (this.state) {
      case "ground": return this.print(character, code);
      case "escape": return this.escape(character);
      case "skip": this.state = "ground"; return undefined;
      default: return this.parameter(character, code);
    }
  }

  control(code) {
    switch (code) {
      case 0x08: this.moveTo(this.row, this.column - (this.wrapping ? 0 : 1)); break;
      case 0x09: this.moveTo(this.row, Math.min(this.columns - 1, (this.column + 8) & ~7)); break;
      case 0x0a: case 0x0b: case 0x0c: this.lineFeed(); break;
      case 0x0d: this.moveTo(this.row, 0); break;
      case 0x18: case 0x1a: this.state = "ground"; break;
      case 0x1b: this.state = "escape"; this.sequence = ""; break;
    }
  }

  string() {
    const match = /^[02];([\s\S]*)$/.exec(this.sequence);
    if (this.stringKind === "]" && match) this.title = match[1];
    this.state = "ground";
  }

  escape(character) {
    this.state = "ground";
    switch (character) {
      case "[": this.state = "csi"; this.sequence = ""; break;
      case "]": case "P": case "X": case "^": case "_":
        this.state = "string"; this.stringKind = character; this.sequence = ""; break;
      case "(": case ")": case "*": case "+": case "#": case "%": case " ": this.state = "skip"; break;
      case "7": this.save(); break;
      case "8": this.restore(); break;
      case "c": this.reset(this.rows, this.columns); break;
      case "D": this.lineFeed(); break;
      case "E": this.lineFeed(); this.moveTo(this.row, 0); break;
      case "M":
        if (this.row === this.top) this.scroll(this.top, this.bottom, -1);
        else this.moveTo(this.row - 1, this.column);
        break;
    }
  }

  parameter(character, code) {
    if (code < 0x40) {
      if (this.sequence.length < 200) this.sequence += character;
      return;
    }
    this.state = "ground";
    const mark = /^[?>=<]/.test(this.sequence) ? this.sequence[0] : "";
    const middle = /[ !"#$%&'()*+,\-./]/.test(this.sequence);
    if (middle) return;
    const numbers = this.sequence.slice(mark.length).split(/[;:]/).map((text) => parseInt(text, 10) || 0);
    if (mark === "?") this.privateMode(character, numbers);
    else if (mark === ">") { if (character === "c") this.answer("\x1b[>0;1;0c"); }
    else if (mark === "") this.command(character, numbers);
  }

  command(character, numbers) {
    const count = Math.max(1, numbers[0]);
    const { row, column } = this;
    switch (character) {
      case "A": this.moveTo(Math.max(row >= this.top ? this.top : 0, row - count), column); break;
      case "B": case "e": this.moveTo(Math.min(row <= this.bottom ? this.bottom : this.rows - 1, row + count), column); break;
      case "C": case "a": this.moveTo(row, column + count); break;
      case "D": this.moveTo(row, column - count); break;
      case "E": this.moveTo(Math.min(this.bottom, row + count), 0); break;
      case "F": this.moveTo(Math.max(this.top, row - count), 0); break;
      case "G": case "`": this.moveTo(row, count - 1); break;
      case "d": this.moveTo(count - 1, column); break;
      case "H": case "f": this.moveTo(count - 1, Math.max(1, numbers[1] || 1) - 1); break;
      case "J": this.eraseScreen(numbers[0]); break;
      case "K": this.eraseLine(numbers[0]); break;
      case "L": if (this.inside()) this.scroll(row, this.bottom, -count); break;
      case "M": if (this.inside()) this.scroll(row, this.bottom, count); break;
      case "P": this.shift(-count); break;
      case "@": this.shift(count); break;
      case "X": this.fill(row, column, column + count); break;
      case "S": this.scroll(this.top, this.bottom, count); break;
      case "T": this.scroll(this.top, this.bottom, -count); break;
      case "b": for (let left = Math.min(count, 10000); left > 0; left -= 1) this.print(this.last, this.last.codePointAt(0)); break;
      case "m": this.select(numbers); break;
      case "r": {
        const top = Math.max(1, numbers[0]) - 1;
        const bottom = Math.min(this.rows, numbers[1] || this.rows) - 1;
        if (top < bottom) { this.top = top; this.bottom = bottom; this.moveTo(0, 0); }
        break;
      }
      case "s": this.save(); break;
      case "u": this.restore(); break;
      case "h": case "l": if (numbers.includes(4)) this.insert = character === "h"; break;
      case "n":
        if (numbers[0] === 6) this.answer(`\x1b[${row + 1};${column + 1}R`);
        else if (numbers[0] === 5) this.answer("\x1b[0n");
        break;
      case "c": this.answer("\x1b[?62;22c"); break;
    }
  }

  privateMode(character, numbers) {
    if (character !== "h" && character !== "l") return;
    const on = character === "h";
    for (const number of numbers) {
      switch (number) {
        case 1: this.applicationKeys = on; break;
        case 7: this.autowrap = on; break;
        case 25: this.cursorShown = on; break;
        case 47: case 1047: case 1049: this.alternate(on); break;
        case 1048: if (on) this.save(); else this.restore(); break;
        case 2004: this.bracketedPaste = on; break;
      }
    }
  }

  alternate(on) {
    if (on === (this.other !== null)) return;
    if (on) {
      this.save();
      this.other = { lines: this.lines, saved: this.saved };
      this.lines = Array.from({ length: this.rows }, () => this.empty());
    } else {
      this.lines = this.other.lines;
      this.saved = this.other.saved;
      this.other = null;
      this.restore();
    }
    this.top = 0;
    this.bottom = this.rows - 1;
  }

  save() { this.saved = { row: this.row, column: this.column, style: this.style }; }

  restore() {
    this.moveTo(this.saved.row, this.saved.column);
    this.style = this.saved.style;
  }

  inside() { return this.row >= this.top && this.row <= this.bottom; }

  moveTo(row, column) {
    this.row = Math.max(0, Math.min(this.rows - 1, row));
    this.column = Math.max(0, Math.min(this.columns - 1, column));
    this.wrapping = false;
  }

  lineFeed() {
    if (this.row === this.bottom) this.scroll(this.top, this.bottom, 1);
    else if (this.row < this.rows - 1) this.row += 1;
    this.wrapping = false;
  }

  print(character, code) {
    const width = widthOf(code);
    if (width === 0) {
      // What combines goes to what it combines with.
      const at = this.wrapping ? this.column : Math.max(0, this.column - 1);
      const cell = this.lines[this.row][at];
      if (cell.text.length < 16) this.lines[this.row][at] = { text: cell.text + character, style: cell.style };
      return;
    }
    if (this.autowrap && (this.wrapping || (width === 2 && this.column === this.columns - 1))) {
      this.moveTo(this.row, 0);
      this.lineFeed();
    }
    if (this.insert) this.shift(width);
    const line = this.lines[this.row];
    line[this.column] = { text: character, style: this.style };
    if (width === 2 && this.column + 1 < this.columns) line[this.column + 1] = { text: "", style: this.style };
    this.last = character;
    const next = this.column + width;
    this.wrapping = next >= this.columns;
    this.column = Math.min(next, this.columns - 1);
  }

  blank() {
    // What is erased has the background that is selected.
    return this.style && this.style.back !== undefined ? { text: " ", style: { back: this.style.back } } : BLANK;
  }

  fill(row, from, to) {
    const line = this.lines[row];
    for (let at = from; at < Math.min(to, this.columns); at += 1) line[at] = this.blank();
  }

  eraseLine(what) {
    if (what === 0) this.fill(this.row, this.column, this.columns);
    else if (what === 1) this.fill(this.row, 0, this.column + 1);
    else if (what === 2) this.fill(this.row, 0, this.columns);
    this.wrapping = false;
  }

  eraseScreen(what) {
    const all = (from, to) => { for (let row = from; row < to; row += 1) this.fill(row, 0, this.columns); };
    if (what === 0) { this.eraseLine(0); all(this.row + 1, this.rows); }
    else if (what === 1) { all(0, this.row); this.eraseLine(1); }
    else if (what === 2) all(0, this.rows);
    else if (what === 3) this.scrolled = [];
  }

  shift(by) {
    const line = this.lines[this.row];
    const size = Math.min(Math.abs(by), this.columns - this.column);
    const blanks = Array.from({ length: size }, () => this.blank());
    if (by > 0) {
      line.splice(this.column, 0, ...blanks);
      line.length = this.columns;
    } else {
      line.splice(this.column, size);
      line.push(...blanks);
    }
    this.wrapping = false;
  }

  scroll(top, bottom, by) {
    const size = Math.min(Math.abs(by), bottom - top + 1);
    for (let left = size; left > 0; left -= 1) {
      const blank = Array.from({ length: this.columns }, () => this.blank());
      if (by > 0) {
        const [gone] = this.lines.splice(top, 1);
        if (top === 0 && !this.other) this.remember(gone);
        this.lines.splice(bottom, 0, blank);
      } else {
        this.lines.splice(bottom, 1);
        this.lines.splice(top, 0, blank);
      }
    }
    this.wrapping = false;
  }

  // Select graphic rendition (ECMA-48, 8.3.117).
  select(numbers) {
    let style = { ...this.style };
    for (let at = 0; at < numbers.length; at += 1) {
      const number = numbers[at];
      if (number === 0) style = {};
      else if (number === 1) style.bold = true;
      else if (number === 2) style.faint = true;
      else if (number === 3) style.italic = true;
      else if (number === 4) style.underline = true;
      else if (number === 7) style.inverse = true;
      else if (number === 9) style.struck = true;
      else if (number === 22) { delete style.bold; delete style.faint; }
      else if (number === 23) delete style.italic;
      else if (number === 24) delete style.underline;
      else if (number === 27) delete style.inverse;
      else if (number === 29) delete style.struck;
      else if (number >= 30 && number <= 37) style.fore = number - 30;
      else if (number === 39) delete style.fore;
      else if (number >= 40 && number <= 47) style.back = number - 40;
      else if (number === 49) delete style.back;
      else if (number >= 90 && number <= 97) style.fore = number - 82;
      else if (number >= 100 && number <= 107) style.back = number - 92;
      else if (number === 38 || number === 48) {
        const what = number === 38 ? "fore" : "back";
        if (numbers[at + 1] === 5) { style[what] = numbers[at + 2] & 255; at += 2; }
        else if (numbers[at + 1] === 2) {
          style[what] = "#" + numbers.slice(at + 2, at + 5).map((part) => ((part || 0) & 255).toString(16).padStart(2, "0")).join("");
          at += 4;
        } else break;
      }
    }
    this.style = Object.keys(style).length ? Object.freeze(style) : null;
  }

  // A line's text, without what is empty at its end.
  text(row) {
    return this.lines[row].map((cell) => cell.text).join("").trimEnd();
  }
}

// How many columns a character takes: none where it combines with the one before, two where it is wide (of Unicode's East
// Asian Width and emoji, the blocks that matter).
function widthOf(code) {
  if ((code >= 0x300 && code <= 0x36f) || (code >= 0x200b && code <= 0x200f) || (code >= 0xfe00 && code <= 0xfe0f)
    || (code >= 0x20d0 && code <= 0x20ff)) return 0;
  const wide = (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf && code !== 0x303f)
    || (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) || (code >= 0xfe30 && code <= 0xfe6f)
    || (code >= 0xff00 && code <= 0xff60) || (code >= 0xffe0 && code <= 0xffe6) || (code >= 0x1f300 && code <= 0x1f64f)
    || (code >= 0x1f680 && code <= 0x1f6ff) || (code >= 0x1f900 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd);
  return wide ? 2 : 1;
}

if (typeof module !== "undefined") module.exports = { Screen };
