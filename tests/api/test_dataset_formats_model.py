"""Any items in any format through any steps: other people's parsers find what the plain model says."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from api.test_datasets import new_dataset
from support import item_readers as readers
from support.item_model import columns, items, mended, shaped, spaces, steps, text_of, window
from support.item_readers import table_of
from support.properties import share
from support.storage_server import Answer, StorageServer

_pushes = st.lists(st.lists(items, min_size=1, max_size=3), max_size=3)
_windows = st.fixed_dictionaries(
    {}, optional={"offset": st.integers(0, 4), "limit": st.integers(0, 5), "desc": st.booleans()}
)
_PARAMETERS = {
    "skip_failed_pages": "skipFailedPages",
    "output_fields": "outputFields",
    "skip_hidden": "skipHidden",
    "skip_empty": "skipEmpty",
}


def _has_plain_names(found: dict[str, Any]) -> bool:
    """Whether every name can stand in a query's list, where spaces around a name and empty ones are nothing."""
    return all(name and name == name.strip() for value in found.values() if isinstance(value, tuple) for name in value)


async def _filled(server: StorageServer, pushes: list[list[dict[str, Any]]], space: str) -> str:
    dataset = await new_dataset(server)
    for pushed in pushes:
        body = text_of(pushed, space).encode()
        answer = await server.request(
            "POST", f"/v2/datasets/{dataset}/items", body, {"Content-Type": "application/json"}
        )
        assert answer.status == 201
    return dataset


def _query(found_window: dict[str, Any], found_steps: dict[str, Any]) -> dict[str, Any]:
    named = {_PARAMETERS.get(name, name): value for name, value in found_steps.items()}
    texts = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in named.items()}
    return {name: int(value) if isinstance(value, bool) else value for name, value in {**found_window, **texts}.items()}


@share(1)
@given(
    pushes=_pushes,
    space=spaces,
    found_window=_windows,
    found_steps=st.just({}) | steps().filter(_has_plain_names),
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", "a", "💛"]),
    bom=st.none() | st.booleans(),
    skip_header=st.booleans(),
)
async def test_every_format_agrees_with_the_model(
    server: StorageServer,
    pushes: list[list[dict[str, Any]]],
    space: str,
    found_window: dict[str, Any],
    found_steps: dict[str, Any],
    delimiter: str,
    bom: bool | None,
    skip_header: bool,
) -> None:
    dataset = await _filled(server, pushes, space)
    stored = mended([item for pushed in pushes for item in pushed])
    offset, limit, desc = found_window.get("offset", 0), found_window.get("limit"), found_window.get("desc", False)
    scanned = window(stored, offset, limit, desc=desc)
    expected = shaped(scanned, **found_steps)

    async def get(wanted: str, **more: Any) -> Answer:
        query = urlencode({**_query(found_window, found_steps), "format": wanted, **more})
        answer = await server.request("GET", f"/v2/datasets/{dataset}/items?{query}")
        assert answer.status == 200, answer.body
        names = ("Offset", "Limit", "Count", "Total", "Desc")
        assert [answer.headers[f"X-Apify-Pagination-{name}"] for name in names] == [
            str(offset), str(limit or 999_999_999_999), str(len(scanned)), str(len(stored)), json.dumps(desc),
        ]  # fmt: skip
        return answer

    body = (await get("json")).body
    assert mended(readers.read_json(body)) == expected
    if not found_steps:
        raw = window([text_of(item) for pushed in pushes for item in pushed], offset, limit, desc=desc)
        assert _without_space(body) == f"[{','.join(raw)}]".encode()
    assert mended(readers.read_json_lines((await get("jsonl")).body)) == expected

    fields = found_steps.get("output_fields") or found_steps.get("fields") or ()
    omitted = [name for name in found_steps.get("fields", ()) if name in found_steps.get("omit", ())]
    kept = [new for name, new in zip(found_steps.get("fields", ()), fields, strict=True) if name not in omitted]
    names = columns(expected, [one for one in kept if not (found_steps.get("skip_hidden") and one.startswith("#"))])
    table = table_of(expected, names)[skip_header:]
    options: dict[str, Any] = {"delimiter": delimiter, "skipHeaderRow": int(skip_header)}
    if bom is not None:
        options["bom"] = int(bom)
    found = readers.read_csv((await get("csv", **options)).body, delimiter, has_bom=bom is not False)
    assert found == (table if names else [])
    assert _no_nul(readers.read_html((await get("html")).body)) == _no_nul(table_of(expected, names))
    if names:
        sheet = readers.read_xlsx((await get("xlsx")).body)
        wanted = table_of(expected, names, readers.xlsx_cell)
        # Columns and rows without any value at the end are no part of a sheet.
        assert [row + [None] * (len(names) - len(row)) for row in sheet] == wanted[: len(sheet)]
        assert not any(value is not None for row in wanted[len(sheet) :] for value in row)

    root = readers.read_xml((await get("xml", xmlRoot="all", xmlRow="one")).body)
    assert root == ("all", {}, root[2], [element for item in expected for element in readers.xml_of("one", item)])
    feed = readers.read_xml((await get("rss", feedTitle="<&>")).body)
    channel = feed[3][0]
    assert channel[3][0] == ("title", {}, "<&>", [])
    assert channel[3][3:] == [element for item in expected for element in readers.xml_of("item", item)]


def _no_nul(table: list[list[str]]) -> list[list[str]]:
    # HTML has no such character; some versions of the parser replace it.
    return [[cell.replace("\0", "\ufffd") for cell in row] for row in table]


def _without_space(body: bytes) -> bytes:
    """The JSON as it is less the space around its tokens."""
    return text_of(readers.read_json(body)).encode()


@share(0.3)
@given(
    pushes=_pushes,
    size=st.integers(1, 4),
    desc=st.booleans(),
    found_steps=st.just({}) | steps().filter(_has_plain_names),
)
async def test_pages_joined_are_the_whole(
    server: StorageServer, pushes: list[list[dict[str, Any]]], size: int, desc: bool, found_steps: dict[str, Any]
) -> None:
    dataset = await _filled(server, pushes, "")

    async def page(**found_window: Any) -> Answer:
        query = urlencode(_query({"desc": desc, **found_window}, found_steps))
        return await server.request("GET", f"/v2/datasets/{dataset}/items?{query}")

    whole = json.loads((await page()).body)
    joined, offset = [], 0
    while count := int((answer := await page(offset=offset, limit=size)).headers["X-Apify-Pagination-Count"]):
        joined += json.loads(answer.body)
        offset += count
    assert joined == whole
    assert offset == sum(map(len, pushes))
