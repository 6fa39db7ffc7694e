// Runs what it reads from descriptor 0, a JSON object on a line each: {"token": T, "code": C, "milliseconds": M}. What the
// code writes goes to descriptors 1 and 2 as it is; when it is done, T and how it went follow it there. The process that
// reads them chose T for this one run, so nothing else can be taken for the end. That process sends SIGINT after M, too.
//
// It is evaluated as the console of a browser does it (Runtime.evaluate with replMode): `const` may be said again, and
// `await` needs no function around it.
(() => {
  "use strict";
  const inspector = require("inspector");
  const util = require("util");
  const { Socket } = require("net");
  const { Writable } = require("stream");
  const { Worker } = require("worker_threads");
  const fs = require("fs");

  const exit = process.reallyExit.bind(process);
  const session = new inspector.Session();
  session.connect();

  // How long after a run's time the guard ends what does not end by itself, in milliseconds; and how long it is waited for a
  // signal that was sent, which would interrupt the next run otherwise.
  const LATE = 100;
  const SIGNAL = 500;
  // Longest time until what the guard ends has ended.
  const LANDING = 1000;

  // Code can be ended anywhere, so also while it writes. A stream of Node's waits from then on for the end of that write, and
  // keeps to itself what is written later: these remember nothing.
  const never = new Int32Array(new SharedArrayBuffer(4));
  function writeAll(descriptor, data) {
    for (let at = 0; at < data.length;) {
      try {
        at += fs.writeSync(descriptor, data, at);
      } catch (error) {
        // A child that has the descriptor as well may have made it so.
        if (error.code !== "EAGAIN") throw error;
        Atomics.wait(never, 0, 0, 1);
      }
    }
  }
  class Direct extends Writable {
    constructor(descriptor) {
      super({ decodeStrings: false });
      this.fd = descriptor;
    }
    write(chunk, encoding, callback) {
      const text = typeof chunk === "string";
      if (!text && !ArrayBuffer.isView(chunk)) return super.write(chunk, encoding, callback);
      if (typeof encoding === "function") [encoding, callback] = [undefined, encoding];
      writeAll(this.fd, text ? Buffer.from(chunk, encoding) : new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      if (typeof callback === "function") process.nextTick(callback);
      return true;
    }
    end(chunk, encoding, callback) {
      if (chunk !== undefined && chunk !== null && typeof chunk !== "function") this.write(chunk, encoding, callback);
      return this;
    }
    destroy() {
      return this;
    }
  }
  for (const [name, descriptor] of [["stdout", 1], ["stderr", 2]]) {
    const stream = new Direct(descriptor);
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => stream });
  }
  const out = (text) => writeAll(1, Buffer.from(text));
  const err = (text) => writeAll(2, Buffer.from(text));

  // The debugger ends code that has not begun to wait. A thread of its own ends all other: what follows an `await`, a timer's
  // function, promises without end. It does so again where that did not help, since a queue is still there then. While it
  // does so, the run's number is negative; the other is of the last run that it did that to.
  const guarded = new Int32Array(new SharedArrayBuffer(8));
  const [RUN, ENDED] = [0, 1];
  function watch() {
    const { parentPort, workerData: { guarded, late } } = require("worker_threads");
    const { Session } = require("inspector");
    const main = new Session();
    main.connectToMainThread();
    let timer;
    function end(number) {
      if (Atomics.compareExchange(guarded, 0, number, -number) !== number) return;
      Atomics.store(guarded, 1, number);
      main.post("Runtime.terminateExecution", () => {
        Atomics.compareExchange(guarded, 0, -number, number);
        timer = setTimeout(end, late, number);
      });
    }
    parentPort.on("message", ({ number, milliseconds }) => {
      clearTimeout(timer);
      timer = setTimeout(end, Math.min(milliseconds + late, 0x7fffffff), number);
    });
  }
  let guard = null;
  try {
    guard = new Worker(`(${watch})()`, { eval: true, execArgv: [], env: {}, workerData: { guarded, late: LATE } });
    guard.unref();
    guard.on("error", () => { guard = null; });
  } catch {
    // There are no more threads to be had.
  }

  let current = null;
  let number = 0;

  // Goes on when nobody ends it any more: what the guard is about to end is the loop here.
  function unguarded(next) {
    if (Atomics.compareExchange(guarded, RUN, number, 0) !== -number) return next();
    setImmediate(unguarded, next);
    const until = Date.now() + LANDING;
    while (Atomics.load(guarded, RUN) === -number && Date.now() < until);
  }

  function done(good, end, late = false) {
    const run = current;
    current = null;
    if (!run) return;
    clearTimeout(run.timer);
    unguarded(() => {
      const ended = Atomics.load(guarded, ENDED) === number;
      const word = "\n" + run.token + JSON.stringify({ good: good && !ended, end, late: late || ended }) + "\n";
      out(word);
      err(word);
      if (end !== null) exit(end & 255);
    });
  }

  function interrupt() {
    done(false, null, true);
  }

  // Its time is over, and the signal is on its way.
  function expired() {
    clearTimeout(current.timer);
    current.timer = setTimeout(interrupt, SIGNAL);
    unguarded(() => {});
  }

  function complain(error, details) {
    err((error instanceof Error && error.stack ? clean(error, details) : "Uncaught " + util.inspect(error)) + "\n");
  }

  // Without the lines that are this program's, or its interpreter's; and with the place of what can't be compiled.
  function clean(error, details) {
    const lines = [];
    for (const line of util.inspect(error).split("\n")) {
      if (!/^\s+at .*(\[eval\]|node:)|^\s+\.\.\. \d+ lines matching cause/.test(line)) lines.push(line);
      else if (line.endsWith(" {") && lines.length > 0) lines[lines.length - 1] += " {";
    }
    if (details && error instanceof SyntaxError && !lines.some((line) => /^\s+at /.test(line))) {
      lines.push(`    at <anonymous>:${details.lineNumber + 1}:${details.columnNumber + 1}`);
    }
    return lines.join("\n");
  }

  // The value of what the debugger knows by its own name.
  function valueOf(result) {
    if (!("objectId" in result)) {
      return "unserializableValue" in result ? primitive(result.unserializableValue) : result.value;
    }
    let value;
    globalThis[hatch] = (given) => { value = given; };
    session.post("Runtime.callFunctionOn", {
      objectId: result.objectId,
      functionDeclaration: `function () { globalThis[Symbol.for("msb.hatch")](this); }`,
    });
    delete globalThis[hatch];
    // A function's `this` is an object: what was none is told by its type.
    return result.type === "symbol" ? value.valueOf() : value;
  }
  const hatch = Symbol.for("msb.hatch");

  function primitive(text) {
    return text.endsWith("n") && text !== "NaN" ? BigInt(text.slice(0, -1)) : Number(text);
  }

  function evaluated(error, answer) {
    // The debugger ended it: it took too long.
    if (error) return expired();
    const mine = current;
    if (answer.exceptionDetails) {
      const thrown = answer.exceptionDetails.exception;
      mine.good = false;
      complain(thrown ? valueOf(thrown) : new Error(answer.exceptionDetails.text), answer.exceptionDetails);
    } else {
      const value = valueOf(answer.result);
      if (value !== undefined) out((value instanceof Error ? clean(value) : util.inspect(value)) + "\n");
    }
    // A promise that nobody waits for is found to have failed behind all that is to be done at once.
    setImmediate(() => { if (current === mine) done(mine.good, null); });
  }

  // `import()` is relative to the file that it is in, and fails in what a debugger evaluates: there it is a function. What
  // only looks like it is passed over: comments, texts, patterns.
  const word = new RegExp([
    /\/\/.*|\/\*[^]*?\*\//,
    /'(?:\\[^]|[^'\\\n])*'|"(?:\\[^]|[^"\\\n])*"|`(?:\\[^]|[^`\\])*`/,
    /(?<=(?:^|[-+*%<>~^=(,:;!&|?{}[\n]|\breturn)[ \t]*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\//,
    /(?<![\w$#.])import(?=\s*\()/,
  ].map((part) => part.source).join("|"), "g");
  const importing = (code) => code.replace(word, (found) => found === "import" ? "$mport" : found);
  let load = (name) => import(name);
  try {
    load = eval("(name, options) => import(name, options)");
  } catch {
    // An older one takes one word alone.
  }
  Object.defineProperty(globalThis, "$mport", { configurable: true, value: load });

  // Code that waits for what never comes is forgotten by the collector of garbage, whose debugger tells us so in the midst of
  // it: Node 22 ends of that. So nothing of it is garbage.
  const { promiseHooks } = require("v8");
  const waited = new Set();

  function run(request) {
    current = { token: request.token, good: true };
    const mine = current;
    number += 1;
    Atomics.store(guarded, RUN, number);
    if (guard) guard.postMessage({ number, milliseconds: request.milliseconds });
    // For code that waits.
    mine.timer = setTimeout(() => { if (current === mine) expired(); }, request.milliseconds);
    const asked = { expression: importing(request.code), replMode: true, timeout: request.milliseconds };
    // The first promise that is made is the one of the whole.
    let whole = null;
    const made = promiseHooks && promiseHooks.onInit((promise) => {
      if (whole) return;
      whole = promise;
      waited.add(whole);
    });
    session.post("Runtime.evaluate", asked, (error, answer) => {
      waited.delete(whole);
      if (current === mine) evaluated(error, answer);
    });
    if (made) made();
  }

  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error) => {
      complain(error);
      if (current) current.good = false;
    });
  }
  process.on("SIGINT", interrupt);
  process.exit = (code) => {
    const end = Number(code === undefined ? process.exitCode || 0 : code) | 0;
    if (!current) exit(end & 255);
    done(end === 0, end);
    throw new Error("process.exit");
  };
  globalThis.require = require;

  // Another descriptor for the requests, so that a child that inherits ours reads nothing.
  let input = 0;
  try {
    input = fs.openSync("/proc/self/fd/0", "r");
    fs.closeSync(0);
    fs.openSync("/dev/null", "r");
  } catch {
    input = 0;
  }
  let rest = Buffer.alloc(0);
  const requests = new Socket({ fd: input, readable: true, writable: false });
  requests.on("data", (data) => {
    rest = Buffer.concat([rest, data]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = rest.subarray(0, end).toString("utf8");
      rest = rest.subarray(end + 1);
      run(JSON.parse(line));
    }
  });
  requests.on("end", () => exit(0));
})();
