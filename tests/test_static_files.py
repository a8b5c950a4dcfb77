"""The toolkit under hashed names, as production serves it: every import still finds its module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from hermes_site.engines import Valkey
from tests.test_templatetags import configuration, render

HASHED = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "hermes_site.storage.HashedModulesStorage"},
}
NAMES = re.compile(r'(?:from|import)\s*\(?"([^"]+)"')


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that `collectstatic` makes, and settings that serve it."""
    root = tmp_path_factory.mktemp("static")
    # Only our own: to compress the admin's too takes long and tells nothing about the toolkit.
    finders = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    with override_settings(STORAGES=HASHED, STATIC_ROOT=str(root), STATICFILES_FINDERS=finders):
        call_command("collectstatic", interactive=False, verbosity=0)
        yield root


def test_every_module_imports_hashed_modules_that_are_there(collected: Path) -> None:
    hashed = [path for path in collected.glob("*/*.js") if re.search(r"\.[0-9a-f]{12}\.js$", path.name)]
    ours = [path for path in hashed if path.parent.name in {"hermes", "demo", "hermes_admin"}]
    assert len(ours) >= 14
    for path in ours:
        for name in set(NAMES.findall(path.read_text("utf-8"))) - {
            "./types.js",
            "./toast_types.js",
        }:  # named in comments only
            assert re.search(r"\.[0-9a-f]{12}\.js$", name), (path.name, name)
            assert (path.parent / name).is_file(), (path.name, name)


@pytest.mark.django_db
def test_the_tag_names_hashed_files_that_are_there(collected: Path, alice: Any, valkey: Valkey) -> None:
    html = render(alice)
    assert configuration(html)["room"] == "acme"
    named = re.findall(r'(?:href|src)="/static/([^"]+)"', html)
    assert len(named) == 19
    for name in named:
        assert re.search(r"\.[0-9a-f]{12}\.(js|css)$", name)
        assert (collected / name).is_file()
