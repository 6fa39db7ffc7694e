# What the clients 0.6.14 and 0.7.11 can do with a cloud, as published.
import asyncio
import os
import uuid

from microsandbox import ExecEventType, Network, NetworkProfile, Sandbox, Stdin

IMAGE = os.environ.get("IMAGE", "python:3.12")


async def fails(wrong, *texts):
    try:
        await wrong
    except Exception as error:
        assert any(text in str(error) for text in texts), error
    else:
        raise AssertionError("no failure")


async def streams(sandbox):
    handle = await sandbox.exec_stream("sh", ["-c", "read line; echo got $line; exit 4"], stdin=Stdin.pipe())
    stdin = handle.take_stdin()
    await stdin.write(b"line\n")
    await stdin.close()
    out, code = b"", None
    async for event in handle:
        if event.event_type == ExecEventType.STDOUT:
            out += event.data
        if event.event_type == ExecEventType.EXITED:
            code = event.code
    assert (out, code) == (b"got line\n", 4), (out, code)
    handle = await sandbox.exec_stream("sleep", ["1000"])
    await handle.signal(15)
    assert (await handle.wait())[1] is False


async def files(fs, root):
    name = root + "/a b"
    data = bytes(range(256)) * 1000
    await fs.mkdir(root)
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
        await fails(wrong, "No such file", "Not a directory", "Is a directory")
    await fs.remove_dir(root)
    assert not await fs.exists(root)


async def names():
    return sorted(one.name for one in (await Sandbox.list()).sandboxes)


async def main():
    others = await names()
    # It writes for as long as it takes somebody to look.
    writes = "i=0; while [ $((i += 1)) -le 5 ]; do echo line $i; done; exec sleep 1000"
    sandbox = await Sandbox.create(
        "new", image=IMAGE, labels={"a": "b"}, env={"A": "of all"}, network=Network.none(), entrypoint=["sh"], cmd=["-c", writes]
    )
    ran = await sandbox.exec("sh", ["-c", "echo out; echo err >&2; exit 3"])
    assert (ran.exit_code, ran.stdout_text, ran.stderr_text) == (3, "out\n", "err\n"), ran
    ran = await sandbox.shell("echo $((6 * 7))")
    assert ran.stdout_text == "42\n", ran
    await fails(sandbox.exec("no-such-program", []), "no-such-program")
    await streams(sandbox)
    assert await names() == sorted([*others, "new"])
    await fails(Sandbox.create("new", image=IMAGE), "already")
    await files(sandbox.fs, f"/tmp/client-{uuid.uuid4()}")
    seen = []
    async for entry in await sandbox.log_stream(follow=True):
        seen.append(entry)
        if len(seen) == 5:
            break
    await sandbox.stop()
    handle = await Sandbox.get("new")
    assert str(handle.status).endswith("stopped") or "STOPPED" in str(handle.status).upper(), handle.status
    await Sandbox.remove("new")
    # Whoever asks for anything of a network is asked by these clients for rules.
    public = Network.from_profiles(NetworkProfile.PUBLIC)
    sandbox = await Sandbox.create("public", image=IMAGE, network=public)
    await sandbox.stop()
    await Sandbox.remove("public")
    assert await names() == others


asyncio.run(main())
print("client done")
