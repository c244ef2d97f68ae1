"""aiofiles: files by the loop's executor."""

from __future__ import annotations

import aiofiles
import aiofiles.os
import aiofiles.tempfile

from .support import MIB, digest, in_parallel, parts_of, payload


async def test_files_at_once(loop, tmp_path):
    async def work(number):
        path = tmp_path / f"{number}"
        data = payload(2 * MIB, number)
        async with aiofiles.open(path, "wb") as file:
            for part in parts_of(data, 100_003):
                await file.write(part)
        async with aiofiles.open(path, "rb") as file:
            parts = []
            while part := await file.read(77_777):
                parts.append(part)
        assert digest(parts) == digest(data)
        assert (await aiofiles.os.stat(path)).st_size == len(data)
        await aiofiles.os.remove(path)

    await in_parallel(20, work=work)
    assert await aiofiles.os.listdir(tmp_path) == []


async def test_lines(loop, tmp_path):
    path = tmp_path / "lines"
    async with aiofiles.open(path, "w") as file:
        await file.writelines(f"line {number}\n" for number in range(2000))
    async with aiofiles.open(path) as file:
        number = 0
        async for line in file:
            assert line == f"line {number}\n"
            number += 1
    assert number == 2000


async def test_temporary_files(loop):
    async with aiofiles.tempfile.TemporaryDirectory() as folder:
        async with aiofiles.tempfile.NamedTemporaryFile("wb+", dir=folder) as file:
            await file.write(b"hello")
            await file.seek(0)
            assert await file.read() == b"hello"
    assert not await aiofiles.os.path.exists(folder)
