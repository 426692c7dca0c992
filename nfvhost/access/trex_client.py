"""TRex as a program that answers line by line.

    python -m nfvhost.access.trex_client FOLDER CONFIG SIZES FLOWS TX RX [addressed]

Starts the server of the TRex in FOLDER with that configuration, and speaks to it by TRex's own Python API. Says
`{"ready": true}` on stdout; then for each line `SECONDS PPS` on stdin one trial (PPS 0: as fast as it can), and one
line of JSON as the built-in generator's: intended = sent + behind. Ends, and the server too, at the end of its stdin.

SIZES "64:7,570:4"; FLOWS a number; TX, RX are TRex's port numbers; addressed frames go from the one port's own address
to the other's. It shares its process with the libraries that TRex brings along, and nothing else of nfvhost's.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Final

API: Final = "automation/trex_control_plane/interactive"
SERVER: Final = "_t-rex-64"
_START_S: Final = 60.0
_END_S: Final = 5.0
_POLL_S: Final = 0.01
# After the last frame was sent: until nothing has come for so long, and no longer than that.
_QUIET_S: Final = 0.05
_DRAIN_S: Final = 1.0
_FCS: Final = 4
_IP_AT: Final = 14
_SOURCE_AT: Final = 26
_PORT_AT: Final = 34
_HEADERS: Final = 42
# A trial is over so long after its end at the latest.
_LATE_S: Final = 0.2
# More than any port can: TRex sends what it can of it.
_FLAT_OUT_PPS: Final = 200e6
_PORTS: Final = 0x4000
# Of generator.c.
ADDRESSES: Final = ("02:6e:66:76:01:01", "02:6e:66:76:01:02")


def main(words: list[str]) -> int:
    """Serves one dialogue."""
    folder, config, sizes, flows, tx, rx, *addressed = words
    sys.path.insert(0, os.path.join(folder, API))
    answers = sys.stdout
    # What the API prints is nobody's answer.
    with redirect_stdout(sys.stderr), _server(folder, config):
        api = importlib.import_module("trex.stl.api")
        with _connected(api) as client:
            ports = [int(tx), int(rx)]
            client.reset(ports=ports)
            client.set_port_attr(ports=ports, promiscuous=True)
            addresses = [client.get_port_attr(port)["hw_mac"] for port in ports] if addressed else ADDRESSES
            client.add_streams(list(_streams(api, sizes, int(flows), *addresses)), ports=[ports[0]])
            print(json.dumps({"ready": True}), file=answers, flush=True)
            for line in sys.stdin:
                seconds, pps = map(float, line.split())
                print(json.dumps(_trial(client, ports, seconds, pps)), file=answers, flush=True)
    return 0


@contextmanager
def _server(folder: str, config: str) -> Iterator[None]:
    """TRex's server, without the script around it: that binds NICs to drivers, and looks for other servers to end."""
    argv = [os.path.join(folder, SERVER), "-i", "--cfg", config, "--iom", "0", "--software", "--no-scapy-server"]
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{folder}/so/{os.uname().machine}"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _connected(api: Any) -> Iterator[Any]:  # noqa: ANN401 - TRex has no types
    end = time.monotonic() + _START_S
    while True:
        client = api.STLClient(server="127.0.0.1")
        try:
            client.connect()
            break
        except api.STLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    try:
        yield client
    finally:
        client.disconnect()


def _streams(api: Any, sizes: str, flows: int, source: str, destination: str) -> Iterator[Any]:  # noqa: ANN401 - TRex has no types
    """A stream for each size, as many of its packets as its share; the flows as generator.c counts them."""
    for part in sizes.split(","):
        size, share = map(int, part.split(":"))
        address, port = f"198.18.0.{1 + (flows - 1) // _PORTS}", 0xC000 + min(flows, _PORTS) - 1
        generator = api.STLVmTupleGen(
            name="flow", ip_min="198.18.0.1", ip_max=address, port_min=0xC000, port_max=port, limit_flows=flows
        )
        program = api.STLScVmRaw(
            [
                generator,
                api.STLVmWrFlowVar(fv_name="flow.ip", pkt_offset=_SOURCE_AT),
                api.STLVmWrFlowVar(fv_name="flow.port", pkt_offset=_PORT_AT),
                api.STLVmFixIpv4(offset=_IP_AT),
            ]
        )
        frame = (
            api.Ether(src=source, dst=destination)
            / api.IP(src="198.18.0.1", dst="198.19.0.1")
            / api.UDP(sport=0xC000, dport=9, chksum=0)
            / bytes(size - _FCS - _HEADERS)
        )
        packet = api.STLPktBuilder(pkt=frame, vm=program if flows > 1 else [])
        yield api.STLStream(packet=packet, mode=api.STLTXCont(pps=share))


def _trial(client: Any, ports: list[int], seconds: float, pps: float) -> dict[str, float]:  # noqa: ANN401
    tx, rx = ports
    client.clear_stats()
    begin = time.monotonic()
    client.start(ports=[tx], mult=f"{pps or _FLAT_OUT_PPS:.3f}pps", duration=seconds if pps else -1, force=True)
    if pps:
        while client.is_traffic_active(ports=[tx]) and time.monotonic() - begin < seconds + _LATE_S:
            time.sleep(_POLL_S)
    else:
        time.sleep(seconds)
    # One that is late sends all that it owes, however long it takes.
    client.stop(ports=[tx])
    took = seconds if pps else time.monotonic() - begin
    sent, received = _settled(client, tx, rx)
    intended = round(seconds * pps) if pps else sent
    return {
        "seconds": took,
        "absent_s": 0.0,
        "intended": max(intended, sent),
        "sent": sent,
        "refused": 0,  # it tries again until the port has room
        "behind": max(0, intended - sent),
        "received": min(received, sent),
        "samples": 0,
    }


def _settled(client: Any, tx: int, rx: int) -> tuple[int, int]:  # noqa: ANN401 - TRex has no types
    """Sent and received, once nothing comes any more."""
    begin = last = time.monotonic()
    counted = (0, 0)
    while time.monotonic() - last < _QUIET_S and time.monotonic() - begin < _DRAIN_S:
        stats = client.get_stats(ports=[tx, rx], sync_now=True)
        now = (int(stats[tx]["opackets"]), int(stats[rx]["ipackets"]))
        if now != counted:
            counted, last = now, time.monotonic()
        time.sleep(_POLL_S)
    return counted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
