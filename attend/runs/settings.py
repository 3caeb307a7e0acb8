"""Settings of a run in a file of the user's: YAML or JSON, nested as in config.json, or by dotted names."""

from pathlib import Path
from typing import Any

from attend.config import Config
from attend.config.text import fields, replace
from attend.paths import regular
from attend.runs.files import read_json

REMEDY = "write settings as `train: {epochs: 20}` or `train.epochs: 20`"


def with_file(config: Config, path: Path) -> Config:
    """A copy of a configuration with the settings that a file gives; a run's own config.json gives all of them.

    Text is read as the type of its field, since YAML takes 1e-3 for text.

    Raises ValueError with the name of the file, and of the field if one is unknown or of another type.
    """
    values = _read(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings by name: {REMEDY}")
    try:
        return replace(config, _flat(values))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:  # YAML can hold itself
        raise ValueError(f"{path} is nested too deeply: {REMEDY}") from None


def _read(path: Path) -> Any:
    if not path.exists():
        raise ValueError(f"there is no file {path}: name a YAML or JSON file of settings")
    if path.suffix == ".json":
        return read_json(path, remedy=REMEDY)
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"{path} is neither YAML nor JSON by its name: call it .yaml or .json")
    import yaml

    try:
        return yaml.safe_load(regular(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        at = f", line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise ValueError(f"{path}{at} is not readable as YAML: {REMEDY}") from None


def _flat(values: dict[Any, Any]) -> dict[str, Any]:
    """Settings by dotted name. Options are accepted as they are written: --train.learning-rate, --from."""
    sections = {name.split(".")[0] for name in fields() if "." in name}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = "start" if key == "from" else str(key).replace("-", "_")
        if name in sections and isinstance(value, dict | None):
            flat |= {f"{name}.{inner}".replace("-", "_"): one for inner, one in (value or {}).items()}
        elif name in sections:
            raise ValueError(f"{name} is {value!r}, but is a section: {REMEDY}")
        else:
            flat[name] = value
    return flat
