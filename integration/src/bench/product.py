# Asks for the same again and again, from several threads, each of which waits for its answer: `product.py THREADS COUNT rpc`
# over HTTP, `product.py THREADS COUNT PROGRAM…` by a program. Prints how long all of it took and each answer, in nanoseconds.
import http.client
import json
import subprocess
import sys
import threading
import time

threads, count, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
question = {"jsonrpc": "2.0", "id": 1, "method": "sandbox.command.run", "params": {"sandbox": "bench", "command": "true"}}
times = []


def asks():
    body = json.dumps(question)
    connection = http.client.HTTPConnection("127.0.0.1", 5555)

    def ask():
        connection.request("POST", "/api/v1/rpc", body, {"Content-Type": "application/json"})
        assert json.load(connection.getresponse())["result"]["exit_code"] == 0

    return ask


def runs():
    return lambda: subprocess.run(what, check=True, stdin=subprocess.DEVNULL)


def work():
    one = asks() if what == ["rpc"] else runs()
    for _ in range(count):
        began = time.monotonic_ns()
        one()
        times.append(time.monotonic_ns() - began)


all = [threading.Thread(target=work) for _ in range(threads)]
began = time.monotonic_ns()
for one in all:
    one.start()
for one in all:
    one.join()
took = time.monotonic_ns() - began
assert len(times) == threads * count, "some have failed"
print(json.dumps({"took_ns": took, "all_ns": times}))
