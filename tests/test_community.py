"""CITATION.cff, CHANGELOG.md, CONTRIBUTING.md and the issue templates say what is there."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import attend
from tests import test_readme

ROOT = Path(__file__).parents[1]
FIELDS = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
    "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
    "repository-code", "title", "type", "url", "version",
}  # fmt: skip
"""All that version 1.2.0 of the Citation File Format knows at the top."""


def test_the_citation_has_all_that_it_must_have_and_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys() <= FIELDS
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    assert cited["version"] == attend.__version__ == metadata["metadata"]["version"]
    assert cited["license"] == metadata["metadata"]["license"]
    for work in (cited, *cited["references"]):
        people = [{"family-names", "given-names"} == one.keys() or {"name"} == one.keys() for one in work["authors"]]
        assert work["title"] and all(people) and people


@pytest.mark.slow  # it is installed for this test alone: it holds others of our tools to old versions
def test_the_citation_is_valid_to_the_formats_own_program(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path), "cffconvert>=2.0"]
    subprocess.run(install, check=True, capture_output=True)
    run = [sys.executable, "-W", "ignore", "-c", "from cffconvert.cli.cli import cli; cli()"]
    places = {"env": os.environ | {"PYTHONPATH": str(tmp_path)}, "cwd": ROOT}
    valid = subprocess.run([*run, "--validate"], capture_output=True, text=True, **places)
    assert valid.returncode == 0, valid.stderr
    entry = subprocess.run([*run, "--format", "bibtex"], capture_output=True, text=True, check=True, **places).stdout
    assert "The attend authors" in entry


def test_the_changelog_has_this_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" and headings[1].split()[0] == attend.__version__


def test_the_map_of_the_rooms_is_whole_and_every_path_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"`((?:attend|analysis|experiments|tests|docs)/[\w./-]*)`", text))
    assert all((ROOT / path).exists() for path in paths), paths
    packages = {f"attend/{path.name}/" for path in (ROOT / "attend").iterdir() if (path / "__init__.py").exists()}
    assert packages <= paths and {"analysis/", "experiments/", "tests/"} <= set(
        re.findall(r"^\| `([^`]+)`", text, re.M)
    )
    targets = re.findall(r"^ {4}make ([\w-]+)", text, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets and all(f"\n{target}:" in makefile for target in targets)


@pytest.mark.parametrize("file", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.stem)
def test_an_issue_template_is_a_form(file):
    form = yaml.safe_load(file.read_text())
    if file.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= form.keys() <= {"name", "description", "title", "labels", "body"}
    fields = [field["id"] for field in form["body"]]
    assert len(fields) == len({*fields})
    for field in form["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"} and field["attributes"]["label"]
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert field["attributes"].keys() <= {"label", "description", "placeholder", "render", "value"}


PAGE = (ROOT / "docs/other-tools.md").read_text()


@pytest.mark.parametrize("command", re.findall(r"^ {4}attend (\w+ .+?)(?: +#.*)?$", PAGE, flags=re.MULTILINE))
def test_every_command_of_the_page_on_other_tools_is_one(command):
    test_readme.test_every_command_is_one(command)


def test_the_settings_of_the_page_are_settings(tmp_path):
    from attend.config import Config
    from attend.runs.settings import with_file

    (text,) = re.findall(r"```yaml\n(.+?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    found = with_file(Config(), tmp_path / "mine.yaml")
    assert (found.data, found.encoder.name, found.train.epochs) == ("data/mine", "resnet50", 20)
    assert found.train.learning_rate == 0.001
