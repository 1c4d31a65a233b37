"""What a browser loads: plain files, nothing from elsewhere, nothing that could become markup."""

import re

import pytest

from console.pages import assets
from console.shield import SECURITY_HEADERS

_ASSETS = assets()
_SCRIPTS = {name: asset.body.decode() for name, asset in _ASSETS.items() if name.endswith(".js")}
_HTML = _ASSETS["index.html"].body.decode()
_BYTES_MAX = 300 * 1024


def test_nothing_is_fetched_from_elsewhere():
    for name, asset in _ASSETS.items():
        addresses = re.findall(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'`<>]*", asset.body)
        assert [each for each in addresses if not each.startswith(b"http://www.w3.org/")] == [], name
        assert not re.search(rb"@import|url\(", asset.body), name


@pytest.mark.parametrize("name", sorted(_SCRIPTS))
def test_nothing_from_outside_can_become_markup_or_code(name: str):
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|javascript:"
    assert not re.search(forbidden, _SCRIPTS[name])


def test_the_content_policy_holds_for_the_page_itself():
    assert "default-src 'self'" in SECURITY_HEADERS["content-security-policy"]
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)", _HTML)


def test_every_module_that_is_imported_is_there_and_every_module_is_used():
    imported = {"app.js"}
    for text in _SCRIPTS.values():
        imported |= set(re.findall(r'from "\./([a-z]+\.js)"', text))
    assert imported == set(_SCRIPTS)


def test_every_element_a_script_asks_for_by_its_id_is_made_by_the_page_or_by_a_script():
    ids = set(re.findall(r'\sid="([^"]+)"', _HTML))
    for text in _SCRIPTS.values():
        ids |= set(re.findall(r'\bid: "([a-z-]+)"', text)) | {f"save-{each}" for each in ("csv", "jsonl", "arrow")}
    asked = {found for text in _SCRIPTS.values() for found in re.findall(r'\$\("#([a-z-]+)', text)}
    assert asked <= ids


def test_every_control_has_a_name_for_those_who_cannot_see_it():
    for text in _SCRIPTS.values():
        for made in re.findall(r'h\("(?:input|select|textarea)".*', text):
            assert "aria-label" in made or "aria-describedby" in made, made


def test_the_page_is_light():
    assert sum(len(asset.body) for asset in _ASSETS.values()) < _BYTES_MAX


def test_light_and_dark_name_the_same_colours():
    css = _ASSETS["style.css"].body.decode()
    light, dark = (
        set(re.findall(r"(--[a-z0-9-]+):\s*#", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    assert light == dark
    used = set(re.findall(r"var\((--[a-z0-9-]+)", css))
    defined = set(re.findall(r"(--[a-z0-9-]+):", css)) | {"--share", "--arm"}
    assert used <= defined
