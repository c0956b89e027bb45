"""The page's libraries are bundled once, and what was kept is used only as it was written."""

import vl_convert

from experiments.report import libraries as bundled


def test_the_bundle_is_kept_and_anything_else_in_its_place_is_not_used(tmp_path, monkeypatch):
    asked = []

    def bundle(snippet):
        asked.append(snippet)
        return "let vega = '</script>';"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def text():
        bundled.libraries.cache_clear()
        return bundled.libraries()

    expected = "let vega = '<\\/script>';"
    assert [text(), text()] == [expected, expected] and len(asked) == 1
    (kept,) = (tmp_path / "batchscale").iterdir()
    kept.write_text(kept.read_text().replace("let", "var"))
    assert text() == expected and len(asked) == 2  # bundled anew, and kept again
    assert text() == expected and len(asked) == 2
    kept.unlink()
    (tmp_path / "batchscale").rmdir()
    (tmp_path / "batchscale").write_text("no folder")
    assert text() == expected and len(asked) == 3
    monkeypatch.undo()
    bundled.libraries.cache_clear()
