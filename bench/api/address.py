"""Where questions, and the key with them, are sent."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from bench.api.redaction import holds
from bench.api.secret import Secret
from bench.errors import UsageError

DEFAULT_BASE_URL = "https://api.openai.com/v1"

MAX_CHARACTERS = 300

_DEFAULT_PORTS = {"http": 80, "https": 443}


def checked_base_url(base_url: str | None, key: Secret | None) -> str:
    """The address that is used and stored: with lower-case host, no slash at the end and no default port.

    The variable OPENAI_BASE_URL, which the official client obeys, decides nothing here: it would silently change where
    a key is sent. Refusals do not repeat the address, which may hold a password.

    Args:
        base_url: None for OpenAI's own.
        key: None where the server wants none.

    Raises:
        UsageError: not an address, or not one that a key may be sent to.
    """
    if base_url is None:
        if os.environ.get("OPENAI_BASE_URL", DEFAULT_BASE_URL).rstrip("/") != DEFAULT_BASE_URL:
            raise UsageError(
                f"the variable OPENAI_BASE_URL is set, which is not obeyed: say with --base-url where to send "
                f"questions and key, for example --base-url {DEFAULT_BASE_URL}, or unset it"
            )
        base_url = DEFAULT_BASE_URL
    form = "expected a form like https://api.openai.com/v1 or http://127.0.0.1:8000/v1"
    if len(base_url) > MAX_CHARACTERS:
        raise UsageError(f"--base-url is longer than {MAX_CHARACTERS} characters, which no address is; {form}")
    if key is not None and holds(base_url, key):
        raise UsageError(f"--base-url holds the key, which belongs into an environment variable alone; {form}")
    if not re.fullmatch(r"[!-~]+", base_url) or re.search(r"[\\<>\"`{}|^]", base_url):
        raise UsageError(f"--base-url holds blanks or characters that no address has; {form}")
    try:
        parts = urlsplit(base_url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"--base-url is not an address; {form}") from None
    if "@" in parts.netloc:
        raise UsageError(
            f"--base-url holds a user name or password; give a key in an environment variable instead, and {form[9:]}"
        )
    if "?" in base_url or "#" in base_url:
        raise UsageError(f"--base-url holds a query or fragment, which an address of an API does not have; {form}")
    if scheme not in _DEFAULT_PORTS or not host or port == 0 or re.search(r"(^|/)\.\.?(/|$)", parts.path):
        raise UsageError(f"--base-url is not an http or https address; {form}")
    if scheme == "http" and key is not None and not is_loopback(host):
        raise UsageError(
            "--base-url is http, which would send the key in the clear over the network; use https, or a server "
            "on this machine, or no key"
        )
    host = f"[{host}]" if ":" in host else host
    address = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    return f"{scheme}://{address}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether a host name or number is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
