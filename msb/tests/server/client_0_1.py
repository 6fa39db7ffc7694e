# What the client 0.1.8 can do, as published.
import asyncio
import os

from microsandbox import NodeSandbox, PythonSandbox


async def refused(key, namespace="default"):
    try:
        async with PythonSandbox.create(name="no", namespace=namespace, api_key=key):
            pass
    except RuntimeError as error:
        return str(error)
    raise AssertionError("let in")


async def main():
    async with PythonSandbox.create(name="py") as sandbox:
        run = await sandbox.run("x = 41\ndef f():\n\n    return x + 1\nprint('hello')")
        assert (await run.output(), run.has_error(), run.status) == ("hello", False, "success")
        run = await sandbox.run("f()")
        assert await run.output() == "42"
        run = await sandbox.run("1/0")
        assert run.has_error() and run.status == "error" and "ZeroDivisionError" in await run.error()
        ran = await sandbox.command.run("sh", ["-c", "echo out; echo err >&2; exit 3"])
        assert (await ran.output(), await ran.error(), ran.exit_code, ran.success) == ("out", "err", 3, False)
        assert (ran.command, ran.args) == ("sh", ["-c", "echo out; echo err >&2; exit 3"])
        try:
            await sandbox.command.run("sleep", ["30"], timeout=1)
        except RuntimeError as error:
            assert "timed out after 1 seconds" in str(error), error
        else:
            raise AssertionError("no timeout")
        try:
            await sandbox.command.run("no-such-program")
        except RuntimeError as error:
            assert "no-such-program" in str(error), error
        else:
            raise AssertionError("no failure")
        metrics = await sandbox.metrics.all()
        assert metrics["running"] and metrics["name"] == "py", metrics
        assert await sandbox.metrics.is_running()
        # It is of the time since it was last asked for.
        await sandbox.run("sum(range(1_000_000))")
        assert await sandbox.metrics.cpu() > 0 and await sandbox.metrics.memory() > 0 and await sandbox.metrics.disk() > 0
        # Another namespace has another sandbox of the same name.
        async with PythonSandbox.create(name="py", namespace="other", api_key=os.environ["OTHER"]) as other:
            run = await other.run("x")
            assert "NameError" in await run.error()
    async with NodeSandbox.create(name="js") as sandbox:
        run = await sandbox.run("const n = 6; console.log(n * 7)")
        assert await run.output() == "42", await run.error()
    assert "Invalid or expired token" in await refused(os.environ["FORGED"])
    # For a second, and what was left of the one in which it was made.
    await asyncio.sleep(2)
    assert "Invalid or expired token" in await refused(os.environ["EXPIRED"])
    assert "Access denied" in await refused(os.environ["OTHER"])


asyncio.run(main())
print("client done")
