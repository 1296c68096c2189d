"""Checks of an input's fields beyond JSON schema: sources, patterns of pairs, proxies, secrets. docs: input_schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from actorium.domain.input_schemas.messages import listed
from actorium.domain.input_secrets import fits_schema, is_encrypted_for
from actorium.domain.javascript_patterns import compile_pattern

_PROXY_URL = r"^(socks(4|4a|5|5h)?|https?):\/\/(([^:]+:)?[^@]*@)?[^.:@]+\.[^:]+:[\d]+?$"
_COUNTRY_CODES = (
    "AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW "
    "BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ "
    "FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ "
    "IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH "
    "MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL "
    "PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC "
    "TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
_COUNTRIES = frozenset(_COUNTRY_CODES.split())


def check_field(name: str, field: dict[str, Any], value: Any, *, is_required: bool) -> Iterator[str]:
    """What is wrong with the value of a field; ``None`` stands for no value too."""
    type_, editor = field.get("type"), field.get("editor")
    if type_ == "object" and editor == "proxy":
        yield from _proxy(name, value, is_required=is_required)
    if type_ == "array" and isinstance(value, list) and value:
        if editor == "requestListSources":
            yield from _sources(name, value)
        yield from _pair_patterns(name, field, value)
    if type_ == "object" and isinstance(value, dict):
        yield from _object_patterns(name, field, value)
    if field.get("isSecret") and is_encrypted_for(value, type_) and not fits_schema(value, field):
        yield (
            f"The field schema.properties.{name} is a secret field, but its schema has changed. "
            "Please update the value in the input editor."
        )


def _sources(name: str, value: list[Any]) -> Iterator[str]:
    wrong = [position for position, item in enumerate(value) if not _is_source(item)]
    if wrong:
        yield f"Items in input.{name} at positions [{listed(wrong)}] do not contain valid URLs"


def _is_source(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    urls = [item[key] for key in ("url", "requestsFromUrl") if item.get(key)]
    return bool(urls) and all(isinstance(url, str) and url[:8].lower().startswith(_HTTP) for url in urls)


_HTTP = ("http://", "https://")


def _matching(pattern: str) -> Callable[[Any], bool]:
    return compile_pattern(pattern).is_valid


def _pair_patterns(name: str, field: dict[str, Any], value: list[Any]) -> Iterator[str]:
    """``patternKey`` and ``patternValue`` of an array of pairs or texts."""
    editor = field.get("editor")
    for keyword, what, part in (("patternKey", "Keys", "key"), ("patternValue", "Values", "value")):
        pattern = field.get(keyword)
        if not pattern or editor not in (("keyValue", "stringList") if part == "value" else ("keyValue",)):
            continue
        matches = _matching(pattern)
        wrong = [
            position
            for position, item in enumerate(value)
            if not matches(item if editor == "stringList" else item.get(part) if isinstance(item, dict) else None)
        ]
        if wrong:
            yield _own_message(field, keyword) or (
                f'{what} in input.{name} at positions [{listed(wrong)}] must match regular expression "{pattern}"'
            )


def _object_patterns(name: str, field: dict[str, Any], value: dict[str, Any]) -> Iterator[str]:
    if pattern := field.get("patternKey"):
        wrong = [key for key in value if not _matching(pattern)(key)]
        if wrong:
            yield _own_message(field, "patternKey") or (
                f'Keys [{listed(wrong)}] in input.{name} must match regular expression "{pattern}'
            )
    if pattern := field.get("patternValue"):
        wrong = [key for key, item in value.items() if not _matching(pattern)(item)]
        if wrong:
            yield _own_message(field, "patternValue") or (
                f"Keys [{listed(wrong)}] in input.{name} must have string value which matches "
                f'regular expression "{pattern}"'
            )


def _own_message(field: dict[str, Any], keyword: str) -> str | None:
    messages = field.get("errorMessage")
    own = messages.get(keyword) if isinstance(messages, dict) else None
    return own if isinstance(own, str) else None


def _proxy(name: str, value: Any, *, is_required: bool) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    uses_apify, urls = bool(value.get("useApifyProxy")), value.get("proxyUrls")
    country = value.get("apifyProxyCountry")
    if is_required and not uses_apify and not (isinstance(urls, list) and urls):
        yield f"Field input.{name} is required. Please provide custom proxy URLs or use Apify Proxy."
        return
    if uses_apify:
        if country and country not in _COUNTRIES:
            yield f'Country code "{country}" is invalid. Only ISO 3166-1 alpha-2 country codes are supported.'
        return
    wrong = [url for url in urls if not _is_proxy_url(url)] if isinstance(urls, list) else []
    if wrong:
        yield (
            f'Proxy URL "{str(wrong[-1]).strip()}" has invalid format, it must be '
            "socks[4|4a|5|5h]|http[s]://[username[:password]]@hostname:port."
        )
    if country:
        yield "The country for Apify Proxy can be specified only when using Apify Proxy."


def _is_proxy_url(url: Any) -> bool:
    return isinstance(url, str) and _matching(_PROXY_URL)(url.strip())
