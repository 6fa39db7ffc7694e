# What the client 0.6.14 can do with a cloud, as published.
import asyncio

from microsandbox import Sandbox


async def main():
    sandbox = await Sandbox.create("new", image="python:3.12", labels={"a": "b"})
    ran = await sandbox.exec("sh", ["-c", "echo out; echo err >&2; exit 3"])
    assert (ran.exit_code, ran.stdout_text, ran.stderr_text) == (3, "out\n", "err\n"), ran
    ran = await sandbox.shell("echo $((6 * 7))")
    assert ran.stdout_text == "42\n", ran
    try:
        await sandbox.exec("no-such-program", [])
    except Exception as error:
        assert "no-such-program" in str(error), error
    else:
        raise AssertionError("no failure")
    assert [one.name for one in (await Sandbox.list()).sandboxes] == ["new"]
    try:
        await Sandbox.create("new", image="python:3.12")
    except Exception as error:
        assert "already" in str(error), error
    else:
        raise AssertionError("made twice")
    seen = []
    async for entry in await sandbox.log_stream(follow=True):
        seen.append(entry)
        if len(seen) == 5:
            break
    await sandbox.stop()
    handle = await Sandbox.get("new")
    assert str(handle.status).endswith("stopped") or "STOPPED" in str(handle.status).upper(), handle.status
    await Sandbox.remove("new")
    assert (await Sandbox.list()).sandboxes == []


asyncio.run(main())
