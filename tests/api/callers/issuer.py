"""A small OIDC issuer over HTTP: discovery, a key set that can be changed while it runs, and tokens of any kind."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/jwks"
AUDIENCE = "ngt-renewal"

_TO_JWK: dict[str, Any] = {"rs": RSAAlgorithm.to_jwk, "ec": ECAlgorithm.to_jwk, "ed": OKPAlgorithm.to_jwk}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def private_key(name: str) -> PrivateKey:
    """One for each name: `rsa…`, `ec…` or `ed…`; `rsa-short` is one of 1024 bits."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "rsa-short" else 2048)
    if name.startswith("ec"):
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(name: str, **members: Any) -> dict[str, Any]:
    """The key as an issuer shows it; its `kid` is its name."""
    shown: dict[str, Any] = _TO_JWK[name[:2]](private_key(name).public_key(), as_dict=True)
    shown.pop("key_ops", None)
    return {**shown, "kid": name, "use": "sig", **members}


class OidcIssuer:
    """`answers` replaces what a path answers: status, headers and body. `fetches` counts them."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk("ec-1")]
        self.fetches: Counter[str] = Counter()
        self.answers: dict[str, tuple[int, Mapping[str, str], bytes]] = {}
        self.open = threading.Event()
        self.open.set()
        self._server = _listening(self, 0)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """From now on nobody listens."""
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def start_again(self) -> None:
        self._server = _listening(self, self.port)

    def answer(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        self.fetches[path] += 1
        self.open.wait(30)
        if path in self.answers:
            return self.answers[path]
        documents = {
            DISCOVERY: {"issuer": self.url, "jwks_uri": self.url + JWKS},
            JWKS: {"keys": self.keys},
        }
        if path not in documents:
            return 404, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(documents[path]).encode()

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Those of a good token for this service; what is given as None is left out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "snow", "iat": now, "exp": now + 300, "scope": "jobs:read"}
        return {name: value for name, value in {**good, **claims}.items() if value is not None}

    def token(
        self, key: str = "ec-1", algorithm: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token signed with the key of that name."""
        return self.signed(self.claims(**claims), key, algorithm, headers)

    @staticmethod
    def signed(
        claims: object, key: str = "ec-1", algorithm: str = "ES256", headers: dict[str, Any] | None = None
    ) -> str:
        return jwt.api_jws.encode(
            json.dumps(claims).encode(), private_key(key), algorithm, headers={"kid": key, **(headers or {})}
        )


def _listening(issuer: OidcIssuer, port: int) -> ThreadingHTTPServer:
    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = issuer.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                # Whoever asked has read enough.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The name is the library's.
            """The tests say what they need to know."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Requests)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@contextmanager
def oidc_issuer() -> Iterator[OidcIssuer]:
    issuer = OidcIssuer()
    try:
        yield issuer
    finally:
        issuer.stop()
