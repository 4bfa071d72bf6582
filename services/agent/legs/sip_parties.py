"""Who called whom, from a request's headers (RFC 3261 sections 20.20 and 20.39, RFC 3325, RFC 5806, RFC 7315)."""

import re
from collections.abc import Mapping, Sequence

ADDRESS = re.compile(r"<([^>]*)>")
SIP_URI = re.compile(r"sips?:[^\s<>\"@]+(@[^\s<>\"@]+)?", re.ASCII)
NUMBER = re.compile(r"\+?[0-9*#]{1,32}", re.ASCII)


def uri_of(header: str) -> str:
    """The URI of an address header: `"Ann" <sip:ann@example.com>;tag=1` gives `sip:ann@example.com`.

    Of several values (Diversion, P-Asserted-Identity) the first one counts: the latest diversion.
    """
    unquoted = re.sub(r'"(\\.|[^"\\])*"', "", header)
    bracketed = ADDRESS.search(unquoted)
    return bracketed.group(1).strip() if bracketed else re.split("[;,]", unquoted, maxsplit=1)[0].strip()


def party(headers: Mapping[str, str], names: Sequence[str], otherwise: str) -> str:
    """The URI in the first of the named headers that has one."""
    by_name = {name.lower(): value for name, value in headers.items()}
    for name in names:
        uri = uri_of(by_name.get(name.lower(), ""))
        if uri:
            return uri
    return otherwise


def host_of(uri: str) -> str:
    """Host and port of a SIP URI, without user and parameters: `sip:1@example.com:5070;user=phone` gives
    `example.com:5070`."""
    return re.split("[;?]", uri.partition(":")[2].rpartition("@")[2], maxsplit=1)[0].lower()
