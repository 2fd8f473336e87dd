"""One simulated machine on the network: its address, its host key, its users, and its state.

`open_session` makes the session that runs a text.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncssh

from app.simulator.faults import HostFaults
from app.simulator.journal import Journal, Kind


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedHost:
    """A CVM or a guest. `name` is its name in the journal; the site chooses `port` before it listens."""

    name: str
    cluster: str
    ip: str
    username: str
    client_key: asyncssh.SSHKey
    host_key: asyncssh.SSHKey
    journal: Journal
    open_session: Callable[["ServerConnection"], asyncssh.SSHServerSession[bytes]]
    banner: str = ""
    port: int = 0
    faults: HostFaults = field(default_factory=HostFaults)
    connections: set["ServerConnection"] = field(default_factory=set)
    _acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def address(self) -> str:
        """`ip:port`, as in a configuration."""
        return f"{self.ip}:{self.port}"

    @property
    def known_hosts_line(self) -> str:
        """The line that pins this host's own key."""
        key = self.host_key.export_public_key().decode().split()
        return f"[{self.ip}]:{self.port} {key[0]} {key[1]}\n"

    @property
    def is_up(self) -> bool:
        """It accepts TCP connections."""
        return self._acceptor is not None

    async def up(self, listening: socket.socket | None = None) -> None:
        """Listens, on the socket `listening` where one is given. Does nothing when it already listens."""
        if self._acceptor is None:
            self._acceptor = await asyncssh.listen(
                sock=listening or listening_socket(self.ip, self.port),
                server_factory=lambda: ServerConnection(self),
                server_host_keys=[self.host_key],
                encoding=None,
                compression_algs=None,
                gss_host=None,
                line_editor=False,
                allow_scp=False,
            )

    async def down(self) -> None:
        """Refuses new connections, and cuts the open ones."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self.cut_all()

    def serve_wrong_host_key(self) -> None:
        """Shows another host key than the pinned one on new connections."""
        self._serve(asyncssh.generate_private_key("ssh-ed25519"))

    def serve_own_host_key(self) -> None:
        self._serve(self.host_key)

    def cut_all(self) -> None:
        for connection in tuple(self.connections):
            connection.cut()

    def _serve(self, key: asyncssh.SSHKey) -> None:
        if self._acceptor is None:
            message = f"{self.name} is down"
            raise RuntimeError(message)
        self._acceptor.update(server_host_keys=[key])


class ServerConnection(asyncssh.SSHServer):
    """One client's connection to a host."""

    def __init__(self, host: SimulatedHost) -> None:
        self.host = host
        self.sessions = 0
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self.host.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.host.connections.discard(self)

    def begin_auth(self, username: str) -> bool:
        """Shows the banner, and requires a key from every user."""
        if self.host.banner and self._connection is not None:
            self._connection.send_auth_banner(self.host.banner)
        return True

    def public_key_auth_supported(self) -> bool:
        """Accepts only keys, like a cluster in lockdown."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Accepts the site's one client key for the host's one user."""
        host = self.host
        accepted = (
            not host.faults.login_refused
            and username == host.username
            and key.public_data == host.client_key.public_data
        )
        if not accepted:
            host.journal.note(Kind.LOGIN_REFUSED, username, cluster=host.cluster, host=host.name)
        return accepted

    def auth_completed(self) -> None:
        self.host.journal.note(Kind.LOGIN, self.host.username, cluster=self.host.cluster, host=self.host.name)

    def session_requested(self) -> asyncssh.SSHServerSession[bytes] | bool:
        """Opens a session, or refuses the channel at the limit of the connection."""
        host = self.host
        if self.sessions >= host.faults.session_limit:
            host.journal.note(Kind.CHANNEL_REFUSED, str(self.sessions), cluster=host.cluster, host=host.name)
            return False
        self.sessions += 1
        host.journal.session_opened(host.name)
        return host.open_session(self)

    def session_closed(self) -> None:
        """Counts a closed session; each session calls it once."""
        self.sessions -= 1
        self.host.journal.session_closed(self.host.name)

    def cut(self) -> None:
        if self._connection is not None:
            self.host.journal.note(Kind.CUT, "connection cut", cluster=self.host.cluster, host=self.host.name)
            self._connection.abort()


def listening_socket(ip: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises OSError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ip, port))
        listening.listen(128)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
