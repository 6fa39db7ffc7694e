// Runs what it reads from descriptor 0, a JSON object on a line each: {"token": T, "code": C, "milliseconds": M}. What the
// code writes goes to descriptors 1 and 2 as it is; when it is done, T and how it went follow it there. The process that
// reads them chose T for this one run, so nothing else can be taken for the end.
//
// It is evaluated as the console of a browser does it (Runtime.evaluate with replMode): `const` may be said again, and
// `await` needs no function around it.
(() => {
  "use strict";
  const inspector = require("inspector");
  const util = require("util");
  const { Socket } = require("net");
  const fs = require("fs");

  const out = process.stdout.write.bind(process.stdout);
  const err = process.stderr.write.bind(process.stderr);
  const exit = process.reallyExit.bind(process);
  const session = new inspector.Session();
  session.connect();

  let current = null;

  function done(good, end, late = false) {
    const run = current;
    current = null;
    if (!run) return;
    clearTimeout(run.timer);
    const word = "\n" + run.token + JSON.stringify({ good, end, late }) + "\n";
    let left = 2;
    const written = () => {
      left -= 1;
      if (left === 0 && end !== null) exit(end & 255);
    };
    out(word, written);
    err(word, written);
  }

  function complain(error) {
    const text = error instanceof Error && error.stack ? clean(error) : "Uncaught " + util.inspect(error);
    err(text + "\n");
  }

  // Without the lines that are this program's, or its interpreter's.
  function clean(error) {
    return util.inspect(error).split("\n").filter((line) => !/^\s+at .*(\[eval\]|node:)/.test(line)).join("\n");
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
    if (error) return interrupt();
    if (answer.exceptionDetails) {
      const thrown = answer.exceptionDetails.exception;
      complain(thrown ? valueOf(thrown) : new Error(answer.exceptionDetails.text));
      return done(false, null);
    }
    const value = valueOf(answer.result);
    if (value !== undefined) out(util.inspect(value) + "\n");
    done(current.good, null);
  }

  function interrupt() {
    done(false, null, true);
  }

  function run(request) {
    current = { token: request.token, good: true };
    // For code that waits. Code that does not is ended by the debugger.
    const mine = current;
    mine.timer = setTimeout(() => { if (current === mine) interrupt(); }, request.milliseconds);
    session.post("Runtime.evaluate", {
      expression: request.code,
      replMode: true,
      timeout: request.milliseconds,
    }, (error, answer) => {
      if (current === mine) evaluated(error, answer);
    });
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
