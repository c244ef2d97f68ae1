"""Each way in which the other side is lost is noticed; how soon, ``losses.py`` measures."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from zerio_asyncio.messaging import DisconnectCause

from ..loop.support import WINDOWS
from .losses import WAYS, lose_client, restart_server

pytestmark = pytest.mark.skipif(WINDOWS, reason="no process can be killed by a signal here")


def has_namespaces():
    if not hasattr(os, "geteuid") or os.geteuid() or shutil.which("ip") is None:
        return False
    name = f"zeriotry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


@pytest.mark.parametrize("way", [way for way in WAYS if way != "restarted"])
async def test_a_client_is_lost(loop, way):
    if way.startswith("cable") and not has_namespaces():
        pytest.skip("a cable needs root, and network namespaces")
    _, event = await lose_client(way, 1.0)
    causes = {"killed": {DisconnectCause.PEER, DisconnectCause.NETWORK}}
    assert event.reason.cause in causes.get(way, {DisconnectCause.NETWORK})
    assert event.peer.id == "other"
    assert way == "killed" or isinstance(event.reason.error, OSError)


async def test_a_server_restarts(loop):
    _, _, event = await restart_server(1.0)
    assert event.reason.cause in {DisconnectCause.PEER, DisconnectCause.NETWORK}
