"""Values to files and back, by suffix: what `run` returns is saved, what `inputs` holds was loaded here.

| suffix | keeps |
|---|---|
| `.pickle` `.pkl` `.joblib` | any Python object (reading one trusts the store: it can run code) |
| `.json` `.yaml` `.yml` | nested lists and dicts of plain values |
| `.txt` `.md` `.html` `.log`, `.bin` `.bytes` | text, bytes |
| `.csv` `.tsv` `.parquet` `.feather` `.xlsx` | tables: pandas, polars or Arrow, as the reader's annotation says |
| `.npy` `.npz` | a NumPy array, a dict of arrays |
| a folder | a dict of names to values, or one table from many files |

Each suffix may be followed by `.gz` or `.zst`. A value either comes back equal to what was saved, or saving it
is refused with a `FormatError` before anything is written.
"""

from superluigi.formats.files import BY_TASK, load, save
from superluigi.formats.registry import Format, FormatSpec, known_suffixes, register, unregister
from superluigi.formats.suffix_inference import suffix_for

__all__ = ["BY_TASK", "Format", "FormatSpec", "known_suffixes", "load", "register", "save", "suffix_for", "unregister"]
