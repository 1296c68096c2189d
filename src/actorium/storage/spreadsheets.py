"""A spreadsheet written row by row into a temporary file, so that its size does not matter to memory."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.worksheet import Worksheet

from actorium.storage.db import noticing_full_disk

_MAX_ROWS = 1_048_576
_MAX_TEXT = 32_767
_EXACT = 1 << 53
_PIECE_BYTES = 256 * 1024
_OPTIONS = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}


class Number(str):
    """The text of a number that is not whole; in a cell it is rounded to 16 digits, and text if it is too large."""

    __slots__ = ()


class Spreadsheet:
    """An XLSX file in the making. ``close`` it in any case; blocking, for a thread.

    Text longer than 32,767 characters is cut, as a cell holds no more. Whole numbers beyond 2^53 become text,
    as a cell would round them. Rows that do not fit on a sheet go on on the next, under the same ``header``.
    Raises ``OutOfDiskSpaceError``.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._folder = tempfile.TemporaryDirectory(prefix="actorium-xlsx-")
        self._path = Path(self._folder.name) / "items.xlsx"
        self._book = xlsxwriter.Workbook(str(self._path), {**_OPTIONS, "tmpdir": self._folder.name})
        self._book.use_zip64()
        self._is_saved = False
        self._sheet, self._row = self._add_sheet()

    def _add_sheet(self) -> tuple[Worksheet, int]:
        sheet = self._book.add_worksheet()
        for number, name in enumerate(self._header):
            sheet.write_string(0, number, name)
        return sheet, 1 if self._header else 0

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows of cells: ``None``, booleans, whole numbers, ``Number`` or text."""
        with noticing_full_disk():
            for row in rows:
                if self._row >= _MAX_ROWS:
                    self._sheet, self._row = self._add_sheet()
                for number, value in enumerate(row):
                    if value is not None:
                        self._write(number, value)
                self._row += 1

    def _write(self, column: int, value: Any) -> None:
        if isinstance(value, bool):
            self._sheet.write_boolean(self._row, column, value)
        elif isinstance(value, Number):
            number = float(value)
            if math.isfinite(number):
                self._sheet.write_number(self._row, column, number)
            else:
                self._sheet.write_string(self._row, column, value)
        elif isinstance(value, int) and -_EXACT <= value <= _EXACT:
            self._sheet.write_number(self._row, column, value)
        else:
            self._sheet.write_string(self._row, column, str(value)[:_MAX_TEXT])

    def pieces(self) -> Iterator[bytes]:
        """Finish the file, then read it."""
        with noticing_full_disk():
            try:
                self._book.close()
            except FileCreateError as error:
                raise error.args[0] from error  # what the library was told by the system
        self._is_saved = True
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def close(self) -> None:
        """Delete the file."""
        if not self._is_saved:
            # Saving would write a file nobody wants; without it the library leaves its own files open.
            for sheet in self._book.worksheets():
                with contextlib.suppress(OSError):  # of a full disk
                    sheet._opt_close()
        self._folder.cleanup()
