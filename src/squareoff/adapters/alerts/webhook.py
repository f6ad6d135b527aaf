"""To a web address: one POST of JSON for each alert."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping

from squareoff.adapters.alerts.alert import Alert, NotDelivered, as_json
from squareoff.adapters.alerts.secret import SecretUrl

TIMEOUT_S = 10.0
_TO_TEST = "look at the url in alerts.toml, then run `squareoff alerts test`"


class Webhook:
    """Tries once; whether to try again is the relay's business. Any 2xx is "delivered". Redirects are not followed:
    a POST would arrive as a GET without its text, and with our secret headers at a host nobody named.

    `timeout_s` is for connecting and for each wait of an answer. Proxies of the environment are used.
    """

    is_remote = True

    def __init__(
        self, url: SecretUrl, *, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._headers = {"Content-Type": "application/json", "User-Agent": "squareoff", **(headers or {})}
        self._opener = opener()

    @property
    def name(self) -> str:
        return f"webhook {self._url}"

    def send(self, alert: Alert) -> None:
        body = json.dumps(as_json(alert)).encode()
        request(self._opener, self._url, body=body, headers=self._headers, timeout_s=self._timeout_s)


def opener() -> urllib.request.OpenerDirector:
    """For http and https alone, without redirects. Reading the certificates takes a while: make it once."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    return director


def request(
    director: urllib.request.OpenerDirector,
    url: SecretUrl,
    *,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
) -> None:
    """POST `body`, or GET if it is None. Raises NotDelivered, in whose words nothing of the URL or headers appears:
    Python's own messages would repeat them."""
    try:
        asked = urllib.request.Request(url.reveal(), data=body, headers=dict(headers))
        director.open(asked, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise _answered(error.code) from None
    except urllib.error.URLError as error:
        raise _not_reached(error.reason, timeout_s) from None
    except (OSError, http.client.HTTPException) as error:
        raise _not_reached(error, timeout_s) from None
    except ValueError:
        raise NotDelivered("the url or a header cannot be sent", mend=_TO_TEST) from None


def _answered(code: int) -> NotDelivered:
    if code == 429 or code >= 500:
        return NotDelivered(f"the other side answered HTTP {code}", mend="it may pass by itself", may_pass=True)
    if code in (401, 403):
        return NotDelivered(f"the other side answered HTTP {code}", mend="its token or password is not valid any more")
    if code in (404, 410):
        return NotDelivered(f"the other side answered HTTP {code}", mend=f"it does not know this address; {_TO_TEST}")
    if 300 <= code < 400:
        return NotDelivered(f"the address has moved (HTTP {code})", mend="put the new one into alerts.toml")
    return NotDelivered(f"the other side answered HTTP {code}", mend="it wants another address or other JSON")


def _not_reached(reason: object, timeout_s: float) -> NotDelivered:
    match reason:
        case TimeoutError():
            return NotDelivered(f"no answer within {timeout_s:g} s", mend="it may pass by itself", may_pass=True)
        case socket.gaierror():
            return NotDelivered("the host is not found", mend="look at the url and at this network", may_pass=True)
        case ssl.SSLCertVerificationError():
            return NotDelivered("the certificate of the other side cannot be verified", mend="look at the url")
        case ConnectionRefusedError():
            return NotDelivered("the host refuses connections", mend="look at the port in the url", may_pass=True)
        case http.client.InvalidURL():
            return NotDelivered("the url cannot be sent", mend=_TO_TEST)
        case OSError():
            return NotDelivered("the connection broke", mend="look at this network", may_pass=True)
    return NotDelivered("the other side does not speak HTTP", mend=_TO_TEST, may_pass=True)
