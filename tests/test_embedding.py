"""The Django template of docs/embedding.md, rendered; the rest of that document is tried in a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.template import Context, Template

from hermes_site.engines import Valkey
from tests.documents import blocks, section
from tests.test_templatetags import configuration, request_of

pytestmark = pytest.mark.django_db


def test_the_template_renders_with_the_toolkit_and_without_inline_scripts(alice: Any, valkey: Valkey) -> None:
    [snippet] = blocks(section("docs/embedding.md", "## A Django template"), "django")
    html = Template(snippet).render(Context({"request": request_of(alice)}))
    assert configuration(html)["room"] == "acme"
    scripts = re.findall(r"<script ([^>]*)>(.*?)</script>", html, re.DOTALL)
    assert [bool(body) for attributes, body in scripts if "json" not in attributes] == [False, False]
    assert html.count("data-hermes-bell") == 1
