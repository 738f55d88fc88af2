"""Records of a metadata file, streamed: JSON lines, CSV or Parquet. A line that cannot be read loses itself alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.sources.item import BadRow, SourceError

NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
Found = tuple[str, dict[str, Any]] | BadRow


def column_names(path: Path) -> list[str]:
    """Names of the columns; of JSON lines those of the first thousand lines."""
    if path.suffix == ".parquet":
        return [str(name) for name in _parquet(path).schema_arrow.names]
    if path.suffix == ".csv":
        with path.open("rb") as file:
            head = file.readline().decode("utf-8-sig", "replace")
        return next(csv.reader([head]), [])
    names: dict[str, None] = {}
    for count, found in enumerate(_json_lines(path, path.name)):
        if not isinstance(found, BadRow):
            names |= dict.fromkeys(found[1])
        if count >= 1000:
            break
    return list(names)


def records(path: Path, label: str) -> Iterator[Found]:
    """(locator, record) of each row of `path`, or a `BadRow`; `label` is the file's name in locators."""
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, label)
    elif path.suffix == ".csv":
        yield from _csv_rows(path, label)
    else:
        yield from _json_lines(path, label)


def _json_lines(path: Path, label: str) -> Iterator[Found]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            locator = f"{label}:{number}"
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                yield BadRow(locator, "row_not_utf8", f"byte {error.start} of the line is not UTF-8")
                continue
            except (json.JSONDecodeError, RecursionError) as error:
                yield BadRow(locator, "row_not_json", f"the line is not JSON ({error})")
                continue
            if isinstance(record, dict):
                yield locator, record
            else:
                yield BadRow(locator, "row_bad_type", f"the line holds {type(record).__name__}, not an object")


def _csv_rows(path: Path, label: str) -> Iterator[Found]:
    csv.field_size_limit(16_000_000)
    # bytes that are not UTF-8 become lone surrogates, so that the row they stand in can be told and lost alone
    with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, restval=None, restkey="")
        try:
            for record in reader:
                locator = f"{label}:{reader.line_num}"
                extra = record.pop("", None)
                if extra:
                    yield BadRow(locator, "row_bad_type", "the row has more cells than the header")
                elif any(_broken(value) for value in record.values()):
                    yield BadRow(locator, "row_not_utf8", "the row holds bytes that are not UTF-8")
                else:
                    yield locator, dict(record)
        except csv.Error as error:
            yield BadRow(f"{label}:{reader.line_num}", "row_not_csv", f"the rest cannot be read ({error})")


def _broken(text: str | None) -> bool:
    return text is not None and any("\ud800" <= character <= "\udfff" for character in text)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path.name} is not a Parquet file ({error}); write it anew") from None


def _parquet_rows(path: Path, label: str) -> Iterator[Found]:
    number = 0
    for batch in _parquet(path).iter_batches(batch_size=2_000):
        for record in batch.to_pylist():
            number += 1
            yield f"{label}:{number}", record
