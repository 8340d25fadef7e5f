"""The report in a real browser.

Needs the extra `browser` and a Chromium: one that Playwright has installed, or is found
on the path, or that DRIFA_BROWSER names.
"""

import os
import shutil

import pytest

from drifa_keras.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser`")

WIDTHS = (390, 1440)
SCHEMES = ("light", "dark")
MARKUP = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>"


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    paths = [os.environ.get("DRIFA_BROWSER"), *map(shutil.which, names)]
    path = next(filter(None, paths), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path)
        except sync_api.Error as error:
            pytest.skip(f"no browser can be started: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(make_run):
    return write_report(
        make_run(
            name=MARKUP,
            class_names={"lesion": (MARKUP, "nevus")},
            prefix=MARKUP,
            leakage=[MARKUP],
        )
    )


@pytest.fixture
def opened(browser, report):
    """Open the report; what it said and asked for is in `page.said`."""
    pages = []

    def open_page(width=1440, scheme="light"):
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        pages.append(page)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                request.url.startswith("data:") or page.said.append(request.url)
            ),
        )
        page.goto(report.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_opens(opened, report, width, scheme):
    page = opened(width, scheme)
    assert page.said == [report.as_uri()]
    loaded = page.evaluate(
        "[...document.images].map(i => i.complete && i.naturalWidth > 0)"
    )
    assert len(loaded) == 17 and all(loaded)
    # Only tables and wide figures scroll sideways, the page does not.
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.title() == f"Report on {MARKUP}"
    assert MARKUP in page.inner_text("main")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("what", ["body", ".warning", "figcaption", "dt", "nav a"])
def test_text_can_be_read(opened, scheme, what):
    """Contrast of at least 4.5, as WCAG 2 AA asks."""
    colours = opened(scheme=scheme).evaluate(
        """(what) => {
            const element = document.querySelector(what);
            let behind = element;
            const paper = (e) => getComputedStyle(e).backgroundColor;
            while (paper(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
            return [getComputedStyle(element).color, paper(behind)];
        }""",
        what,
    )
    light, dark = sorted(map(luminance, colours), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
    if what == "body":
        assert (luminance(colours[1]) < 0.1) == (scheme == "dark")


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)`, by WCAG 2."""
    values = [int(part) / 255 for part in colour.strip("rgb()").split(",")]
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
    ]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_keyboard_reaches_everything(opened):
    page = opened(width=390)
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("e => e === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(
        "document.querySelector('main').contains(document.activeElement)"
    )
    unreachable = page.evaluate(
        """[...document.querySelectorAll(".scroll")].filter(
            e => e.scrollWidth > e.clientWidth && e.tabIndex < 0).length"""
    )
    assert unreachable == 0
    page.evaluate("document.activeElement.blur()")
    page.locator("nav a").last.press("Enter")
    assert page.url.endswith("#robustness")
    assert 0 <= page.locator("#robustness").bounding_box()["y"] < 100


def test_page_prints(opened):
    page = opened(scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert luminance(paper) == 1
    # A4 less the margins of a browser, at 96 pixels an inch.
    page.set_viewport_size({"width": 718, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") == 718
    larger = page.evaluate(
        "[...document.images].filter(i => i.clientWidth > i.getAttribute('width'))"
    )
    assert larger == []
    assert page.pdf(format="A4").startswith(b"%PDF")
