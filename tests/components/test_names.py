"""Libraries that read patterns, URLs or markup get a name from outside in one place each, which knows how."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONLY = {  # what no other module may call: the modules that may
    r"\bpl\.(read|scan)_\w+\((?!io\.BytesIO)": {"components/storage/parquet.py"},
    r"\.(sink|write)_(parquet|csv|ndjson|ipc)\((?!content\))": {"components/storage/parquet.py"},  # content is bytes
    r"\bpq\.(?!ParquetFile\((opened|again)\b)\w+\(|\bimport\b.*\b(fsspec|duckdb|pyarrow\.(dataset|fs|csv))\b": set(),
    r"\bConsole\(": {"components/console.py"},
    r"\bimport\b.*\b(Console|Progress|TextColumn)\b.*": {"components/console.py", "components/run/progress.py"},
    r"\brich\.(markup|print|prompt)\b|\bfrom_markup\b|RichHandler": set(),
    r"(?<!Use )\bsqlite(\+pysqlite)?:///": {"components/tracking/database.py"},
    r"\.as_uri\(|file://": {"components/tracking/database.py"},
    r"\bglob\.i?glob\(": set(),
    r"matplotlib|\bshell=True|os\.system\(": set(),
}


@pytest.mark.parametrize("pattern", ONLY)
def test_no_other_module_hands_names_to_a_library(pattern: str) -> None:
    calls = {
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("components", "pipelines")
        for file in (ROOT / folder).rglob("*.py")
        if str(file.relative_to(ROOT)) not in ONLY[pattern]
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    }
    assert not calls, f"{calls}: use {ONLY[pattern] or 'something else'}"
