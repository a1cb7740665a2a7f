"""The start of `rgt web`, also where Gradio and a browser are missing."""

import os
import sys
import types
from pathlib import Path

import pytest

from rgt_arch.cli import main
from rgt_arch.errors import UserError


def test_missing_gradio_is_named_with_its_remedy(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["web"]) == 1
    assert capsys.readouterr().err == (
        "rgt web: error: the page is made with Gradio, which is not installed; pip install 'rgt-arch[web]'\n"
    )


@pytest.fixture
def pages(monkeypatch):
    """Replace the page by one that cannot be launched; returns what such pages are made with."""
    made = []

    class Page:
        def __init__(self, *given):
            made.append(given)

        def launch(self, *given):
            assert Path(os.environ["GRADIO_TEMP_DIR"]).is_dir()
            raise UserError("no address")

        def close(self):
            made.append("closed")

    module = types.ModuleType("rgt_arch.web.page")
    module.Page = Page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("rgt_arch.web.Upscaler", lambda name: f"Upscaler of {name}")
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # so that it is restored
    return made


def test_preset_are_the_weights_for_the_kind_of_file(pages):
    assert main(["web"]) == 1
    (upscalers, choices, folder), closed = pages
    assert list(choices.items())[:3] == [
        ("by the kind of file", None),
        ("RGT_T_x4", "RGT_T_x4"),
        ("RGT_T_x4_photo", "RGT_T_x4_photo"),
    ]
    assert {"RGT_T_x2", *filter(None, choices.values())} == set(upscalers)
    assert upscalers["RGT_T_x2"] == "Upscaler of RGT_T_x2"
    assert closed == "closed"
    assert not folder.exists()


def test_given_weights_are_the_only_choices_and_the_first_is_preset(pages):
    assert main(["web", "-w", "b.pth", "RGT_T_x4"]) == 1
    (upscalers, choices, _), _ = pages
    assert list(choices.items()) == [("b.pth", "b.pth"), ("RGT_T_x4", "RGT_T_x4")]
    assert list(upscalers) == list(choices)
