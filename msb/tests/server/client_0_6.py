# What the client 0.6.14 can do with a cloud, as published.
import asyncio
import os
import tempfile

from microsandbox import Sandbox


async def files(fs, root):
    name = root + "/a b"
    data = bytes(range(256)) * 1000
    await fs.write(name, data)
    assert await fs.read(name) == data
    await fs.write(name, b"short")
    assert await fs.read_text(name) == "short"
    found = await fs.stat(name)
    assert found.size == 5 and str(found.kind) in ("file", "FsEntryKind.FILE"), found
    await fs.mkdir(root + "/d/e")
    await fs.copy(name, root + "/d/copy")
    await fs.rename(root + "/d/copy", root + "/d/moved")
    names = sorted(os.path.basename(entry.path) for entry in await fs.list(root + "/d"))
    assert names == ["e", "moved"], names
    assert await fs.exists(root + "/d/moved") and not await fs.exists(root + "/none")
    await fs.remove(root + "/d/moved")
    for wrong in (fs.read(root + "/none"), fs.list(name), fs.remove(root + "/d"), fs.read(root + "/d")):
        try:
            await wrong
        except Exception as error:
            assert any(text in str(error) for text in ("No such file", "Not a directory", "Is a directory")), error
        else:
            raise AssertionError("no failure")
    await fs.remove_dir(root + "/d")
    assert not await fs.exists(root + "/d")


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
    with tempfile.TemporaryDirectory() as root:
        await files(sandbox.fs, root)
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
