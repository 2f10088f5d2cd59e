"""The page in a real browser, from file://: sorting, filters, slider, origins, downloads, pages.

Nothing is fetched: requests for anything but the file itself and what it holds are refused and fail
the test, as does a word on the console. Needs Playwright and a Chromium that is installed already.
"""

import io
import os
import re
import shutil
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from irbench.present import style
from irbench.present.tidy import to_csv
from irbench.report import collect
from irbench.report.facts import verdict
from irbench.report.page import page
from irbench.report.plots import crops
from irbench.report.tables import files, sheets, summary, tables
from tests.helpers import report_fast
from tests.helpers import report_fixtures as fixtures

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)
pytestmark = [pytest.mark.browser, pytest.mark.slow,
              pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
CROPS = "crops-denoise_color-sigma25@1-photos"
TABLE = "#table-of-sr-x2"


def write_page(builder, shown):
    """The page of a run; ``shown``: stem of a figure by the name of its drawing.

    Its figures are plain pictures: drawing has tests of its own.
    """
    run, folder = collect.collect(builder.folder, builder.plan), builder.folder
    made, plain, judged = tables.build(run), sheets.build(run), verdict.all_verdicts(run)
    (folder / "tables").mkdir()
    (folder / "figures").mkdir()
    (folder / "summary.csv").write_text(summary.summary(run))
    for stem in {table.stem for table in made}:
        for suffix, text in files.texts([t for t in made if t.stem == stem]).items():
            (folder / f"tables/{stem}.{suffix}").write_text(text)
    for stem, one in plain.items():
        (folder / f"tables/{stem}.csv").write_text(to_csv(one))
    drawings = {name: style.Drawing() for name in ("training", "ksweep", "scaling", "attention")}
    for name, stem in shown.items():
        figures = [style.Drawn(stem, stem, "A caption.", "A picture.")]
        drawings[name] = (crops.Crops(figures, comparisons=crops.comparisons(run))
                          if name == "crops" else style.Drawing(figures))
        noisy = np.random.default_rng(len(stem)).integers(0, 256, (30, 71, 3), dtype=np.uint8)
        noisy = noisy.repeat(30, axis=0).repeat(30, axis=1)     # as wide as a plot
        Image.fromarray(noisy).save(folder / f"figures/{stem}.png")
        (folder / f"figures/{stem}.pdf").write_bytes(b"%PDF-1.4 " + stem.encode())
        (folder / f"figures/{stem}.svg").write_text(f"<svg xmlns='x'><!-- {stem} \u00d7 --></svg>")
    path = folder / "report.html"
    path.write_text(page.render(run, made, plain, drawings, judged), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page of a small run with restored images."""
    builder = fixtures.small_run(tmp_path_factory.mktemp("page") / "demo")
    noise = "denoise_color-sigma25@1"
    grid = np.indices((120, 160)).sum(axis=0)
    for image in ("image0", "image1"):
        for part, level in (("_target", 0), ("_input", 3), ("input", 3), ("compacter", 1)):
            builder.image(noise, "photos", part, image, np.repeat(
                (grid * (level + 1) % 256)[..., None], 3, axis=2).astype("uint8"))
    builder.plan["cells"] = [c for c in builder.plan["cells"] if c["protocol"] != noise]
    for model, psnr in (("input", [20.2, 20.3]), ("compacter", [29.2, 29.5])):
        builder.cell(noise, "photos", model, {"psnr": psnr, "ssim": [0.4, 0.42]}, kept=True)
    return write_page(builder, {"quality": "quality", "crops": CROPS})


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """The page of a run with variants, sweeps, dictionaries and the benchmark of attention."""
    return write_page(report_fast.fast_run(tmp_path_factory.mktemp("fast") / "fast"),
                      {name: name for name in ("quality", "ksweep", "scaling", "attention")})


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The page of a run with verdicts, leaks, sets that are not here."""
    return write_page(fixtures.wide_run(tmp_path_factory.mktemp("wide") / "wide"),
                      {"quality": "quality"})


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """The page of super-resolution in six tables: three scales, all methods and small ones."""
    builder = fixtures.Builder(tmp_path_factory.mktemp("six") / "six")
    names = {"set5": 5, "set14": 14, "bsd100": 20, "urban100": 20, "manga109": 20}
    for name, count in names.items():
        builder.dataset(name, name.capitalize(), count)
    builder.model("bicubic", "Bicubic", learned=False, published_as="bicubic")
    for name, title in (("compacter", "Compacter"), ("semanir", "SemanIR-S"), ("swinir", "SwinIR")):
        builder.model(name, title, published_as=title, checkpoint={"kind": "file"})
    for level, low in ((2, 33.0), (3, 30.0), (4, 28.0)):
        for model, more, parameters in (("bicubic", 0, 0), ("compacter", 3, 392_000),
                                        ("semanir", 3.2, 900_000), ("swinir", 3.5, 11_800_000)):
            for name, count in names.items():
                builder.cell(f"sr-x{level}@2", name, model, {
                    "psnr": [low + more + i / 10 for i in range(count)],
                    "ssim": [0.9 + more / 100] * count})
            if parameters:
                builder.profile(f"sr-x{level}@2", model, {"parameters": parameters})
    return write_page(builder, {"quality": "quality", "distributions": "distributions-sr"})


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = started.chromium.launch(executable_path=CHROMIUM, args=root)
        yield found
        found.close()


@pytest.fixture
def show(built, browser):
    """Open the page at an address; at the end nothing may have been asked for or complained of."""
    contexts, messages, asked = [], [], []

    def refuse(route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    def open_(anchor="", width=1200, height=900, path=built, **settings):
        context = browser.new_context(viewport={"width": width, "height": height},
                                      accept_downloads=True, **settings)
        contexts.append(context)
        context.route("**/*", refuse)
        tab = context.new_page()
        tab.set_default_timeout(15000)
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url) if not request.url.startswith(
            (path.as_uri(), "data:", "blob:")) else None)
        tab.goto(path.as_uri() + (f"#{anchor}" if anchor else ""))
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert messages == [] and asked == []


def column(tab, table, index, block="tbody:not(.rule):not(.published)"):
    """What the rows that are shown have in a column, top to bottom."""
    return tab.eval_on_selector_all(
        f"{table} {block} tr:not([hidden])", "(rows, i) => rows.map(row => "
        "(row.cells[i].querySelector('a.origin, .none') ?? row.cells[i]).textContent.trim())",
        index)


def settled(tab):
    """Wait for the sorting, which runs by a timer of a millisecond."""
    tab.evaluate("new Promise(done => setTimeout(done, 20))")


def head(tab, table, name):
    return tab.locator(f"{table} thead tr:last-child th", has_text=name).first


def shown(tab):
    # a changed address is answered by an event, after what changed it
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    return tab.eval_on_selector_all(
        "main > section", "all => all.filter(one => one.checkVisibility()).map(one => one.id)")


# -- tables --------------------------------------------------------------------------------------

def test_sorting_by_click_is_by_exact_numbers_and_keeps_the_blocks_apart(show):
    tab = show("task-sr")
    before = column(tab, TABLE, 0, "tbody.published")
    psnr = head(tab, TABLE, "PSNR")
    assert psnr.get_attribute("aria-sort") is None
    psnr.locator("button").click()
    settled(tab)
    # 35.501 is more than 35.5, which is shown alike; no figure comes last
    assert [name[:7] for name in column(tab, TABLE, 0)] == ["SemanIR", "Compact", "Bicubic",
                                                            "SemanIR"]
    assert column(tab, TABLE, 2) == ["35.50", "35.50", "33.50", "n/a"]
    psnr.locator("button").click()
    settled(tab)
    assert psnr.get_attribute("aria-sort") == "ascending"
    assert column(tab, TABLE, 2) == ["33.50", "35.50", "35.50", "n/a"]
    assert [name[:7] for name in column(tab, TABLE, 0)][2] == "SemanIR"
    # published rows stay below their heading, and are the same ones
    assert sorted(column(tab, TABLE, 0, "tbody.published")) == sorted(before)
    assert tab.eval_on_selector_all(f"{TABLE} tbody", "all => all.map(one => one.className)") == [
        "", "rule", "published"]


def test_a_published_block_is_sorted_within_itself(show):
    tab = show("task-sr")
    index = 5                                   # PSNR on Set5
    tab.locator(f"{TABLE} thead tr:last-child th").nth(index).locator("button").click()
    settled(tab)
    figures = [float(n) for n in column(tab, TABLE, index, "tbody.published") if n[0].isdigit()]
    assert len(figures) > 3 and figures == sorted(figures, reverse=True)
    assert figures[0] > 38 > max(float(n) for n in column(tab, TABLE, index) if n[0].isdigit())


def test_sorting_by_keyboard(show):
    tab = show("task-sr")
    head(tab, TABLE, "Parameters").locator("button").focus()
    tab.keyboard.press("Enter")
    settled(tab)
    assert column(tab, TABLE, 1) == ["11.87 M", "392 K", "0", "n/a"]
    tab.keyboard.press("Space")
    settled(tab)
    assert column(tab, TABLE, 1) == ["0", "392 K", "11.87 M", "n/a"]
    assert head(tab, TABLE, "Parameters").get_attribute("aria-sort") == "ascending"
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Enter")                 # names: upwards first
    settled(tab)
    assert head(tab, TABLE, "Method").get_attribute("aria-sort") == "ascending"
    assert head(tab, TABLE, "Parameters").get_attribute("aria-sort") is None
    assert column(tab, TABLE, 0)[0].startswith("Bicubic")


def test_less_is_better_sorts_upwards_first(show):
    tab = show("task-sr")
    head(tab, TABLE, "LPIPS").locator("button").click()
    settled(tab)
    assert head(tab, TABLE, "LPIPS").get_attribute("aria-sort") == "ascending"
    assert column(tab, TABLE, 4) == ["0.1100", "0.2100", "n/a", "n/a"]


def test_filter_says_how_many_rows_are_left(show):
    tab = show("task-sr")
    tools = tab.locator(f".tools[data-for={TABLE[1:]}]")
    total = int(re.search(r"of (\d+)", tools.locator("output").inner_text())[1])
    assert tools.locator("output").get_attribute("aria-live") == "polite"
    tools.get_by_label("Filter rows").fill("compacter")
    names = column(tab, TABLE, 0) + column(tab, TABLE, 0, "tbody.published")
    assert names and all("ompacter" in name for name in names) and len(names) < total
    assert tools.locator("output").inner_text() == f"{len(names)} of {total} rows shown"
    tools.get_by_label("Filter rows").fill("35.50 semanir")         # every word, in any order
    assert len(column(tab, TABLE, 0)) == 1
    assert not tab.locator(f"{TABLE} tr.rule").is_visible()
    tools.get_by_label("Filter rows").fill("no such thing")
    assert tools.locator("output").inner_text() == f"0 of {total} rows shown"
    tools.get_by_label("Filter rows").fill("")
    assert tab.locator(f"{TABLE} tr.rule").is_visible()


def test_rows_that_go_on_can_be_found_and_sorted_alone(show):
    tab = show("trainings")
    table = "#table-of-training"
    assert not any(one.is_visible() for one in tab.locator(f"{table} .again").all())
    scored = tab.locator(f"{table} tbody tr").count()
    tab.locator(".tools[data-for=table-of-training]").get_by_label("Filter rows").fill("compacter")
    names = tab.locator(f"{table} tbody th:visible").all_inner_texts()
    assert len(names) > 2 and all("Compacter" in name for name in names) and len(names) < scored


def test_columns_of_one_set(show):
    tab = show("task-sr")
    tab.locator(f".tools[data-for={TABLE[1:]}] select").select_option(label="Set5")
    heads = tab.locator(f"{TABLE} thead th:visible").all_inner_texts()
    assert "Photos" not in heads and "Set5" in heads
    widths = tab.eval_on_selector_all(
        f"{TABLE} tr:not(.rule)", "rows => rows.map(row => [...row.cells].filter(c => !c.hidden)"
        ".reduce((sum, cell) => sum + cell.colSpan, 0))")
    assert len(set(widths)) == 1
    tab.locator(f".tools[data-for={TABLE[1:]}] select").select_option(label="all")
    assert "Photos" in tab.locator(f"{TABLE} thead th:visible").all_inner_texts()


def test_differences_and_ranks_are_shown_on_request(show):
    tab = show("task-sr")
    tools = tab.locator(f".tools[data-for={TABLE[1:]}]")
    for label, mark in (("Difference to published", ".difference"), ("Ranks", ".place")):
        first = tab.locator(f"{TABLE} {mark}").first
        assert not first.is_visible()
        tools.get_by_label(label).check()
        assert first.is_visible() and first.inner_text().strip()
        tools.get_by_label(label).uncheck()
        assert not first.is_visible()


# -- origins -------------------------------------------------------------------------------------

def test_a_value_shows_its_origin(show):
    tab = show("task-sr")
    link = tab.locator(f"{TABLE} a.origin", has_text="33.50").first
    link.focus()
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog")
    assert dialog.is_visible()
    text = dialog.inner_text()
    for part in ("Bicubic on Photos", "PSNR 33.5 dB", "results/demo/cells/sr-x2@1/photos/bicubic",
                 "irbench eval --config CONFIG --protocol sr-x2@1 --dataset photos --model bicubic",
                 "MATLAB bicubic", "Fingerprint", "image0"):
        assert part in text, part
    assert shown(tab) == ["task-sr"]            # the address did not change
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert link.evaluate("one => one === document.activeElement")
    link.click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible() and link.evaluate("one => one === document.activeElement")


def test_a_printed_value_shows_its_source(show):
    tab = show("task-sr")
    tab.locator(f"{TABLE} button.unfold").click()       # the section has more than three tables
    link = tab.locator(f"{TABLE} tbody.published a.origin").first
    figure = link.inner_text()
    link.click()
    text = tab.get_by_role("dialog").inner_text()
    assert "Source" in text and f"{figure} dB, as printed" in text
    tab.get_by_role("dialog").get_by_role("link", name="Among all records").click()
    assert shown(tab) == ["provenance"] and "#source-" in tab.url


# -- pages ---------------------------------------------------------------------------------------

def test_one_section_at_a_time_with_the_back_button(show):
    tab = show()
    assert shown(tab) == ["overview"] and tab.locator("h1").is_visible()
    tab.get_by_role("navigation").get_by_role("link", name="Super-resolution").click()
    assert shown(tab) == ["task-sr"]
    current = tab.locator("nav a[aria-current=page]")
    assert current.all_inner_texts() == ["Super-resolution"]
    tab.get_by_role("navigation").get_by_role("link", name="Profiles").click()
    assert shown(tab) == ["profiles"]
    assert tab.evaluate("document.activeElement.textContent") == "Profiles"
    tab.go_back()
    assert shown(tab) == ["task-sr"]
    tab.go_back()
    assert shown(tab) == ["overview"]
    tab.get_by_role("navigation").get_by_role("link", name="All on one page").click()
    assert len(shown(tab)) > 5


def test_an_address_leads_to_what_it_names(show):
    tab = show("task-denoise_color")
    assert shown(tab) == ["task-denoise_color"]
    tab = show("record-1")                      # inside something folded
    assert shown(tab) == ["provenance"] and tab.locator("#record-1").is_visible()
    assert shown(show("no-such-place")) == ["overview"]
    tab = show("task-sr")
    tab.locator(".skip").focus()
    tab.keyboard.press("Enter")                 # the skip link stays on the page
    tab.wait_for_url("**#content")
    assert shown(tab) == ["task-sr"]


def test_printed_it_shows_everything(show):
    tab = show("task-sr")
    tab.emulate_media(media="print")
    assert len(shown(tab)) > 5
    for hidden in ("nav", ".tools", ".compare"):
        assert not tab.locator(hidden).first.is_visible(), hidden


def test_without_scripts_it_is_all_there(show):
    tab = show(java_script_enabled=False)
    assert len(tab.locator("main > section").all()) > 5
    assert all(one.is_visible() for one in tab.locator("main > section").all())
    assert not tab.locator(".tools").first.is_visible()
    assert tab.get_by_text("The slider needs scripts").is_visible()
    assert tab.locator("a[download='quality.pdf']").is_visible()


# -- the slider ----------------------------------------------------------------------------------

def test_the_slider_moves_by_keyboard(show):
    tab = show("task-denoise_color")
    slider = tab.get_by_role("slider")
    slider.focus()
    assert slider.get_attribute("aria-valuenow") == "50"
    tab.keyboard.down("ArrowRight")
    for _ in range(100):
        if slider.evaluate("one => one.value") > 55:
            break
        settled(tab)
    tab.keyboard.up("ArrowRight")
    assert int(slider.get_attribute("aria-valuenow")) > 50
    tab.keyboard.press("Home")
    assert slider.get_attribute("aria-valuenow") == "0"
    tab.keyboard.press("End")
    assert slider.evaluate("one => one.value") == 100


def test_the_slider_moves_by_pointer(show):
    tab = show("task-denoise_color")
    box = tab.get_by_role("slider").bounding_box()
    tab.get_by_role("slider").scroll_into_view_if_needed()
    box = tab.get_by_role("slider").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert 20 < tab.get_by_role("slider").evaluate("one => one.value") < 30


def test_any_two_versions_can_be_compared(show):
    tab = show("task-denoise_color")
    figure, slider = tab.locator("section.shown .compare"), tab.get_by_role("slider")
    assert figure.locator("select[data-side=first] option").all_inner_texts() == [
        "Input", "Compacter", "Target"]
    assert "Input on its left, Compacter on its right" in slider.get_attribute("aria-label")
    second = slider.locator("img[slot=second]")
    before = second.get_attribute("src")
    figure.locator("select[data-side=second]").select_option(label="Target")
    assert second.get_attribute("src") != before
    assert second.get_attribute("alt").startswith("Target")
    assert "PSNR" in figure.locator(".under").inner_text()
    assert second.evaluate("one => one.decode().then(() => [one.naturalWidth, one.naturalHeight])"
                           ) == [160, 120]


def test_the_overview_opens_with_the_slider_of_all_tasks(show):
    tab = show()
    figure = tab.locator("#overview .compare")
    assert figure.locator("select[data-side=first] option").all_inner_texts() == [
        "Input", "Compacter", "Target"]
    top = figure.bounding_box()["y"]
    lead = tab.locator("#overview .tiles")
    # beside the slider, on a large screen
    assert top <= lead.bounding_box()["y"] < tab.locator("#table-of-headline").bounding_box()["y"]
    assert top < 600                            # in the first screen of 900
    rows = tab.locator("#table-of-headline tbody tr").all_inner_texts()
    assert len(rows) == 4 and not any("Input" in row.partition("over")[0] for row in rows)


# -- downloads -----------------------------------------------------------------------------------

def fetched(tab, selector):
    with tab.expect_download() as waiting:
        tab.locator(selector).first.click()
    return waiting.value.path().read_bytes(), waiting.value.suggested_filename


@pytest.mark.parametrize(("anchor", "name", "path"), [
    ("task-sr", "sr.csv", "tables/sr.csv"), ("task-sr", "sr.md", "tables/sr.md"),
    ("task-sr", "sr.tex", "tables/sr.tex"), ("overview", "summary.csv", "summary.csv"),
    ("overview", "quality.pdf", "figures/quality.pdf"),
    ("overview", f"{CROPS}.svg", f"figures/{CROPS}.svg")])
def test_files_come_out_as_they_were_written(show, built, anchor, name, path):
    content, given = fetched(show(anchor), f"a[download='{name}']")
    assert given == name and content == (built.parent / path).read_bytes()


def test_a_figure_comes_out_as_png_with_its_pixels(show, built):
    content, given = fetched(show("overview"), "a[download='quality.png']")
    assert given == "quality.png" and content.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(content)) as mine, \
            Image.open(built.parent / "figures/quality.png") as written:
        assert np.array_equal(np.asarray(mine.convert("RGB")), np.asarray(written))


# -- screens -------------------------------------------------------------------------------------

def test_a_phone_never_scrolls_sideways(show):
    tab = show("all", width=390, height=800)
    assert len(shown(tab)) > 5
    for details in tab.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    tab.evaluate("document.querySelectorAll('table').forEach(t => "
                 "t.classList.add('differences', 'places'))")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    inner = tab.locator(f".scroll:has({TABLE})")
    assert inner.evaluate("one => one.scrollWidth > one.clientWidth")
    first = tab.locator(f"{TABLE} tbody th[scope=row]").first
    left = first.bounding_box()["x"]
    inner.evaluate("one => { one.scrollLeft = 200; }")
    assert abs(first.bounding_box()["x"] - left) < 2        # the method stays in sight
    for slider in tab.locator("img-comparison-slider").all():
        assert slider.bounding_box()["width"] <= 390


def test_a_phone_shows_an_origin_whole(show):
    tab = show("task-sr", width=390, height=800)
    tab.locator(f"{TABLE} a.origin").first.click()
    box = tab.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] <= 800
    assert tab.evaluate("document.querySelector('dialog').scrollWidth <= "
                        "document.querySelector('dialog').clientWidth")


def luminance(color):
    channels = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_the_dark_too(show, scheme):
    tab = show("task-sr", color_scheme=scheme)
    paper = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == (scheme == "dark")
    for selector in ("h1", ".caption", f"{TABLE} tbody.published td", "nav a", "a.origin"):
        ink = luminance(tab.eval_on_selector(selector, "one => getComputedStyle(one).color"))
        low, high = sorted((ink, paper))
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_a_table_that_is_too_wide_says_so(show):
    for width, wide in ((390, True), (1400, False)):
        tab = show("task-sr", width=width)
        box = tab.locator(f".scroll:has({TABLE})")
        hint = tab.locator(f".tools[data-for={TABLE[1:]}] .hint")
        assert hint.is_visible() == wide
        assert (box.evaluate("one => getComputedStyle(one).maskImage") != "none") == wide
        box.evaluate("one => { one.scrollLeft = one.scrollWidth; }")
        settled(tab)
        tab.evaluate("() => new Promise(done => requestAnimationFrame(done))")
        assert not hint.is_visible()            # at the end nothing is hidden on the right


def test_a_plot_and_the_navigation_that_are_too_wide_say_so(show):
    for width, wide in ((390, True), (2000, False)):
        tab = show("overview", width=width)
        for box in ("#overview .picture", "nav ul"):
            mask = tab.eval_on_selector(box, "one => getComputedStyle(one).maskImage")
            assert (mask != "none") == wide, box
        assert tab.locator("#overview .picture ~ figcaption .hint").first.is_visible() == wide


def test_a_phone_shows_a_number_of_every_table(show, fast):
    for path, section in ((None, "task-sr"), (fast, "profiles")):
        tab = show(section, width=390, height=800, **({"path": path} if path else {}))
        for box in tab.locator("section.shown .scroll:visible").all():
            right = box.bounding_box()["x"] + box.bounding_box()["width"] - 26     # the fade
            edges = box.evaluate("""one =>
                [...one.querySelectorAll("tbody:not(.rule) td:not(.left)")]
                .map(cell => cell.getBoundingClientRect().right)""")
            assert min(edges) <= right


def test_only_the_second_is_underlined_and_all_values_show_that_they_can_be_clicked(show):
    tab = show("task-sr")
    looks = tab.eval_on_selector_all("section.shown td a.origin", """all => all.map(one => {
        const it = getComputedStyle(one);
        return [it.textDecorationLine, it.borderBottomWidth, it.backgroundColor]; })""")
    assert {(line, border) for line, border, _ in looks} == {("none", "0px")}
    assert "rgba(0, 0, 0, 0)" not in {ground for *_, ground in looks}


def test_the_cells_of_a_row_stand_on_one_line(show, fast):
    """With footnotes and without; of a name in two lines, the first counts."""
    for path, section in ((None, "task-sr"), (fast, "profiles")):
        tab = show(section, width=1400, **({"path": path} if path else {}))
        tops = tab.eval_on_selector_all(
            "section.shown .scroll:not(details *) tbody:not(.rule) tr",
            """rows => rows.filter(row => row.checkVisibility()).map(row =>
            [...row.cells].map(cell => {
                const range = document.createRange();
                const words = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
                while (words.nextNode()) if (words.currentNode.data.trim()
                    && words.currentNode.parentElement.checkVisibility()
                    && !words.currentNode.parentElement.closest("small, sup, .place")) {
                    range.selectNodeContents(words.currentNode);
                    return range.getClientRects()[0].top; } }).filter(top => top !== undefined))""")
        assert tops and all(max(row) - min(row) < 2.5 for row in tops)


def test_the_navigation_is_as_high_in_every_section(show):
    tab = show(width=1400)
    heights = set()
    for link in tab.locator("nav a").all():
        link.click()
        heights.add((tab.locator("nav").bounding_box()["height"],
                     tab.locator("nav ul").evaluate("one => one.scrollWidth")))
    assert len(heights) == 1


def test_the_button_of_the_dialog_is_one_word_on_a_phone(show):
    tab = show("task-sr", width=390, height=800)
    tab.locator(f"{TABLE} a.origin").first.click()
    assert tab.locator("dialog .close").bounding_box()["height"] < 40


def test_a_large_screen_is_used(show, six):
    tab = show("task-sr", width=2000, path=six)
    box = tab.locator("section.shown .scroll").first.bounding_box()
    assert box["width"] > 1300
    assert tab.locator("section.shown p.caption").first.bounding_box()["width"] < 1000


@pytest.mark.parametrize("section", ["task-sr", "profiles", "provenance", "overview"])
def test_the_first_column_of_every_table_stays_on_a_phone(show, section):
    tab = show(section, width=390, height=800)
    for details in tab.locator("section.shown details").all():
        details.evaluate("one => { one.open = true; }")
    boxes = tab.locator("section.shown .scroll").all()
    assert boxes
    for box in boxes:
        first = box.locator("tbody th[scope=row]").first
        left = first.bounding_box()["x"]
        box.evaluate("one => { one.scrollLeft = 150; }")
        assert abs(first.bounding_box()["x"] - left) < 2
        assert first.bounding_box()["width"] < 200


def test_plots_follow_dark_mode_and_photographs_do_not(show):
    for scheme, dark in (("dark", True), ("light", False)):
        tab = show("all", color_scheme=scheme)
        looks = "one => getComputedStyle(one).filter"
        assert ("invert" in tab.eval_on_selector(".picture img", looks)) == dark
        assert {tab.evaluate(looks, one) for one in tab.query_selector_all(".tile img")} == {"none"}
        tab.emulate_media(media="print")
        assert tab.eval_on_selector(".picture img", looks) == "none"


def test_super_resolution_in_six_tables_fits_on_five_screens(show, six):
    tab = show("task-sr", width=1400, path=six)
    shown_tables = [one for one in tab.locator("section.shown table.sortable").all()
                    if one.is_visible()]
    assert len(shown_tables) == 6
    assert tab.evaluate("document.documentElement.scrollHeight") < 5 * 900
    unfold = tab.locator("section.shown button.unfold").first
    rows = tab.locator("section.shown tbody.published").first
    assert unfold.get_attribute("aria-expanded") == "false" and not rows.is_visible()
    unfold.click()
    assert rows.is_visible() and unfold.inner_text().startswith("Hide")
    unfold.click()
    tab.locator("section.shown").get_by_label("Filter rows").first.fill("swinir")
    assert rows.is_visible()                    # a filter looks at all rows


# -- accessibility -------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["built", "fast", "wide", "six"])
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_axe_finds_nothing_in_any_section(show, request, name, width, scheme):
    """WCAG 2.2, A and AA, by axe-core, which the package axe-playwright-python carries."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python (extra dev)"
                              " is not installed")
    tab = show(width=width, path=request.getfixturevalue(name), color_scheme=scheme)
    tab.evaluate((resources.files(axe) / "axe.min.js").read_text(encoding="utf-8"))
    sections = tab.eval_on_selector_all("main > section", "all => all.map(one => one.id)")
    assert len(sections) >= 4
    wrong = []
    for section in sections:
        tab.evaluate("name => { location.hash = name; }", section)
        assert shown(tab) == [section]
        tab.evaluate("document.querySelectorAll('section.shown details').forEach("
                     "one => { one.open = true; })")
        # what now is wider than its box can be reached by the Tab key from the next frame on
        tab.evaluate("""async () => {
            await Promise.all([...document.images].map(one => one.decode().catch(() => 0)));
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        }""")
        found = tab.evaluate("""() => axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a",
            "wcag21aa", "wcag22a", "wcag22aa"]})""")
        assert len(found["passes"]) > 10
        wrong += [f"{section}: {rule['id']} {node['target']} {node['failureSummary']}"
                  for rule in found["violations"] for node in rule["nodes"]]
    assert wrong == []
