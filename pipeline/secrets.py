"""URLs without what opens them: user names, passwords and signed queries stay out of runs and logs."""

import re
from typing import Any

_URL = re.compile(r"([a-z][a-z0-9+.-]{0,30})?://(?:([^/\s?]*)@)?([^\s?]*)(\?\S*)?", re.IGNORECASE)
_CLOSING = "'\")]}>,.:;"


def without_secrets(text: str) -> str:
    """A URL, or any text with URLs in it, with `?…` for queries and without passwords.

    Web URLs lose any user name and query. Elsewhere a user name without a password is a place (Azure's
    container@account), and a question mark without `name=value` behind it is a glob.
    """
    return _URL.sub(_redacted, text)


def plain(values: Any) -> Any:
    """Nested mappings and lists with every string `without_secrets`."""
    if isinstance(values, str):
        return without_secrets(values)
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    return [plain(value) for value in values] if isinstance(values, list | tuple) else values


def _redacted(url: re.Match[str]) -> str:
    protocol, user, place, query = url[1] or "", url[2], url[3], url[4]
    web = protocol.lower() in ("http", "https")
    shown = f"{protocol}://"
    if user is not None and not web and ":" not in user:
        shown += f"{user}@"
    shown += place
    if not query or not (web or "=" in query):
        return shown + (query or "")
    # Quotes and stops that end the URL's sentence are not part of it.
    return f"{shown}?…{query[len(query.rstrip(_CLOSING)) :]}"
