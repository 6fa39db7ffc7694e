# Runs what it reads from descriptor 0, a JSON object on a line each: {"token": T, "code": C}. What the code writes goes to
# descriptors 1 and 2 as it is; when it is done, T and how it went follow it there. The process that reads them chose T for
# this one run, so nothing else can be taken for the end.
import ast, json, linecache, os, signal, sys, traceback, types


def main():
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, "r", closefd=False)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)

    # What the code sees as its own module; this one is not there for it.
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path.insert(0, "")
    me = os.getpid()
    running = False

    def interrupted(number, frame):
        # One that comes too late is meant for code that is done.
        if running:
            raise KeyboardInterrupt

    def evaluate(code, name):
        tree = ast.parse(code, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        exec(compile(tree, name, "exec"), module.__dict__)
        if last is not None:
            sys.displayhook(eval(compile(last, name, "eval"), module.__dict__))

    def show(kind, error, trace):
        # Without the lines that are this program's: those around the code, and the one that interrupted it.
        own = (main.__code__, evaluate.__code__)
        while trace is not None and trace.tb_frame.f_code in own:
            trace = trace.tb_next
        at = trace
        while at is not None:
            if at.tb_next is not None and at.tb_next.tb_frame.f_code is interrupted.__code__:
                at.tb_next = None
            at = at.tb_next
        traceback.print_exception(kind, error, trace)

    number = 0
    for line in requests:
        request = json.loads(line.decode("utf-8"))
        code, token = request["code"], request["token"].encode("ascii")
        number += 1
        name = "<input %d>" % number
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        good, end = True, None
        signal.signal(signal.SIGINT, interrupted)
        try:
            try:
                running = True
                evaluate(code, name)
            finally:
                running = False
        except SystemExit as error:
            end = error.code
            if end is None:
                end = 0
            elif not isinstance(end, int):
                print(end, file=sys.stderr)
                end = 1
            good = end == 0
        except SyntaxError as error:
            good = False
            inside = error.__traceback__ is not None and error.filename != name
            show(type(error), error, error.__traceback__ if inside else None)
        except BaseException as error:
            good = False
            show(type(error), error, error.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        if os.getpid() != me:
            # A child that the code forked and did not end: the next run is its parent's.
            os._exit(end or 0)
        word = json.dumps({"good": good, "end": end}).encode("ascii")
        for descriptor in (1, 2):
            rest = b"\n" + token + word + b"\n"
            while rest:
                rest = rest[os.write(descriptor, rest):]
        if end is not None:
            sys.exit(end & 255)


main()
