"""Finds this computer's address in its own network, and formats it with a QR code for other devices.

Sends nothing: the address is the one that the operating system would send from. Knows nothing of the page.
"""

from __future__ import annotations

import io
import socket

from headswap.common.extras import needs_extra

LOOPBACK_ADDRESS = "127.0.0.1"
LOOPBACK_HOSTS = (LOOPBACK_ADDRESS, "::1", "localhost")
ALL_INTERFACES = "0.0.0.0"
PROBE_ADDRESS = ("192.0.2.1", 9)  # reserved for documentation; connecting a datagram socket sends nothing
PLAIN_HTTP_NOTE = (
    "Over plain http a browser opens no camera and pastes no images: phones and other computers choose files, or take "
    f"single photographs with a phone's own camera. On this computer everything works at http://{LOOPBACK_ADDRESS}:{{port}}/"
)


def find_lan_address() -> str:
    """The IPv4 address of this computer in its network; the loopback address where it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(PROBE_ADDRESS)
            return str(probe.getsockname()[0])
        except OSError:
            return LOOPBACK_ADDRESS


def format_invitation(host: str, port: int) -> str:
    """The page's address, its QR code in characters of a terminal, and what does not work over plain http."""
    with needs_extra("page", "A QR code"):
        import segno

    address, code = f"http://{host}:{port}/", io.StringIO()
    segno.make(address, error="l", micro=False).terminal(code, border=2, compact=True)
    return f"\n{code.getvalue()}\nEverybody in this network: {address}\n{PLAIN_HTTP_NOTE.format(port=port)}\n"
